//! Day 2.2a: MLX's affine format, the plain product with quantized matrices, the model that runs on them.

#[allow(dead_code)] // day 2.1 uses the rest
mod cached_model;
#[allow(dead_code)] // day 2.2b uses the rest
mod quantized_matrices;
#[allow(dead_code)] // day 2.4 uses the rest
mod quantized_models;
mod refusals;
#[path = "week2_day2a/task_4_the_operation.rs"]
mod task_4_the_operation;
#[path = "week2_day2a/task_5_the_quantized_model.rs"]
mod task_5_the_quantized_model;
mod tiny_models;

use grader::{Case, Fixture, Rng, Tolerance, check_close, property, strided};
use mlx_rs::{Array, Dtype};
use quantized_matrices::{
    Bounded, Format, Matrix, expect_rounded_once, expect_within, f32s, formats, random_activations, rows,
};
use refusals::expect_invalid_argument;
use rstest::rstest;
use std::fmt::Display;
use tiny_llm::quantized::plain::plain_matmul;
use tiny_llm::quantized::{dequantize, pack, quantize, unpack};

const DAY: &str = "week2_day2a";
const FLOATS: [Dtype; 3] = [Dtype::Float32, Dtype::Float16, Dtype::Bfloat16];

// --------------------------------------------------------------- task 1: packing and dequantizing

#[rstest]
fn task_1_pack(
    #[values("one_word_4", "rows_4", "three_axes_4", "rows_8", "three_axes_8")] name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("pack/{name}"));
    case.check(pack(&in_order(case.array("integers"), other_memory_order), bits(case)));
}

#[rstest]
fn task_1_unpack(
    #[values("one_word_4", "rows_4", "three_axes_4", "rows_8", "three_axes_8")] name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("unpack/{name}"));
    case.check(unpack(&in_order(case.array("packed"), other_memory_order), bits(case)));
}

#[rstest]
fn task_1_unpack_is_the_inverse_of_pack(#[values(4, 8)] bits: usize) {
    property(8, |rng| {
        let shape = [rng.between(1, 4), rng.between(1, 6) * 32 / bits as i32];
        let most = (1 << bits) - 1;
        let integers = Array::from_iter((0..shape[0] * shape[1]).map(|_| rng.between(0, most) as u32), &shape);
        let there_and_back = pack(&integers, bits).and_then(|packed| unpack(&packed, bits));
        check_close("unpack(pack(integers))", there_and_back, &integers, EXACT);
    });
}

#[rstest]
fn task_1_dequantize(
    #[values(
        "groups_of_32_f32",
        "groups_of_32_f16",
        "groups_of_64_bf16",
        "groups_of_128_f32_from_f16",
        "eight_bits_f32_from_bf16",
        "eight_bits_f16_from_f32",
        "one_group_f32"
    )]
    name: &str,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("dequantize/{name}"));
    case.check(dequantize(&Matrix::of(case).in_mlx(), case.dtype()));
}

/// Scales and biases are not rounded to the dtype of the result before the sum is.
#[rstest]
fn task_1_dequantize_rounds_once(#[values(0, 1, 2)] dtype: usize, #[values(4, 8)] bits: usize) {
    let matrix = Matrix::random(&mut Rng::new(2), [8, 256], Format { group_size: 32, bits }, Dtype::Float32);
    let got = must(dequantize(&matrix.in_mlx(), FLOATS[dtype]));
    assert_eq!(got.dtype(), FLOATS[dtype]);
    // Two roundings in f32, of a product and of a sum.
    let exact = matrix.weights().into_iter().map(|value| Bounded { value, off: 2e-7 * (value.abs() + 1.0) });
    expect_rounded_once("a weight", &got, exact.collect::<Vec<_>>().into_iter());
}

#[test]
fn task_1_refuses_what_cannot_be_packed() {
    let integers = |n: i32| Array::from_iter((0..n).map(|i| (i % 16) as u32), &[n]);
    assert_eq!(must(pack(&integers(8), 4)).shape(), [1], "8 integers of 4 bits fill one word");
    expect_invalid_argument(pack(&integers(12), 4), "12 integers of 4 bits, which are one and a half words");
    expect_invalid_argument(pack(&integers(6), 8), "6 integers of 8 bits");
    expect_invalid_argument(pack(&integers(32), 3), "3 bits");
    expect_invalid_argument(pack(&integers(32), 0), "0 bits");
    expect_invalid_argument(unpack(&integers(4), 16), "16 bits");
    expect_invalid_argument(pack(&Array::from_slice(&[1_i32; 8], &[8]), 4), "integers of dtype int32");
    expect_invalid_argument(unpack(&Array::from_slice(&[1.0_f32; 8], &[8]), 4), "words of dtype float32");
    expect_invalid_argument(pack(&Array::from_slice(&[1_u32], &[]), 4), "a single integer without an axis");
    expect_invalid_argument(unpack(&Array::from_slice(&[1_u32], &[]), 4), "a single word without an axis");
    let matrix = Matrix::random(&mut Rng::new(0), [2, 32], Format { group_size: 32, bits: 4 }, Dtype::Float32);
    expect_invalid_argument(dequantize(&matrix.in_mlx(), Dtype::Int32), "weights of dtype int32");
}

// -------------------------------------------------------------------------------- task 2: quantizing

#[rstest]
fn task_2_quantize(
    #[values(
        "groups_of_32_f32",
        "groups_of_64_f16",
        "groups_of_128_bf16",
        "eight_bits_f32",
        "eight_bits_bf16",
        "many_groups_bf16",
        "halves_f32",
        "special_groups_f32",
        "special_groups_eight_bits_f32"
    )]
    name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("quantize/{name}"));
    let weight = in_order(case.array("weight"), other_memory_order);
    match quantize(&weight, group_size(case), bits(case)) {
        Ok(matrix) => {
            case.check(Ok::<_, tiny_llm::Error>(matrix.packed));
            case.check_named("scales", Ok::<_, tiny_llm::Error>(matrix.scales));
            case.check_named("biases", Ok::<_, tiny_llm::Error>(matrix.biases));
        }
        Err(error) => case.check(Err(error)),
    }
}

/// Bit for bit what `mlx_rs::ops::quantize` gives.
#[rstest]
fn task_2_quantize_is_mlx_own(
    #[values(Dtype::Float32, Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype,
    #[values(0.0, 0.7, 5.0, -5.0)] shift: f32,
) {
    property(3, |rng| {
        for Format { group_size, bits } in formats() {
            let shape = [rng.between(1, 5), rng.between(1, 3) * group_size as i32];
            let size = 10.0_f32.powi(rng.between(-9, 1)); // the smallest below SMALLEST_SCALE
            let shifted = rng.array(&shape, Dtype::Float32).and_then(|weight| weight.add(Array::from_f32(shift)));
            let weight = shifted.and_then(|weight| weight.multiply(Array::from_f32(size))?.as_dtype(dtype));
            let weight = must(weight);
            let expected = must(mlx_rs::ops::quantize(&weight, group_size as i32, bits as i32));
            let what = |part: &str| format!("{part} of {shape:?}, {bits} bits, groups of {group_size}");
            let matrix = must(quantize(&weight, group_size, bits));
            assert_eq!((matrix.group_size, matrix.bits), (group_size, bits));
            for (part, got, expected) in [
                ("words", matrix.packed, expected.0),
                ("scales", matrix.scales, expected.1),
                ("biases", matrix.biases, expected.2),
            ] {
                check_close(&what(part), Ok::<_, tiny_llm::Error>(got), &expected, EXACT);
            }
        }
    });
}

/// Rounding moves a weight by half a step; stretching the step so that zero is an integer costs at most another half.
#[rstest]
fn task_2_no_weight_moves_by_more_than_a_step(#[values(4, 8)] bits: usize) {
    property(8, |rng| {
        let weight = must(rng.array(&[3, 128], Dtype::Float32));
        let matrix = must(quantize(&weight, 32, bits));
        let (back, steps) = (f32s(&must(dequantize(&matrix, Dtype::Float32))), f32s(&matrix.scales));
        for (at, (before, after)) in f32s(&weight).into_iter().zip(back).enumerate() {
            let step = steps[at / 32].abs();
            assert!(
                (before - after).abs() <= 1.001 * step,
                "weight {at} went from {before} to {after}, a step is {step}"
            );
        }
    });
}

#[test]
fn task_2_refuses_what_cannot_be_quantized() {
    let weight = |shape: &[i32]| must(Rng::new(1).array(shape, Dtype::Float32));
    assert_eq!(must(quantize(&weight(&[2, 64]), 32, 4)).scales.shape(), [2, 2], "two groups in each of two rows");
    expect_invalid_argument(quantize(&weight(&[2, 48]), 32, 4), "48 columns in groups of 32");
    expect_invalid_argument(quantize(&weight(&[2, 0]), 32, 4), "no columns");
    expect_invalid_argument(quantize(&weight(&[64]), 32, 4), "a vector");
    expect_invalid_argument(quantize(&weight(&[2, 2, 64]), 32, 4), "three axes");
    expect_invalid_argument(quantize(&weight(&[2, 64]), 16, 4), "groups of 16");
    expect_invalid_argument(quantize(&weight(&[2, 64]), 0, 4), "groups of 0");
    expect_invalid_argument(quantize(&weight(&[2, 64]), 64, 3), "3 bits");
    expect_invalid_argument(quantize(&Array::from_slice(&[1_i32; 64], &[1, 64]), 64, 4), "weights of dtype int32");
}

// ------------------------------------------------------------------- task 3: the product in plain loops

#[rstest]
fn task_3_plain(
    #[values(
        "one_token",
        "groups_of_32",
        "groups_of_64",
        "groups_of_128",
        "eight_bits",
        "eight_bits_groups_of_64",
        "one_output"
    )]
    name: &str,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("plain/{name}"));
    let (matrix, x) = (Matrix::of(case), f32s(&case.array("x")));
    case.check(Ok::<_, tiny_llm::Error>(rows(&plain(&matrix, &x), matrix.outputs)));
}

#[rstest]
fn task_3_plain_for_all_formats(#[values(0, 1, 2)] stored: usize) {
    let mut rng = Rng::new(3);
    for format in formats() {
        for (tokens, outputs, n_groups) in [(1, 1, 1), (1, 33, 2), (2, 5, 3), (7, 17, 1), (4, 3, 9)] {
            let matrix = Matrix::random(&mut rng, [outputs, n_groups * format.group_size], format, FLOATS[stored]);
            let x = random_activations(&mut rng, tokens, matrix.inputs);
            let what = format!("{tokens} tokens, [{outputs}, {}], {format}", matrix.inputs);
            // As near as f32 sums of so many terms can be expected to be: nothing is rounded to integers here.
            let expected = matrix.product(&x).into_iter();
            expect_within(&what, &plain(&matrix, &x), expected.map(|bounded| bounded.scaled(0.25)));
        }
    }
}

#[test]
fn task_3_what_is_not_finite_stays_with_its_token() {
    let mut rng = Rng::new(4);
    let matrix = Matrix::random(&mut rng, [5, 64], Format { group_size: 32, bits: 4 }, Dtype::Float16);
    let x = random_activations(&mut rng, 3, 64);
    let mut spoiled = x.clone();
    spoiled[64 + 40] = f32::NAN;
    let (before, after) = (plain(&matrix, &x), plain(&matrix, &spoiled));
    assert_eq!(before[..5], after[..5], "token 0, when token 1 has a NaN");
    assert!(after[5..10].iter().all(|value| value.is_nan()), "token 1, which has a NaN: {:?}", &after[5..10]);
    assert_eq!(before[10..], after[10..], "token 2, when token 1 has a NaN");
}

/// Scale or bias of one group spoils its row, and no other.
#[rstest]
fn task_3_a_scale_or_bias_that_is_not_finite_stays_in_its_row(
    #[values(f32::NAN, f32::INFINITY)] bad: f32,
    #[values("scale", "bias")] part: &str,
) {
    let mut rng = Rng::new(16);
    let clean = Matrix::random(&mut rng, [5, 96], Format { group_size: 32, bits: 4 }, Dtype::Float16);
    let x = random_activations(&mut rng, 2, 96);
    let before = plain(&clean, &x);
    let spoiled = clean.with_spoiled_group(part, 3 * 3 + 2, bad);
    for (at, (before, after)) in before.into_iter().zip(plain(&spoiled, &x)).enumerate() {
        match at % 5 {
            3 => assert!(!after.is_finite(), "row 3, whose last {part} is {bad}: {after}"),
            row => assert_eq!(before, after, "row {row}, when a {part} of row 3 is {bad}"),
        }
    }
}

fn plain(matrix: &Matrix, x: &[f32]) -> Vec<f32> {
    let tokens = x.len() / matrix.inputs;
    let mut out = vec![f32::NAN; tokens * matrix.outputs];
    plain_matmul(&matrix.view(), x, tokens, &mut out);
    out
}

// ------------------------------------------------------------------------------------------------- helpers

const EXACT: Tolerance = Tolerance { atol: 0.0, rtol: 0.0 };

fn bits(case: &Case) -> usize {
    case.i32("bits") as usize
}

fn group_size(case: &Case) -> usize {
    case.i32("group_size") as usize
}

/// An array, or the same values in another memory order.
fn in_order(array: Array, other_memory_order: bool) -> Array {
    if other_memory_order { must(strided(&array)) } else { array }
}

#[track_caller]
fn must<T, E: Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
