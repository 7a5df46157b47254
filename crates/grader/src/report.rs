//! Grades one answer and writes the message that a learner reads.

use std::collections::BTreeMap;
use std::fmt::Write;

use mlx_rs::{Array, Dtype};

use crate::cause::{Diagnosis, diagnose, number};
use crate::compare::Comparison;
use crate::fixture::{Case, Output};
use crate::layout;
use crate::places::plain_words;
use crate::values::{Values, dtype_name, dtype_variant};

/// The verdict on one answer.
#[derive(Clone, Debug)]
pub struct Report {
    pub status: Status,
    /// The largest finite error; 0 when the shapes differ.
    pub max_error: f64,
    /// What is allowed at the entry with that error.
    pub tolerance: f64,
    /// The part of the tolerance that is left, 0 to 1.
    pub headroom: f64,
    pub diagnosis: Diagnosis,
    /// Empty when the answer passes.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Pass,
    Fail,
    /// The solution returned an error where an answer was expected.
    Error,
}

impl Report {
    /// A verdict without numbers, for answers that are not arrays.
    pub fn plain(status: Status, message: String, diagnosis: Diagnosis) -> Self {
        let headroom = if status == Status::Pass { 1.0 } else { 0.0 };
        Self { status, max_error: 0.0, tolerance: 0.0, headroom, diagnosis, message }
    }
}

/// Compares `got` with the output `output` of `case` ("" is the first one).
pub fn grade(case: &Case, output: &str, got: &Array) -> Report {
    let name = if output.is_empty() { case.name.clone() } else { format!("{}, output {output}", case.name) };
    let Some(expected) = case.outputs.get(output) else {
        let message = format!("the case {} has no output {output}", case.name);
        return Report::plain(Status::Error, message, Diagnosis::default());
    };
    let title = format!("{name}{}", describe_inputs(case));
    grade_values(&title, got, expected, &case.meta.wrong)
}

/// Compares `got` with an expected output; `sentences` say what its known wrong answers mean.
pub(crate) fn grade_values(title: &str, got: &Array, output: &Output, sentences: &BTreeMap<String, String>) -> Report {
    let got = match Values::read(got) {
        Ok(values) => values,
        Err(error) => {
            let seen = format!("MLX could not compute the answer: {}", plain_words(&error));
            return Report::plain(Status::Error, format!("{title}\n{seen}"), Diagnosis::observed(seen));
        }
    };
    let expected = &output.expected;
    let mut diagnosis = diagnose(&got, expected, output.tolerance, &output.wrong, sentences);
    if got.shape != expected.shape {
        let seen = format!("wrong shape: got {:?}, expected {:?}", got.shape, expected.shape);
        let message = format!("{title}\n{seen}");
        diagnosis.observed = Some(seen);
        return failed(message, diagnosis, None);
    }
    let comparison = Comparison::new(&got, expected, output.tolerance);
    if got.dtype != output.dtype {
        let mut seen = format!("wrong dtype: got {}, expected {}", dtype_name(got.dtype), dtype_name(output.dtype));
        if comparison.passes() {
            let _ = write!(
                seen,
                "; the values are right: convert the result with as_dtype ({} here)",
                dtype_variant(output.dtype)
            );
        }
        let message = format!("{title}\n{seen}");
        diagnosis.observed = Some(seen);
        return failed(message, diagnosis, Some((&comparison, output)));
    }
    if comparison.passes() {
        let tolerance = output.tolerance.allowed(expected.data.get(comparison.max_error_at).copied().unwrap_or(0.0));
        return Report {
            status: Status::Pass,
            max_error: comparison.max_error,
            tolerance,
            headroom: comparison.headroom(),
            // That an answer passes speaks against the mistakes that would have been seen here.
            diagnosis: Diagnosis { stored: diagnosis.stored, ..Diagnosis::default() },
            message: String::new(),
        };
    }
    let message = format!("{title}\n{}", describe_mismatch(&got, output, &comparison));
    failed(message, diagnosis, Some((&comparison, output)))
}

fn failed(mut message: String, diagnosis: Diagnosis, compared: Option<(&Comparison, &Output)>) -> Report {
    message.push_str(&diagnosis.lines());
    let mut report = Report::plain(Status::Fail, message, diagnosis);
    if let Some((comparison, output)) = compared {
        let expected = output.expected.data.get(comparison.max_error_at).copied().unwrap_or(0.0);
        report.max_error = comparison.max_error;
        report.tolerance = output.tolerance.allowed(expected);
    }
    report
}

/// NaN first, then the first wrong entry, the count, the largest error, and a piece of both arrays.
fn describe_mismatch(got: &Values, output: &Output, found: &Comparison) -> String {
    let expected = &output.expected;
    let mut text = String::new();
    let n = expected.len();
    let unexpected = [("NaN", &found.nans), ("infinite", &found.infinities)];
    for (what, positions) in unexpected {
        if let Some(&first) = positions.first() {
            let index = expected.index(first);
            let _ = writeln!(text, "{what} at {index:?}, {} of {n} entries are {what}", positions.len());
        }
    }
    let Some(&first) = found.mismatches.first() else {
        return text;
    };
    let (got_value, expected_value) = (got.data[first], expected.data[first]);
    let index = expected.index(first);
    if output.dtype.is_float() && got_value.is_finite() && expected_value.is_finite() {
        let allowed = output.tolerance.allowed(expected_value);
        let _ = writeln!(
            text,
            "first mismatch at {index:?}: got {}, expected {} (off by {}, allowed {})",
            number(got_value),
            number(expected_value),
            number((got_value - expected_value).abs()),
            number(allowed),
        );
    } else {
        let show = |x| entry(x, output.dtype, in_hex(expected));
        let _ =
            writeln!(text, "first mismatch at {index:?}: got {}, expected {}", show(got_value), show(expected_value));
    }
    let n_wrong = found.mismatches.len();
    let percent = 100.0 * n_wrong as f64 / n.max(1) as f64;
    let _ = write!(text, "{n_wrong} of {n} entries are wrong ({percent:.0} %)");
    if output.dtype.is_float() && found.max_error > 0.0 {
        let worst = expected.index(found.max_error_at);
        let _ = write!(text, ", the largest error is {} at {worst:?}", number(found.max_error));
    }
    if let Some(pattern) = layout::pattern(&found.mismatches, expected) {
        let _ = write!(text, "; {pattern}");
    }
    let _ = write!(text, "\n{}", dump(got, expected, first, output.dtype));
    text
}

/// Up to eight entries of the last axis around the mismatch, in both arrays.
fn dump(got: &Values, expected: &Values, at: usize, dtype: Dtype) -> String {
    const WIDTH: usize = 8;
    let Some(&row) = expected.shape.last() else {
        return String::new();
    };
    let row_start = at - at % row;
    let first = (at % row).saturating_sub(WIDTH / 2).min(row.saturating_sub(WIDTH));
    let last = (first + WIDTH).min(row);
    let hex = in_hex(expected);
    let columns: Vec<[String; 2]> = (first..last)
        .map(|column| [got, expected].map(|values| entry(values.data[row_start + column], dtype, hex)))
        .collect();
    let line = |which: usize| {
        let cells =
            columns.iter().map(|pair| format!("{:>width$}", pair[which], width = pair[0].len().max(pair[1].len())));
        cells.collect::<Vec<_>>().join("  ")
    };
    let mut index: Vec<String> = expected.index(at).iter().map(usize::to_string).collect();
    index.pop();
    index.push(if last - first == row { "..".to_owned() } else { format!("{first}..{last}") });
    let index = index.join(", ");
    format!("  got      [{index}]  {}\n  expected [{index}]  {}", line(0), line(1))
}

/// Whether integers are words with several small numbers in each, which say nothing in decimal.
fn in_hex(expected: &Values) -> bool {
    expected.dtype == Dtype::Uint32 && expected.data.iter().any(|&x| x >= f64::from(1 << 24))
}

fn entry(x: f64, dtype: Dtype, hex: bool) -> String {
    if dtype == Dtype::Bool {
        format!("{}", x != 0.0)
    } else if dtype.is_float() || x != x.trunc() {
        number(x)
    } else if hex {
        format!("{:#010x}", x as u64)
    } else {
        format!("{}", x as i64)
    }
}

/// The inputs' shapes and the parameters, as in: ` (x: bf16 [2, 5], axis = -1)`; of many inputs only the first ones.
pub(crate) fn describe_inputs(case: &Case) -> String {
    const WIDTH: usize = 120;
    let params: Vec<String> = case.meta.params.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let n_inputs = case.inputs.len();
    let mut all: Vec<String> = Vec::new();
    // What a mistake mostly shows in comes first; weights and biases, which are many, come last.
    let is_weight = |name: &str| name.ends_with("weight") || name.ends_with("bias");
    let mut inputs: Vec<_> = case.inputs.iter().collect();
    inputs.sort_by_key(|(name, _)| is_weight(name));
    for (n, (name, stored)) in inputs.into_iter().enumerate() {
        let input = format!("{name}: {} {:?}", dtype_name(stored.dtype), stored.shape);
        if n > 0 && all.iter().map(|shown| shown.len() + 2).sum::<usize>() + input.len() > WIDTH {
            all.push(format!("{} more inputs", n_inputs - n));
            break;
        }
        all.push(input);
    }
    let mut n_shown = 0;
    for param in params {
        // A list of a hundred numbers helps nobody.
        n_shown += param.len() + 2;
        if n_shown > WIDTH {
            all.push("..".to_owned());
            break;
        }
        all.push(param);
    }
    if all.is_empty() { String::new() } else { format!(" ({})", all.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_print_as_integers_and_packed_words_in_hex() {
        let shown = |x: f64, expected: &[f64]| {
            let expected = Values { dtype: Dtype::Uint32, shape: vec![expected.len()], data: expected.to_vec() };
            entry(x, Dtype::Uint32, in_hex(&expected))
        };
        assert_eq!(shown(1_234_567.0, &[7.0, 151_935.0]), "1234567");
        assert_eq!(shown(1_127_443_201.0, &[3_453_923_584.0, 5.0]), "0x43336b01");
        assert_eq!(entry(-7.0, Dtype::Int32, false), "-7");
        assert_eq!(entry(0.123_456_78, Dtype::Float32, false), "0.123457");
        assert_eq!(entry(1.234_567_8e-9, Dtype::Float32, false), "1.23457e-9");
    }
}
