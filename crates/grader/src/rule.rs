//! Rules whose violation has one cause, which the test knows: what no array of expected values says.

use crate::cause::Diagnosis;
use crate::places::plain_words;
use crate::report::{Report, Status};
use crate::results::record;

/// Checks that a rule holds. `holds` says otherwise what was seen, `cause` which mistake that shows.
///
/// # Panics
/// With both, when the rule is broken.
#[track_caller]
pub fn check_rule(case: &str, holds: Result<(), String>, cause: &str) {
    let report = match holds {
        Ok(()) => Report::plain(Status::Pass, String::new(), Diagnosis::default()),
        Err(seen) => {
            let seen = plain_words(&seen);
            let diagnosis = Diagnosis::mistake(cause);
            Report::plain(Status::Fail, format!("{case}\n{seen}{}", diagnosis.lines()), diagnosis)
        }
    };
    record(case, &report);
    if report.status != Status::Pass {
        panic!("{}", report.message);
    }
}
