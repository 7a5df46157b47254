//! Few tokens: every weight is read once per token, straight from its packed form. Memory is the limit.

use std::arch::aarch64::*;

use super::Job;
use super::stored::Stored;
use crate::quantized::activations::LANES;

/// Rows that go through the loop together: they share the loads of the activations.
const ROWS: usize = 4;

/// Lanes of 16 bits in a register: half a chunk, four words.
const HALF: usize = LANES / 2;

/// One token's activations.
struct Row<'a> {
    /// `[chunks, P, LANES]`
    integers: &'a [i16],
    /// `[groups]`
    scales: &'a [f32],
    /// `[groups]`
    sums: &'a [f32],
}

/// `P`: planes, weights in a 16-bit lane
pub(super) fn run<S: Stored, const P: usize>(job: &Job<'_>, scales: &[S], biases: &[S], tile: &mut [f32]) {
    let (n_rows, groups) = (job.rows.len(), job.matrix.groups());
    let mut factors = [vec![0.0; ROWS * groups], vec![0.0; ROWS * groups]];
    for (token, out) in job.tokens.clone().zip(tile.chunks_exact_mut(n_rows)) {
        let x = Row { integers: job.x.row(token), scales: job.x.row_scales(token), sums: job.x.row_sums(token) };
        let mut first = job.rows.start;
        for out in out.chunks_mut(ROWS) {
            let [scale, bias] = &mut factors;
            let at = first * groups..(first + out.len()) * groups;
            S::widen(&scales[at.clone()], &mut scale[..at.len()]);
            S::widen(&biases[at], &mut bias[..out.len() * groups]);
            match <&mut [f32; ROWS]>::try_from(&mut *out) {
                Ok(out) => *out = dot_rows::<P, ROWS>(job, &x, scale, bias, first),
                Err(_) => {
                    for (r, out) in out.iter_mut().enumerate() {
                        let own = r * groups..(r + 1) * groups;
                        [*out] = dot_rows::<P, 1>(job, &x, &scale[own.clone()], &bias[own], first + r);
                    }
                }
            }
            first += out.len();
        }
    }
}

/// The dot products of `R` rows from `first` on with one row of activations.
///
/// `scales` and `biases` are those of the `R` rows, `[R, groups]`.
fn dot_rows<const P: usize, const R: usize>(
    job: &Job<'_>,
    x: &Row<'_>,
    scales: &[f32],
    biases: &[f32],
    first: usize,
) -> [f32; R] {
    // [task 2.2b.4] NEON: dot products of a block of rows
    let groups = x.scales.len();
    let words_per_row = job.matrix.words_per_row();
    let words: [&[u32]; R] =
        std::array::from_fn(|r| &job.matrix.words[(first + r) * words_per_row..(first + r + 1) * words_per_row]);
    let mut factors: [&[f32]; R] = std::array::from_fn(|r| &scales[r * groups..(r + 1) * groups]);
    let halves_per_group = job.matrix.group_size / (HALF * P);

    let mut acc = [zero(); R];
    for (group, x_scale) in x.scales.iter().enumerate() {
        // Exact sums of one group: there is room for 128 products of 8 and 16 bits.
        let mut dots = [zero_integers(); R];
        for half in group * halves_per_group..(group + 1) * halves_per_group {
            let at = half / 2 * LANES * P + half % 2 * HALF;
            let planes: [int16x8_t; P] = std::array::from_fn(|i| load(&x.integers[at + i * LANES..][..HALF]));
            for (dots, words) in dots.iter_mut().zip(&words) {
                *dots = add_dots::<P>(*dots, load_words(&words[half * 4..][..4]), &planes);
            }
        }
        for ((acc, dots), factors) in acc.iter_mut().zip(dots).zip(&mut factors) {
            *acc = add_scaled(*acc, dots, factors[0] * x_scale);
            *factors = &factors[1..];
        }
    }
    std::array::from_fn(|r| {
        let bias_terms = biases[r * groups..(r + 1) * groups].iter().zip(x.sums).map(|(bias, sum)| bias * sum);
        horizontal_sum(acc[r]) + bias_terms.sum::<f32>()
    })
    // [end]
}

// [task 2.2b.4 helpers] NEON: instructions
fn zero() -> float32x4_t {
    // SAFETY: NEON is part of every aarch64 processor.
    unsafe { vdupq_n_f32(0.0) }
}

fn zero_integers() -> int32x4_t {
    // SAFETY: as above.
    unsafe { vdupq_n_s32(0) }
}

#[inline(always)]
fn load(integers: &[i16]) -> int16x8_t {
    assert_eq!(integers.len(), HALF);
    // SAFETY: eight integers.
    unsafe { vld1q_s16(integers.as_ptr()) }
}

#[inline(always)]
fn load_words(words: &[u32]) -> uint16x8_t {
    assert_eq!(words.len(), 4);
    // SAFETY: four words are eight lanes.
    unsafe { vreinterpretq_u16_u32(vld1q_u32(words.as_ptr())) }
}

/// Adds the products of half a chunk of weights with its activations.
#[inline(always)]
fn add_dots<const P: usize>(dots: int32x4_t, packed: uint16x8_t, planes: &[int16x8_t; P]) -> int32x4_t {
    let mut dots = dots;
    for (i, plane) in planes.iter().enumerate() {
        // SAFETY: as above.
        unsafe {
            let mask = vdupq_n_u16((1 << (16 / P)) - 1);
            // A shift to the left by a negative number is one to the right.
            let shifted = vshlq_u16(packed, vdupq_n_s16(-((16 / P * i) as i16)));
            let weights = vreinterpretq_s16_u16(vandq_u16(shifted, mask));
            dots = vmlal_s16(dots, vget_low_s16(weights), vget_low_s16(*plane));
            dots = vmlal_high_s16(dots, weights, *plane);
        }
    }
    dots
}

#[inline(always)]
fn add_scaled(acc: float32x4_t, dots: int32x4_t, factor: f32) -> float32x4_t {
    // SAFETY: as above.
    unsafe { vfmaq_n_f32(acc, vcvtq_f32_s32(dots), factor) }
}

fn horizontal_sum(v: float32x4_t) -> f32 {
    // SAFETY: as above.
    unsafe { vaddvq_f32(v) }
}
// [end]
