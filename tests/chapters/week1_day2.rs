//! Day 1.2: rotary position embedding.

mod named;
mod refusals;

use grader::{Case, Fixture, Rng, Tolerance, check_close, check_rule, expect_error, property, strided};
use mlx_rs::{Array, Dtype};
use named::{check_that, without_panic};
use refusals::expect_invalid_argument;
use rstest::rstest;
use tiny_llm::{Offset, Result, RotaryEmbedding, rotate_half_split, rotate_interleaved};

const DAY: &str = "week1_day2";

// ---------------------------------------------------------------------------- task 1: rotation tables

#[rstest]
fn task_1_tables(
    #[values("base_10000", "base_1000000", "small_base", "two_dims", "many_positions")] name: &str,
    // The layout decides how pairs are rotated, not how fast they turn.
    #[values(false, true)] traditional: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("tables/{name}"));
    let rope = RotaryEmbedding::new(case.i32("dims"), case.i32("max_positions"), case.f32("base"), traditional);
    match rope {
        Ok(rope) => {
            case.check_named("cos", Ok::<_, String>(rope.cos().clone()));
            case.check_named("sin", Ok::<_, String>(rope.sin().clone()));
        }
        Err(error) => case.check_named("cos", Err(error)),
    }
}

#[rstest]
#[case::odd_dims(7, 16, 10000.0, "an odd number of dims")]
#[case::no_dims(0, 16, 10000.0, "no dims")]
#[case::negative_dims(-4, 16, 10000.0, "negative dims")]
#[case::no_positions(8, 0, 10000.0, "no positions")]
#[case::negative_positions(8, -2, 10000.0, "a negative number of positions")]
#[case::base_zero(8, 16, 0.0, "base 0")]
#[case::base_negative(8, 16, -3.0, "a negative base")]
#[case::base_nan(8, 16, f32::NAN, "a base that is NaN")]
fn task_1_tables_refuse(#[case] dims: i32, #[case] max_positions: i32, #[case] base: f32, #[case] what: &str) {
    expect_invalid_argument(RotaryEmbedding::new(dims, max_positions, base, false), what);
}

#[rstest]
#[case(1.0)]
#[case(0.5)]
fn task_1_tables_take_any_positive_base(#[case] base: f32) {
    let result = RotaryEmbedding::new(4, 3, base, false);
    let refused = |error| format!("base {base} is positive, and it was refused: {error}");
    let cause = "a base of 1 or less is refused; it only has to be positive";
    check_rule(&format!("base {base}"), result.as_ref().map(|_| ()).map_err(refused), cause);
    let Ok(rope) = result else { return };
    // The second pair turns by base^(-1/2).
    let frequencies = [1.0, 1.0 / base.sqrt()];
    let angles = (0..3).flat_map(|p| frequencies.map(|frequency| p as f32 * frequency));
    let expected = Array::from_iter(angles.map(f32::cos), &[3, 2]);
    let tolerance = Tolerance { atol: 1e-5, rtol: 0.0 };
    check_close(&format!("cos for base {base}"), Ok::<_, String>(rope.cos().clone()), &expected, tolerance);
}

// ------------------------------------------------------- tasks 2 and 3: half-split and interleaved rotation

type Rotation = fn(&Array, &Array, &Array) -> Result<Array>;

fn check_rotation(rotate: Rotation, layout: &str, name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("{layout}/{name}"));
    let (x, cos, sin) = (case.array("x"), case.array("cos"), case.array("sin"));
    case.check(rotate(&x, &cos, &sin));
    case.check(strided(&x).map_err(Into::into).and_then(|x| rotate(&x, &cos, &sin)));
}

#[rstest]
fn task_2_half_split(
    #[values("rows_f32", "batch_bf16", "heads_f16", "heads_f32", "one_token_bf16", "tables_per_row_f32")] name: &str,
) {
    check_rotation(rotate_half_split, "half_split", name);
}

#[rstest]
fn task_3_interleaved(
    #[values("rows_f32", "batch_bf16", "heads_f16", "heads_f32", "one_token_bf16", "tables_per_row_f32")] name: &str,
) {
    check_rotation(rotate_interleaved, "interleaved", name);
}

#[test]
fn task_2_half_split_refuses_tables_that_do_not_fit() {
    refuses_other_tables(rotate_half_split);
}

#[test]
fn task_3_interleaved_refuses_tables_that_do_not_fit() {
    refuses_other_tables(rotate_interleaved);
}

#[rstest]
#[case::one_row(&[1, 3])]
#[case::no_rows(&[3])]
fn task_2_half_split_broadcasts_its_tables(#[case] shape: &[i32]) {
    broadcasts_tables(rotate_half_split, shape);
}

#[rstest]
#[case::one_row(&[1, 3])]
#[case::no_rows(&[3])]
fn task_3_interleaved_broadcasts_its_tables(#[case] shape: &[i32]) {
    broadcasts_tables(rotate_interleaved, shape);
}

/// One row of the tables is enough if all tokens stand at the same position.
fn broadcasts_tables(rotate: Rotation, shape: &[i32]) {
    let case = format!("tables of shape {shape:?} for x [2, 5, 6]");
    let cause = "tables only have to broadcast to [.., L, dims/2]; do not ask for L rows";
    let mut rng = Rng::new(22);
    let mut run = || -> Result<[Array; 4]> {
        let x = rng.array(&[2, 5, 6], Dtype::Float32)?;
        let angles = rng.array(shape, Dtype::Float32)?;
        let (cos, sin) = (angles.cos()?, angles.sin()?);
        let rows = |table: &Array| mlx_rs::ops::broadcast_to(table, &[5, 3]);
        let expected = rotate(&x, &rows(&cos)?, &rows(&sin)?)?;
        Ok([x, cos, sin, expected])
    };
    let [x, cos, sin, expected] = run().unwrap_or_else(|error| panic!("tables of five rows were refused: {error}"));
    let result = without_panic(&case, |_| Some(cause.to_owned()), || rotate(&x, &cos, &sin));
    let refused = |error| format!("they were refused: {error}");
    check_rule(&case, result.as_ref().map(|_| ()).map_err(refused), cause);
    check_close(&case, result, &expected, Tolerance { atol: 1e-6, rtol: 1e-6 });
}

#[rstest]
fn task_2_half_split_is_rounded_once(#[values(Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype) {
    rounded_once(|x| at_position(rotate_half_split, x), false, dtype);
}

#[rstest]
fn task_3_interleaved_is_rounded_once(#[values(Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype) {
    rounded_once(|x| at_position(rotate_interleaved, x), true, dtype);
}

#[rstest]
fn task_4_rope_is_rounded_once(
    #[values(Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype,
    #[values(false, true)] traditional: bool,
) {
    let run = |x: &Array| RotaryEmbedding::new(DIMS, 16, BASE, traditional)?.forward(x, Offset::Same(FIRST));
    rounded_once(run, traditional, dtype);
}

const DIMS: i32 = 8;
const BASE: f32 = 16.0;
const FIRST: i32 = 3;

/// The angle of pair `i` of token `t`, which stands at position `FIRST + t`.
fn angle(t: i32, i: i32) -> f64 {
    f64::from(FIRST + t) * f64::from(BASE).powf(-2.0 * f64::from(i) / f64::from(DIMS))
}

fn at_position(rotate: Rotation, x: &Array) -> Result<Array> {
    let shape = [x.dim(-2), DIMS / 2];
    let table = |of: fn(f64) -> f64| {
        let entries = (0..shape[0]).flat_map(|t| (0..shape[1]).map(move |i| of(angle(t, i)) as f32));
        Array::from_iter(entries, &shape)
    };
    rotate(x, &table(f64::cos), &table(f64::sin))
}

fn f32s(array: &Array) -> Vec<f32> {
    let array = array.as_dtype(Dtype::Float32).unwrap_or_else(|error| panic!("{error}"));
    array.as_slice::<f32>().to_vec()
}

/// An answer of 16 bits is the right one, rounded: nothing before the end is.
fn rounded_once(rotate: impl Fn(&Array) -> Result<Array>, interleaved: bool, dtype: Dtype) {
    let mut rng = Rng::new(23);
    let x = rng.array(&[2, 2, 10, DIMS], dtype).unwrap_or_else(|error| panic!("{error}"));
    let rows = f32s(&x);
    let half = DIMS as usize / 2;
    let digits = if dtype == Dtype::Float16 { 10 } else { 7 };
    // For each entry: the answer, and how much f32 may be off where two products nearly cancel.
    let exact: Vec<(f64, f64)> = (0..rows.len())
        .map(|at| {
            let (row, entry) = (at / DIMS as usize, at % DIMS as usize);
            let (pair, is_second) =
                if interleaved { (entry / 2, entry % 2 == 1) } else { (entry % half, entry >= half) };
            let of = |entry: usize| f64::from(rows[row * DIMS as usize + entry]);
            let (a, b) = if interleaved { (of(2 * pair), of(2 * pair + 1)) } else { (of(pair), of(pair + half)) };
            let (sin, cos) = angle((row % 10) as i32, pair as i32).sin_cos();
            let turned = if is_second { b * cos + a * sin } else { a * cos - b * sin };
            (turned, 1e-5 * (a.abs() + b.abs()))
        })
        .collect();
    // In units in the last place of 16 bits: rounding once is off by half a unit at most.
    let worst_of = |x: &Array| {
        let got = rotate(x).unwrap_or_else(|error| panic!("it was refused: {error}"));
        let off = |(got, &(exact, slack)): (f32, &(f64, f64))| {
            let unit = (exact.abs().log2().floor() - f64::from(digits)).max(-24.0).exp2();
            ((f64::from(got) - exact).abs() - slack) / unit
        };
        f32s(&got).into_iter().zip(&exact).map(off).fold(0.0, f64::max)
    };
    let worst = worst_of(&x);
    let seen = || format!("an entry is {worst:.2} units in the last place off; rounding once leaves half a unit");
    // Another mistake shows in f32 as well.
    let is_rounding = worst_of(&Array::from_slice(&rows, x.shape())) <= 0.0;
    let cause = "the tables or the products are rounded to 16 bits; rotate in f32 and convert the result alone";
    check_that("tokens of 16 bits", worst <= 0.5, seen, is_rounding.then_some(cause));
}

fn refuses_other_tables(rotate: Rotation) {
    let array = |shape: &[i32]| {
        let n: i32 = shape.iter().product();
        Array::from_iter((0..n).map(|i| (i % 3) as f32), shape)
    };
    let table = array(&[5, 3]);
    expect_error(rotate(&array(&[2, 5, 8]), &table, &table), "8 dims and tables for 6");
    expect_error(rotate(&array(&[2, 4, 6]), &table, &table), "4 tokens and tables for 5");
    // The tables of three pairs fit the first six of seven numbers: the seventh must not be lost in silence.
    expect_error(rotate(&array(&[2, 5, 7]), &table, &table), "an odd number of dims, the last of which has no partner");
}

// ------------------------------------------------------------ task 4: rotary embedding with offsets

fn rope(case: &Case) -> Result<RotaryEmbedding> {
    let traditional = case.bool("traditional");
    RotaryEmbedding::new(case.i32("dims"), case.i32("max_positions"), case.f32("base"), traditional)
}

fn embed(case: &Case, x: &Array) -> Result<Array> {
    if case.has("offsets") {
        rope(case)?.forward(x, Offset::PerRow(&case.i32s("offsets")))
    } else {
        rope(case)?.forward(x, Offset::Same(case.i32("offset")))
    }
}

#[rstest]
fn task_4_rope(
    #[values(
        "start_f32",
        "offset_bf16",
        "base_1000000_f16",
        "partial_f32",
        "traditional_f16",
        "traditional_partial_bf16",
        "per_row_f32",
        "per_row_bf16",
        "per_row_traditional_f16",
        "per_row_partial_f32",
        "one_token_per_row_bf16",
        "far_bf16",
        "far_f32"
    )]
    name: &str,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("rope/{name}"));
    case.check(embed(case, &case.array("x")));
    case.check(strided(&case.array("x")).map_err(Into::into).and_then(|x| embed(case, &x)));
}

#[rstest]
fn task_4_rope_with_equal_offsets_per_row(
    #[values("offset_bf16", "partial_f32", "traditional_f16", "far_f32")] name: &str,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("rope/{name}"));
    let x = case.array("x");
    let offsets = vec![case.i32("offset"); x.shape()[0] as usize];
    case.check(rope(case).and_then(|rope| rope.forward(&x, Offset::PerRow(&offsets))));
}

#[test]
fn task_4_each_row_has_its_own_positions() {
    // Different rows at offsets far apart: each row is what it is alone.
    let offsets = [3, 17, 0];
    let wrong_rows = |n_tokens: i32| {
        let mut rng = Rng::new(21);
        let mut run = || -> Result<Vec<usize>> {
            let rope = RotaryEmbedding::new(4, 32, 100.0, false)?;
            let x = rng.array(&[3, 2, n_tokens, 4], Dtype::Float32)?;
            let together = rope.forward(&x, Offset::PerRow(&offsets))?.split_equal(3, 0)?;
            let mut wrong = Vec::new();
            for (row, x) in x.split_equal(3, 0)?.iter().enumerate() {
                let alone = rope.forward(x, Offset::Same(offsets[row]))?;
                let off = alone.subtract(&together[row])?.abs()?.max(false)?.item_exact::<f32>();
                wrong.extend((off.is_nan() || off > 1e-5).then_some(row));
            }
            Ok(wrong)
        };
        run().unwrap_or_else(|error| panic!("it was refused: {error}"))
    };
    let wrong = wrong_rows(3);
    let seen = || format!("offsets {offsets:?}, 3 tokens: the rows {wrong:?} differ from what they are alone");
    // With one token a row, both orders of the positions are the same.
    let is_order = wrong_rows(1).is_empty();
    let cause = "positions are listed token by token and read row by row";
    check_that("three rows", wrong.is_empty(), seen, is_order.then_some(cause));
}

#[test]
fn task_4_rope_scores_depend_on_distances_only() {
    // The point of RoPE: rotating query and key by the same number of positions more changes no score.
    property(8, |rng| {
        let (dims, length) = (2 * rng.between(1, 5), rng.between(2, 5));
        let (near, far) = (rng.between(0, 3), rng.between(10, 50));
        let traditional = rng.between(0, 1) == 1;
        let mut scores = || -> Result<[Array; 2]> {
            let rope = RotaryEmbedding::new(dims, 64, 10000.0, traditional)?;
            let query = rng.array(&[1, 2, length, dims], Dtype::Float32)?;
            let key = rng.array(&[1, 2, length, dims], Dtype::Float32)?;
            let at = |offset| -> Result<Array> {
                let query = rope.forward(&query, Offset::Same(offset))?;
                let key = rope.forward(&key, Offset::Same(offset))?;
                Ok(query.matmul(key.swap_axes(-1, -2)?)?)
            };
            Ok([at(near)?, at(far)?])
        };
        let name = "scores after a common shift";
        let tolerance = Tolerance { atol: 1e-4, rtol: 1e-4 };
        match scores() {
            Ok([near, far]) => check_close(name, Ok::<_, String>(far), &near, tolerance),
            Err(error) => check_close(name, Err(error), &Array::from_f32(0.0), tolerance),
        }
    });
}

#[rstest]
#[case::past_the_end(&[2, 3, 4, 8], Offset::Same(13), "a last token at position 16 of 0 to 15")]
#[case::huge(&[2, 3, 4, 8], Offset::Same(i32::MAX), "an offset near the largest i32")]
#[case::negative(&[2, 3, 4, 8], Offset::Same(-1), "a negative offset")]
#[case::one_row_past_the_end(&[2, 3, 4, 8], Offset::PerRow(&[0, 13]), "one row that ends at position 16 of 0 to 15")]
#[case::one_row_huge(&[2, 3, 4, 8], Offset::PerRow(&[0, i32::MAX]), "one row's offset near the largest i32")]
#[case::one_row_negative(&[2, 3, 4, 8], Offset::PerRow(&[3, -1]), "one negative offset")]
#[case::too_few_offsets(&[2, 3, 4, 8], Offset::PerRow(&[1]), "one offset for two rows")]
#[case::too_many_offsets(&[2, 3, 4, 8], Offset::PerRow(&[1, 2, 3]), "three offsets for two rows")]
#[case::narrow_heads(&[2, 3, 4, 6], Offset::Same(0), "D = 6, less than dims = 8")]
#[case::three_dimensions(&[3, 4, 8], Offset::Same(0), "x with three dimensions")]
#[case::five_dimensions(&[2, 1, 3, 4, 8], Offset::Same(0), "x with five dimensions")]
fn task_4_rope_refuses(#[case] shape: &[i32], #[case] offset: Offset<'_>, #[case] what: &str) {
    let array = |shape: &[i32]| {
        let n: i32 = shape.iter().product();
        Array::from_iter((0..n).map(|i| (i % 11) as f32), shape)
    };
    let run = |shape, offset| RotaryEmbedding::new(8, 16, 10000.0, false)?.forward(&array(shape), offset);
    // The right call first: the test must not be green because everything is refused.
    if let Err(error) = run(&[2, 3, 4, 8], Offset::Same(12)) {
        panic!("x [2, 3, 4, 8] at offset 12 with 16 positions was refused: {error}");
    }
    expect_invalid_argument(run(shape, offset), what);
}
