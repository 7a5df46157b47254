//! Task 1: the online softmax, key by key and merged.

use grader::{Case, Fixture, check_close, property};
use mlx_rs::Array;
use rstest::rstest;
use tiny_llm::Result;
use tiny_llm::flash_attention::Partial;

use crate::tiled::check_nan_rows;
use crate::{DAY, F32};

/// Scores `[N]` and values `[N, D]` of a case.
fn keys_of(case: &Case) -> (Vec<f32>, Vec<Vec<f32>>) {
    let values = case.array("values");
    let head_dim = values.shape()[1] as usize;
    let rows = values.as_slice::<f32>().chunks(head_dim).map(<[f32]>::to_vec).collect();
    (case.array("scores").as_slice::<f32>().to_vec(), rows)
}

fn partial_of(scores: &[f32], values: &[Vec<f32>]) -> Partial {
    let mut partial = Partial::new(values[0].len());
    for (&score, value) in scores.iter().zip(values) {
        partial.add(score, value);
    }
    partial
}

fn answer(partial: &Partial) -> Result<Array> {
    let output = partial.output();
    Ok(Array::from_slice(&output, &[output.len() as i32]))
}

#[rstest]
fn keys_one_at_a_time(#[values("rising", "any_order", "masked_first")] name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("add/{name}"));
    let (scores, values) = keys_of(case);
    case.check(answer(&partial_of(&scores, &values)));
}

#[rstest]
fn merged_parts(
    #[values("two_parts", "falling", "masked_parts", "many_parts")] name: &str,
    #[values(false, true)] last_part_first: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("merge/{name}"));
    let (scores, values) = keys_of(case);
    let mut parts = Vec::new();
    let mut first = 0;
    for length in case.i32s("lengths") {
        let keys = first..first + length as usize;
        parts.push(partial_of(&scores[keys.clone()], &values[keys.clone()]));
        first = keys.end;
    }
    if last_part_first {
        parts.reverse();
    }
    let mut merged = Partial::new(values[0].len());
    parts.iter().for_each(|part| merged.merge(part));
    case.check(answer(&merged));
}

/// Scores far apart: whatever is exponentiated must not overflow, and the largest score decides.
#[rstest]
#[case::rising(&[-1e4, 0.0, 1e4], &[0.0, 0.0, 1.0])]
#[case::falling(&[1e4, 0.0, -1e4], &[1.0, 0.0, 0.0])]
#[case::far_below_zero(&[-3e38, -1e4, -1e4], &[0.0, 0.5, 0.5])]
#[case::the_smallest_number_of_all(&[f32::MIN, f32::MIN, f32::NEG_INFINITY], &[0.5, 0.5, 0.0])]
fn scores_far_apart(#[case] scores: &[f32], #[case] weights: &[f32], #[values(1, 2, 3)] first_part: usize) {
    // Values that are the rows of the unit matrix: the answer shows the weights.
    let values: Vec<Vec<f32>> = (0..3).map(|i| (0..3).map(|j| f32::from(u8::from(i == j))).collect()).collect();
    let mut merged = partial_of(&scores[..first_part], &values[..first_part]);
    if first_part < 3 {
        merged.merge(&partial_of(&scores[first_part..], &values[first_part..]));
    }
    check_close(&format!("weights of the scores {scores:?}"), answer(&merged), &Array::from_slice(weights, &[3]), F32);
}

#[test]
fn max_and_sum_are_what_they_say() {
    let mut partial = partial_of(&[1.0, 3.0], &[vec![1.0], vec![2.0]]);
    partial.merge(&partial_of(&[2.0], &[vec![4.0]]));
    let expected = [3.0, 1.0 + (-1.0_f32).exp() + (-2.0_f32).exp(), 2.0 + 4.0 * (-1.0_f32).exp() + (-2.0_f32).exp()];
    let got = Array::from_slice(&[partial.max, partial.sum, partial.accumulator[0]], &[3]);
    let name = "max, sum and accumulator after the scores 1, 3, 2 with the values 1, 2, 4";
    check_close(name, Ok::<_, String>(got), &Array::from_slice(&expected, &[3]), F32);
}

#[test]
fn nothing_given_is_nan() {
    check_nan_rows("an online softmax that was given nothing", &[Partial::new(3).output()], &[0]);
}

#[test]
fn nothing_visible_is_nan_until_something_is() {
    let mut partial = Partial::new(2);
    partial.add(f32::NEG_INFINITY, &[1.0, 2.0]);
    partial.merge(&Partial::new(2));
    check_nan_rows("an online softmax that was given one hidden key", &[partial.output()], &[0]);
    partial.add(-5.0, &[3.0, 4.0]);
    check_close("one visible key", answer(&partial), &Array::from_slice(&[3.0_f32, 4.0], &[2]), F32);
}

#[test]
fn random_parts() {
    property(20, |rng| {
        let (n, head_dim) = (rng.between(1, 40) as usize, rng.between(1, 5) as usize);
        let mut normal = |scale: f64| (rng.normal() * scale) as f32;
        let scores: Vec<f32> = (0..n).map(|_| normal(6.0)).collect();
        let values: Vec<Vec<f32>> = (0..n).map(|_| (0..head_dim).map(|_| normal(1.0)).collect()).collect();
        let max = scores.iter().copied().fold(f32::MIN, f32::max);
        let weights: Vec<f64> = scores.iter().map(|&score| f64::from(score - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mean = |d: usize| weights.iter().zip(&values).map(|(w, v)| w * f64::from(v[d])).sum::<f64>() / sum;
        let expected = Array::from_iter((0..head_dim).map(|d| mean(d) as f32), &[head_dim as i32]);

        let mut merged = Partial::new(head_dim);
        let mut first = 0;
        while first < n {
            let last = (first + rng.between(1, 9) as usize).min(n);
            merged.merge(&partial_of(&scores[first..last], &values[first..last]));
            first = last;
        }
        check_close(&format!("{n} keys in random parts"), answer(&merged), &expected, F32);
    });
}
