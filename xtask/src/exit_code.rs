//! The three ways a command can end, mapped to process exit codes in one place.

use crate::error::{Error, Result};

/// What a command that ran to its end has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that was asked about is right.
    Passed,
    /// The runner works, but some task, test or step does not pass.
    NotPassed,
}

impl Verdict {
    pub fn from_passed(passed: bool) -> Self {
        if passed { Self::Passed } else { Self::NotPassed }
    }
}

/// Passed.
pub const SUCCESS: u8 = 0;
/// Something that was checked is not right yet: the code that a script or CI looks for.
pub const NOT_PASSED: u8 = 1;
/// Wrong usage, or this machine lacks something. Kept apart from 1, so that "the check could not
/// run" is never mistaken for "the answer is wrong", and neither for success.
pub const CANNOT_RUN: u8 = 2;

pub fn exit_code(result: &Result<Verdict>) -> u8 {
    match result {
        Ok(Verdict::Passed) => SUCCESS,
        Ok(Verdict::NotPassed) => NOT_PASSED,
        Err(Error { .. }) => CANNOT_RUN,
    }
}
