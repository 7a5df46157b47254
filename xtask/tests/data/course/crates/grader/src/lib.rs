//! The real grader's manners in miniature: a diagnosis, a named cause, a line in the result stream.

use std::io::Write;

const TOLERANCE: f32 = 0.5;

/// Compares numbers; `wrong` holds known wrong answers with their sentences.
#[track_caller]
pub fn check(case: &str, actual: f32, expected: f32, wrong: &[(f32, &str)]) {
    let error = (actual - expected).abs();
    let passed = error <= TOLERANCE;
    let cause = wrong.iter().find(|(value, _)| !passed && *value == actual).map(|(_, cause)| *cause);
    let headroom = (1.0 - error / TOLERANCE).max(0.0);
    let status = if passed { "pass" } else { "fail" };
    let cause_json = cause.map_or("null".to_owned(), |cause| format!("\"{cause}\""));
    let line = format!(
        "{{\"test\":\"main\",\"case\":\"{case}\",\"status\":\"{status}\",\"max_error\":{error},\
         \"tolerance\":{TOLERANCE},\"headroom\":{headroom},\"cause\":{cause_json},\"message\":\"\"}}\n"
    );
    if let Some(path) = std::env::var_os("TINY_LLM_RESULTS") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
    if !passed {
        let cause = cause.map_or(String::new(), |cause| format!("\n{cause}"));
        panic!("{case}: expected {expected}, got {actual}{cause}");
    }
}
