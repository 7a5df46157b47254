//! Few tokens: every weight is read once per token, straight from its packed form. Memory is the limit.

use std::arch::x86_64::*;

use super::Job;
use super::stored::Stored;
use crate::quantized::activations::LANES;

/// Rows that go through the loop together: they share the loads of the activations.
///
/// They are not neighbours but lie a quarter of the tile apart. Four neighbours are one stream of memory, and a processor
/// runs only so far ahead of one stream; it runs ahead of four at a time. On two cores, four streams a core read 29 GB/s,
/// one stream 21 GB/s.
const ROWS: usize = 4;

/// What is the same for all rows.
struct Row<'a> {
    groups: usize,
    /// `[chunks, P, LANES]`
    integers: &'a [i16],
    /// `[groups]`
    scales: &'a [f32],
    /// `[groups]`
    sums: &'a [f32],
    /// For biases that are added eight groups at a time: the sums of the last eight groups, zero for those that a whole
    /// block of eight has already covered.
    last_sums: [f32; 8],
    /// For groups of a chunk or more: how many chunks share a scale, as a shift.
    chunk_shift: u32,
}

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
    let (n_rows, groups) = (job.rows.len(), job.matrix.groups());
    // One place more than there are groups: the half chunk at a row's end has a second half, whose scale is 0.
    let mut products = vec![0.0; ROWS * (groups + 1)];
    for (token, out) in job.tokens.clone().zip(tile.chunks_exact_mut(n_rows)) {
        let sums = job.x.row_sums(token);
        let mut last_sums = [0.0; 8];
        if groups >= 8 {
            let uncovered = groups % 8;
            last_sums[8 - uncovered..].copy_from_slice(&sums[groups - uncovered..]);
        }
        let row = Row {
            groups,
            integers: job.x.row(token),
            scales: job.x.row_scales(token),
            sums,
            last_sums,
            chunk_shift: (job.matrix.group_size / job.x.chunk()).max(1).trailing_zeros(),
        };
        let distance = n_rows / ROWS;
        for i in 0..distance {
            let rows = std::array::from_fn(|r| job.rows.start + r * distance + i);
            // SAFETY: the rows exist.
            let dots = unsafe { dot_rows::<S, P, HALF, ROWS>(job, &row, scales, biases, rows, &mut products) };
            for (r, dot) in dots.into_iter().enumerate() {
                out[r * distance + i] = dot;
            }
        }
        for (i, out) in out.iter_mut().enumerate().skip(ROWS * distance) {
            let rows = [job.rows.start + i];
            // SAFETY: the row exists.
            [*out] = unsafe { dot_rows::<S, P, HALF, 1>(job, &row, scales, biases, rows, &mut products) };
        }
    }
}

/// The dot products of `R` rows with one row of activations.
///
/// # Safety
/// As [`Job::run`], and the rows exist.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_rows<S: Stored, const P: usize, const HALF: bool, const R: usize>(
    job: &Job<'_>,
    x: &Row<'_>,
    scales: &[S],
    biases: &[S],
    rows: [usize; R],
    products: &mut [f32],
) -> [f32; R] {
    // [task 2.2b.4] AVX2: dot products of a block of rows
    todo!("week 2 day 2b task 4: AVX2: dot products of a block of rows - see book/src/week2/day2b.md")
    // [end]
}

// [task 2.2b.4 helpers] AVX2: scales, chunks and sums
// [end]
