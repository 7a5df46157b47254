//! Quantized matrices, and products with them, whose places in memory pass 2^32.

use grader::Rng;
use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch, TemplateValue};
use mlx_rs::{Array, Dtype};
use tiny_llm::quantized::QuantizedMatrix;
use tiny_llm::quantized::gpu::dequantize::DEQUANTIZE;
use tiny_llm::quantized::gpu::embedding::EMBEDDING;
use tiny_llm::quantized::gpu::operands::{Operands, format_of};

use crate::far_indices::{Far, check_far};
use crate::must;
use crate::quantized_matrices::{Format, Matrix, random_activations};

/// Inputs and outputs of the small matrices.
const SIZE: usize = 64;
/// The first token of those that are computed: `FIRST_TOKEN * SIZE` is 2^32.
pub const FIRST_TOKEN: u32 = 1 << 26;
const THREADS: usize = 32;

fn small_matrix(outputs: usize) -> QuantizedMatrix {
    Matrix::random(&mut Rng::new(30), [outputs, SIZE], Format { group_size: 32, bits: 4 }, Dtype::Float16).in_mlx()
}

/// How a kernel divides a product of the small matrix, whose outputs one threadgroup computes.
pub struct FarProduct<'a> {
    pub kernel: &'a GpuKernel,
    /// Beside the constants that all kernels take.
    pub template: &'a [(&'static str, TemplateValue)],
    pub tokens: usize,
    pub threadgroup: usize,
    /// Moved by `FIRST_TOKEN` tokens.
    pub positions: &'a [(&'a str, [u32; 3])],
}

pub fn check_far_product(product: &FarProduct<'_>) {
    let matrix = small_matrix(SIZE);
    let x = random_activations(&mut Rng::new(31), product.tokens, SIZE);
    let x = must(Array::from_slice(&x, &[product.tokens as i32, SIZE as i32]).as_dtype(Dtype::Float16));
    let operands = must(Operands::new(GpuBackend::Emulator, &x, &matrix, None));
    let launch = Launch {
        template: &operands.template(product.template),
        outputs: &[operands.output()],
        grid: [product.threadgroup, 1, 1],
        threadgroup: [product.threadgroup, 1, 1],
        fill: None,
    };
    let first = u64::from(FIRST_TOKEN);
    let far = Far {
        what: &format!("the tokens from {FIRST_TOKEN} on, {SIZE} inputs and outputs"),
        wrong_and_right: ["m * N", "size_t(m) * N"],
        arrays: &[("x", first * SIZE as u64), ("out", first * SIZE as u64)],
        positions: product.positions,
        integers: &[("x_shape", &[first + product.tokens as u64, SIZE as u64])],
    };
    check_far(&far, product.kernel, &operands.arrays(), &launch);
}

pub fn check_far_words() {
    const FIRST_WORD: u32 = 1 << 29; // of 8 weights
    let matrix = small_matrix(4);
    let launch = Launch {
        template: &format_of(&matrix),
        outputs: &[TensorType::new([4, SIZE], Dtype::Float16)],
        grid: [4 * SIZE / 8, 1, 1],
        threadgroup: [THREADS, 1, 1],
        fill: None,
    };
    let first = u64::from(FIRST_WORD);
    let far = Far {
        what: &format!("the words from {FIRST_WORD} on, of 8 weights each"),
        wrong_and_right: ["word_index * per_word", "size_t(word_index) * per_word"],
        arrays: &[("packed", first), ("scales", first / 4), ("biases", first / 4), ("weights", first * 8)],
        positions: &[
            ("thread_position_in_grid", [FIRST_WORD, 0, 0]),
            ("threadgroup_position_in_grid", [FIRST_WORD / THREADS as u32, 0, 0]),
        ],
        integers: &[("packed_shape", &[first / 8 + 4, 8])],
    };
    check_far(&far, &DEQUANTIZE, &[&matrix.packed, &matrix.scales, &matrix.biases], &launch);
}

/// Many tokens look up a vector each.
pub fn check_far_vectors() {
    let first = u64::from(FIRST_TOKEN);
    check_far_look_up(&Far {
        what: &format!("the tokens from {FIRST_TOKEN} on, vectors of {SIZE}"),
        wrong_and_right: ["token * words_per_row", "size_t(token) * words_per_row"],
        arrays: &[("token_ids", first), ("vectors", first * SIZE as u64)],
        positions: &[
            ("threadgroup_position_in_grid", [FIRST_TOKEN, 0, 0]),
            ("thread_position_in_grid", [FIRST_TOKEN * THREADS as u32, 0, 0]),
        ],
        integers: &[("token_ids_shape", &[first + 2])],
    });
}

/// The vocabulary has many rows.
pub fn check_far_ids() {
    const FIRST_ROW: u64 = 1 << 29; // of 8 words
    check_far_look_up(&Far {
        what: &format!("the rows from {FIRST_ROW} on, of 8 words each"),
        wrong_and_right: ["row * words_per_row", "size_t(row) * words_per_row"],
        arrays: &[("packed", FIRST_ROW * 8), ("scales", FIRST_ROW * 2), ("biases", FIRST_ROW * 2)],
        positions: &[],
        integers: &[("packed_shape", &[FIRST_ROW + 4, 8]), ("token_ids", &[FIRST_ROW + 3, FIRST_ROW + 1])],
    });
}

fn check_far_look_up(far: &Far<'_>) {
    let (matrix, ids) = (small_matrix(4), Array::from_slice(&[3_u32, 1], &[2]));
    let launch = Launch {
        template: &format_of(&matrix),
        outputs: &[TensorType::new([2, SIZE], Dtype::Float16)],
        grid: [2 * THREADS, 1, 1],
        threadgroup: [THREADS, 1, 1],
        fill: None,
    };
    check_far(far, &EMBEDDING, &[&ids, &matrix.packed, &matrix.scales, &matrix.biases], &launch);
}
