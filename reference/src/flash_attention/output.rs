//! The output `[B, H_q, L, D]`, cut into the parts that the tiles write.

use half::{bf16, f16};

use super::attention::Attention;
use super::query_tile::QueryTile;
use super::tile_rows::TileRows;

/// An element type that the answer can have.
pub trait OutputElement: Copy + Send {
    fn from_f32(x: f32) -> Self;
}

impl OutputElement for f32 {
    fn from_f32(x: f32) -> Self {
        x
    }
}

impl OutputElement for f16 {
    fn from_f32(x: f32) -> Self {
        Self::from_f32(x)
    }
}

impl OutputElement for bf16 {
    fn from_f32(x: f32) -> Self {
        Self::from_f32(x)
    }
}

/// The part of the output that belongs to one tile. No two tiles share any of it, so all can be written at once.
pub struct TileOutput<'a, T> {
    pub rows: TileRows,
    /// For each query head of the group `[positions, D]`.
    heads: Vec<&'a mut [T]>,
    head_dim: usize,
}

impl<'a, T: OutputElement> TileOutput<'a, T> {
    /// Cuts up the output, in the order of [`TileRows::all`].
    pub fn all(attention: &Attention<'_>, output: &'a mut [T]) -> Vec<Self> {
        let (shape, tiling) = (&attention.shape, &attention.tiling);
        let head_dim = shape.head_dim;
        let tiles = TileRows::all(shape, tiling);
        let mut tiles: Vec<Self> = tiles.into_iter().map(|rows| Self { rows, heads: Vec::new(), head_dim }).collect();
        let tiles_of_a_head = shape.query_len.div_ceil(tiling.positions);
        for (head, numbers) in output.chunks_mut(shape.query_len * head_dim).enumerate() {
            // Counts over B * H_q, so it also finds the batch.
            let first_tile = head / shape.group() * tiles_of_a_head;
            for (tile, part) in tiles[first_tile..].iter_mut().zip(numbers.chunks_mut(tiling.positions * head_dim)) {
                tile.heads.push(part);
            }
        }
        tiles
    }

    /// Writes the answers of a tile's rows.
    pub fn write(&mut self, queries: &QueryTile) {
        for row in 0..self.rows.n_rows() {
            self.write_row(row, queries.output(row));
        }
    }

    /// Writes the answer of one row.
    pub fn write_row(&mut self, row: usize, answer: impl IntoIterator<Item = f32>) {
        // Not through `self.rows`: what a learner writes there must not decide where the answer goes.
        let (position, head) = (row / self.heads.len(), row % self.heads.len());
        for (to, number) in self.heads[head][position * self.head_dim..].iter_mut().zip(answer) {
            *to = T::from_f32(number);
        }
    }
}
