//! Some query rows, and what they have gathered from the tiles of keys so far
//! (Dao, *FlashAttention-2*, 2023, algorithm 1).

use super::aligned::{AlignedBuffer, LINE};
use super::key_tile::{KeyTile, stride};
use super::online_softmax::Partial;
use super::simd::{Matrix, MatrixMut, Simd, Size, add_product, exp};

/// So many rows of scores exist at a time. The products fill registers with 6 rows, and with a few times that each
/// number in the cache is used more often before it has to make room.
pub const BLOCK_ROWS: usize = 24;

/// Which keys the rows of a tile may see.
pub trait KeyFilter {
    /// Row `row` sees none but the first `n_visible(row)` of the S keys.
    fn n_visible(&self, row: usize) -> usize;

    /// Changes the scaled scores of a row, which belong to the visible keys from `first_key` on: `-inf` hides a key.
    fn apply(&self, row: usize, first_key: usize, scores: &mut [f32]);
}

/// Query rows on their way through the keys. What [`Partial`] is for one row, this is for all of them.
pub struct QueryTile {
    n_rows: usize,
    head_dim: usize,
    /// The distance between rows of `queries` and of `accumulator`; beyond D they are 0.
    stride: usize,
    /// `[rows, D]`, multiplied by the scale.
    queries: AlignedBuffer,
    /// `[rows]`
    max: Vec<f32>,
    /// `[rows]`
    sum: Vec<f32>,
    /// `[rows, D]`
    accumulator: AlignedBuffer,
    /// `[BLOCK_ROWS, keys]`
    scores: AlignedBuffer,
    scores_stride: usize,
}

impl QueryTile {
    /// `n_rows` rows of `head_dim` zeros, to be filled through [`query_mut`](Self::query_mut), for tiles of up to
    /// `max_keys` keys.
    pub fn new(n_rows: usize, head_dim: usize, max_keys: usize) -> Self {
        let stride = stride(head_dim);
        let scores_stride = max_keys.next_multiple_of(LINE) + LINE;
        Self {
            n_rows,
            head_dim,
            stride,
            queries: AlignedBuffer::zeroed(n_rows * stride),
            max: vec![f32::NEG_INFINITY; n_rows],
            sum: vec![0.0; n_rows],
            accumulator: AlignedBuffer::zeroed(n_rows * stride),
            scores: AlignedBuffer::zeroed(BLOCK_ROWS.min(n_rows) * scores_stride),
            scores_stride,
        }
    }

    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The query of a row: `[D]`, to be multiplied by the scale by whoever fills it.
    pub fn query_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.queries[row * self.stride..][..self.head_dim]
    }

    /// Takes a tile of keys into account: `scores = queries · keysᵀ`, mask, new maximum, `weights = exp(scores - max)`,
    /// `accumulator = accumulator · exp(old max - max) + weights · values`.
    ///
    /// [`BLOCK_ROWS`] rows at a time, so that their scores stay in the first level of cache.
    #[inline(always)]
    pub fn attend<S: Simd>(&mut self, simd: S, tile: &KeyTile<'_>, filter: &impl KeyFilter) {
        // [task 2.4.2] QueryTile::attend
        todo!("week 2 day 4 task 2: QueryTile::attend - see book/src/week2/day4.md")
        // [end]
    }

    /// The answer of a row `[D]`; NaN if no key was visible.
    pub fn output(&self, row: usize) -> Vec<f32> {
        // [task 2.4.2] QueryTile::output
        todo!("week 2 day 4 task 2: QueryTile::output - see book/src/week2/day4.md")
        // [end]
    }

    /// What a row has gathered, to be merged with what it gathered from other keys.
    pub fn partial(&self, row: usize) -> Partial {
        let accumulator = self.accumulator[row * self.stride..][..self.head_dim].to_vec();
        Partial { max: self.max[row], sum: self.sum[row], accumulator }
    }
}

// [task 2.4.2 helpers] one row's new scores
// [end]
