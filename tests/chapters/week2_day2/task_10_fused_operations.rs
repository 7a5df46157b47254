//! Task 10: each fused operation against f64 and against the plain layers that it replaces.

use grader::{Case, Fixture, Rng, Tolerance, check_close, expect_error, strided};
use mlx_custom::Constant;
use mlx_rs::{Array, Dtype};
use rstest::rstest;
use tiny_llm::fused::rms_norm::rms_norm_row;
use tiny_llm::fused::{QkvWeights, linear_add, norm_qkv_rope, norm_swiglu};
use tiny_llm::quantized::{QuantizedMatrix, quantized_matmul};
use tiny_llm::{Error, Offset, Result, RmsNorm, RotaryEmbedding, Stage, silu};

use crate::cached_model::load;
use crate::quantized_matrices::{Format, Matrix, f32s};
use crate::quantized_models::{check_generation, check_logits, check_logits_in_chunks, check_real_logits};
use crate::refusals::expect_invalid_argument;
use crate::{DAY, must};

#[rstest]
fn rms_norm_of_a_row(#[values("row", "odd_length", "tiny")] name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("rms_norm_row/{name}"));
    let mut row = f32s(&case.array("x"));
    rms_norm_row(&mut row, &f32s(&case.array("weight")), case.f32("eps"));
    case.check(Ok::<_, Error>(Array::from_slice(&row, &[row.len() as i32])));
}

// ------------------------------------------------------------------------- query, key, value, rotation

#[rstest]
fn norm_qkv_rope_of_a_case(
    #[values("prefill_f32", "decode_f32", "two_rows_f32", "own_offsets_f32", "prefill_f16", "decode_bf16")] name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("norm_qkv_rope/{name}"));
    let x = if other_memory_order { must(strided(&case.array("x"))) } else { case.array("x") };
    let offsets = case.i32s("offsets");
    let equal = offsets.iter().all(|offset| *offset == offsets[0]);
    let offset = if equal { Offset::Same(offsets[0]) } else { Offset::PerRow(&offsets) };
    let rope = RotaryEmbedding::new(case.i32("head_dim"), case.i32("max_positions"), case.f32("rope_theta"), false);
    let rope = must(rope);
    match norm_qkv_rope(&x, &constant(&case.array("norm_weight")), case.f32("eps"), &qkv_weights(case), &rope, offset) {
        Ok([query, key, value]) => {
            case.check(Ok::<_, Error>(query));
            case.check_named("key", Ok::<_, Error>(key));
            case.check_named("value", Ok::<_, Error>(value));
        }
        Err(error) => case.check(Err(error)),
    }
}

fn qkv_weights(case: &Case) -> QkvWeights {
    let bias = |part: &str| case.optional_array(&format!("{part}_bias")).as_ref().map(constant);
    QkvWeights {
        matrices: ["q_", "k_", "v_"].map(|part| Matrix::with_prefix(case, part).in_mlx()),
        biases: bias("q").zip(bias("k")).zip(bias("v")).map(|((q, k), v)| [q, k, v]),
        num_heads: case.i32("num_heads") as usize,
        num_kv_heads: case.i32("num_kv_heads") as usize,
        head_dim: case.i32("head_dim") as usize,
    }
}

/// Matrices whose rows are no multiple of a tile's: tiles reach from one into the next.
#[rstest]
fn norm_qkv_rope_is_what_the_plain_layers_compute(
    #[values((9, 3, 8), (1, 1, 16), (7, 7, 10), (12, 4, 64))] (heads, kv_heads, head_dim): (usize, usize, usize),
    #[values(1, 3, 4, 33)] len: i32,
) {
    let mut rng = Rng::new(21);
    let format = Format { group_size: 32, bits: 4 };
    let matrix =
        |rng: &mut Rng, heads: usize| Matrix::random(rng, [heads * head_dim, 96], format, Dtype::Float16).in_mlx();
    let matrices = [matrix(&mut rng, heads), matrix(&mut rng, kv_heads), matrix(&mut rng, kv_heads)];
    let biases = [heads, kv_heads, kv_heads].map(|heads| must(rng.array(&[(heads * head_dim) as i32], Dtype::Float32)));
    let x = must(rng.array(&[2, len, 96], Dtype::Float32));
    let norm_weight = must(rng.array(&[96], Dtype::Float32));
    let norm = RmsNorm::new(norm_weight.clone(), 1e-5);
    let rope = must(RotaryEmbedding::new(head_dim as i32, 64, 1000.0, false));
    let offset = || Offset::PerRow(&[2, 30]);

    let plain = |part: usize, heads: usize| -> Result<Array> {
        let y = quantized_matmul(&norm.forward(&x)?, &matrices[part], Some(&biases[part]))?;
        let y = y.reshape(&[2, len, heads as i32, head_dim as i32])?.swap_axes(1, 2)?;
        if part < 2 { rope.forward(&y, offset()) } else { Ok(y) }
    };
    let expected = [plain(0, heads), plain(1, kv_heads), plain(2, kv_heads)].map(must);
    let weights = QkvWeights {
        matrices: matrices.clone(),
        biases: Some(biases.each_ref().map(constant)),
        num_heads: heads,
        num_kv_heads: kv_heads,
        head_dim,
    };
    let fused = must(norm_qkv_rope(&x, &constant(&norm_weight), 1e-5, &weights, &rope, offset()));
    for (part, (got, expected)) in ["query", "key", "value"].into_iter().zip(fused.into_iter().zip(expected)) {
        let what = format!("{part}, {heads} heads and {kv_heads} for keys, of {head_dim}, {len} tokens");
        check_close(&what, Ok::<_, Error>(got), &expected, ROUNDING);
    }
}

#[test]
fn norm_qkv_rope_refuses_what_it_cannot_compute() {
    let mut rng = Rng::new(22);
    let matrix = |rows: usize, format| Matrix::random(&mut Rng::new(23), [rows, 64], format, Dtype::Float16).in_mlx();
    let format = Format { group_size: 32, bits: 4 };
    let weights = |value: QuantizedMatrix| QkvWeights {
        matrices: [matrix(32, format), matrix(16, format), value],
        biases: None,
        num_heads: 4,
        num_kv_heads: 2,
        head_dim: 8,
    };
    let good = weights(matrix(16, format));
    let rope = |traditional| must(RotaryEmbedding::new(8, 20, 1000.0, traditional));
    let (x, norm) = (must(rng.array(&[2, 3, 64], Dtype::Float32)), must(rng.array(&[64], Dtype::Float32)));
    let run = |x: &Array, norm: &Array, weights: &QkvWeights, rope: RotaryEmbedding, offset: Offset<'_>| {
        norm_qkv_rope(x, &constant(norm), 1e-5, weights, &rope, offset).and_then(|out| {
            out.iter().try_for_each(|out| out.eval())?;
            Ok(out[0].shape().to_vec())
        })
    };
    let same = Offset::Same;
    assert_eq!(must(run(&x, &norm, &good, rope(false), same(17))), [2, 4, 3, 8], "positions 17, 18, 19 of 20");
    expect_invalid_argument(run(&x, &norm, &good, rope(false), same(18)), "positions 18, 19, 20 of 20");
    expect_invalid_argument(run(&x, &norm, &good, rope(false), same(-1)), "position -1");
    expect_invalid_argument(run(&x, &norm, &good, rope(false), Offset::PerRow(&[1])), "one offset for two rows");
    expect_invalid_argument(run(&x, &norm, &good, rope(true), same(0)), "a table for adjacent pairs");
    let other = weights(matrix(16, Format { group_size: 64, bits: 4 }));
    expect_error(run(&x, &norm, &other, rope(false), same(0)), "matrices of different formats");
    expect_error(
        run(&x, &norm, &weights(matrix(24, format)), rope(false), same(0)),
        "values of 24 rows for 2 heads of 8",
    );
    let row = must(x.reshape(&[6, 64]));
    expect_error(run(&row, &norm, &good, rope(false), same(0)), "x [6, 64] without a batch axis");
    let half = must(norm.as_dtype(Dtype::Float16));
    expect_error(run(&x, &half, &good, rope(false), same(0)), "a norm's weight of dtype float16");
}

// ------------------------------------------------------------------------------------------- SwiGLU

#[rstest]
fn norm_swiglu_of_a_case(
    #[values("decode_f32", "prefill_f32", "eight_bits_f32", "prefill_f16", "decode_bf16")] name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("norm_swiglu/{name}"));
    let x = if other_memory_order { must(strided(&case.array("x"))) } else { case.array("x") };
    let [gate, up] = ["gate_", "up_"].map(|part| Matrix::with_prefix(case, part).in_mlx());
    case.check(norm_swiglu(&x, &constant(&case.array("norm_weight")), case.f32("eps"), &gate, &up));
}

#[rstest]
fn norm_swiglu_is_what_the_plain_layers_compute(
    #[values(1, 31, 33, 300)] outputs: usize,
    #[values(1, 4, 130)] tokens: i32,
) {
    let mut rng = Rng::new(24);
    let format = Format { group_size: 64, bits: 4 };
    let [gate, up] = [(); 2].map(|()| Matrix::random(&mut rng, [outputs, 64], format, Dtype::Bfloat16).in_mlx());
    let x = must(rng.array(&[1, tokens, 64], Dtype::Float32));
    let norm_weight = must(rng.array(&[64], Dtype::Float32));
    let norm = RmsNorm::new(norm_weight.clone(), 1e-6);
    let plain = || {
        let x = norm.forward(&x)?;
        Ok::<_, Error>(silu(&quantized_matmul(&x, &gate, None)?)?.multiply(quantized_matmul(&x, &up, None)?)?)
    };
    let fused = norm_swiglu(&x, &constant(&norm_weight), 1e-6, &gate, &up);
    check_close(&format!("{tokens} tokens, {outputs} outputs"), fused, &must(plain()), ROUNDING);
}

/// For gates far below zero the exponential is infinite, and the product a zero, not a NaN.
#[test]
fn norm_swiglu_is_finite_in_the_tails() {
    let matrix = Matrix::with_largest_integers([64, 128], Format { group_size: 32, bits: 8 }).in_mlx();
    let ones = constant(&Array::from_slice(&[1.0_f32; 128], &[128]));
    for sign in [1.0_f32, -1.0] {
        let x = Array::from_slice(&[sign; 128], &[1, 1, 128]);
        let out = f32s(&must(norm_swiglu(&x, &ones, 1e-6, &matrix, &matrix)));
        let (first, last) = (out[0], out[63]);
        assert!(first.is_finite() && last.is_finite(), "gates of {sign} times hundreds to thousands: {first}, {last}");
        assert_eq!(last == 0.0, sign < 0.0, "silu of {sign} times thousands, times as much: {last}");
    }
}

#[test]
fn norm_swiglu_refuses_what_does_not_fit() {
    let matrix = |shape, format| Matrix::random(&mut Rng::new(25), shape, format, Dtype::Float16).in_mlx();
    let format = Format { group_size: 32, bits: 4 };
    let (gate, x) = (matrix([8, 64], format), must(Rng::new(26).array(&[2, 64], Dtype::Float32)));
    let norm = must(Rng::new(27).array(&[64], Dtype::Float32));
    let run = |x: &Array, norm: &Array, up: &QuantizedMatrix| {
        norm_swiglu(x, &constant(norm), 1e-6, &gate, up)
            .and_then(|out| Ok(out.eval().map(|()| out.shape().to_vec())?))
    };
    assert_eq!(must(run(&x, &norm, &gate)), [2, 8]);
    expect_error(run(&x, &norm, &matrix([9, 64], format)), "an up projection of 9 rows for a gate of 8");
    let other = matrix([8, 64], Format { group_size: 64, bits: 4 });
    expect_error(run(&x, &norm, &other), "an up projection of another format");
    expect_error(run(&must(x.reshape(&[4, 32])), &norm, &gate), "x [4, 32] for 64 inputs");
    expect_error(run(&must(x.as_dtype(Dtype::Int32)), &norm, &gate), "x of dtype int32");
    expect_error(run(&x, &must(norm.reshape(&[1, 64])), &gate), "a norm's weight [1, 64]");
}

// --------------------------------------------------------------------------- projection and residual

#[rstest]
fn linear_add_of_a_case(
    #[values("decode_f32", "prefill_f32", "heads_f32", "heads_decode_f32", "heads_f16", "heads_bf16")] name: &str,
    #[values(false, true)] other_memory_order: bool,
    #[values(false, true)] somebody_looks: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("linear_add/{name}"));
    let order = |array: Array| if other_memory_order { must(strided(&array)) } else { array };
    let (x, residual) = (order(case.array("x")), case.array("residual"));
    let seen = somebody_looks.then(|| residual.clone());
    let out = linear_add(&x, &residual, &Matrix::of(case).in_mlx());
    drop(residual);
    case.check(out);
    if let Some(seen) = seen {
        let unchanged = "the residual, which somebody else still holds";
        check_close(unchanged, Ok::<_, Error>(seen), &case.array("residual"), Tolerance { atol: 0.0, rtol: 0.0 });
    }
}

#[rstest]
fn linear_add_is_what_the_plain_layers_compute(
    #[values(1, 31, 33, 300)] outputs: usize,
    #[values(1, 4, 130)] len: i32,
) {
    let mut rng = Rng::new(28);
    let matrix = Matrix::random(&mut rng, [outputs, 96], Format { group_size: 32, bits: 4 }, Dtype::Float32).in_mlx();
    let x = must(rng.array(&[2, 3, len, 32], Dtype::Float32));
    let residual = must(rng.array(&[2, len, outputs as i32], Dtype::Float32));
    let plain = || {
        let merged = x.swap_axes(1, 2)?.reshape(&[2, len, 96])?;
        Ok::<_, Error>(quantized_matmul(&merged, &matrix, None)?.add(&residual)?)
    };
    let what = format!("{len} tokens, {outputs} outputs");
    check_close(&what, linear_add(&x, &residual, &matrix), &must(plain()), ROUNDING);
}

#[test]
fn linear_add_refuses_what_does_not_fit() {
    let matrix =
        Matrix::random(&mut Rng::new(29), [8, 64], Format { group_size: 32, bits: 4 }, Dtype::Float16).in_mlx();
    let array = |shape: &[i32]| must(Rng::new(30).array(shape, Dtype::Float32));
    let run = |x: &Array, residual: &Array| {
        linear_add(x, residual, &matrix).and_then(|out| Ok(out.eval().map(|()| out.shape().to_vec())?))
    };
    assert_eq!(must(run(&array(&[1, 4, 3, 16]), &array(&[1, 3, 8]))), [1, 3, 8]);
    expect_error(run(&array(&[1, 3, 32]), &array(&[1, 3, 8])), "x [1, 3, 32] for 64 inputs");
    expect_error(run(&array(&[1, 3, 4, 16]), &array(&[1, 3, 8])), "3 heads of 16, and 4 tokens for a residual of 3");
    expect_error(run(&array(&[1, 3, 64]), &array(&[1, 3, 9])), "a residual of 9 for 8 outputs");
    expect_error(run(&array(&[3, 64]), &array(&[3, 8])), "no batch axis");
    let half = must(array(&[1, 3, 64]).as_dtype(Dtype::Float16));
    expect_error(run(&half, &array(&[1, 3, 8])), "x in float16 and a residual in float32");
}

// ----------------------------------------------------------------------------------------- the model

/// The mixed model's second block cannot be fused: its query and key matrices differ in format.
#[test]
fn blocks_are_fused_where_formats_allow() {
    let n_fused = |name: &str, stage| {
        let printed = format!("{:?}", must(load(name, Dtype::Float32, stage)));
        printed.matches("FusedBlock").count()
    };
    assert_eq!(n_fused("tiny-qwen2-4bit", Stage::Quantized), 0, "fused blocks at the stage before");
    assert_eq!(n_fused("tiny-qwen2-4bit", Stage::Fused), 2, "fused blocks of tiny-qwen2-4bit");
    assert_eq!(n_fused("tiny-qwen2-mixed", Stage::Fused), 1, "fused blocks of tiny-qwen2-mixed");
    let fixture = Fixture::load(DAY);
    let case = fixture.case("logits/tiny-qwen2-mixed/one_row_f32");
    let model = must(load("tiny-qwen2-mixed", Dtype::Float32, Stage::Fused));
    case.check(model.forward(&case.array("ids"), None, tiny_llm::LogitsToKeep::All));
}

#[rstest]
#[case("tiny-qwen2-4bit", "one_token_f32")]
#[case("tiny-qwen2-4bit", "one_row_f32")]
#[case("tiny-qwen2-4bit", "two_rows_f32")]
#[case("tiny-qwen2-4bit", "two_rows_bf16")]
#[case("tiny-qwen2-mixed", "two_rows_f32")]
#[case("tiny-qwen2-mixed", "one_row_f16")]
fn logits(#[case] model: &str, #[case] prompt: &str) {
    check_logits(model, prompt, Stage::Fused);
}

#[rstest]
#[case("tiny-qwen2-4bit", "two_rows_f32", &[4, 1, 1, 3])]
#[case("tiny-qwen2-4bit", "one_row_f32", &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1])]
#[case("tiny-qwen2-mixed", "one_row_f32", &[5, 1, 4])]
fn logits_with_a_cache(#[case] model: &str, #[case] prompt: &str, #[case] chunks: &[i32]) {
    check_logits_in_chunks(model, prompt, chunks, Stage::Fused);
}

#[rstest]
#[case("tiny-qwen2-4bit", "five_tokens")]
#[case("tiny-qwen2-mixed", "seven_tokens")]
fn generates_what_transformers_generates(#[case] model: &str, #[case] prompt: &str) {
    check_generation(model, prompt, Stage::Fused);
}

#[test]
fn real_smollm2_logits() {
    check_real_logits(Stage::Fused);
}

/// The plain layers round the same activations; what differs is the order of f32 sums, and with it now and then a
/// neighbouring 16-bit integer.
const ROUNDING: Tolerance = Tolerance { atol: 2e-3, rtol: 1e-4 };

fn constant(array: &Array) -> Constant {
    must(Constant::new(array))
}
