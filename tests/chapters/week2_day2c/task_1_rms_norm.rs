//! Task 1: RMSNorm of a row.

use grader::Fixture;
use mlx_rs::Array;
use rstest::rstest;
use tiny_llm::Error;
use tiny_llm::fused::rms_norm::rms_norm_row;

use crate::DAY;
use crate::quantized_matrices::f32s;

#[rstest]
fn rms_norm_of_a_row(#[values("row", "odd_length", "tiny")] name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("rms_norm_row/{name}"));
    let mut row = f32s(&case.array("x"));
    rms_norm_row(&mut row, &f32s(&case.array("weight")), case.f32("eps"));
    case.check(Ok::<_, Error>(Array::from_slice(&row, &[row.len() as i32])));
}

/// Squares of numbers that f16 holds are beyond f16, and the sum of many beyond what bf16 tells apart: f32 holds both.
#[test]
fn large_numbers_and_long_rows() {
    let mut row: Vec<f32> = (0..4096).map(|i| if i % 2 == 0 { 60_000.0 } else { -1.0 }).collect();
    let weight = vec![2.0; row.len()];
    rms_norm_row(&mut row, &weight, 1e-6);
    let root = ((60_000.0_f64.powi(2) + 1.0) / 2.0).sqrt();
    for (at, (got, x)) in row.iter().zip([60_000.0, -1.0].into_iter().cycle()).enumerate() {
        let expected = 2.0 * x / root;
        assert!((f64::from(*got) / expected - 1.0).abs() < 1e-5, "number {at}: {got}, exactly {expected}");
    }
}

#[rstest]
fn what_is_not_finite_spoils_its_row(#[values(f32::NAN, f32::INFINITY)] bad: f32, #[values(0, 20, 36)] at: usize) {
    let mut row: Vec<f32> = (0..37).map(|i| i as f32 - 3.0).collect();
    row[at] = bad;
    rms_norm_row(&mut row, &[1.0; 37], 1e-6);
    assert!(row[at].is_nan(), "number {at} was {bad} and is {}", row[at]);
    if bad.is_nan() {
        assert!(
            row.iter().all(|value| value.is_nan()),
            "the mean of a row with NaN is NaN, and so is all of it: {row:?}"
        );
    }
}

#[test]
fn a_row_of_zeros_stays_so() {
    let mut row = [0.0; 40];
    rms_norm_row(&mut row, &[1.0; 40], 1e-6);
    assert_eq!(row, [0.0; 40]);
}
