//! What tests call: each check records a line in the result stream and panics with the diagnosis.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};

use mlx_rs::Array;

use crate::cause::Diagnosis;
use crate::compare::Tolerance;
use crate::fixture::{Case, Output};
use crate::places::plain_words;
use crate::report::{Report, Status, describe_inputs, grade, grade_values};
use crate::results::record;
use crate::values::Values;

impl Case {
    /// Checks the answer to this case.
    ///
    /// # Panics
    /// With the diagnosis, when the answer is an error or differs from the expected value.
    #[track_caller]
    pub fn check<E: Display>(&self, result: Result<Array, E>) {
        self.check_output("", result);
    }

    /// Checks a second output, stored as `expected.<output>`.
    ///
    /// # Panics
    /// As [`Case::check`].
    #[track_caller]
    pub fn check_named<E: Display>(&self, output: &str, result: Result<Array, E>) {
        self.check_output(output, result);
    }

    #[track_caller]
    fn check_output<E: Display>(&self, output: &str, result: Result<Array, E>) {
        let report = match result {
            Ok(answer) => grade(self, output, &answer),
            Err(error) => returned_error(&format!("{}{}", self.name(), describe_inputs(self)), &error),
        };
        settle(self.name(), &report);
    }
}

/// Checks an answer against an array that the test made itself.
///
/// # Panics
/// With the diagnosis, when they differ by more than `atol + rtol * |expected|`.
#[track_caller]
pub fn check_close<E: Display>(case: &str, result: Result<Array, E>, expected: &Array, tolerance: Tolerance) {
    let report = match result {
        Ok(answer) => close(case, &answer, expected, tolerance),
        Err(error) => returned_error(case, &error),
    };
    settle(case, &report);
}

/// Checks that a call was refused with an error, and returns the error's text.
///
/// `what` says what must be refused: "more queries than keys".
///
/// # Panics
/// When the call succeeded, or the error has no text.
#[track_caller]
pub fn expect_error<T, E: Display>(result: Result<T, E>, what: &str) -> String {
    expect_error_of_kind(result, what, "an error", |_| true)
}

/// As [`expect_error`], and the error must be one that `is_kind` accepts.
///
/// `kind` names it for the message: "an `Error::InvalidArgument`".
///
/// # Panics
/// When the call succeeded, or the error is of another kind or has no text.
#[track_caller]
pub fn expect_error_of_kind<T, E: Display>(
    result: Result<T, E>,
    what: &str,
    kind: &str,
    is_kind: impl FnOnce(&E) -> bool,
) -> String {
    let (report, text) = match result {
        Ok(_) => {
            let message = format!("{what}: this must be refused with {kind}, and it was accepted");
            (seen(Status::Fail, "", message), String::new())
        }
        Err(error) => {
            let text = error.to_string();
            let report = if text.trim().is_empty() {
                seen(Status::Fail, "", format!("{what}: the error says nothing"))
            } else if !is_kind(&error) {
                let message = format!("{what}: this must be refused with {kind}, and the error was another one: ");
                seen(Status::Fail, "", message + &plain_words(&text))
            } else {
                Report::plain(Status::Pass, String::new(), Diagnosis::default())
            };
            (report, text)
        }
    };
    settle(what, &report);
    text
}

/// Checks a sequence (tokens, mostly) for equality.
///
/// # Panics
/// With the first position that differs and what stands around it on both sides.
#[track_caller]
pub fn check_tokens<T: PartialEq + Debug>(case: &str, got: &[T], expected: &[T]) {
    let report = match first_difference(got, expected) {
        None => Report::plain(Status::Pass, String::new(), Diagnosis::default()),
        Some(message) => Report::plain(Status::Fail, format!("{case}\n{message}"), Diagnosis::default()),
    };
    settle(case, &report);
}

fn close(case: &str, answer: &Array, expected: &Array, tolerance: Tolerance) -> Report {
    match Values::read(expected) {
        Ok(expected) => {
            let output = Output { dtype: expected.dtype, tolerance, expected, wrong: BTreeMap::new() };
            grade_values(case, answer, &output, &BTreeMap::new())
        }
        Err(error) => {
            seen(Status::Error, case, format!("MLX could not compute the expected value: {}", plain_words(&error)))
        }
    }
}

fn returned_error(case: &str, error: &impl Display) -> Report {
    seen(Status::Error, case, format!("the call returned an error: {}", plain_words(&error.to_string())))
}

/// A failure whose message says all that there is to say.
fn seen(status: Status, case: &str, what: String) -> Report {
    let message = if case.is_empty() { what.clone() } else { format!("{case}\n{what}") };
    Report::plain(status, message, Diagnosis::observed(what))
}

#[track_caller]
fn settle(case: &str, report: &Report) {
    record(case, report);
    if report.status != Status::Pass {
        panic!("{}", report.message);
    }
}

/// None when the two are equal.
pub fn first_difference<T: PartialEq + Debug>(got: &[T], expected: &[T]) -> Option<String> {
    const CONTEXT: usize = 4;
    if got == expected {
        return None;
    }
    let shared = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let from = shared.saturating_sub(CONTEXT);
    let window = |items: &[T]| {
        let to = (shared + CONTEXT + 1).min(items.len());
        let shown: Vec<String> = items[from.min(to)..to].iter().map(|item| format!("{item:?}")).collect();
        let (before, after) = (if from > 0 { ".. " } else { "" }, if to < items.len() { " .." } else { "" });
        format!("{before}{}{after}", shown.join(" "))
    };
    let at = |items: &[T]| items.get(shared).map_or_else(|| "nothing (it ends)".to_owned(), |item| format!("{item:?}"));
    Some(format!(
        "first difference at position {shared}: got {}, expected {} ({} and {} items)\n  got      {}\n  expected {}",
        at(got),
        at(expected),
        got.len(),
        expected.len(),
        window(got),
        window(expected)
    ))
}
