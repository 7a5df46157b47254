//! Multiplying by a quantized matrix in plain loops: the readable oracle of everything that is faster.

use crate::quantized::view::MatrixView;

/// `out[m, o] = Σ_i weight[o, i] * x[m, i]`, weights and activations in f32.
///
/// - `x`: `[tokens, I]`
/// - `out`: `[tokens, O]`
///
/// # Panics
/// When `x` or `out` has another length.
pub fn plain_matmul(matrix: &MatrixView<'_>, x: &[f32], tokens: usize, out: &mut [f32]) {
    assert_eq!(x.len(), tokens * matrix.inputs, "x is [tokens, I]");
    assert_eq!(out.len(), tokens * matrix.outputs, "out is [tokens, O]");
    // [task 2.2a.3] plain_matmul
    todo!("week 2 day 2a task 3: plain_matmul - see book/src/week2/day2a.md")
    // [end]
}

// [task 2.2a.3 helpers] plain_matmul
// [end]
