//! Sixteen rows of weights unpacked to 16-bit integers, for many tokens to multiply with.

use std::arch::aarch64::*;

use super::stored::Stored;
use crate::quantized::activations::LANES;
use crate::quantized::view::MatrixView;

/// Rows in a panel: two registers of eight 16-bit integers.
pub(super) const PANEL_ROWS: usize = 16;

/// Columns in a panel: 16 KiB of integers, which stay in the L1 cache next to the activations.
pub(super) const PANEL_COLUMNS: usize = 512;

/// Half a chunk: four words, or eight lanes of 16 bits.
const HALF: usize = LANES / 2;

/// The unpacked weights of sixteen rows and up to [`PANEL_COLUMNS`] columns.
pub(super) struct Panel {
    /// `[column, row]`, the columns in the order of the activations: chunk, plane, lane.
    pub integers: Vec<i16>,
    /// `[group, row]`
    pub scales: Vec<f32>,
    /// `[group, row]`
    pub biases: Vec<f32>,
}

impl Panel {
    pub fn new() -> Self {
        let groups = PANEL_COLUMNS / 32;
        Self {
            integers: vec![0; PANEL_COLUMNS * PANEL_ROWS],
            scales: vec![0.0; groups * PANEL_ROWS],
            biases: vec![0.0; groups * PANEL_ROWS],
        }
    }

    /// Unpacks `columns` columns from `first_column` on, whole groups, of the rows from `first_row` on. Rows beyond the
    /// matrix repeat the last one; nobody looks at their results.
    pub fn fill<S: Stored, const P: usize>(
        &mut self,
        matrix: &MatrixView<'_>,
        scales: &[S],
        biases: &[S],
        first_row: usize,
        first_column: usize,
        columns: usize,
    ) {
        let row = |r: usize| (first_row + r).min(matrix.outputs - 1);
        let first_word = first_column * matrix.bits / 32;
        for rows in [0, 8] {
            for half in 0..columns / (HALF * P) {
                let words = first_word + half * 4;
                let block = std::array::from_fn(|r| load_words(&matrix.row_words(row(rows + r))[words..words + 4]));
                // Now one register holds the same lane of eight rows.
                for (lane, lanes) in transpose8(block).into_iter().enumerate() {
                    for i in 0..P {
                        let column = half / 2 * LANES * P + i * LANES + half % 2 * HALF + lane;
                        store(plane_of::<P>(lanes, i), &mut self.integers[column * PANEL_ROWS + rows..][..8]);
                    }
                }
            }
        }
        let groups = columns / matrix.group_size;
        let mut widened = [0.0; PANEL_COLUMNS / 32];
        for (stored, panel) in [(scales, &mut self.scales), (biases, &mut self.biases)] {
            for r in 0..PANEL_ROWS {
                let at = row(r) * matrix.groups() + first_column / matrix.group_size;
                S::widen(&stored[at..at + groups], &mut widened[..groups]);
                for (group, value) in widened[..groups].iter().enumerate() {
                    panel[group * PANEL_ROWS + r] = *value;
                }
            }
        }
    }
}

#[inline(always)]
fn load_words(words: &[u32]) -> uint16x8_t {
    assert_eq!(words.len(), 4);
    // SAFETY: four words are eight lanes; NEON is part of every aarch64 processor.
    unsafe { vreinterpretq_u16_u32(vld1q_u32(words.as_ptr())) }
}

#[inline(always)]
fn store(integers: uint16x8_t, to: &mut [i16]) {
    assert_eq!(to.len(), 8);
    // SAFETY: room for eight integers.
    unsafe { vst1q_s16(to.as_mut_ptr(), vreinterpretq_s16_u16(integers)) }
}

/// The weights at bit `(16 / P) * i` of each lane.
#[inline(always)]
fn plane_of<const P: usize>(lanes: uint16x8_t, i: usize) -> uint16x8_t {
    // SAFETY: as above. A shift to the left by a negative number is one to the right.
    unsafe { vandq_u16(vshlq_u16(lanes, vdupq_n_s16(-((16 / P * i) as i16))), vdupq_n_u16((1 << (16 / P)) - 1)) }
}

/// Eight registers of eight as an 8 x 8 matrix, transposed.
#[inline(always)]
fn transpose8(rows: [uint16x8_t; 8]) -> [uint16x8_t; 8] {
    // SAFETY: as above.
    unsafe {
        // Pairs of rows exchange single numbers, then pairs of pairs two at a time, then four at a time.
        let ones: [[uint32x4_t; 2]; 4] = std::array::from_fn(|i| {
            let (a, b) = (rows[2 * i], rows[2 * i + 1]);
            [vreinterpretq_u32_u16(vtrn1q_u16(a, b)), vreinterpretq_u32_u16(vtrn2q_u16(a, b))]
        });
        let twos: [[uint64x2_t; 4]; 2] = std::array::from_fn(|i| {
            let ([a_even, a_odd], [b_even, b_odd]) = (ones[2 * i], ones[2 * i + 1]);
            [
                vreinterpretq_u64_u32(vtrn1q_u32(a_even, b_even)),
                vreinterpretq_u64_u32(vtrn1q_u32(a_odd, b_odd)),
                vreinterpretq_u64_u32(vtrn2q_u32(a_even, b_even)),
                vreinterpretq_u64_u32(vtrn2q_u32(a_odd, b_odd)),
            ]
        });
        std::array::from_fn(|i| {
            let (upper, lower) = (twos[0][i % 4], twos[1][i % 4]);
            vreinterpretq_u16_u64(if i < 4 { vtrn1q_u64(upper, lower) } else { vtrn2q_u64(upper, lower) })
        })
    }
}
