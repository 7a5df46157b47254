//! Many tokens: weights are unpacked once into a panel, which all tokens then multiply with. Arithmetic is the limit.

use std::arch::aarch64::*;

use super::Job;
use super::panel::{PANEL_COLUMNS, PANEL_ROWS, Panel};
use super::stored::Stored;
use crate::quantized::activations::{Activations, LANES};

/// Tokens that go through the inner loop together: with four registers of outputs each that is sixteen sums, and of the
/// other sixteen registers two hold weights and four activations.
const TOKENS: usize = 4;

/// The sums of one token for the panel's rows.
type Sums = [f32; PANEL_ROWS];

/// `P`: planes, weights in a 16-bit lane
pub(super) fn run<S: Stored, const P: usize>(job: &Job<'_>, scales: &[S], biases: &[S], tile: &mut [f32]) {
    let (matrix, n_rows) = (job.matrix, job.rows.len());
    let mut panel = Panel::new();
    let mut sums: Vec<Sums> = vec![[0.0; PANEL_ROWS]; job.tokens.len()];
    for first_row in job.rows.clone().step_by(PANEL_ROWS) {
        sums.fill([0.0; PANEL_ROWS]);
        for first_column in (0..matrix.inputs).step_by(PANEL_COLUMNS) {
            let columns = PANEL_COLUMNS.min(matrix.inputs - first_column);
            panel.fill::<S, P>(matrix, scales, biases, first_row, first_column, columns);
            let block = Block { panel: &panel, x: job.x, first_column, columns };
            let mut token = job.tokens.start;
            for sums in sums.chunks_mut(TOKENS) {
                match sums.len() {
                    4 => block.add::<P, 4>(token, sums),
                    3 => block.add::<P, 3>(token, sums),
                    2 => block.add::<P, 2>(token, sums),
                    _ => block.add::<P, 1>(token, sums),
                }
                token += sums.len();
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
    /// Adds the panel's part of `M` tokens' dot products, from `token` on, to `sums`.
    fn add<const P: usize, const M: usize>(&self, token: usize, sums: &mut [Sums]) {
        // [task 2.2b.5] NEON: a tile of tokens and rows
        let group_size = self.x.group_size;
        let x: [&[i16]; M] = std::array::from_fn(|m| &self.x.row(token + m)[self.first_column..]);
        for group in 0..self.columns / group_size {
            let mut acc = zero_sums::<M>();
            if group_size < LANES * P {
                // The group is half a chunk: eight columns in each plane.
                let first = group / 2 * LANES * P + group % 2 * (LANES / 2);
                for i in 0..P {
                    add_columns(&mut acc, self.panel, first + i * LANES, &x);
                }
            } else {
                for first in (group * group_size..(group + 1) * group_size).step_by(8) {
                    add_columns(&mut acc, self.panel, first, &x);
                }
            }
            let x_group = self.first_column / group_size + group;
            let [scales, biases] = [&self.panel.scales, &self.panel.biases]
                .map(|of_groups| &of_groups[group * PANEL_ROWS..(group + 1) * PANEL_ROWS]);
            for (m, (acc, sums)) in acc.iter().zip(sums.iter_mut()).enumerate() {
                let x_scale = self.x.row_scales(token + m)[x_group];
                let x_sum = self.x.row_sums(token + m)[x_group];
                for (part, acc) in acc.iter().enumerate() {
                    let at = part * 4..part * 4 + 4;
                    add_group(&mut sums[at.clone()], *acc, &scales[at.clone()], x_scale, &biases[at], x_sum);
                }
            }
        }
        // [end]
    }
}

// [task 2.2b.5 helpers] NEON: the inner loop
fn zero_sums<const M: usize>() -> [[int32x4_t; 4]; M] {
    // SAFETY: NEON is part of every aarch64 processor.
    unsafe { [[vdupq_n_s32(0); 4]; M] }
}

/// Multiplies eight columns from `first` on of `M` tokens with sixteen rows: four multiply-adds for each column and token.
#[inline(always)]
fn add_columns<const M: usize>(acc: &mut [[int32x4_t; 4]; M], panel: &Panel, first: usize, x: &[&[i16]; M]) {
    let weights = &panel.integers[first * PANEL_ROWS..(first + 8) * PANEL_ROWS];
    let tokens: [&[i16]; M] = std::array::from_fn(|m| &x[m][first..first + 8]);
    // SAFETY: as above; eight integers of each token, and sixteen weights for each of the eight columns.
    unsafe {
        let x: [int16x8_t; M] = std::array::from_fn(|m| vld1q_s16(tokens[m].as_ptr()));
        add_column::<M, 0>(acc, weights, &x);
        add_column::<M, 1>(acc, weights, &x);
        add_column::<M, 2>(acc, weights, &x);
        add_column::<M, 3>(acc, weights, &x);
        add_column::<M, 4>(acc, weights, &x);
        add_column::<M, 5>(acc, weights, &x);
        add_column::<M, 6>(acc, weights, &x);
        add_column::<M, 7>(acc, weights, &x);
    }
}

/// # Safety
/// `weights` has sixteen integers for each of eight columns.
#[inline(always)]
unsafe fn add_column<const M: usize, const COLUMN: i32>(
    acc: &mut [[int32x4_t; 4]; M],
    weights: &[i16],
    x: &[int16x8_t; M],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let rows = weights.as_ptr().add(COLUMN as usize * PANEL_ROWS);
        let rows = [vld1q_s16(rows), vld1q_s16(rows.add(8))];
        for (acc, x) in acc.iter_mut().zip(x) {
            acc[0] = vmlal_laneq_s16::<COLUMN>(acc[0], vget_low_s16(rows[0]), *x);
            acc[1] = vmlal_high_laneq_s16::<COLUMN>(acc[1], rows[0], *x);
            acc[2] = vmlal_laneq_s16::<COLUMN>(acc[2], vget_low_s16(rows[1]), *x);
            acc[3] = vmlal_high_laneq_s16::<COLUMN>(acc[3], rows[1], *x);
        }
    }
}

/// `sums += bias * x_sum + dots * (scale * x_scale)`, for four rows.
#[inline(always)]
fn add_group(sums: &mut [f32], dots: int32x4_t, scales: &[f32], x_scale: f32, biases: &[f32], x_sum: f32) {
    assert!(sums.len() == 4 && scales.len() == 4 && biases.len() == 4);
    // SAFETY: four numbers each.
    unsafe {
        let sum = vfmaq_n_f32(vld1q_f32(sums.as_ptr()), vld1q_f32(biases.as_ptr()), x_sum);
        let scale = vmulq_n_f32(vld1q_f32(scales.as_ptr()), x_scale);
        vst1q_f32(sums.as_mut_ptr(), vfmaq_f32(sum, vcvtq_f32_s32(dots), scale));
    }
}
// [end]
