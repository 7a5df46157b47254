//! Day 2.3: quantized matrices on a GPU: unpacked, multiplied by three kernels, looked up, and the model on top.
//!
//! Every kernel runs on every backend that this machine has; the emulator is always among them.

#[allow(dead_code)] // day 2.1 uses the rest
mod cached_model;
mod far_indices;
mod far_quantized;
mod gpu_kernels;
#[allow(dead_code)] // days 2.2a to 2.2c use the rest
mod quantized_matrices;
#[allow(dead_code)] // day 2.4 uses the rest
mod quantized_models;
mod refusals;
#[path = "week2_day3/task_5_dispatch_and_layers.rs"]
mod task_5_dispatch_and_layers;
mod tiny_models;

use std::fmt::Display;

use far_quantized::{FIRST_TOKEN, FarProduct, check_far_product, check_far_words};
use gpu_kernels::{check_multiply, not_finite, one_plus_fractions, packed_integers, sweep};
use grader::{Fixture, Rng};
use mlx_custom::gpu::{GpuBackend, TemplateValue};
use mlx_rs::Dtype;
use quantized_matrices::{Format, Matrix, f32s, formats};
use refusals::expect_invalid_argument;
use rstest::rstest;
use tiny_llm::quantized::gpu::matvec::{MATVEC, MatvecShape, matvec_in};
use tiny_llm::quantized::gpu::matvec_tiles::{MatvecTilesShape, matvec_tiles_in};
use tiny_llm::quantized::gpu::operands::Operands;
use tiny_llm::quantized::gpu::plain::PLAIN;
use tiny_llm::quantized::gpu::tiled::{TILED, TileShape, tiled_in};
use tiny_llm::quantized::gpu::{GpuMatmul, dequantize_gpu, quantized_matmul_gpu_with};

const DAY: &str = "week2_day3";
const FLOATS: [Dtype; 3] = [Dtype::Float32, Dtype::Float16, Dtype::Bfloat16];

// ------------------------------------------------------------------------------------ task 1: dequantizing

#[rstest]
fn task_1_packed_integer(#[values(4, 8)] bits: i32) {
    for (at, (got, expected)) in packed_integers(bits).into_iter().enumerate() {
        assert_eq!(got, expected, "integer {} of a word, {bits} bits", at % (32 / bits as usize));
    }
}

#[rstest]
fn task_1_dequantize(
    #[values(
        "groups_of_32_f32",
        "groups_of_64_bf16",
        "groups_of_128_f16",
        "eight_bits_f16_from_f32",
        "eight_bits_f32_from_bf16"
    )]
    name: &str,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("dequantize/{name}"));
    for backend in GpuBackend::available() {
        case.check(dequantize_gpu(backend, &Matrix::of(case).in_mlx(), case.dtype()));
    }
}

/// More words than a threadgroup has threads, and a last threadgroup that is not full.
#[test]
fn task_1_all_formats() {
    let mut rng = Rng::new(1);
    for (number, format) in formats().enumerate() {
        let matrix = Matrix::random(&mut rng, [19, 3 * format.group_size], format, FLOATS[number % 3]);
        for backend in GpuBackend::available() {
            let got = must(dequantize_gpu(backend, &matrix.in_mlx(), Dtype::Float32));
            assert_eq!(got.shape(), [19, matrix.inputs as i32], "{backend:?}, {format:?}");
            for (at, (got, expected)) in f32s(&got).into_iter().zip(matrix.weights()).enumerate() {
                let off = 1e-6 * (expected.abs() + 1.0);
                assert!(
                    (f64::from(got) - expected).abs() <= off,
                    "{backend:?}, {format:?}: weight {at} is {got}, exactly {expected}"
                );
            }
        }
    }
}

#[test]
fn task_1_refuses_integers_and_takes_no_rows() {
    let format = Format { group_size: 32, bits: 4 };
    let matrix = Matrix::random(&mut Rng::new(2), [3, 64], format, Dtype::Float32).in_mlx();
    let nothing = Matrix::random(&mut Rng::new(2), [0, 64], format, Dtype::Float32).in_mlx();
    for backend in GpuBackend::available() {
        assert_eq!(must(dequantize_gpu(backend, &matrix, Dtype::Float16)).dtype(), Dtype::Float16, "{backend:?}");
        expect_invalid_argument(dequantize_gpu(backend, &matrix, Dtype::Int32), "weights of dtype int32");
        assert_eq!(must(dequantize_gpu(backend, &nothing, Dtype::Float32)).shape(), [0, 64], "{backend:?}");
    }
}

#[test]
fn task_1_dequantize_very_many_words() {
    check_far_words();
}

// -------------------------------------------------------------------------- task 2: one thread an output

#[rstest]
fn task_2_plain(
    #[values("one_token_f32", "vector_f16", "batch_f16", "eight_bits_bf16", "many_rows_bf16", "rows_f32")] name: &str,
) {
    check_multiply(GpuMatmul::Plain, name);
}

#[rstest]
fn task_2_plain_sums_in_f32(
    #[values("rounded_once_bf16", "rounded_once_f16", "sums_beyond_f16", "f32_bias_f16", "bf16_bias_f32")] name: &str,
) {
    check_multiply(GpuMatmul::Plain, name);
}

#[test]
fn task_2_plain_of_very_many_tokens() {
    check_far_product(&FarProduct {
        kernel: &PLAIN,
        template: &[],
        tokens: 1,
        threadgroup: 64,
        positions: &[
            ("threadgroup_position_in_grid", [0, FIRST_TOKEN, 0]),
            ("thread_position_in_grid", [0, FIRST_TOKEN, 0]),
        ],
    });
}

#[test]
fn task_2_plain_around_a_threadgroup() {
    for format in [Format { group_size: 32, bits: 4 }, Format { group_size: 64, bits: 8 }] {
        sweep(GpuMatmul::Plain, format, Dtype::Float32, &[1, 3], &[1, 63, 64, 65, 130], &[1, 3]);
    }
}

#[test]
fn task_2_what_is_not_finite_stays_with_its_token() {
    not_finite(GpuMatmul::Plain, 3, Dtype::Float32);
}

// ------------------------------------------------------------------------------ task 3: SIMD-group matvec

#[rstest]
fn task_3_one_plus_fraction(#[values(4, 8)] bits: i32) {
    for (at, (got, expected)) in one_plus_fractions(bits).into_iter().enumerate() {
        let i = at % (32 / bits as usize);
        assert_eq!(got.to_bits(), expected.to_bits(), "integer {i} of a word, {bits} bits: {got}, not {expected}");
    }
}

#[rstest]
fn task_3_matvec(
    #[values("one_token_f32", "one_token_bf16", "vector_f16", "eight_bits_bf16", "batch_f16", "rows_f32")] name: &str,
) {
    check_multiply(GpuMatmul::Matvec, name);
}

#[rstest]
fn task_3_matvec_sums_in_f32(
    #[values("rounded_once_bf16", "rounded_once_f16", "sums_beyond_f16", "f32_bias_f16", "bf16_bias_f32")] name: &str,
) {
    check_multiply(GpuMatmul::Matvec, name);
}

#[test]
fn task_3_matvec_of_very_many_tokens() {
    let int = TemplateValue::Int;
    check_far_product(&FarProduct {
        kernel: &MATVEC,
        // All outputs of a token in one threadgroup, so that neighbours are tokens.
        template: &[("TOKENS", int(1)), ("ROWS", int(64)), ("SIMD_GROUPS", int(2))],
        tokens: 1,
        threadgroup: 64,
        positions: &[("threadgroup_position_in_grid", [FIRST_TOKEN, 0, 0])],
    });
}

/// Few and many stretches of K, with and without a rest; numbers of outputs around those of a threadgroup.
#[rstest]
fn task_3_matvec_around_every_boundary(
    #[values(4, 8)] bits: usize,
    #[values(Dtype::Float32, Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype,
) {
    let group_size = 32 << FLOATS.iter().position(|float| *float == dtype).unwrap_or_default();
    sweep(GpuMatmul::Matvec, Format { group_size, bits }, dtype, &[1], &[1, 2, 7, 8, 9], &[1, 5, 17, 34]);
}

#[rstest]
fn task_3_matvec_for_one_to_nine_tokens(#[values(1, 2, 3, 4, 5, 6, 7, 8, 9)] tokens: usize) {
    let format = Format { group_size: 64, bits: 4 };
    sweep(GpuMatmul::Matvec, format, Dtype::Bfloat16, &[tokens], &[11], &[3]);
}

/// Whatever the work is cut into, the result is the same.
#[rstest]
fn task_3_matvec_cut_up_in_any_way(
    #[values((1, 1, 1), (1, 8, 2), (2, 4, 8), (3, 2, 1))] (tokens, rows, simd_groups): (usize, usize, usize),
) {
    let shape = MatvecShape { tokens, rows, simd_groups };
    let format = Format { group_size: 32, bits: 4 };
    gpu_kernels::sweep_with(
        &format!("{shape:?}"),
        format,
        Dtype::Float32,
        &[1, 5],
        &[13],
        &[36],
        |backend, x, matrix| matvec_in(shape, &Operands::new(backend, x, matrix, None)?),
    );
}

/// The given kernel for few tokens on the matrix units.
#[rstest]
fn task_3_matvec_tiles(
    #[values("one_token_bf16", "vector_f16", "batch_f16", "many_rows_bf16", "rounded_once_f16", "f32_bias_f16")]
    name: &str,
) {
    check_multiply(GpuMatmul::MatvecTiles, name);
}

/// Numbers of tokens and outputs around a tile, all sizes of groups, odd and even numbers of them.
#[rstest]
fn task_3_matvec_tiles_around_every_boundary(
    #[values(32, 64, 128)] group_size: usize,
    #[values(Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype,
) {
    let format = Format { group_size, bits: 4 };
    sweep(GpuMatmul::MatvecTiles, format, dtype, &[1, 2, 8, 9], &[1, 15, 17], &[1, 2, 9]);
}

#[rstest]
fn task_3_matvec_tiles_cut_up_in_any_way(
    #[values((1, 1, 1), (2, 2, 4), (4, 1, 2), (1, 2, 16))] (row_tiles, run, simd_groups): (usize, usize, usize),
) {
    let shape = MatvecTilesShape { row_tiles, run, simd_groups };
    let format = Format { group_size: 64, bits: 4 };
    gpu_kernels::sweep_with(
        &format!("{shape:?}"),
        format,
        Dtype::Bfloat16,
        &[1, 5],
        &[70],
        &[6],
        |backend, x, matrix| matvec_tiles_in(shape, &Operands::new(backend, x, matrix, None)?),
    );
}

#[test]
fn task_3_matvec_tiles_refuses_what_it_cannot_multiply() {
    let x = |dtype| must(Rng::new(5).array(&[2, 192], dtype));
    let matrix =
        |bits| Matrix::random(&mut Rng::new(6), [16, 192], Format { group_size: 64, bits }, Dtype::Float32).in_mlx();
    must(quantized_matmul_gpu_with(GpuMatmul::MatvecTiles, &x(Dtype::Bfloat16), &matrix(4), None));
    for (bits, dtype) in [(8, Dtype::Bfloat16), (4, Dtype::Float32)] {
        let got = quantized_matmul_gpu_with(GpuMatmul::MatvecTiles, &x(dtype), &matrix(bits), None);
        expect_invalid_argument(got, "tiles of 8 bits, or of f32");
    }
    let matrix = matrix(4);
    // The same token again and again takes no memory.
    let many = must(mlx_rs::ops::broadcast_to(must(Rng::new(5).array(&[192], Dtype::Float16)), &[1 << 25, 192]));
    let got = quantized_matmul_gpu_with(GpuMatmul::MatvecTiles, &many, &matrix, None);
    expect_invalid_argument(got, "2^25 tokens of 192 numbers, more than 2^32 in all");
    let two_of_three = MatvecTilesShape { row_tiles: 1, run: 2, simd_groups: 1 };
    for backend in GpuBackend::available() {
        let operands = must(Operands::new(backend, &x(Dtype::Float16), &matrix, None));
        expect_invalid_argument(matvec_tiles_in(two_of_three, &operands), "runs of two groups in a row of three");
    }
}

#[test]
fn task_3_what_is_not_finite_stays_with_its_token() {
    not_finite(GpuMatmul::Matvec, 3, Dtype::Float32);
    not_finite(GpuMatmul::MatvecTiles, 3, Dtype::Bfloat16);
}

// ----------------------------------------------------------------------------------- task 4: tiled matmul

#[rstest]
fn task_4_tiled(
    #[values("rows_f32", "batch_f16", "many_rows_bf16", "many_rows_f16", "many_rows_eight_bits_bf16", "many_rows_f32")]
    name: &str,
) {
    check_multiply(GpuMatmul::Tiled, name);
}

#[rstest]
fn task_4_tiled_sums_in_f32(
    #[values("rounded_once_bf16", "rounded_once_f16", "sums_beyond_f16", "f32_bias_f16", "bf16_bias_f32")] name: &str,
) {
    check_multiply(GpuMatmul::Tiled, name);
}

#[test]
fn task_4_tiled_of_very_many_tokens() {
    let int = TemplateValue::Int;
    check_far_product(&FarProduct {
        kernel: &TILED,
        template: &[
            ("O", TemplateValue::Dtype(Dtype::Float16)),
            ("SPLITS", int(1)),
            ("TILE_M", int(16)),
            ("TILE_N", int(64)),
            ("TILE_K", int(32)),
            ("SIMD_M", int(1)),
            ("SIMD_N", int(4)),
        ],
        tokens: 16,
        threadgroup: 128,
        positions: &[("threadgroup_position_in_grid", [FIRST_TOKEN / 16, 0, 0])],
    });
}

#[rstest]
fn task_4_tiled_around_a_tile(#[values(1, 31, 32, 33, 64, 65)] tokens: usize) {
    let format = Format { group_size: 32, bits: 4 };
    sweep(GpuMatmul::Tiled, format, Dtype::Bfloat16, &[tokens], &[1, 63, 64, 65], &[1, 3]);
}

#[rstest]
fn task_4_tiled_in_other_formats(#[values((64, 8), (128, 4))] (group_size, bits): (usize, usize)) {
    sweep(GpuMatmul::Tiled, Format { group_size, bits }, Dtype::Float16, &[17], &[40], &[1, 2]);
}

/// The largest tile, which real GPUs take.
#[test]
fn task_4_tiled_in_large_tiles() {
    let shape = TileShape { m: 128, n: 128, k: 32, simd_m: 2, simd_n: 4, splits: 1 };
    let format = Format { group_size: 32, bits: 4 };
    gpu_kernels::sweep_with(
        &format!("{shape:?}"),
        format,
        Dtype::Bfloat16,
        &[130],
        &[129],
        &[2],
        |backend, x, matrix| tiled_in(shape, &Operands::new(backend, x, matrix, None)?),
    );
}

/// K in parts, of which the last are shorter or empty.
#[rstest]
fn task_4_tiled_in_parts_of_k(#[values(2, 3, 7)] splits: usize) {
    let shape = TileShape { m: 32, n: 64, k: 32, simd_m: 1, simd_n: 4, splits };
    let fixture = Fixture::load(DAY);
    let case = fixture.case("multiply/batch_f16");
    let (matrix, bias) = (Matrix::of(case).in_mlx(), case.optional_array("bias"));
    for backend in GpuBackend::available() {
        let operands = must(Operands::new(backend, &case.array("x"), &matrix, bias.as_ref()));
        case.check(tiled_in(shape, &operands).and_then(|out| operands.with_leading_axes(out)));
    }
}

#[rstest]
fn task_4_dequantized(
    #[values(
        "rows_f32",
        "batch_f16",
        "many_rows_bf16",
        "many_rows_eight_bits_bf16",
        "f32_bias_f16",
        "bf16_bias_f32",
        "sums_beyond_f16"
    )]
    name: &str,
) {
    check_multiply(GpuMatmul::Dequantized, name);
}

#[test]
fn task_4_what_is_not_finite_stays_with_its_token() {
    not_finite(GpuMatmul::Tiled, 3, Dtype::Float32);
}

#[track_caller]
fn must<T, E: Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
