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
    let mut weights = vec![0.0; matrix.inputs];
    for row in 0..matrix.outputs {
        // Once for all tokens: dequantizing costs as much as a dot product or more.
        dequantize_row(matrix, row, &mut weights);
        for (token, x) in x.chunks_exact(matrix.inputs).enumerate() {
            out[token * matrix.outputs + row] = dot(&weights, x);
        }
    }
    // [end]
}

// [task 2.2a.3 helpers] plain_matmul
/// `weights[i] = scale * integer + bias` for one row.
fn dequantize_row(matrix: &MatrixView<'_>, row: usize, weights: &mut [f32]) {
    let per_word = 32 / matrix.bits;
    let mask = (1 << matrix.bits) - 1;
    let words_of_groups = matrix.row_words(row).chunks_exact(matrix.group_size / per_word);
    let groups = weights.chunks_exact_mut(matrix.group_size);
    for ((at, words), weights) in matrix.row_groups(row).zip(words_of_groups).zip(groups) {
        let (scale, bias) = (matrix.scales.get(at), matrix.biases.get(at));
        for (word, weights) in words.iter().zip(weights.chunks_exact_mut(per_word)) {
            for (i, weight) in weights.iter_mut().enumerate() {
                let integer = (word >> (matrix.bits * i)) & mask;
                *weight = scale * integer as f32 + bias;
            }
        }
    }
}

/// Sixteen sums side by side: floating-point addition has an order, so a compiler may not make vectors of one long sum.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum() // rows are whole groups, so nothing is left over
}
// [end]
