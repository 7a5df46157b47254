//! Many tokens: weights are unpacked once into panels, which all tokens then multiply with. Arithmetic is the limit.

use std::arch::x86_64::*;

use super::super::avx2::panel::{PANEL_ROWS, Panel};
use super::Job;
use super::stored::Stored16;
use crate::quantized::activations::{Activations, LANES};

/// Panels that go through the inner loop together: 32 rows. Each broadcast of activations is used twice.
const PANELS: usize = 2;

/// Tokens that go through the inner loop together: with two panels that is sixteen sums. Each has to wait for the product
/// before it, five cycles on current processors that begin one or two products in a cycle: ten sums would do.
const TOKENS: usize = 8;

/// Columns of the panels that are filled at a time: both take 16 KiB, which stay in the L1 cache next to the activations.
const COLUMNS: usize = 256;

/// The sums of one token for the panels' rows.
type Sums = [[f32; PANEL_ROWS]; PANELS];

/// - `P`: planes, weights in a 16-bit lane
/// - `HALF`: a group is half a chunk
///
/// # Safety
/// As [`Job::run`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn run<S: Stored16, const P: usize, const HALF: bool>(
    job: &Job<'_>,
    scales: &[S],
    biases: &[S],
    tile: &mut [f32],
) {
    let (matrix, n_rows, n_tokens) = (job.matrix, job.rows.len(), job.tokens.len());
    let mut panels = [Panel::new(), Panel::new()];
    let mut sums: Vec<Sums> = vec![Sums::default(); n_tokens];
    // Blocks of nearly the same size: nine tokens are five and four.
    let per_block = n_tokens.div_ceil(n_tokens.div_ceil(TOKENS));
    for first_row in job.rows.clone().step_by(PANELS * PANEL_ROWS) {
        sums.fill(Sums::default());
        let n_panels = (job.rows.end - first_row).div_ceil(PANEL_ROWS).min(PANELS);
        for first_column in (0..matrix.inputs).step_by(COLUMNS) {
            let columns = COLUMNS.min(matrix.inputs - first_column);
            // SAFETY: this function's contract; columns are whole groups, since `COLUMNS` and I are.
            unsafe {
                for (panel, rows) in panels.iter_mut().take(n_panels).zip((first_row..).step_by(PANEL_ROWS)) {
                    panel.fill::<S, P>(matrix, scales, biases, rows, first_column, columns);
                }
                let block = Block { panels: &panels, x: job.x, first_column, columns };
                let mut token = job.tokens.start;
                for sums in sums.chunks_mut(per_block) {
                    match n_panels {
                        1 => block.add_some::<P, HALF, 1>(token, sums),
                        _ => block.add_some::<P, HALF, 2>(token, sums),
                    }
                    token += sums.len();
                }
            }
        }
        let at = first_row - job.rows.start;
        let n = (PANELS * PANEL_ROWS).min(n_rows - at);
        for (sums, out) in sums.iter().zip(tile.chunks_exact_mut(n_rows)) {
            out[at..at + n].copy_from_slice(&sums.as_flattened()[..n]);
        }
    }
}

/// Panels and the columns of the activations that belong to them.
struct Block<'a> {
    panels: &'a [Panel; PANELS],
    x: &'a Activations,
    first_column: usize,
    columns: usize,
}

impl Block<'_> {
    /// Adds the part of the first `N` panels to the sums of up to [`TOKENS`] tokens.
    ///
    /// # Safety
    /// As [`Job::run`]; the tokens from `token` on exist.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn add_some<const P: usize, const HALF: bool, const N: usize>(&self, token: usize, sums: &mut [Sums]) {
        // SAFETY: the caller's promise.
        unsafe {
            match sums.len() {
                8 => self.add::<P, HALF, N, 8>(token, sums),
                7 => self.add::<P, HALF, N, 7>(token, sums),
                6 => self.add::<P, HALF, N, 6>(token, sums),
                5 => self.add::<P, HALF, N, 5>(token, sums),
                4 => self.add::<P, HALF, N, 4>(token, sums),
                3 => self.add::<P, HALF, N, 3>(token, sums),
                2 => self.add::<P, HALF, N, 2>(token, sums),
                _ => self.add::<P, HALF, N, 1>(token, sums),
            }
        }
    }

    /// Adds the part of the first `N` panels to the sums of `M` tokens.
    ///
    /// # Safety
    /// As [`Job::run`]; tokens `token..token + M` exist.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn add<const P: usize, const HALF: bool, const N: usize, const M: usize>(
        &self,
        token: usize,
        sums: &mut [Sums],
    ) {
        let group_size = self.x.group_size;
        let row_len = self.x.chunks * self.x.chunk();
        let x = self.x.row(token)[self.first_column..].as_ptr();
        for group in 0..self.columns / group_size {
            let mut acc = [[_mm512_setzero_si512(); N]; M];
            // SAFETY: pairs of this group, in the panels and in the activations of M tokens.
            unsafe {
                if HALF {
                    // The group's pairs are half of each plane of a chunk.
                    let chunk = group / 2 * LANES * P;
                    for i in 0..P {
                        let at = chunk + i * LANES + group % 2 * (LANES / 2);
                        add_pairs::<N, M>(&mut acc, self.panels, at / 2, LANES / 4, x.add(at), row_len);
                    }
                } else {
                    let at = group * group_size;
                    add_pairs::<N, M>(&mut acc, self.panels, at / 2, group_size / 2, x.add(at), row_len);
                }
            }
            let x_group = self.first_column / group_size + group;
            let rows = group * PANEL_ROWS..(group + 1) * PANEL_ROWS;
            for (m, (acc, sums)) in acc.iter().zip(sums.iter_mut()).enumerate() {
                let x_scale = _mm512_set1_ps(self.x.row_scales(token + m)[x_group]);
                let x_sum = _mm512_set1_ps(self.x.row_sums(token + m)[x_group]);
                for ((acc, sums), panel) in acc.iter().zip(sums).zip(self.panels) {
                    // SAFETY: sixteen numbers each: `PANEL_ROWS` is sixteen.
                    unsafe {
                        let scale = _mm512_loadu_ps(panel.scales[rows.clone()].as_ptr());
                        let bias = _mm512_loadu_ps(panel.biases[rows.clone()].as_ptr());
                        let sum = _mm512_fmadd_ps(bias, x_sum, _mm512_loadu_ps(sums.as_ptr()));
                        let scale = _mm512_mul_ps(scale, x_scale);
                        let sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(*acc), scale, sum);
                        _mm512_storeu_ps(sums.as_mut_ptr(), sum);
                    }
                }
            }
        }
    }
}

/// Multiplies `n_pairs` pairs of `M` tokens with sixteen rows of each of `N` panels: one instruction for each token and
/// panel.
///
/// # Safety
/// The panels have the pairs, and each of the `M` rows of activations, `row_len` apart, has `n_pairs` pairs at `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn add_pairs<const N: usize, const M: usize>(
    acc: &mut [[__m512i; N]; M],
    panels: &[Panel; PANELS],
    first_pair: usize,
    n_pairs: usize,
    x: *const i16,
    row_len: usize,
) {
    let pairs = first_pair * PANEL_ROWS * 2..(first_pair + n_pairs) * PANEL_ROWS * 2;
    let weights: [*const i16; N] = std::array::from_fn(|n| panels[n].integers[pairs.clone()].as_ptr());
    // SAFETY: the caller's promise.
    unsafe {
        for pair in 0..n_pairs {
            let mut rows = [_mm512_setzero_si512(); N];
            for (rows, weights) in rows.iter_mut().zip(weights) {
                *rows = _mm512_loadu_si512(weights.add(pair * PANEL_ROWS * 2).cast());
            }
            for (m, acc) in acc.iter_mut().enumerate() {
                let pair = _mm512_set1_epi32(x.add(m * row_len + pair * 2).cast::<i32>().read_unaligned());
                for (acc, rows) in acc.iter_mut().zip(rows) {
                    *acc = _mm512_dpwssd_epi32(*acc, rows, pair);
                }
            }
        }
    }
}
