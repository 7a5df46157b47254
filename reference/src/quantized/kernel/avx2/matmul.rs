//! Many tokens: weights are unpacked once into a panel, which all tokens then multiply with. Arithmetic is the limit.

use std::arch::x86_64::*;

use super::Job;
use super::panel::{PANEL_COLUMNS, PANEL_ROWS, Panel};
use super::stored::Stored;
use crate::quantized::activations::{Activations, LANES};

/// Tokens that go through the inner loop together: with two registers of outputs each that is twelve sums, and the
/// sixteen registers are used up by two of weights, one of activations and one of products.
const TOKENS: usize = 6;

/// The sums of one token for the panel's rows.
type Sums = [f32; PANEL_ROWS];

/// - `P`: planes, weights in a 16-bit lane
/// - `HALF`: a group is half a chunk
///
/// # Safety
/// As [`Job::run`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run<S: Stored, const P: usize, const HALF: bool>(
    job: &Job<'_>,
    scales: &[S],
    biases: &[S],
    tile: &mut [f32],
) {
    let (matrix, n_rows) = (job.matrix, job.rows.len());
    let mut panel = Panel::new();
    let mut sums: Vec<Sums> = vec![[0.0; PANEL_ROWS]; job.tokens.len()];
    for first_row in job.rows.clone().step_by(PANEL_ROWS) {
        sums.fill([0.0; PANEL_ROWS]);
        for first_column in (0..matrix.inputs).step_by(PANEL_COLUMNS) {
            let columns = PANEL_COLUMNS.min(matrix.inputs - first_column);
            // SAFETY: this function's contract; columns are whole groups, since `PANEL_COLUMNS` and I are.
            unsafe {
                panel.fill::<S, P>(matrix, scales, biases, first_row, first_column, columns);
                let block = Block { panel: &panel, x: job.x, first_column, columns };
                let mut token = job.tokens.start;
                for sums in sums.chunks_mut(TOKENS) {
                    match sums.len() {
                        6 => block.add::<P, HALF, 6>(token, sums),
                        5 => block.add::<P, HALF, 5>(token, sums),
                        4 => block.add::<P, HALF, 4>(token, sums),
                        3 => block.add::<P, HALF, 3>(token, sums),
                        2 => block.add::<P, HALF, 2>(token, sums),
                        _ => block.add::<P, HALF, 1>(token, sums),
                    }
                    token += sums.len();
                }
            }
        }
        let at = first_row - job.rows.start;
        let n = PANEL_ROWS.min(n_rows - at);
        for (sums, out) in sums.iter().zip(tile.chunks_exact_mut(n_rows)) {
            out[at..at + n].copy_from_slice(&sums[..n]);
        }
    }
}

/// A panel and the columns of the activations that belong to it.
struct Block<'a> {
    panel: &'a Panel,
    x: &'a Activations,
    first_column: usize,
    columns: usize,
}

impl Block<'_> {
    /// Adds the panel's part of `M` tokens' dot products to `sums`.
    ///
    /// # Safety
    /// As [`Job::run`]; tokens `token..token + M` exist.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add<const P: usize, const HALF: bool, const M: usize>(&self, token: usize, sums: &mut [Sums]) {
        // [task 2.2b.5] AVX2: a tile of tokens and rows
        let group_size = self.x.group_size;
        let row_len = self.x.chunks * self.x.chunk();
        let x = self.x.row(token)[self.first_column..].as_ptr();
        for group in 0..self.columns / group_size {
            let mut acc = [[_mm256_setzero_si256(); 2]; M];
            // SAFETY: pairs of this group, in the panel and in the activations of M tokens.
            unsafe {
                if HALF {
                    // The group's pairs are half of each plane of a chunk.
                    let chunk = group / 2 * LANES * P;
                    for i in 0..P {
                        let at = chunk + i * LANES + group % 2 * (LANES / 2);
                        add_pairs::<M>(&mut acc, self.panel, at / 2, LANES / 4, x.add(at), row_len);
                    }
                } else {
                    let at = group * group_size;
                    add_pairs::<M>(&mut acc, self.panel, at / 2, group_size / 2, x.add(at), row_len);
                }
            }
            let x_group = self.first_column / group_size + group;
            for (m, (acc, sums)) in acc.iter().zip(sums.iter_mut()).enumerate() {
                let x_scale = _mm256_set1_ps(self.x.row_scales(token + m)[x_group]);
                let x_sum = _mm256_set1_ps(self.x.row_sums(token + m)[x_group]);
                for (half, acc) in acc.iter().enumerate() {
                    let at = group * PANEL_ROWS + half * 8;
                    let sums = &mut sums[half * 8..half * 8 + 8];
                    // SAFETY: eight numbers each: `sums` was sliced so, and the panel has sixteen rows a group.
                    unsafe {
                        let scale = _mm256_loadu_ps(self.panel.scales[at..at + 8].as_ptr());
                        let bias = _mm256_loadu_ps(self.panel.biases[at..at + 8].as_ptr());
                        let sum = _mm256_fmadd_ps(bias, x_sum, _mm256_loadu_ps(sums.as_ptr()));
                        let scale = _mm256_mul_ps(scale, x_scale);
                        let sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(*acc), scale, sum);
                        _mm256_storeu_ps(sums.as_mut_ptr(), sum);
                    }
                }
            }
        }
        // [end]
    }
}

// [task 2.2b.5 helpers] AVX2: the inner loop
/// Multiplies `n_pairs` pairs of `M` tokens with sixteen rows: two multiply-adds and two additions for each token.
///
/// # Safety
/// The panel has the pairs, and each of the `M` rows of activations, `row_len` apart, has `n_pairs` pairs at `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_pairs<const M: usize>(
    acc: &mut [[__m256i; 2]; M],
    panel: &Panel,
    first_pair: usize,
    n_pairs: usize,
    x: *const i16,
    row_len: usize,
) {
    let weights = panel.integers[first_pair * PANEL_ROWS * 2..(first_pair + n_pairs) * PANEL_ROWS * 2].as_ptr();
    // SAFETY: the caller's promise.
    unsafe {
        for pair in 0..n_pairs {
            let weights = weights.add(pair * PANEL_ROWS * 2);
            let rows = [_mm256_loadu_si256(weights.cast()), _mm256_loadu_si256(weights.add(16).cast())];
            for (m, acc) in acc.iter_mut().enumerate() {
                let pair = _mm256_set1_epi32(x.add(m * row_len + pair * 2).cast::<i32>().read_unaligned());
                acc[0] = _mm256_add_epi32(acc[0], _mm256_madd_epi16(rows[0], pair));
                acc[1] = _mm256_add_epi32(acc[1], _mm256_madd_epi16(rows[1], pair));
            }
        }
    }
}
// [end]
