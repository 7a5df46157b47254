//! Day 1.4: RMSNorm, SiLU, SwiGLU.

mod named;

use grader::{Case, Fixture, Tolerance, check_close, check_rule, expect_error, property, strided};
use mlx_rs::{Array, Dtype};
use named::check_that;
use rstest::rstest;
use tiny_llm::{Linear, Result, RmsNorm, SwiGluMlp, silu};

const DAY: &str = "week1_day4";

// ------------------------------------------------------------------------------------ task 1: RMSNorm

#[rstest]
fn task_1_rms_norm(
    #[values(
        "vector_f32",
        "rows_f32",
        "batch_bf16",
        "batch_f16",
        "four_dims_f32",
        "four_dims_bf16",
        "thousands_f16",
        "tiny_f32",
        "tiny_larger_eps_f32",
        "tiny_bf16",
        "large_eps_f16",
        "large_eps_f32",
        "float32_weight_bf16",
        "bfloat16_weight_f16",
        "bfloat16_weight_f32",
        "one_rounding_bf16",
        "one_rounding_f16",
        "one_rounding_float32_weight_bf16",
        "one_rounding_float32_weight_f16"
    )]
    name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("rms_norm/{name}"));
    let run = || {
        let x = in_order(case, "x", other_memory_order)?;
        RmsNorm::new(case.array("weight"), case.f32("eps")).forward(&x)
    };
    case.check(run());
}

#[test]
fn task_1_rms_norm_gives_vectors_of_mean_square_one() {
    property(8, |rng| {
        let (n_rows, e) = (rng.between(1, 5), rng.between(2, 40));
        let scale = 10.0_f64.powf(rng.uniform() * 6.0 - 3.0) as f32;
        let mut mean_squares = || -> Result<Array> {
            let x = rng.array(&[n_rows, e], Dtype::Float32)?.multiply(Array::from_f32(scale))?;
            let ones = Array::from_iter((0..e).map(|_| 1.0_f32), &[e]);
            Ok(RmsNorm::new(ones, 1e-12).forward(&x)?.square()?.mean_axis(-1, false)?)
        };
        let ones = Array::from_iter((0..n_rows).map(|_| 1.0_f32), &[n_rows]);
        let tolerance = Tolerance { atol: 1e-4, rtol: 0.0 };
        check_close("mean square after RMSNorm", mean_squares(), &ones, tolerance);
    });
}

const UNBIASED: &str = "divided by E - 1 (unbiased variance) instead of E";
const SUM: &str = "the sum of the squares is used instead of their mean";

/// RMSNorm with gains of 1.
fn norm_of(x: &[f32], eps: f32) -> f32 {
    let run = || -> Result<f32> {
        let ones = Array::from_iter(x.iter().map(|_| 1.0_f32), &[x.len() as i32]);
        let normed = RmsNorm::new(ones, eps).forward(&Array::from_slice(x, &[x.len() as i32]))?;
        Ok(normed.as_dtype(Dtype::Float32)?.as_slice::<f32>()[0])
    };
    run().unwrap_or_else(|error| panic!("it was refused: {error}"))
}

/// `square` is what stands in the root; `wrong` are other squares and the mistakes that give them.
fn check_norm(case: &str, x: &[f32], eps: f32, square: f64, wrong: &[(f64, &str)]) {
    let got = f64::from(norm_of(x, eps));
    let near = |square: f64| {
        let exact = f64::from(x[0]) / square.sqrt();
        (got - exact).abs() <= 1e-4 * exact.abs()
    };
    let cause = wrong.iter().find(|(square, _)| near(*square)).map(|(_, cause)| *cause);
    let seen = || format!("{} becomes {got}, exactly {:.6}", x[0], f64::from(x[0]) / square.sqrt());
    check_that(case, near(square), seen, cause);
}

#[test]
fn task_1_eps_is_added_to_the_mean_square() {
    // The mean square is 0.25, eps 0.36. The entries differ in size, so that no other mean or maximum is 0.5.
    let wrong = [
        (0.36, "the larger of mean square and eps is taken; they are added"),
        (0.25, "eps is forgotten"),
        (0.7396, "eps is added outside the root"),
        (0.3796, "eps is squared"),
        (0.34, "eps is divided by E too: it is added to the mean of the squares, not to their sum"),
        (1.1236, "divided by the largest entry instead of the root mean square"),
        (1.0 / 3.0 + 0.36, UNBIASED),
        (1.36, SUM),
    ];
    check_norm("a mean square near eps", &[0.7, -0.1, 0.5, 0.5], 0.36, 0.61, &wrong);
    check_norm("nothing but zeros, and eps", &[0.0, 0.0], 0.25, 0.25, &[]);
}

#[rstest]
#[case::of_the_input(Dtype::Float16, Dtype::Float32, Dtype::Float16)]
#[case::of_the_weight(Dtype::Float32, Dtype::Bfloat16, Dtype::Bfloat16)]
fn task_1_eps_stays_f32(#[case] x_dtype: Dtype, #[case] weight_dtype: Dtype, #[case] narrow: Dtype) {
    // f16 has no 1e-7: it becomes 1.19e-7. In bf16 it is 0.1 % too large.
    let eps = 1e-7_f32;
    let entry = 2.0_f32.powi(-12);
    let run = || -> Result<[f32; 2]> {
        let x = Array::from_slice(&[entry, -entry, entry, entry], &[4]).as_dtype(x_dtype)?;
        let ones = Array::from_slice(&[1.0_f32; 4], &[4]).as_dtype(weight_dtype)?;
        let normed = RmsNorm::new(ones, eps).forward(&x)?.as_dtype(Dtype::Float32)?;
        let rounded = Array::from_f32(eps).as_dtype(narrow)?.as_dtype(Dtype::Float32)?;
        normed.eval()?;
        rounded.eval()?;
        Ok([normed.as_slice::<f32>()[0], rounded.item_exact::<f32>()])
    };
    let [got, rounded_eps] = run().unwrap_or_else(|error| panic!("it was refused: {error}"));
    let with = |eps: f32| f64::from(entry) / (f64::from(entry).powi(2) + f64::from(eps)).sqrt();
    let near = |exact: f64| (f64::from(got) - exact).abs() < if x_dtype == Dtype::Float32 { 1e-5 } else { 1e-3 };
    let seen = || format!("{entry:e} becomes {got}, exactly {:.6}", with(eps));
    let is_rounded = near(with(rounded_eps));
    check_that("eps = 1e-7", near(with(eps)), seen, is_rounded.then_some("eps is rounded to 16 bits; add it in f32"));
}

#[test]
fn task_1_the_mean_is_over_all_of_e() {
    // The squares are 9, 1, 1 and 1: their sum is 12, their mean 3.
    let wrong = [
        (4.0, UNBIASED),
        (12.0, SUM),
        (4.5, "the mean is subtracted (LayerNorm)"), // (3 - 1) / sqrt(2)
    ];
    check_norm("squares 9, 1, 1, 1", &[3.0, 1.0, -1.0, 1.0], 0.0, 3.0, &wrong);
    check_norm("one value", &[2.0], 0.0, 4.0, &[(f64::INFINITY, UNBIASED)]);
}

#[test]
fn task_1_rms_norm_refuses_a_weight_that_does_not_fit() {
    let norm = RmsNorm::new(counting(&[5]), 1e-6);
    if let Err(error) = norm.forward(&counting(&[3, 5])) {
        panic!("x [3, 5] with a weight [5] was refused: {error}");
    }
    expect_error(norm.forward(&counting(&[3, 4])), "x with E = 4 and a weight [5]");
}

// --------------------------------------------------------------------------------------- task 2: SiLU

#[rstest]
fn task_2_silu(
    #[values(
        "vector_f32",
        "rows_bf16",
        "batch_f16",
        "four_dims_f32",
        "tails_f32",
        "tails_bf16",
        "tails_f16",
        "largest_f32",
        "largest_bf16",
        "largest_f16",
        "one_rounding_bf16",
        "one_rounding_f16"
    )]
    name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("silu/{name}"));
    case.check(in_order(case, "x", other_memory_order).and_then(|x| silu(&x)));
}

#[test]
fn task_2_silu_far_from_zero() {
    let silu = |x: f32| -> f32 {
        let run = || -> Result<f32> { Ok(silu(&Array::from_slice(&[x], &[1]))?.as_slice::<f32>()[0]) };
        run().unwrap_or_else(|error| panic!("it was refused: {error}"))
    };
    for x in [-21.0_f32, -40.0, -80.0] {
        let exact = f64::from(x) / (1.0 + (-f64::from(x)).exp());
        let got = f64::from(silu(x));
        let seen = || format!("silu({x}) is {got:e}, exactly {exact:e}");
        let cause = match got / exact {
            0.0 => Some("the tail is rounded to 0"),
            // A clamped sigmoid is too large, and still small.
            times if times > 2.0 && got / f64::from(x) < 1e-3 => Some("the exponent is clamped"),
            _ => None,
        };
        check_that("a small tail", (got / exact - 1.0).abs() < 1e-3, seen, cause);
    }
    for x in [100.0_f32, 1e30] {
        let got = silu(x);
        let cause = (!got.is_finite()).then_some("exp(x) overflows: write it with exp(-x)");
        check_that("a large value", got == x, || format!("silu({x}) is {got}"), cause);
    }
    let got = silu(f32::NAN);
    let cause = Some("NaN is replaced by a number, which hides it");
    check_that("NaN", got.is_nan(), || format!("silu(NaN) is {got}"), cause);
}

#[test]
fn task_2_silu_of_x_minus_silu_of_minus_x_is_x() {
    // sigmoid(x) + sigmoid(-x) = 1
    property(8, |rng| {
        let n = rng.between(1, 30);
        let x: Vec<f32> = (0..n).map(|_| (rng.normal() * 30.0) as f32).collect();
        let x = Array::from_slice(&x, &[n]);
        let difference = || -> Result<Array> { Ok(silu(&x)?.subtract(silu(&x.negative()?)?)?) };
        check_close("silu(x) - silu(-x)", difference(), &x, Tolerance { atol: 1e-6, rtol: 1e-5 });
    });
}

#[rstest]
fn task_2_silu_keeps_infinity_and_nan(#[values(Dtype::Float32, Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype) {
    let run = || -> Result<Vec<f32>> {
        let x = Array::from_slice(&[f32::INFINITY, f32::NAN, 2.0], &[3]).as_dtype(dtype)?;
        let y = silu(&x)?.as_dtype(Dtype::Float32)?;
        y.eval()?;
        Ok(y.as_slice::<f32>().to_vec())
    };
    let got = match run() {
        Ok(got) => got,
        Err(error) => panic!("silu of [inf, NaN, 2] was refused: {error}"),
    };
    let rule = |holds: bool, what: &str, cause: &str| {
        let seen = if holds { Ok(()) } else { Err(format!("silu of [inf, NaN, 2] in {dtype:?} gave {got:?}")) };
        check_rule(what, seen, cause);
    };
    let cause = "looks like: exp(x) / (1 + exp(x)), which is inf / inf for large x, or a clamped input";
    rule(got[0] == f32::INFINITY, "silu(inf)", cause);
    rule(got[1].is_nan(), "silu(NaN)", "looks like: NaN is replaced by a number; it must stay visible");
    rule(got[2].is_finite(), "silu(2) beside NaN", "looks like: one element's result depends on another's");
}

// ------------------------------------------------------------------------------------- task 3: SwiGLU

fn mlp(case: &Case) -> SwiGluMlp {
    let projection = |name: &str| {
        let weight = case.array(&format!("{name}_weight"));
        Linear::new(weight, case.optional_array(&format!("{name}_bias")))
    };
    SwiGluMlp::new(projection("gate"), projection("up"), projection("down"))
}

#[rstest]
fn task_3_swiglu(
    #[values("vector_f32", "rows_bf16", "batch_f16", "batch_f32", "three_leading_dims_bf16", "bias_f32", "bias_bf16")]
    name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("mlp/{name}"));
    case.check(in_order(case, "x", other_memory_order).and_then(|x| mlp(case).forward(&x)));
}

#[test]
fn task_3_swiglu_refuses_an_input_that_does_not_fit() {
    let fixture = Fixture::load(DAY);
    let mlp = mlp(fixture.case("mlp/batch_f32")); // E = 6
    if let Err(error) = mlp.forward(&counting(&[2, 6])) {
        panic!("x [2, 6] for an MLP with E = 6 was refused: {error}");
    }
    expect_error(mlp.forward(&counting(&[2, 7])), "x with E = 7 for an MLP with E = 6");
}

fn counting(shape: &[i32]) -> Array {
    let n: i32 = shape.iter().product();
    Array::from_iter((0..n).map(|i| (i % 7) as f32), shape)
}

/// An input of the case, as stored or with the same values in another memory order.
fn in_order(case: &Case, name: &str, other_memory_order: bool) -> Result<Array> {
    let array = case.array(name);
    Ok(if other_memory_order { strided(&array)? } else { array })
}
