//! Activations as 16-bit integers, so that the inner loops are integer arithmetic.
//!
//! Integer products are exact and an AVX2 core multiplies twice as many 16-bit integers per cycle as f32 numbers. The
//! price is one rounding: within a group the step is `max |x| / 32767`, so an activation moves by at most
//! 1/65534 of the largest one in its group. bf16, in which GPUs hold activations, moves the largest one by 128 to 256 times
//! as much, and only values below 1/128 of it by less. The 8-bit activations that other engines use on CPUs are 258 times as
//! coarse.

use crate::quantized::view::MatrixView;

/// Lanes of 16 bits in one chunk: a chunk is eight words of packed weights, 32 bytes, one AVX2 register.
pub const LANES: usize = 16;

/// The rows of `x` (`[M, I]`) as 16-bit integers with one scale per group: `x ≈ scale * integer`.
///
/// # Order
/// Seen as sixteen 16-bit lanes, a chunk of packed weights holds weight `planes * j + i` in lane `j` at bit
/// `bits * i`, where `planes = 16 / bits`. So one shift and one mask free the integers of every `planes`-th weight.
/// The activations lie in that order: `[M, chunk, plane i, lane j]`. Rows are filled with zeros up to a whole chunk.
#[derive(Debug, Clone, Default)]
pub struct Activations {
    /// M
    pub tokens: usize,
    /// 32, 64 or 128, as the weights have it.
    pub group_size: usize,
    /// 4 or 8, as the weights have it.
    pub bits: usize,
    /// Groups in a row.
    pub groups: usize,
    /// Chunks in a row.
    pub chunks: usize,
    /// `[M, chunks, planes, LANES]`
    pub integers: Vec<i16>,
    /// `[M, groups]`
    pub scales: Vec<f32>,
    /// `[M, groups]`: `scale` times the sum of the group's integers, which is what a weight's bias multiplies.
    pub sums: Vec<f32>,
}

impl Activations {
    /// Room for `tokens` rows that will be multiplied by `matrix`.
    pub fn for_matrix(matrix: &MatrixView<'_>, tokens: usize) -> Self {
        let chunk = LANES * 16 / matrix.bits;
        let chunks = matrix.inputs.div_ceil(chunk);
        Self {
            tokens,
            group_size: matrix.group_size,
            bits: matrix.bits,
            groups: matrix.groups(),
            chunks,
            integers: vec![0; tokens * chunks * chunk],
            scales: vec![0.0; tokens * matrix.groups()],
            sums: vec![0.0; tokens * matrix.groups()],
        }
    }

    /// Weights in a chunk: 64 of 4 bits, 32 of 8 bits.
    pub fn chunk(&self) -> usize {
        LANES * self.planes()
    }

    /// Weights in a 16-bit lane.
    pub fn planes(&self) -> usize {
        16 / self.bits
    }

    /// The integers of one row.
    pub fn row(&self, token: usize) -> &[i16] {
        let per_row = self.chunks * self.chunk();
        &self.integers[token * per_row..(token + 1) * per_row]
    }

    /// The scales of one row, one for each group.
    pub fn row_scales(&self, token: usize) -> &[f32] {
        &self.scales[token * self.groups..(token + 1) * self.groups]
    }

    /// The sums of one row, one for each group.
    pub fn row_sums(&self, token: usize) -> &[f32] {
        &self.sums[token * self.groups..(token + 1) * self.groups]
    }
}

/// Rounds one row `x` (`[I]`) to 16-bit integers.
///
/// - `integers`: `[chunks, planes, LANES]`, already zero after the row's end
/// - `scales`, `sums`: `[groups]`
///
/// In each group the step is `max |x| / 32767`, and an integer is `x / step`, rounded to the nearest; halves go to the even
/// neighbour. `scales` holds the step, `sums` the step times the sum of the integers.
///
/// A group whose step is below f32's smallest normal number, [`f32::MIN_POSITIVE`], counts as zeros: integers, scale and
/// sum are 0. A group that holds NaN or an infinity has scale and sum NaN, so that whatever is computed from it is NaN too;
/// its integers don't matter.
#[inline(always)] // so that it is compiled for the instruction set of its caller
pub fn quantize_row(
    x: &[f32],
    group_size: usize,
    planes: usize,
    integers: &mut [i16],
    scales: &mut [f32],
    sums: &mut [f32],
) {
    // [task 2.2b.1] quantize_row
    match planes {
        2 => quantize_row_in_planes::<2>(x, group_size, integers, scales, sums),
        _ => quantize_row_in_planes::<4>(x, group_size, integers, scales, sums),
    }
    // [end]
}

// [task 2.2b.1 helpers] rounding a row
/// Adding this to a float of magnitude below 2^22 leaves the nearest integer in the low bits of its representation.
const ROUND_TO_LOW_BITS: f32 = 12_582_912.0; // 1.5 * 2^23

/// Weights in a chunk of 4-bit weights, the larger kind.
const MAX_CHUNK: usize = 64;

/// `P` is the number of planes. A constant, so that the loops over planes unroll.
#[inline(always)] // so that it is compiled for the instruction set of its caller
fn quantize_row_in_planes<const P: usize>(
    x: &[f32],
    group_size: usize,
    integers: &mut [i16],
    scales: &mut [f32],
    sums: &mut [f32],
) {
    let chunk = LANES * P;
    for (group_idx, group) in x.chunks_exact(group_size).enumerate() {
        // NaN loses every comparison, so it is looked for on its own: `v * 0` is 0 for finite numbers only.
        let (mut largest, mut not_finite) = (0.0f32, 0.0f32);
        for &v in group {
            largest = largest.max(v.abs());
            not_finite += v * 0.0;
        }
        let step = largest / 32767.0;
        // Below the normal numbers a step is inexact, and its inverse infinite.
        let (scale, inverse) = if step >= f32::MIN_POSITIVE { (step, 32767.0 / largest) } else { (0.0, 0.0) };
        let mut sum = 0i32;
        let start = group_idx * group_size;
        // Runs of a group lie in one chunk: groups and chunks are both powers of two.
        let run = group_size.min(chunk);
        for (run_idx, values) in group.chunks_exact(run).enumerate() {
            // In the order of `x` first: that loop becomes vector instructions.
            let mut natural = [0i16; MAX_CHUNK];
            for (integer, v) in natural.iter_mut().zip(values) {
                *integer = (v * inverse + ROUND_TO_LOW_BITS).to_bits() as i16;
                sum += i32::from(*integer);
            }
            let at = start + run_idx * run;
            let first_lane = at % chunk / P;
            for (i, plane) in integers[at / chunk * chunk..][..chunk].chunks_exact_mut(LANES).enumerate() {
                for (j, integer) in plane[first_lane..][..run / P].iter_mut().enumerate() {
                    *integer = natural[j * P + i];
                }
            }
        }
        scales[group_idx] = scale + not_finite;
        sums[group_idx] = scale * sum as f32 + not_finite;
    }
}
// [end]
