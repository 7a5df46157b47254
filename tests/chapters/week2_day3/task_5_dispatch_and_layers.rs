//! Task 5: which kernel, by shape; layers, look-ups and the model on the GPU.

use grader::{Fixture, Rng, check_rule, expect_error};
use mlx_custom::gpu::GpuBackend;
use mlx_rs::{Array, Dtype};
use rstest::rstest;
use tiny_llm::quantized::gpu::dispatch::{DEQUANTIZED_FROM, MATVEC_TILES_UP_TO, MATVEC_UP_TO};
use tiny_llm::quantized::gpu::{GpuMatmul, quantized_embedding_gpu, quantized_matmul_gpu, quantized_matmul_gpu_on};
use tiny_llm::quantized::{QuantizedEmbedding, QuantizedLinear};
use tiny_llm::{Device, Qwen2Model, Stage};

use crate::cached_model::{answer, forward_in_chunks, new_cache};
use crate::far_quantized::{check_far_ids, check_far_vectors};
use crate::quantized_matrices::{Format, Matrix, f32s};
use crate::quantized_models::MODELS;
use crate::refusals::expect_invalid_argument;
use crate::{DAY, must, tiny_models};

const FORMAT: Format = Format { group_size: 32, bits: 4 };

/// One token is a matter of reading, many are a matter of multiplying.
#[rstest]
fn choice(#[values(Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype, #[values(4, 8)] bits: usize) {
    let few = if bits == 4 { GpuMatmul::MatvecTiles } else { GpuMatmul::Matvec };
    assert_eq!(GpuMatmul::choose(1, dtype, bits), few, "one token, {bits} bits, {dtype:?}");
    for tokens in [40, 48, 56] {
        let choice = GpuMatmul::choose(tokens, dtype, bits);
        assert_eq!(choice, GpuMatmul::Tiled, "{tokens} tokens, {bits} bits, {dtype:?}");
    }
    let choice = GpuMatmul::choose(4096, dtype, bits);
    assert_eq!(choice, GpuMatmul::Dequantized, "4096 tokens, {bits} bits, {dtype:?}");
    // Once it has given up a way, it doesn't come back to it.
    let order = [few, GpuMatmul::Tiled, GpuMatmul::Dequantized];
    let place = |tokens| order.iter().position(|kind| *kind == GpuMatmul::choose(tokens, dtype, bits));
    for tokens in 1..600 {
        assert!(
            place(tokens).is_some() && place(tokens) <= place(tokens + 1),
            "{tokens} tokens, {bits} bits, {dtype:?}"
        );
    }
}

/// Up to the constants that stand in `dispatch.rs`, and not beyond.
#[test]
fn choice_changes_at_the_constants() {
    let rule = |tokens, dtype, bits, expected: GpuMatmul| {
        let choice = GpuMatmul::choose(tokens, dtype, bits);
        let holds = if choice == expected { Ok(()) } else { Err(format!("{choice:?}, and not {expected:?}")) };
        let cause = "looks like: a bound is off by one: UP_TO counts with the first kind, FROM with the second";
        check_rule(&format!("the kernel for {tokens} tokens of {dtype:?}, {bits} bits"), holds, cause);
    };
    let bf16 = Dtype::Bfloat16;
    rule(MATVEC_UP_TO, bf16, 8, GpuMatmul::Matvec);
    rule(MATVEC_UP_TO + 1, bf16, 8, GpuMatmul::Tiled);
    rule(MATVEC_UP_TO, Dtype::Float32, 4, GpuMatmul::Matvec);
    rule(MATVEC_UP_TO + 1, Dtype::Float32, 4, GpuMatmul::Dequantized);
    rule(MATVEC_TILES_UP_TO, bf16, 4, GpuMatmul::MatvecTiles);
    rule(MATVEC_TILES_UP_TO + 1, bf16, 4, GpuMatmul::Tiled);
    rule(DEQUANTIZED_FROM - 1, bf16, 4, GpuMatmul::Tiled);
    rule(DEQUANTIZED_FROM, bf16, 4, GpuMatmul::Dequantized);
}

#[test]
fn choice_for_f32_uses_no_matrix_units() {
    assert_eq!(GpuMatmul::choose(1, Dtype::Float32, 4), GpuMatmul::Matvec);
    for tokens in [16, 40, 64, 4096] {
        assert_eq!(GpuMatmul::choose(tokens, Dtype::Float32, 4), GpuMatmul::Dequantized, "{tokens} tokens");
    }
}

#[rstest]
fn dispatch(
    #[values("one_token_bf16", "vector_f16", "batch_f16", "eight_bits_bf16", "many_rows_bf16", "many_rows_f32")]
    name: &str,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("multiply/{name}"));
    let (matrix, bias) = (Matrix::of(case).in_mlx(), case.optional_array("bias"));
    case.check(quantized_matmul_gpu(&case.array("x"), &matrix, bias.as_ref()));
    case.check(quantized_matmul_gpu(&must(grader::strided(&case.array("x"))), &matrix, bias.as_ref()));
}

#[rstest]
fn no_tokens_give_no_results(#[values(0, 1, 2, 3, 4)] kind: usize) {
    let matrix = Matrix::random(&mut Rng::new(1), [7, 64], FORMAT, Dtype::Float16).in_mlx();
    for backend in GpuBackend::available() {
        for tokens in [1, 0] {
            let x = must(mlx_rs::ops::zeros_dtype(&[2, tokens, 64], Dtype::Bfloat16));
            let got = must(quantized_matmul_gpu_on(backend, GpuMatmul::ALL[kind], &x, &matrix, None));
            assert_eq!((got.shape(), got.dtype()), (&[2, tokens, 7][..], Dtype::Bfloat16), "{backend:?}");
        }
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let matrix = Matrix::random(&mut Rng::new(2), [7, 64], FORMAT, Dtype::Float16).in_mlx();
    let array = |shape: &[i32]| must(Rng::new(3).array(shape, Dtype::Float32));
    let multiply = |x: &Array, bias: Option<&Array>| quantized_matmul_gpu(x, &matrix, bias);
    assert_eq!(must(multiply(&array(&[3, 64]), Some(&array(&[7])))).shape(), [3, 7]);
    expect_invalid_argument(multiply(&array(&[3, 32]), None), "32 inputs for a matrix of 64");
    expect_invalid_argument(multiply(&array(&[]), None), "a single number");
    expect_invalid_argument(multiply(&Array::from_slice(&[1_i32; 64], &[64]), None), "activations of dtype int32");
    expect_invalid_argument(multiply(&array(&[3, 64]), Some(&array(&[6]))), "a bias of 6 for 7 outputs");
    expect_invalid_argument(multiply(&array(&[3, 64]), Some(&array(&[1, 7]))), "a bias of two axes");
    let ids = Array::from_slice(&[1.0_f32], &[1]);
    for backend in GpuBackend::available() {
        let look_up = quantized_embedding_gpu(backend, &ids, &matrix, Dtype::Float32);
        expect_invalid_argument(look_up, "token ids of dtype float32");
    }
}

#[rstest]
fn quantized_linear(#[values("one_token_bf16", "batch_f16", "many_rows_bf16")] name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("multiply/{name}"));
    let layer = QuantizedLinear::new(Matrix::of(case).in_mlx(), case.optional_array("bias")).on(Device::Gpu);
    case.check(layer.forward(&case.array("x")));
}

#[rstest]
fn embedding_rows(
    #[values("batch_f32", "vector_bf16", "scalar_f32", "eight_bits_f16")] name: &str,
    #[values(Dtype::Uint32, Dtype::Int32)] id_dtype: Dtype,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("look_up/{name}"));
    let ids = must(case.array("ids").as_dtype(id_dtype));
    for backend in GpuBackend::available() {
        case.check(quantized_embedding_gpu(backend, &ids, &Matrix::of(case).in_mlx(), case.dtype()));
    }
    let embedding = QuantizedEmbedding::new(Matrix::of(case).in_mlx(), case.dtype()).on(Device::Gpu);
    case.check(embedding.forward(&ids));
}

#[test]
fn embedding_refuses_what_are_no_vectors() {
    let matrix = Matrix::random(&mut Rng::new(2), [7, 64], FORMAT, Dtype::Float16).in_mlx();
    let ids = Array::from_slice(&[1_u32], &[1]);
    for backend in GpuBackend::available() {
        must(quantized_embedding_gpu(backend, &ids, &matrix, Dtype::Float32));
        let look_up = quantized_embedding_gpu(backend, &ids, &matrix, Dtype::Int32);
        expect_invalid_argument(look_up, "vectors of dtype int32");
        let bools = must(ids.as_dtype(Dtype::Bool));
        expect_invalid_argument(quantized_embedding_gpu(backend, &bools, &matrix, Dtype::Float32), "ids of dtype bool");
    }
}

/// More words in a row than a threadgroup has threads.
#[test]
fn embedding_of_long_rows() {
    let matrix = Matrix::random(&mut Rng::new(5), [3, 1184], Format { group_size: 32, bits: 4 }, Dtype::Float16);
    let ids = Array::from_slice(&[2_u32, 0], &[2]);
    let weights = matrix.weights();
    for backend in GpuBackend::available() {
        let got = must(quantized_embedding_gpu(backend, &ids, &matrix.in_mlx(), Dtype::Float32));
        assert_eq!(got.shape(), [2, 1184], "{backend:?}");
        let expected = weights[2 * 1184..].iter().chain(&weights[..1184]);
        for (at, (got, expected)) in f32s(&got).iter().zip(expected).enumerate() {
            let off = (f64::from(*got) - expected).abs();
            assert!(off <= 1e-6 * (1.0 + expected.abs()), "{backend:?}: number {at} is {got}, exactly {expected}");
        }
    }
}

/// Rows whose number takes more than 16 bits, and ids whose lower half is a row.
#[test]
fn embedding_of_a_large_vocabulary() {
    let matrix = Matrix::random(&mut Rng::new(21), [70_000, 32], FORMAT, Dtype::Float16);
    let weights = matrix.weights();
    let (rows, unknown) = ([65_535_i64, 65_536, 69_999], (1_i64 << 32) + 5);
    let ids = Array::from_slice(&[rows[0], rows[1], rows[2], unknown], &[4]);
    for backend in GpuBackend::available() {
        let got = f32s(&must(quantized_embedding_gpu(backend, &ids, &matrix.in_mlx(), Dtype::Float32)));
        for (row, vector) in rows.iter().zip(got.chunks_exact(32)) {
            let expected = &weights[*row as usize * 32..][..32];
            let is_right =
                |(got, expected): (&f32, &f64)| (f64::from(*got) - expected).abs() <= 1e-6 * (1.0 + expected.abs());
            let is_row = vector.iter().zip(expected).all(is_right);
            let holds = if is_row { Ok(()) } else { Err("it is another row".to_owned()) };
            let cause = "looks like: ids are cut to 16 bits; a vocabulary has more than 65,536 tokens";
            check_rule(&format!("{backend:?}: the vector of token {row}"), holds, cause);
        }
        let is_nan = got[3 * 32..].iter().all(|x| x.is_nan());
        let holds = if is_nan { Ok(()) } else { Err(format!("{} and so on, and no NaN", got[3 * 32])) };
        let cause = "looks like: an id of 64 bits is cut to 32 before anybody has asked whether the vocabulary has it";
        check_rule(&format!("{backend:?}: the vector of token {unknown}, an i64"), holds, cause);
    }
}

#[test]
fn embedding_of_very_many_tokens() {
    check_far_vectors();
}

#[test]
fn embedding_of_very_many_rows() {
    check_far_ids();
}

#[test]
fn embedding_marks_what_is_no_token() {
    let matrix = Matrix::random(&mut Rng::new(20), [5, 64], FORMAT, Dtype::Float16).in_mlx();
    let none = must(mlx_rs::ops::zeros_dtype(&[3, 0], Dtype::Uint32));
    for backend in GpuBackend::available() {
        let ids = Array::from_slice(&[4_i32, 5, 0, -1], &[4]);
        let got = f32s(&must(quantized_embedding_gpu(backend, &ids, &matrix, Dtype::Float32)));
        for (token, vector) in got.chunks_exact(64).enumerate() {
            let is_known = token % 2 == 0;
            assert!(vector.iter().all(|x| x.is_nan() != is_known), "{backend:?}: token {token} of [4, 5, 0, -1]");
        }
        let got = must(quantized_embedding_gpu(backend, &none, &matrix, Dtype::Float32));
        assert_eq!(got.shape(), [3, 0, 64], "{backend:?}");
    }
}

#[rstest]
fn embedding_as_output_head(#[values("vector_bf16")] name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("look_up/{name}"));
    let matrix = Matrix::of(case);
    let embedding = QuantizedEmbedding::new(matrix.in_mlx(), Dtype::Float32);
    let x = must(Rng::new(6).array(&[2, matrix.inputs as i32], Dtype::Float32));
    let scores = must(embedding.clone().on(Device::Gpu).as_linear(&x));
    assert_eq!(scores.shape(), [2, matrix.outputs as i32]);
    for (got, expected) in f32s(&scores).iter().zip(matrix.product(&f32s(&x))) {
        assert!((f64::from(*got) - expected.value).abs() <= 1e-4 * (1.0 + expected.value.abs()), "{got}, {expected:?}");
    }
    expect_error(embedding.on(Device::Gpu).as_linear(&must(Rng::new(6).array(&[2, 3], Dtype::Float32))), "3 inputs");
}

fn load(name: &str, dtype: Dtype) -> tiny_llm::Result<Qwen2Model> {
    // The stage before day 2.5's attention.
    Qwen2Model::load_on(Device::Gpu, &tiny_models::open(name), dtype, Stage::Fused)
}

#[rstest]
#[case("tiny-qwen2-4bit", "two_rows_f32")]
#[case("tiny-qwen2-4bit", "two_rows_bf16")]
#[case("tiny-qwen2-mixed", "one_row_f16")]
fn logits(#[case] model: &str, #[case] prompt: &str) {
    let fixture = Fixture::load(MODELS);
    let case = fixture.case(&format!("logits/{model}/{prompt}"));
    let ids = case.array("ids");
    let in_one_call =
        load(model, case.dtype()).and_then(|model| model.forward(&ids, None, tiny_llm::LogitsToKeep::All));
    case.check(in_one_call);
    let rest = ids.dim(1) - 5;
    let with_a_cache = load(model, case.dtype())
        .and_then(|model| forward_in_chunks(&model, &mut new_cache(&model), &ids, &[4, 1, rest]));
    case.check(with_a_cache);
}

#[rstest]
#[case("tiny-qwen2-4bit", "five_tokens")]
#[case("tiny-qwen2-mixed", "seven_tokens")]
fn generates_what_transformers_generates(#[case] model: &str, #[case] prompt: &str) {
    let fixture = Fixture::load(MODELS);
    let case = fixture.case(&format!("greedy/{model}/{prompt}"));
    let (prompt, max_tokens) = (case.array("prompt"), case.i32("max_tokens") as usize);
    let generation = load(model, Dtype::Float32).and_then(|model| answer(&model, prompt.as_slice::<u32>(), max_tokens));
    case.check(generation.map(|generation| Array::from_slice(&generation.tokens, &[generation.tokens.len() as i32])));
}
