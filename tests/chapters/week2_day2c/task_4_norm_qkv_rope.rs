//! Task 4: norm, query, key and value, and their rotation.

use grader::{Case, Fixture, Rng, check_close, expect_error, strided};
use mlx_rs::{Array, Dtype};
use rstest::rstest;
use tiny_llm::fused::{QkvWeights, norm_qkv_rope};
use tiny_llm::quantized::{QuantizedMatrix, quantized_matmul};
use tiny_llm::{Error, Offset, Result, RmsNorm, RotaryEmbedding};

use crate::quantized_matrices::{Format, Matrix, f32s};
use crate::refusals::expect_invalid_argument;
use crate::{DAY, ROUNDING, constant, must};

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
    let norm = RmsNorm::new(norm_weight.clone(), 0.1); // large enough to show
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
    let fused = must(norm_qkv_rope(&x, &constant(&norm_weight), 0.1, &weights, &rope, offset()));
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

/// Sums beyond 65504 that the bias brings back into f16's range.
#[test]
fn what_is_too_large_for_f16_stays_finite_inside() {
    let matrix = || Matrix::constant_rows(&[1600.0; 8], 64, Format { group_size: 32, bits: 8 }).in_mlx();
    let bias = || constant(&Array::from_slice(&[-60_000.0_f32; 8], &[8]));
    let weights = QkvWeights {
        matrices: [matrix(), matrix(), matrix()],
        biases: Some([bias(), bias(), bias()]),
        num_heads: 1,
        num_kv_heads: 1,
        head_dim: 8,
    };
    let ones = constant(&Array::from_slice(&[1.0_f32; 64], &[64]));
    let x = must(Array::from_slice(&[3.0_f32; 64], &[1, 1, 64]).as_dtype(Dtype::Float16));
    let rope = must(RotaryEmbedding::new(8, 4, 1000.0, false));
    // Position 0: nothing is turned.
    let out = must(norm_qkv_rope(&x, &ones, 1e-6, &weights, &rope, Offset::Same(0)));
    for (part, array) in ["query", "key", "value"].into_iter().zip(out) {
        for value in f32s(&array) {
            assert!((value - 42_400.0).abs() < 40.0, "{part}: 102,400 - 60,000: {value}, exactly 42400");
        }
    }
}
