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
    todo!("week 2 day 2b task 4: NEON: dot products of a block of rows - see book/src/week2/day2b.md")
    // [end]
}

// [task 2.2b.4 helpers] NEON: instructions
// [end]
