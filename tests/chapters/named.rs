//! Checks of what is no array, with the causes that their failures have.
#![allow(dead_code)] // no day uses all of it

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use grader::cause::Diagnosis;
use grader::report::{Report, Status};
use grader::results::record;

/// Passes if `holds`; else fails with `message`, and with the cause if there is one.
#[track_caller]
pub fn check_that(case: &str, holds: bool, message: impl FnOnce() -> String, cause: Option<&str>) {
    let report = if holds {
        Report::plain(Status::Pass, String::new(), Diagnosis::default())
    } else {
        let message = message();
        let diagnosis = cause.map_or_else(|| Diagnosis::observed(message.clone()), Diagnosis::mistake);
        Report::plain(Status::Fail, format!("{case}\n{message}{}", diagnosis.lines()), diagnosis)
    };
    record(case, &report);
    if !holds {
        panic!("{}", report.message);
    }
}

/// Fails, with a cause.
#[track_caller]
pub fn fail(case: &str, message: &str, cause: Option<&str>) -> ! {
    check_that(case, false, || message.to_owned(), cause);
    panic!("{case}: {message}")
}

/// Equality; `wrong` are the answers of known mistakes, each with its cause.
#[track_caller]
pub fn check_equal<T: PartialEq + Debug>(case: &str, got: &T, expected: &T, wrong: &[(T, &str)]) {
    let cause = wrong.iter().find(|(answer, _)| answer == got).map(|&(_, cause)| cause);
    check_that(case, got == expected, || format!("got {got:?}, expected {expected:?}"), cause);
}

/// Runs the learner's code, and no checks. A panic of its own becomes a failure with the cause that `cause` makes of its
/// text; the panic of a stub goes on as it is.
#[track_caller]
pub fn without_panic<T>(case: &str, cause: impl FnOnce(&str) -> Option<String>, run: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(value) => value,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default().to_owned();
            if text.starts_with("not yet implemented") {
                resume_unwind(panic);
            }
            fail(case, &format!("it panicked: {text}"), cause(&text).as_deref())
        }
    }
}
