//! The whole problem, and what one tile of it takes.

use std::ops::Range;

use super::key_tile::KeyTile;
use super::mask::{Mask, TileMask};
use super::operand::Operand;
use super::query_tile::{KeyFilter, QueryTile};
use super::shape::{AttentionShape, Tiling};
use super::simd::{Kernel, Simd, Variant};
use super::tile_rows::TileRows;

/// Attention over all heads: the inputs and how to go about it.
pub struct Attention<'a> {
    pub shape: AttentionShape,
    /// `[B, H_q, L, D]`
    pub query: Operand<'a>,
    /// `[B, H_kv, S, D]`
    pub key: Operand<'a>,
    /// `[B, H_kv, S, D]`
    pub value: Operand<'a>,
    pub scale: f32,
    pub mask: Mask<'a>,
    pub tiling: Tiling,
    pub variant: Variant,
}

impl Attention<'_> {
    /// Takes the queries of one tile through some of the keys.
    pub fn attend(&self, rows: TileRows, keys: Range<usize>) -> QueryTile {
        self.variant.run(TileKernel { attention: self, rows, keys })
    }
}

/// [`Attention::attend`], to be compiled for each instruction set.
struct TileKernel<'a> {
    attention: &'a Attention<'a>,
    rows: TileRows,
    keys: Range<usize>,
}

impl Kernel for TileKernel<'_> {
    type Output = QueryTile;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> QueryTile {
        let Self { attention, rows, keys } = self;
        let (head_dim, max_keys) = (attention.shape.head_dim, attention.tiling.keys);
        let mut queries = QueryTile::new(rows.n_rows(), head_dim, max_keys);
        let mut tile = KeyTile::new(max_keys, head_dim, rows.n_rows());
        let mask = TileMask { attention, rows };
        // [task 2.4.3] TileKernel::run
        todo!("week 2 day 4 task 3: TileKernel::run - see book/src/week2/day4.md");
        // [end]
        queries
    }
}
