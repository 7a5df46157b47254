//! The rows of a tile of queries: a stretch of positions, for each query head that uses the same key-value head.

use super::shape::{AttentionShape, Tiling};

/// Some positions of the `n` query heads that share a key-value head.
///
/// Row `r` is query head `r % n` of the group at the `r / n`-th position: neighbours see (nearly) the same keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileRows {
    pub batch: usize,
    pub kv_head: usize,
    /// n.
    pub group: usize,
    pub first_position: usize,
    pub n_positions: usize,
}

impl TileRows {
    /// The tiles that cover all queries, those of one head one after another.
    pub fn all(shape: &AttentionShape, tiling: &Tiling) -> Vec<Self> {
        let mut tiles = Vec::new();
        for batch in 0..shape.batch {
            for kv_head in 0..shape.num_kv_heads {
                for first_position in (0..shape.query_len).step_by(tiling.positions) {
                    let n_positions = tiling.positions.min(shape.query_len - first_position);
                    tiles.push(Self { batch, kv_head, group: shape.group(), first_position, n_positions });
                }
            }
        }
        tiles
    }

    pub fn n_rows(&self) -> usize {
        self.group * self.n_positions
    }

    /// The query head of a row, below H_q.
    pub fn head(&self, row: usize) -> usize {
        // [task 2.4.3] TileRows::head
        todo!("week 2 day 4 task 3: TileRows::head - see book/src/week2/day4.md")
        // [end]
    }

    /// The position of a row among the L queries.
    pub fn position(&self, row: usize) -> usize {
        // [task 2.4.3] TileRows::position
        todo!("week 2 day 4 task 3: TileRows::position - see book/src/week2/day4.md")
        // [end]
    }
}
