//! From what a task's tests did to one word that a learner can act on.

use std::time::Duration;

use crate::causes::{self, Cause, Failure};
use crate::kernels::KernelLaunch;
use crate::libtest::{TestOutcome, TestResult, Transcript};
use crate::results::Comparison;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    Passed,
    /// A result is wrong.
    Failed,
    /// The task's own `todo!` is still there.
    NotStarted,
    /// As `NotStarted`, but some of its functions are written: how many of how many.
    Begun(usize, usize),
    /// The `todo!` of another task was reached: that one comes first.
    Needs(String),
    /// The solution panicked by itself.
    Panicked,
    TimedOut,
    /// The process died: a signal, an abort, an exit.
    Crashed,
    DoesNotCompile,
    /// The crate breaks a rule of the course, so its tests were not run.
    NotGraded,
    /// No test carries the task's prefix: an author's mistake.
    NoTests,
}

impl Status {
    pub fn label(&self) -> String {
        match self {
            Self::Passed => "pass".to_owned(),
            Self::Failed => "fail".to_owned(),
            Self::NotStarted => "not started".to_owned(),
            Self::Begun(written, all) => format!("{written} of {all} written"),
            Self::Needs(task) => format!("needs {task}"),
            Self::Panicked => "panicked".to_owned(),
            Self::TimedOut => "timed out".to_owned(),
            Self::Crashed => "crashed".to_owned(),
            Self::DoesNotCompile => "does not compile".to_owned(),
            Self::NotGraded => "not graded".to_owned(),
            Self::NoTests => "no tests".to_owned(),
        }
    }

    /// The same as a stable word for `--json`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Passed => "pass",
            Self::Failed => "fail",
            Self::NotStarted => "not_started",
            Self::Begun(..) => "begun",
            Self::Needs(_) => "needs_other_task",
            Self::Panicked => "panicked",
            Self::TimedOut => "timed_out",
            Self::Crashed => "crashed",
            Self::DoesNotCompile => "does_not_compile",
            Self::NotGraded => "not_graded",
            Self::NoTests => "no_tests",
        }
    }

    /// Of a task's failing tests the one with the highest rank names the task's status: what
    /// stops everything first, then real wrong answers, then work not begun.
    fn rank(&self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Needs(_) => 1,
            Self::NotStarted | Self::Begun(..) => 2,
            Self::Failed => 3,
            Self::Panicked => 4,
            Self::Crashed => 5,
            Self::TimedOut => 6,
            Self::NoTests | Self::NotGraded | Self::DoesNotCompile => 7,
        }
    }
}

#[derive(Debug, Clone)]
pub struct TestReport {
    pub name: String,
    pub status: Status,
    /// The diagnosis: the panic's message, with its place if the solution itself panicked.
    pub diagnosis: String,
    /// What the test printed besides its panic.
    pub printed: String,
}

#[derive(Debug, Clone)]
pub struct TaskReport {
    pub id: String,
    pub title: String,
    pub status: Status,
    pub tests: Vec<TestReport>,
    /// The least part of a tolerance that was left, 0 to 1.
    pub headroom: Option<f64>,
    pub cause: Option<String>,
    pub elapsed: Option<Duration>,
    /// What the emulator counted, if the task passed and ran kernels there.
    pub kernels: Vec<KernelLaunch>,
}

impl TaskReport {
    /// A task whose tests could not run at all.
    pub fn not_run(id: &str, title: &str, status: Status) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            status,
            tests: Vec::new(),
            headroom: None,
            cause: None,
            elapsed: None,
            kernels: Vec::new(),
        }
    }

    pub fn passed(&self) -> bool {
        self.status == Status::Passed
    }

    pub fn n_passed(&self) -> usize {
        self.tests.iter().filter(|test| test.status == Status::Passed).count()
    }

    /// The failing test that teaches most: the first whose diagnosis names the task's cause, else the first of those
    /// that gave the task its status.
    pub fn telling_test(&self) -> Option<&TestReport> {
        let names_cause = |test: &&TestReport| {
            let cause = self.cause.as_deref();
            test.status != Status::Passed && cause.is_some_and(|cause| test.diagnosis.contains(cause))
        };
        let named = self.tests.iter().find(names_cause);
        named.or_else(|| self.tests.iter().find(|test| test.status == self.status))
    }
}

/// How the process that ran a task's tests ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// By itself, after all tests.
    Complete,
    /// Killed after a test was silent for this long.
    TimedOut(Duration),
    /// It died; the text says how ("signal 11 (SIGSEGV)").
    Died(String),
}

/// Judges one task from its process's transcript and result stream.
pub fn judge(
    id: &str,
    title: &str,
    transcript: Transcript,
    comparisons: &[Comparison],
    ending: &Ending,
    elapsed: Duration,
) -> TaskReport {
    let mut tests: Vec<TestReport> = transcript
        .finished
        .iter()
        .filter(|test| test.result != TestResult::Ignored)
        .map(|test| judge_test(id, test))
        .collect();
    if let Some(broken) = unfinished_test(transcript.unfinished, ending) {
        tests.push(broken);
    }

    let status =
        tests.iter().map(|test| &test.status).max_by_key(|status| status.rank()).cloned().unwrap_or(Status::NoTests);
    let cause = cause_of(&mut tests, comparisons);
    let headroom = (status == Status::Passed).then(|| crate::results::least_headroom(comparisons)).flatten();
    TaskReport {
        id: id.to_owned(),
        title: title.to_owned(),
        status,
        tests,
        headroom,
        cause,
        elapsed: Some(elapsed),
        kernels: Vec::new(),
    }
}

/// The task's cause. A guess that the task's other failures don't share is taken out of the tests' messages.
fn cause_of(tests: &mut [TestReport], comparisons: &[Comparison]) -> Option<String> {
    let failed = || comparisons.iter().filter(|comparison| !comparison.passed);
    let failing =
        || tests.iter().filter(|test| !matches!(test.status, Status::Passed | Status::Needs(_) | Status::NotStarted));
    let of_test = |test: &TestReport| {
        failed().find(|c| !c.message.is_empty() && c.message.trim_end() == test.diagnosis.trim_end())
    };
    let said: Vec<(Option<&Comparison>, Option<String>)> = failing()
        .map(|test| match of_test(test) {
            Some(comparison) => (Some(comparison), None),
            None => (None, what_it_says(test)),
        })
        .collect();
    let mut failures: Vec<Failure<'_>> = said
        .iter()
        .map(|(comparison, text)| comparison.map_or(Failure::Said(text.as_deref()), Failure::Compared))
        .collect();
    // Without its message a comparison cannot be told to belong to a test.
    failures.extend(failed().filter(|comparison| comparison.message.is_empty()).map(Failure::Compared));
    let cause = causes::of_task(&failures);
    for test in tests {
        if let Some(at) = test.diagnosis.rfind("\nperhaps: ")
            && !cause.as_ref().is_some_and(|cause| matches!(cause, Cause::Guess { .. }))
        {
            test.diagnosis.truncate(at);
        }
    }
    cause.map(|cause| cause.sentence())
}

/// What a failing test says that is no comparison.
fn what_it_says(test: &TestReport) -> Option<String> {
    match test.status {
        Status::Panicked => {
            let (place, message) = test.diagnosis.strip_prefix("panicked at ")?.split_once(":\n")?;
            let message = causes::of_panic(message)?;
            // A place in somebody else's library helps nobody.
            let own = place.starts_with("crates/") || place.starts_with("reference/");
            Some(if own { format!("panicked: {message} ({place})") } else { format!("panicked: {message}") })
        }
        Status::TimedOut | Status::Crashed => Some(test.diagnosis.clone()),
        _ => causes::of_panic(&test.diagnosis),
    }
}

fn judge_test(task_id: &str, test: &TestOutcome) -> TestReport {
    let mut report = TestReport {
        name: test.name.clone(),
        status: Status::Passed,
        diagnosis: String::new(),
        printed: String::new(),
    };
    if test.result == TestResult::Passed {
        return report;
    }
    let Some(panic) = test.panic() else {
        report.status = Status::Failed;
        report.diagnosis = test.output.trim().to_owned();
        return report;
    };
    report.printed = printed_before_panic(&test.output);
    report.status = match unwritten_task(&panic.message) {
        Some(task) if task == task_id => Status::NotStarted,
        Some(task) => Status::Needs(task),
        None if is_a_check(&panic.place) => Status::Failed,
        None => Status::Panicked,
    };
    report.diagnosis = match report.status {
        Status::Panicked => format!("panicked at {}:\n{}", panic.place, causes::plain_words(&panic.message)),
        _ => panic.message,
    };
    report
}

/// The test during which the process was killed or died.
fn unfinished_test(name: Option<String>, ending: &Ending) -> Option<TestReport> {
    let (status, diagnosis) = match ending {
        Ending::Complete => return None,
        Ending::TimedOut(limit) => (
            Status::TimedOut,
            format!(
                "it was still running after {} s and was stopped: look for a loop that never ends",
                limit.as_secs()
            ),
        ),
        Ending::Died(how) => (Status::Crashed, format!("it took the whole test process down: {how}")),
    };
    let name = name.unwrap_or_else(|| "(between two tests)".to_owned());
    Some(TestReport { name, status, diagnosis, printed: String::new() })
}

/// `1.1.2` out of `not yet implemented: week 1 day 1 task 2: softmax - see ...`, the message of
/// a generated stub. A stub inside a custom operation panics on MLX's thread, and its message
/// arrives within that of an error.
fn unwritten_task(message: &str) -> Option<String> {
    let (_, stub) = message.split_once("not yet implemented: ")?;
    let words: Vec<&str> = stub.split([' ', ':']).take(6).collect();
    match words[..] {
        ["week", week, "day", day, "task", task] => Some(format!("{week}.{day}.{task}")),
        _ => None,
    }
}

/// Whether a panic at this place is a check that failed, rather than the solution's own panic.
fn is_a_check(place: &str) -> bool {
    let place = place.replace('\\', "/");
    place.contains("chapters/") || place.contains("crates/grader/")
}

fn printed_before_panic(output: &str) -> String {
    let mut lines: Vec<&str> =
        output.lines().take_while(|line| !(line.starts_with("thread '") && line.contains(" panicked at "))).collect();
    while lines.last().is_some_and(|line| line.trim().is_empty()) {
        lines.pop();
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libtest;

    fn failed(name: &str, place: &str, message: &str) -> String {
        format!(
            "test {name} ... FAILED\n\nfailures:\n\n---- {name} stdout ----\n\nthread 'main' (1) \
             panicked at {place}:\n{message}\nnote: run with `RUST_BACKTRACE=1`\n\nfailures:\n"
        )
    }

    fn status_of(stdout: &str, ending: &Ending) -> Status {
        judge("1.1.2", "linear", libtest::parse(stdout), &[], ending, Duration::ZERO).status
    }

    #[test]
    fn each_way_to_fail_has_its_own_status() {
        let todo = |task: u8| {
            failed(
                "task_2_a",
                "crates/tiny-llm/src/linear.rs:9:5",
                &format!("not yet implemented: week 1 day 1 task {task}: linear - see book/src/x.md"),
            )
        };
        let done = Ending::Complete;
        assert_eq!(status_of("test task_2_a ... ok\n", &done), Status::Passed);
        assert_eq!(status_of(&todo(2), &done), Status::NotStarted);
        assert_eq!(status_of(&todo(1), &done), Status::Needs("1.1.1".to_owned()));
        let text = "append/x\nthe call returned an error: MLX: append: panicked: \
            not yet implemented: week 1 day 1 task 2: linear - see book/src/x.md";
        let within_an_operation = failed("task_2_a", "crates/grader/src/check.rs:5:10", text);
        assert_eq!(status_of(&within_an_operation, &done), Status::NotStarted);
        let check = failed("task_2_a", "tests/chapters/week1_day1.rs:5:10", "shape differs");
        assert_eq!(status_of(&check, &done), Status::Failed);
        let own = failed("task_2_a", "crates/tiny-llm/src/linear.rs:9:5", "index out of bounds");
        assert_eq!(status_of(&own, &done), Status::Panicked);
        // A learner's own todo! is not the stub's.
        let own_todo = failed("task_2_a", "crates/tiny-llm/src/linear.rs:9:5", "not yet implemented: later");
        assert_eq!(status_of(&own_todo, &done), Status::Panicked);
        let limit = Ending::TimedOut(Duration::from_secs(30));
        assert_eq!(status_of("test task_2_a ... ok\ntest task_2_b ... ", &limit), Status::TimedOut);
        let died = Ending::Died("signal 11".to_owned());
        assert_eq!(status_of("test task_2_a ... ", &died), Status::Crashed);
        assert_eq!(status_of("running 0 tests\n", &done), Status::NoTests);
    }

    #[test]
    fn a_wrong_answer_outranks_work_not_begun() {
        let text = "test task_2_a ... FAILED\ntest task_2_b ... FAILED\n\nfailures:\n\n\
            ---- task_2_a stdout ----\nthread 'main' (1) panicked at crates/tiny-llm/src/l.rs:1:1:\n\
            not yet implemented: week 1 day 1 task 2: x\n\n---- task_2_b stdout ----\nhello\n\
            thread 'main' (1) panicked at tests/chapters/week1_day1.rs:1:1:\nwrong: no scale\n";
        let comparisons =
            [Comparison { case: "c".to_owned(), known: vec!["no scale".to_owned()], ..Comparison::default() }];
        let transcript = libtest::parse(text);
        let report = judge("1.1.2", "linear", transcript, &comparisons, &Ending::Complete, Duration::ZERO);
        assert_eq!(report.status, Status::Failed);
        assert_eq!(report.cause.as_deref(), Some("no scale"));
        let telling = report.telling_test().unwrap();
        assert_eq!((telling.name.as_str(), telling.printed.as_str()), ("task_2_b", "hello"));
    }

    #[test]
    fn a_guess_that_the_other_failures_do_not_share_is_not_shown() {
        let message = "first mismatch at [0]\nperhaps: every entry is zero";
        let text = failed("task_2_a", "tests/chapters/week1_day1.rs:1:1", message)
            .replace("\n\nfailures:\n\n----", "\ntest task_2_b ... FAILED\n\nfailures:\n\n----")
            .replace(
                "\n\nfailures:\n",
                "\n\n---- task_2_b stdout ----\nthread 'main' (1) panicked at \
                tests/chapters/week1_day1.rs:2:1:\nfirst mismatch at [1]\n\nfailures:\n",
            );
        let guess = crate::results::Guess { pattern: "zeros".to_owned(), sentence: "every entry is zero".to_owned() };
        let guessed = Comparison { guess: Some(guess), message: message.to_owned(), ..Comparison::default() };
        let plain = Comparison { message: "first mismatch at [1]".to_owned(), ..Comparison::default() };
        let judged = |comparisons: &[Comparison], text: &str| {
            judge("1.1.2", "linear", libtest::parse(text), comparisons, &Ending::Complete, Duration::ZERO)
        };
        let both = judged(&[guessed.clone(), plain], &text);
        assert_eq!(both.cause, None);
        assert!(both.tests.iter().all(|test| !test.diagnosis.contains("perhaps")));
        let alone = judged(&[guessed], &failed("task_2_a", "tests/chapters/week1_day1.rs:1:1", message));
        assert_eq!(alone.cause.as_deref(), Some("perhaps: every entry is zero"));
        assert!(alone.telling_test().unwrap().diagnosis.contains("perhaps: every entry is zero"));
    }
}
