//! What a libtest binary writes to standard output, taken apart.
//!
//! The binary runs with `--test-threads=1`: then libtest writes a test's name *before* it runs
//! it, so the test that hangs or takes the process down is the one whose line has no ending.

/// One finished test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestOutcome {
    pub name: String,
    pub result: TestResult,
    /// What the test printed, its panic included; empty for a test that passed.
    pub output: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestResult {
    Passed,
    Failed,
    Ignored,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    pub finished: Vec<TestOutcome>,
    /// The test that had started when the output ended.
    pub unfinished: Option<String>,
}

/// A panic's place and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panic {
    /// `crates/tiny-llm/src/attention.rs:12:5`
    pub place: String,
    pub message: String,
}

pub fn parse(stdout: &str) -> Transcript {
    let mut transcript = Transcript::default();
    let mut lines = stdout.lines();
    for line in lines.by_ref() {
        if line == "failures:" {
            break;
        }
        // A program that writes to the terminal behind libtest's back can stand in between:
        // "test name ... <noise>\nok".
        if let Some((name, result)) = line.strip_prefix("test ").and_then(|l| l.split_once(" ... ")) {
            let name = name.trim_end_matches(" - should panic").to_owned();
            transcript.unfinished = None;
            match test_result(result) {
                Some(result) => transcript.finished.push(outcome(name, result)),
                None => transcript.unfinished = Some(name),
            }
        } else if let Some(result) = test_result(line)
            && let Some(name) = transcript.unfinished.take()
        {
            transcript.finished.push(outcome(name, result));
        }
    }

    // Then the output of each failed test, behind "---- name stdout ----".
    let mut current: Option<usize> = None;
    for line in lines {
        let header = line.strip_prefix("---- ").and_then(|l| l.strip_suffix(" stdout ----"));
        let known = |name: &str| transcript.finished.iter().position(|test| test.name == name);
        if let Some(index) = header.and_then(known) {
            current = Some(index);
        } else if line == "failures:" {
            current = None;
        } else if let Some(index) = current {
            let output = &mut transcript.finished[index].output;
            output.push_str(line);
            output.push('\n');
        }
    }
    transcript
}

fn outcome(name: String, result: TestResult) -> TestOutcome {
    TestOutcome { name, result, output: String::new() }
}

fn test_result(text: &str) -> Option<TestResult> {
    match text.trim() {
        "ok" => Some(TestResult::Passed),
        "FAILED" => Some(TestResult::Failed),
        text if text == "ignored" || text.starts_with("ignored,") => Some(TestResult::Ignored),
        _ => None,
    }
}

impl TestOutcome {
    /// The panic that ended the test: the last one, because a test may catch earlier ones.
    pub fn panic(&self) -> Option<Panic> {
        let lines: Vec<&str> = self.output.lines().collect();
        let header = |line: &str| {
            let (thread, place) = line.strip_prefix("thread '")?.split_once(" panicked at ")?;
            let _ = thread;
            Some(place.strip_suffix(':').unwrap_or(place).to_owned())
        };
        let (index, place) = lines.iter().enumerate().rev().find_map(|(i, line)| Some((i, header(line)?)))?;
        let message: Vec<&str> = lines[index + 1..]
            .iter()
            .copied()
            .take_while(|line| !line.starts_with("note: run with `RUST_BACKTRACE"))
            .collect();
        Some(Panic { place, message: message.join("\n").trim_end().to_owned() })
    }
}

/// The numbers of a `test result: ok. 3 passed; 1 failed; ...` line.
pub fn totals(line: &str) -> Option<(usize, usize)> {
    let rest = line.trim().strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut counts = rest.split("; ");
    let number = |part: &str, word: &str| part.strip_suffix(word)?.trim().parse().ok();
    Some((number(counts.next()?, "passed")?, number(counts.next()?, "failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: &str = "\nrunning 3 tests\ntest task_1_a::case_1 ... ok\ntest task_1_b ... FAILED\n\
        test task_2_c ... ignored, slow\n\nfailures:\n\n---- task_1_b stdout ----\nmy own print\n\n\
        thread 'main' (4711) panicked at crates/tiny-llm/src/attention.rs:12:5:\nfirst line\n\
        second line\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n\n\n\
        failures:\n    task_1_b\n\ntest result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; \
        0 filtered out; finished in 0.00s\n\n";

    #[test]
    fn results_and_the_output_of_failed_tests_are_found() {
        let transcript = parse(FAILED);
        let results: Vec<_> = transcript.finished.iter().map(|t| (t.name.as_str(), t.result)).collect();
        assert_eq!(
            results,
            [
                ("task_1_a::case_1", TestResult::Passed),
                ("task_1_b", TestResult::Failed),
                ("task_2_c", TestResult::Ignored)
            ]
        );
        assert_eq!(transcript.unfinished, None);
        let panic = transcript.finished[1].panic().unwrap();
        assert_eq!(panic.place, "crates/tiny-llm/src/attention.rs:12:5");
        assert_eq!(panic.message, "first line\nsecond line");
    }

    #[test]
    fn the_test_that_was_running_at_the_end_is_known() {
        let transcript = parse("running 2 tests\ntest a ... ok\ntest b ... ");
        assert_eq!(transcript.finished.len(), 1);
        assert_eq!(transcript.unfinished.as_deref(), Some("b"));
    }

    #[test]
    fn noise_between_a_name_and_its_result_is_skipped() {
        let transcript = parse("test a ... [METAL] warning\nmore\nok\ntest b ... FAILED\n");
        assert_eq!(transcript.finished[0], outcome("a".to_owned(), TestResult::Passed));
        assert_eq!(transcript.finished[1].name, "b");
        assert_eq!(transcript.unfinished, None);
    }

    #[test]
    fn totals_are_read_from_the_summary_line() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out";
        assert_eq!(totals(line), Some((12, 3)));
        assert_eq!(totals("test result: ok."), None);
        assert_eq!(totals("12 passed; 3 failed"), None);
    }
}
