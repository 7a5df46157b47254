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
        let keys = tile.range();
        let n_visible = |row: usize| filter.n_visible(row).clamp(keys.start, keys.end) - keys.start;
        for first_row in (0..self.n_rows).step_by(BLOCK_ROWS) {
            let n_rows = BLOCK_ROWS.min(self.n_rows - first_row);
            let n_keys = (first_row..first_row + n_rows).map(n_visible).max().unwrap_or(0);
            if n_keys == 0 {
                continue;
            }
            let queries = Matrix { data: &self.queries[first_row * self.stride..], stride: self.stride };
            let scores = MatrixMut { data: &mut self.scores, stride: self.scores_stride };
            tile.scores(simd, queries, n_rows, n_keys, scores);
            for i in 0..n_rows {
                let row = first_row + i;
                let scores = &mut self.scores[i * self.scores_stride..][..n_keys.next_multiple_of(S::LANES)];
                let (visible, rest) = scores.split_at_mut(n_visible(row));
                filter.apply(row, keys.start, visible);
                rest.fill(f32::NEG_INFINITY);
                let accumulator = &mut self.accumulator[row * self.stride..][..self.stride];
                weigh(simd, scores, &mut self.max[row], &mut self.sum[row], accumulator);
            }
            let weights = Matrix { data: &self.scores, stride: self.scores_stride };
            let accumulator = MatrixMut { data: &mut self.accumulator[first_row * self.stride..], stride: self.stride };
            let size = Size { rows: n_rows, depth: n_keys, columns: self.head_dim.next_multiple_of(S::LANES) };
            add_product(simd, weights, tile.values(), accumulator, size);
        }
        // [end]
    }

    /// The answer of a row `[D]`; NaN if no key was visible.
    pub fn output(&self, row: usize) -> Vec<f32> {
        // [task 2.4.2] QueryTile::output
        let factor = 1.0 / self.sum[row];
        self.accumulator[row * self.stride..][..self.head_dim].iter().map(|sum| sum * factor).collect()
        // [end]
    }

    /// What a row has gathered, to be merged with what it gathered from other keys.
    pub fn partial(&self, row: usize) -> Partial {
        let accumulator = self.accumulator[row * self.stride..][..self.head_dim].to_vec();
        Partial { max: self.max[row], sum: self.sum[row], accumulator }
    }
}

// [task 2.4.2 helpers] one row's new scores
/// Turns the new scores of a row into weights `exp(score - max)`, and brings what it has gathered in line with the new
/// maximum.
#[inline(always)]
fn weigh<S: Simd>(simd: S, scores: &mut [f32], max: &mut f32, sum: &mut f32, accumulator: &mut [f32]) {
    let mut largest = simd.splat(f32::NEG_INFINITY);
    for scores in scores.chunks_exact(S::LANES) {
        largest = simd.max(largest, simd.load(scores));
    }
    let old_max = *max;
    *max = old_max.max(simd.max_of_lanes(largest));
    // Where nothing is visible yet, `-inf - -inf` would be NaN and stay so.
    let reference = if *max == f32::NEG_INFINITY { 0.0 } else { *max };
    if *max > old_max {
        let keep = (old_max - reference).exp();
        *sum *= keep;
        for sums in accumulator.chunks_exact_mut(S::LANES) {
            simd.store(simd.mul(simd.load(sums), simd.splat(keep)), sums);
        }
    }
    let mut new_sum = simd.splat(0.0);
    for scores in scores.chunks_exact_mut(S::LANES) {
        let weights = exp(simd, simd.sub(simd.load(scores), simd.splat(reference)));
        simd.store(weights, scores);
        new_sum = simd.add(new_sum, weights);
    }
    *sum += simd.sum_of_lanes(new_sum);
}
// [end]
