//! The result stream: one line of JSON for every check, for the runner's table.
//!
//! Where the environment variable `TINY_LLM_RESULTS` names a file, each check appends
//! `{"test", "case", "status", "max_error", "tolerance", "headroom", "cause", "known", "stored", "pattern", "guess",
//! "observed", "message"}` to it. `cause` is what one would say of this check alone; the fields after it, which
//! [`Diagnosis`](crate::cause::Diagnosis) explains, let the runner weigh all checks of a task.

use std::fs::OpenOptions;
use std::io::Write;
use std::thread;

use serde_json::json;

use crate::report::{Report, Status};

/// The environment variable that names the file.
pub const RESULTS: &str = "TINY_LLM_RESULTS";

/// Appends `report` to the result stream, if there is one.
///
/// # Panics
/// When the file cannot be written: the runner would show a table with holes.
#[track_caller]
pub fn record(case: &str, report: &Report) {
    let Some(path) = std::env::var_os(RESULTS) else {
        return;
    };
    let line = format!("{}\n", to_json(case, report));
    let file = OpenOptions::new().create(true).append(true).open(&path);
    // One write for the whole line: tests run in parallel and append to the same file.
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        panic!("cannot write the results to {}: {error}", path.display());
    }
}

fn to_json(case: &str, report: &Report) -> serde_json::Value {
    // The test harness names each test's thread after the test.
    let thread = thread::current();
    json!({
        "test": thread.name().unwrap_or("main"),
        "case": case,
        "status": match report.status {
            Status::Pass => "pass",
            Status::Fail => "fail",
            Status::Error => "error",
        },
        "max_error": report.max_error,
        "tolerance": report.tolerance,
        "headroom": report.headroom,
        "cause": report.diagnosis.cause(),
        "known": report.diagnosis.known,
        "stored": report.diagnosis.stored,
        "pattern": report.diagnosis.guess.as_ref().map(|guess| guess.pattern),
        "guess": report.diagnosis.guess.as_ref().map(|guess| &guess.sentence),
        "observed": report.diagnosis.observed,
        "message": report.message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::{Diagnosis, Guess};

    #[test]
    fn a_line_has_every_field() {
        let diagnosis = Diagnosis {
            known: vec!["the scale is missing".to_owned()],
            stored: vec!["the mask is ignored".to_owned(), "the scale is missing".to_owned()],
            guess: Some(Guess { pattern: "factor", sentence: "times 2".to_owned() }),
            observed: None,
        };
        let report = Report::plain(Status::Fail, "two\nlines".to_owned(), diagnosis);
        let line = to_json("softmax/rows", &report).to_string();
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["test"], "results::tests::a_line_has_every_field");
        assert_eq!(value["case"], "softmax/rows");
        assert_eq!(value["status"], "fail");
        assert_eq!(value["headroom"], 0.0);
        assert_eq!(value["cause"], "the scale is missing");
        assert_eq!(value["known"], json!(["the scale is missing"]));
        assert_eq!(value["stored"], json!(["the mask is ignored", "the scale is missing"]));
        assert_eq!(value["pattern"], "factor");
        assert_eq!(value["guess"], "times 2");
        assert_eq!(value["observed"], serde_json::Value::Null);
        assert_eq!(value["message"], "two\nlines");
    }
}
