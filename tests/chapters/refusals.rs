//! Calls that must be refused, shared by the days' tests.

use grader::expect_error_of_kind;
use tiny_llm::{Error, Result};

/// Checks that a call was refused with an [`Error::InvalidArgument`]; `what` says what must be refused.
#[track_caller]
pub fn expect_invalid_argument<T>(result: Result<T>, what: &str) {
    expect_error_of_kind(result, what, "an `Error::InvalidArgument`", |error| {
        matches!(error, Error::InvalidArgument { .. })
    });
}
