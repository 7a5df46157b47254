//! The grader graded: every case is fed with answers that are known to be wrong.

use mlx_rs::Array;

use crate::cause::number;
use crate::fixture::{Case, Fixture, Output};
use crate::report::{Report, Status, grade};
use crate::values::Values;

/// What the grader said about one deliberately right or wrong answer.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// `<case>` or `<case>.<output>`.
    pub case: String,
    /// Which answer was given: `expected`, `wrong.<variant>`, `zeros`, ...
    pub answer: String,
    /// Whether the grader did what it must; see [`wrong_variants`].
    pub as_it_must: bool,
    /// `pass`, or the cause that the grader named.
    pub outcome: String,
}

/// Grades right and wrong answers to every case of `fixture`.
///
/// The expected value must pass. Each `wrong.<variant>` must fail with that variant's own sentence as
/// the cause. Zeros, a constant, NaN in one entry, the negated answer, the answer in another dtype, and
/// (from two dimensions on) the transposed answer must fail.
///
/// # Errors
/// What MLX reports while it makes the answers.
pub fn wrong_variants(fixture: &Fixture) -> Result<Vec<Verdict>, mlx_rs::error::Exception> {
    let mut verdicts = Vec::new();
    for case in fixture.cases() {
        for (name, output) in &case.outputs {
            verify(case, name, output, &mut verdicts)?;
        }
    }
    Ok(verdicts)
}

fn verify(
    case: &Case,
    name: &str,
    output: &Output,
    verdicts: &mut Vec<Verdict>,
) -> Result<(), mlx_rs::error::Exception> {
    let mut judge = |answer: &str, array: &Array, must: &dyn Fn(&Report) -> bool| {
        let report = grade(case, name, array);
        verdicts.push(Verdict {
            case: if name.is_empty() { case.name.clone() } else { format!("{}.{name}", case.name) },
            answer: answer.to_owned(),
            as_it_must: must(&report),
            outcome: match report.status {
                Status::Pass => "pass".to_owned(),
                _ => report.diagnosis.cause().unwrap_or_else(|| "no cause named".to_owned()),
            },
        });
    };
    let expected = &output.expected;
    let fails = |report: &Report| report.status == Status::Fail;

    judge("expected", &expected.to_array(output.dtype)?, &|report| report.status == Status::Pass);
    for (variant, values) in &output.wrong {
        let sentence = case.meta.wrong.get(variant);
        let named = |report: &Report| fails(report) && sentence.is_some() && report.diagnosis.known.first() == sentence;
        judge(&format!("wrong.{variant}"), &values.to_array(output.dtype)?, &named);
    }

    let with = |change: &dyn Fn(usize, f64) -> f64| Values {
        data: expected.data.iter().enumerate().map(|(at, &x)| change(at, x)).collect(),
        ..expected.clone()
    };
    let is_constant = expected.data.windows(2).all(|pair| pair[0] == pair[1]);
    if expected.data.iter().any(|&x| x != 0.0) {
        judge("zeros", &with(&|_, _| 0.0).to_array(output.dtype)?, &fails);
    }
    if !is_constant {
        let mean = expected.data.iter().sum::<f64>() / expected.len() as f64;
        judge(&format!("constant {}", number(mean)), &with(&|_, _| mean).to_array(output.dtype)?, &fails);
    }
    if output.dtype.is_float() {
        // Where a number is expected; a case may expect NaN in places.
        let last = expected.data.iter().rposition(|x| !x.is_nan()).unwrap_or_default();
        let one_nan = with(&|at, x| if at == last { f64::NAN } else { x });
        judge("one NaN", &one_nan.to_array(output.dtype)?, &fails);
        judge("negated", &with(&|_, x| -x).to_array(output.dtype)?, &fails);
        let other_dtype =
            if output.dtype == mlx_rs::Dtype::Float32 { mlx_rs::Dtype::Bfloat16 } else { mlx_rs::Dtype::Float32 };
        judge("another dtype", &expected.to_array(other_dtype)?, &fails);
    }
    let n_long_axes = expected.shape.iter().filter(|&&n| n > 1).count();
    if expected.shape.len() >= 2 && n_long_axes >= 1 {
        let transposed = expected.to_array(output.dtype)?.swap_axes(-1, -2)?;
        judge("transposed", &transposed, &fails);
    }
    Ok(())
}
