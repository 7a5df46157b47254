//! Day 1.1: softmax, linear, scaled dot-product attention, multi-head attention.

use grader::{Case, Fixture, Rng, Tolerance, check_close, expect_error, property, strided};
use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype};
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

/// An input of the case, as stored or with the same values in another memory order.
fn in_order(case: &Case, name: &str, other_memory_order: bool) -> Result<Array> {
    let array = case.array(name);
    Ok(if other_memory_order { strided(&array)? } else { array })
}
