//! Day 1.1: softmax, linear, scaled dot-product attention, multi-head attention.

mod named;

use grader::{Case, Fixture, Rng, Tolerance, check_close, check_rule, expect_error, property, strided};
use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype};
use named::{check_that, without_panic};
use rstest::rstest;
use tiny_llm::{MultiHeadAttention, Result, linear, scaled_dot_product_attention, softmax};

const DAY: &str = "week1_day1";
const DTYPES: [Dtype; 3] = [Dtype::Float32, Dtype::Float16, Dtype::Bfloat16];

// ------------------------------------------------------------------------------------ task 1: softmax

#[rstest]
fn task_1_softmax(
    #[values(
        "vector_f32",
        "rows_f32",
        "first_axis_f16",
        "middle_axis_bf16",
        "four_dims_f32",
        "four_dims_bf16",
        "extremes_f32",
        "extremes_f16",
        "extremes_bf16",
        "minus_inf_f32",
        "minus_inf_f16",
        "long_row_bf16"
    )]
    name: &str,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("softmax/{name}"));
    case.check(softmax(&case.array("x"), case.i32("axis")));
}

#[rstest]
fn task_1_softmax_in_another_memory_order(#[values("first_axis_f16", "middle_axis_bf16", "four_dims_f32")] name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("softmax/{name}"));
    case.check(strided(&case.array("x")).map_err(Into::into).and_then(|x| softmax(&x, case.i32("axis"))));
}

#[test]
fn task_1_softmax_sums_to_one_along_the_axis() {
    property(12, |rng| {
        let dtype = DTYPES[rng.between(0, 2) as usize];
        let shape: Vec<i32> = (0..rng.between(1, 4)).map(|_| rng.between(2, 6)).collect();
        let axis = rng.between(-(shape.len() as i32), shape.len() as i32 - 1);
        let sums = || -> Result<Array> {
            let x = rng.array(&shape, dtype)?.multiply(Array::from_f32(20.0))?;
            Ok(softmax(&x, axis)?.as_dtype(Dtype::Float32)?.sum_axis(axis, false)?)
        };
        let mut sum_shape = shape.clone();
        sum_shape.remove(axis.rem_euclid(shape.len() as i32) as usize);
        let n: i32 = sum_shape.iter().product();
        let ones = Array::from_iter((0..n).map(|_| 1.0_f32), &sum_shape);
        check_close("sums of softmax", { sums }(), &ones, Tolerance { atol: 0.02, rtol: 0.0 });
    });
}

#[test]
fn task_1_softmax_refuses_an_axis_that_x_does_not_have() {
    let x = Array::from_slice(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
    expect_error(softmax(&x, 2), "softmax over axis 2 of a 2-D array");
    // -3 plus the number of axes is -1: a solution that counts from the front must not take it for the last axis.
    expect_error(softmax(&x, -3), "softmax over axis -3 of a 2-D array");
}

#[test]
fn task_1_softmax_keeps_nan() {
    // Rows: nothing but -inf; a NaN among values; an ordinary one, which must not suffer.
    let (inf, nan) = (f32::NEG_INFINITY, f32::NAN);
    let x = Array::from_slice(&[inf, inf, 1.0, nan, 0.0, 0.0], &[3, 2]);
    let weights = values(softmax(&x, -1));
    let seen = || format!("softmax of [-inf, -inf], [1, NaN] and [0, 0] gives {weights:?}");
    let is_ordinary_right = weights[4..] == [0.5, 0.5];
    let are_nan = weights[..4].iter().all(|w| w.is_nan());
    // A row of -inf that is clipped has equal weights; one whose NaN is replaced has zeros.
    let cause = match weights[0] {
        0.5 => Some("minus infinity is clipped to a number; subtract the row's maximum instead"),
        _ => Some("NaN is replaced by a number, which hides it"),
    };
    let cause = cause.filter(|_| is_ordinary_right);
    check_that("rows without an answer", are_nan && is_ordinary_right, seen, cause);
}

#[test]
fn task_1_softmax_of_moderate_entries() {
    // 100 overflows no exponent once the maximum is gone, and exp(-10) is far from 0.
    let weights = values(softmax(&Array::from_slice(&[100.0_f32, 90.0], &[2]), 0));
    let second = 1.0 / (1.0 + 10.0_f64.exp());
    let right =
        (f64::from(weights[0]) - (1.0 - second)).abs() < 1e-6 && (f64::from(weights[1]) / second - 1.0).abs() < 1e-4;
    let seen = || format!("softmax of [100, 90] gives {weights:?}, exactly {:.6} and {second:.6e}", 1.0 - second);
    let is_clipped = weights[0] == weights[1];
    check_that(
        "[100, 90]",
        right,
        seen,
        is_clipped.then_some("entries are clipped; subtract the row's maximum instead"),
    );
}

#[rstest]
fn task_1_softmax_is_rounded_once(#[values(Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype) {
    let mut rng = Rng::new(13);
    let x = rng.array(&[40, 5], dtype).unwrap_or_else(|error| panic!("{error}"));
    let rows = values(Ok(x.clone()));
    let exact: Vec<f64> = rows.chunks(5).flat_map(exact_softmax).collect();
    let worst_of = |x: &Array, digits: i32| {
        // In units in the last place: rounding once is off by half a unit at most.
        let off = |(got, exact): (&f32, &f64)| (f64::from(*got) - exact).abs() / exact.log2().floor().exp2();
        values(softmax(x, -1)).iter().zip(&exact).map(off).fold(0.0, f64::max) * f64::from(digits).exp2()
    };
    let digits = if dtype == Dtype::Float16 { 10 } else { 7 };
    let worst = worst_of(&x, digits);
    let seen = || format!("an entry is {worst:.2} units in the last place off; rounding once leaves half a unit");
    // Another mistake shows in f32 as well.
    let is_rounding = worst < 8.0 && worst_of(&Array::from_slice(&rows, &[40, 5]), 23) < 64.0;
    let cause = "exponentials or their sum are rounded to 16 bits; convert x to f32 first and round the result alone";
    check_that("40 rows of 16 bits", worst < 0.52, seen, is_rounding.then_some(cause));
}

fn exact_softmax(row: &[f32]) -> Vec<f64> {
    let exponentials: Vec<f64> = row.iter().map(|&x| f64::from(x).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.iter().map(|e| e / sum).collect()
}

/// The values of an answer, as f32.
fn values(result: Result<Array>) -> Vec<f32> {
    let array = result.and_then(|array| Ok(array.as_dtype(Dtype::Float32)?));
    match array {
        Ok(array) => array.as_slice::<f32>().to_vec(),
        Err(error) => panic!("it was refused: {error}"),
    }
}

// ------------------------------------------------------------------------------------- task 2: linear

#[rstest]
fn task_2_linear(
    #[values(
        "vector_f32",
        "vector_bias_bf16",
        "rows_bias_f32",
        "rows_as_many_as_outputs_f32",
        "two_dims_bias_bf16",
        "three_dims_bias_f16",
        "square_f32",
        "square_bias_bf16",
        "square_f16"
    )]
    name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("linear/{name}"));
    let run = || {
        let input = |name| in_order(case, name, other_memory_order);
        linear(&input("x")?, &input("weight")?, case.optional_array("bias").as_ref())
    };
    case.check(run());
}

#[test]
fn task_2_linear_refuses_shapes_that_do_not_fit() {
    let array = |shape: &[i32]| {
        let n: i32 = shape.iter().product();
        Array::from_iter((0..n).map(|i| i as f32), shape)
    };
    expect_error(linear(&array(&[2, 4]), &array(&[3, 5]), None), "x [2, 4] with a weight [3, 5]");
    // The transposed weight fits, so a solution that forgets to transpose would accept it.
    expect_error(linear(&array(&[2, 4]), &array(&[4, 3]), None), "x [2, 4] with a weight [4, 3], which is transposed");
    expect_error(linear(&array(&[2, 4]), &array(&[3, 4]), Some(&array(&[4]))), "a bias [4] for 3 output features");
}

// ---------------------------------------------------------------- task 3: scaled dot-product attention

#[rstest]
fn task_3_attention(
    #[values(
        "plain_f32",
        "batch_f16",
        "heads_bf16",
        "three_leading_dims_f32",
        "one_query_bf16",
        "scale_f32",
        "scale_bf16",
        "additive_mask_f32",
        "additive_mask_f16",
        "infinite_mask_f32",
        "infinite_mask_bf16",
        "float32_mask_bf16",
        "bool_mask_f32",
        "bool_mask_bf16",
        "padding_mask_f32",
        "head_mask_f16",
        "large_scores_f16"
    )]
    name: &str,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("attention/{name}"));
    case.check(attention(case, false));
}

#[rstest]
fn task_3_attention_in_another_memory_order(
    #[values("plain_f32", "heads_bf16", "additive_mask_f16", "bool_mask_bf16")] name: &str,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("attention/{name}"));
    case.check(attention(case, true));
}

fn attention(case: &Case, other_memory_order: bool) -> Result<Array> {
    let input = |name| in_order(case, name, other_memory_order);
    let (query, key, value) = (input("query")?, input("key")?, input("value")?);
    let mask = case.optional_array("mask");
    scaled_dot_product_attention(&query, &key, &value, case.optional_f32("scale"), mask.as_ref())
}

#[test]
fn task_3_attention_does_not_see_masked_keys() {
    // Whatever stands in the keys and values that a bool mask excludes, the answer stays the same.
    property(8, |rng| {
        let (n_query, n_key, d) = (rng.between(1, 4), rng.between(3, 6), rng.between(2, 8));
        let hidden = n_key - rng.between(1, 2);
        let run = |rng: &mut Rng| -> Result<[Array; 2]> {
            let query = rng.array(&[2, n_query, d], Dtype::Float32)?;
            let key = rng.array(&[2, n_key, d], Dtype::Float32)?;
            let value = rng.array(&[2, n_key, d], Dtype::Float32)?;
            let visible = Array::from_iter((0..n_key).map(|j| j < hidden), &[1, n_key]);
            let visible_column = visible.reshape(&[n_key, 1])?;
            let large = Array::from_f32(1000.0);
            let changed_key = mlx_rs::ops::select(&visible_column, &key, &large)?;
            let changed_value = mlx_rs::ops::select(&visible_column, &value, &large)?;
            Ok([
                scaled_dot_product_attention(&query, &key, &value, None, Some(&visible))?,
                scaled_dot_product_attention(&query, &changed_key, &changed_value, None, Some(&visible))?,
            ])
        };
        let tolerance = Tolerance { atol: 1e-6, rtol: 1e-5 };
        match run(rng) {
            Ok([plain, changed]) => {
                check_close("attention with other hidden keys", Ok::<_, Exception>(changed), &plain, tolerance);
            }
            Err(error) => check_close("attention with other hidden keys", Err(error), &Array::from_f32(0.0), tolerance),
        }
    });
}

/// One query `[1, 1]` over keys of one number each.
fn one_query(query: f32, keys: &[f32], given: &[f32], scale: f32, mask: &Array, dtype: Dtype) -> Vec<f32> {
    let n = keys.len() as i32;
    values((|| {
        let query = Array::from_slice(&[query], &[1, 1]).as_dtype(dtype)?;
        let key = Array::from_slice(keys, &[n, 1]).as_dtype(dtype)?;
        let value = Array::from_slice(given, &[n, 1]).as_dtype(dtype)?;
        scaled_dot_product_attention(&query, &key, &value, Some(scale), Some(mask))
    })())
}

#[test]
fn task_3_a_hidden_key_counts_for_nothing_whatever_its_score() {
    const FINITE: &str = "a hidden key's score becomes a large negative number; it must become minus infinity";
    // The hidden score is 200,000 larger than the visible one.
    let mask = Array::from_slice(&[false, true], &[1, 2]);
    let got = one_query(1.0, &[200_000.0, 0.0], &[1.0, 3.0], 1.0, &mask, Dtype::Float32)[0];
    let seen = || format!("the visible value is 3, the hidden one 1, the answer {got}");
    // A mask that is inverted or ignored gives 1 for low scores too.
    let low = one_query(1.0, &[1.0, 0.0], &[1.0, 3.0], 1.0, &mask, Dtype::Float32)[0];
    let is_ignored = (low - 1.537_883).abs() < 1e-3; // the mean over both keys
    let cause = match got {
        1.0 if low == 3.0 => Some(FINITE),
        1.0 if is_ignored => Some("the mask is ignored, perhaps only where there is one query"),
        _ => None,
    };
    check_that("a hidden key with a high score", got == 3.0, seen, cause);

    let nothing = Array::from_slice(&[false, false], &[1, 2]);
    let got = one_query(1.0, &[0.0, 0.0], &[1.0, 3.0], 1.0, &nothing, Dtype::Float32)[0];
    let seen = || format!("a query that may attend to nothing has no mean: NaN, as in PyTorch; the answer is {got}");
    let cause = match got {
        2.0 if low == 3.0 => Some(FINITE),
        0.0 => Some("a query that may attend to nothing gets 0; it has no answer"),
        _ => None,
    };
    check_that("a query without keys", got.is_nan(), seen, cause);
}

#[rstest]
fn task_3_scores_stay_f32_under_a_mask_of_16_bits(#[values(Dtype::Float16, Dtype::Bfloat16)] mask_dtype: Dtype) {
    let zeros = Array::from_slice(&[0.0_f32, 0.0], &[1, 2]).as_dtype(mask_dtype).unwrap_or_else(|e| panic!("{e}"));
    // Scores of 100,000.25 and 100,000: too large for f16, too close for bf16.
    let got = one_query(1.0, &[100_000.25, 100_000.0], &[1.0, 0.0], 1.0, &zeros, Dtype::Float32)[0];
    let exact = 1.0 / (1.0 + (-0.25_f64).exp());
    let seen = || format!("scores 0.25 apart weigh the values 1 and 0 with {exact:.5}; the answer is {got}");
    let right = (f64::from(got) - exact).abs() < 1e-4;
    // Rounded, both scores are the same, or infinite. Scores that are 16 bits already show no other mistake.
    let plain = f64::from(one_query(1.0, &[1.0, 0.0], &[1.0, 0.0], 1.0, &zeros, Dtype::Float32)[0]);
    let is_rounded = (got.is_nan() || got == 0.5) && (plain - 1.0 / (1.0 + (-1.0_f64).exp())).abs() < 0.01;
    check_that("near scores", right, seen, is_rounded.then_some("the scores are rounded to the additive mask's dtype"));
}

#[rstest]
fn task_3_weights_stay_f32_until_the_end(#[values(Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype) {
    // Two large values that nearly cancel show how exact their weights are: 1000 tanh(0.006) = 6.
    let zeros = Array::from_slice(&[0.0_f32, 0.0], &[1, 2]);
    let got = f64::from(one_query(1.0, &[1.0, 0.0], &[1000.0, -1000.0], 0.012, &zeros, dtype)[0]);
    let exact = 1000.0 * 0.006_f64.tanh();
    let seen = || format!("the values 1000 and -1000 have the mean {exact:.4}; the answer is {got}");
    // Weights of 16 bits are off by up to 0.002 each, and still sum to about 1.
    let off = (got - exact).abs();
    let sum = one_query(1.0, &[1.0, 0.0], &[1.0, 1.0], 0.012, &zeros, dtype)[0];
    let is_rounded = off < 4.0 && (sum - 1.0).abs() < 0.01;
    let cause = is_rounded.then_some("the weights are rounded before they meet the values");
    check_that("values that cancel", off < 0.04, seen, cause);
}

#[rstest]
fn task_3_scores_are_f32_from_the_first_product_on(#[values(Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype) {
    let rounded = |x: f32| values(Ok(Array::from_f32(x).as_dtype(dtype).unwrap_or_else(|error| panic!("{error}"))))[0];
    // No 16 bits hold this scale. Everything else is exact in both dtypes.
    let scale = (1.0 + 363.6 / 1024.0) / 256.0_f32;
    let (keys, given) = ([1000.0_f32, 744.0], [11_520.0_f32, -44_544.0]);
    let zeros = Array::from_slice(&[0.0_f32, 0.0], &[1, 2]);
    let got = one_query(1.0, &keys, &given, scale, &zeros, dtype)[0];
    // Two large values that nearly cancel show how exact the difference of the scores is.
    let with = |scores: [f32; 2]| {
        let first = 1.0 / (1.0 + f64::from(scores[1] - scores[0]).exp());
        f64::from(given[0]) * first + f64::from(given[1]) * (1.0 - first)
    };
    let near = |mean: f64| (f64::from(got) - mean).abs() < 0.15;
    let exact = with(keys.map(|key| key * scale));
    let seen = || format!("two values that nearly cancel have the mean {exact:.3}; the answer is {got}");
    let cause = if near(with(keys.map(|key| key * rounded(scale)))) {
        Some("the scale is rounded to the query's dtype; multiply in f32")
    } else if near(with(keys.map(|key| rounded(key * rounded(scale))))) {
        Some("the scores are computed in the query's dtype; convert to f32 before the first product")
    } else {
        None
    };
    check_that("a scale between two numbers of 16 bits", near(exact), seen, cause);
}

#[test]
fn task_3_a_mask_may_have_fewer_axes_than_the_scores() {
    let cause = "a mask broadcasts to [.., L, S]: it may have fewer axes, so do not ask for those that are not there";
    let mut rng = Rng::new(14);
    let mut array = |shape: &[i32]| rng.array(shape, Dtype::Float32).unwrap_or_else(|error| panic!("{error}"));
    let (query, key, value) = (array(&[2, 3, 4]), array(&[2, 5, 4]), array(&[2, 5, 4]));
    let visible = Array::from_slice(&[true, false, true, true, false], &[5]);
    let none = Array::from_slice(&[true], &[]);
    for (case, mask) in
        [("a bool mask [S]", &visible), ("an additive mask [S]", &array(&[5])), ("a mask without axes", &none)]
    {
        let run = |mask: &Array| scaled_dot_product_attention(&query, &key, &value, None, Some(mask));
        let of_all_axes = mlx_rs::ops::broadcast_to(mask, &[2, 3, 5]).unwrap_or_else(|error| panic!("{error}"));
        let expected = values(run(&of_all_axes));
        let got = without_panic(case, |_| Some(cause.to_owned()), || run(mask));
        let holds = match got {
            Err(error) => Err(format!("it was refused: {error}")),
            Ok(got) => {
                let got = values(Ok(got));
                let is_same =
                    got.len() == expected.len() && got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6);
                is_same.then_some(()).ok_or_else(|| "the answer is another one than with the mask [2, L, S]".to_owned())
            }
        };
        check_rule(case, holds, cause);
    }
}

#[rstest]
fn task_3_the_result_has_the_querys_dtype(
    #[values(Dtype::Float32, Dtype::Float16, Dtype::Bfloat16)] query_dtype: Dtype,
    #[values(Dtype::Float32, Dtype::Float16, Dtype::Bfloat16)] other_dtype: Dtype,
) {
    let array = |dtype| Array::from_slice(&[1.0_f32, 2.0], &[2, 1]).as_dtype(dtype);
    let run = || -> Result<Dtype> {
        let (query, other) = (array(query_dtype)?, array(other_dtype)?);
        Ok(scaled_dot_product_attention(&query, &other, &other, None, None)?.dtype())
    };
    let got = run().unwrap_or_else(|error| panic!("it was refused: {error}"));
    let seen = || format!("a {query_dtype:?} query over {other_dtype:?} keys and values gives {got:?}");
    // f32 may as well be what was never converted back.
    let is_others = got == other_dtype && other_dtype != Dtype::Float32;
    let cause = is_others.then_some("the result has the dtype of keys or values; it has the query's");
    check_that("dtypes that differ", got == query_dtype, seen, cause);
}

#[rstest]
#[case::queries(&[2, 5, 5, 3])]
#[case::heads(&[2, 5, 4, 3])]
#[case::batch(&[5, 2, 4, 3])]
fn task_3_weights_sum_over_the_keys_where_another_axis_is_as_long(#[case] shape: &[i32]) {
    // All values are 1, so the weighted mean is 1 wherever a row of weights sums to 1. There are 5 keys.
    let worst = |shape: &[i32]| {
        let mut rng = Rng::new(11);
        let got = values((|| {
            let query = rng.array(shape, Dtype::Float32)?;
            let key = rng.array(&[shape[0], shape[1], 5, shape[3]], Dtype::Float32)?;
            let ones = key.multiply(Array::from_f32(0.0))?.add(Array::from_f32(1.0))?;
            scaled_dot_product_attention(&query, &key, &ones, None, None)
        })());
        got.iter().map(|x| (x - 1.0).abs()).fold(0.0, f32::max)
    };
    let (off, off_elsewhere) = (worst(shape), worst(&[2, 3, 4, 3]));
    let seen = || format!("queries {shape:?} over 5 keys whose values are all 1: an answer is off by {off}");
    let cause = "softmax runs over another axis than the keys', one that is as long here";
    check_that("values of 1", off < 1e-5, seen, (off_elsewhere < 1e-5).then_some(cause));
}

#[test]
fn task_3_attention_refuses_shapes_that_do_not_fit() {
    let array = |shape: &[i32]| {
        let n: i32 = shape.iter().product();
        Array::from_iter((0..n).map(|i| (i % 7) as f32), shape)
    };
    let run = |query: &[i32], key: &[i32], value: &[i32], mask: Option<&[i32]>| {
        let mask = mask.map(&array);
        scaled_dot_product_attention(&array(query), &array(key), &array(value), None, mask.as_ref())
    };
    expect_error(run(&[3, 4], &[5, 6], &[5, 6], None), "a query with D = 4 and a key with D = 6");
    expect_error(run(&[3, 4], &[5, 4], &[6, 4], None), "5 keys and 6 values");
    expect_error(run(&[3, 4], &[5, 4], &[5, 4], Some(&[5, 3])), "a mask [S, L] = [5, 3] instead of [L, S] = [3, 5]");
}

// -------------------------------------------------------------------------- task 4: multi-head attention

#[rstest]
fn task_4_multi_head_attention(
    #[values(
        "self_f32",
        "cross_bf16",
        "two_leading_dims_f16",
        "three_leading_dims_f32",
        "one_head_f32",
        "wide_heads_bf16",
        "bool_mask_f32",
        "padding_mask_f16",
        "additive_head_mask_bf16"
    )]
    name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("multi_head/{name}"));
    let run = || {
        let input = |name| in_order(case, name, other_memory_order);
        let layer =
            MultiHeadAttention::new(case.i32("num_heads"), input("wq")?, input("wk")?, input("wv")?, input("wo")?)?;
        let mask = case.optional_array("mask");
        layer.forward(&input("query")?, &input("key")?, &input("value")?, mask.as_ref())
    };
    case.check(run());
}

#[test]
fn task_4_multi_head_attention_refuses_inputs_that_do_not_fit() {
    let array = |shape: &[i32]| {
        let n: i32 = shape.iter().product();
        Array::from_iter((0..n).map(|i| (i % 5) as f32), shape)
    };
    let run = |e: i32| {
        let layer = MultiHeadAttention::new(2, array(&[6, 4]), array(&[6, 4]), array(&[6, 4]), array(&[4, 6]))?;
        let x = array(&[3, e]);
        layer.forward(&x, &x, &x, None)
    };
    // The right size first: the test must not be green because everything is refused.
    if let Err(error) = run(4) {
        panic!("an input [3, 4] for weights with E = 4 was refused: {error}");
    }
    expect_error(run(5), "an input with E = 5 for weights with E = 4");

    let new = |num_heads, wq: &[i32]| {
        MultiHeadAttention::new(num_heads, array(wq), array(&[6, 4]), array(&[6, 4]), array(&[4, 6]))
    };
    expect_error(new(4, &[6, 4]), "4 heads for a wq with 6 rows");
    expect_error(new(0, &[6, 4]), "no heads");
    expect_error(new(2, &[24]), "a wq with one dimension");
}

#[test]
fn task_4_a_mask_of_three_axes_has_one_of_heads() {
    // As many sequences as heads, so that the first axis fits both.
    let mut rng = Rng::new(12);
    let mut run = || -> Result<[Array; 2]> {
        let mut weight = || rng.array(&[4, 4], Dtype::Float32);
        let layer = MultiHeadAttention::new(2, weight()?, weight()?, weight()?, weight()?)?;
        let x = rng.array(&[2, 3, 4], Dtype::Float32)?;
        let visible = [
            true, true, false, true, false, true, true, true, true, false, true, true, true, false, false, true, true,
            false,
        ];
        let mask = Array::from_slice(&visible, &[2, 3, 3]);
        let four_axes = mask.expand_dims(0)?;
        Ok([layer.forward(&x, &x, &x, Some(&mask))?, layer.forward(&x, &x, &x, Some(&four_axes))?])
    };
    let [three, four] = run().unwrap_or_else(|error| panic!("it was refused: {error}"));
    let (three, four) = (values(Ok(three)), values(Ok(four)));
    let worst = three.iter().zip(&four).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let seen = format!("the masks [H, L, S] and [1, H, L, S] give answers that differ by {worst}");
    let cause = "a mask of three axes is taken for [B, L, S]; its first axis is the heads'";
    check_rule("a mask [H, L, S]", (worst < 1e-6).then_some(()).ok_or(seen), cause);
}

/// An input of the case, as stored or with the same values in another memory order.
fn in_order(case: &Case, name: &str, other_memory_order: bool) -> Result<Array> {
    let array = case.array(name);
    Ok(if other_memory_order { strided(&array)? } else { array })
}
