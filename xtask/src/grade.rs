//! Runs the tests of one task in a process of its own.
//!
//! One process per task: a hang or a crash then costs that task and no other, the result stream
//! needs no bookkeeping, and the time is the task's own.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::cargo::Binary;
use crate::chapters::{Selected, Task};
use crate::error::{Error, Result};
use crate::kernels;
use crate::libtest::{self, TestResult, Transcript};
use crate::parallel::in_parallel;
use crate::process::{self, Finished, Line};
use crate::results;
use crate::test_order::TestOrder;
use crate::verdict::{self, Ending, TaskReport};

/// How long one test may be silent when nothing else is said.
pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(30);

/// Grades the selected tasks, as many at a time as there are processors; reports come in course order.
/// `on_start` hears of each task as it begins.
pub fn grade_tasks(
    binaries: &[Binary],
    selected: &Selected<'_>,
    time_limit: Option<Duration>,
    scratch: &Path,
    on_start: &(dyn Fn(&Task) + Sync),
) -> Result<Vec<TaskReport>> {
    let mut jobs: Vec<(&Binary, &Task, Duration)> = Vec::new();
    for (chapter, tasks) in selected {
        let binary = binaries
            .iter()
            .find(|binary| binary.name == chapter.test)
            .ok_or_else(|| Error::new(format!("cargo built no test binary called {}", chapter.test)))?;
        let limit = time_limit.or(chapter.time_limit).unwrap_or(DEFAULT_TIME_LIMIT);
        jobs.extend(tasks.iter().map(|task| (binary, *task, limit)));
    }

    let jobs: Vec<_> = jobs.into_iter().enumerate().collect();
    let mut reports = Vec::new();
    let work = |&(_, (binary, task, limit)): &(usize, (&Binary, &Task, Duration))| {
        on_start(task);
        grade_task(binary, task, limit, scratch)
    };
    in_parallel(&jobs, work, &mut |(index, _), report| {
        reports.push((*index, report?));
        Ok(())
    })?;
    reports.sort_by_key(|(index, _)| *index);
    Ok(reports.into_iter().map(|(_, report)| report).collect())
}

/// Runs `task`'s tests from `binary`; `scratch` is a folder for the result stream.
pub fn grade_task(binary: &Binary, task: &Task, time_limit: Duration, scratch: &Path) -> Result<TaskReport> {
    let run = Run::new(binary, task, scratch)?;
    let finished = process::run_captured(&mut run.command(), Some(time_limit), &mut |_| {})?;
    let mut transcript = libtest::parse(&finished.stdout);
    // libtest filters by substring; keep what really is this task's.
    transcript.finished.retain(|test| task.owns_test(&test.name));
    run.judge(transcript, &finished, time_limit)
}

/// As [`grade_task`], but the first test that fails ends it, and `variables` are added to the environment.
///
/// The harness writes what failed tests printed after the last test. Here nothing is captured: the panic stands on
/// standard error, because one test at a time writes there.
pub fn grade_until_failure(
    binary: &Binary,
    task: &Task,
    time_limit: Duration,
    scratch: &Path,
    variables: &[(&str, String)],
) -> Result<TaskReport> {
    let run = Run::new(binary, task, scratch)?;
    let mut command = run.command();
    command.arg("--nocapture").envs(variables.iter().map(|(name, value)| (name, value)));
    let failed = |transcript: &Transcript| {
        transcript.finished.iter().position(|test| test.result == TestResult::Failed && task.owns_test(&test.name))
    };
    let mut so_far = String::new();
    let finished = process::run_until(&mut command, Some(time_limit), &mut |line| {
        if let Line::Stdout(line) = line {
            so_far.push_str(line);
            so_far.push('\n');
            if failed(&libtest::parse(&so_far)).is_some() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    let mut transcript = libtest::parse(&finished.stdout);
    if let Some(index) = failed(&transcript) {
        transcript.finished[index].output.clone_from(&finished.stderr);
    }
    transcript.finished.retain(|test| task.owns_test(&test.name));
    run.judge(transcript, &finished, time_limit)
}

/// One run of a task's tests.
struct Run<'a> {
    binary: &'a Binary,
    task: &'a Task,
    /// The grader writes its comparisons there, and the emulator of GPU kernels what it counts.
    stream: PathBuf,
}

impl<'a> Run<'a> {
    fn new(binary: &'a Binary, task: &'a Task, scratch: &Path) -> Result<Self> {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        fs::create_dir_all(scratch).map_err(|e| Error::io("create", scratch, &e))?;
        // Several runs of one task may be under way.
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let stream = scratch.join(format!("results-{}-{}-{number}.jsonl", task.id, std::process::id()));
        remove_if_there(&stream)?;
        Ok(Self { binary, task, stream })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary.path);
        command
            .current_dir(&self.binary.package)
            .args([self.task.tests.as_str(), "--test-threads=1"])
            .env("TINY_LLM_RESULTS", &self.stream)
            .env("RUST_BACKTRACE", "0")
            // The tests' matrices are small: a second BLAS thread mostly waits, and on a busy machine it waits long.
            .env("OPENBLAS_NUM_THREADS", "1")
            .env_remove("RUST_TEST_THREADS")
            .env_remove("RUST_TEST_NOCAPTURE");
        command
    }

    fn judge(self, mut transcript: Transcript, finished: &Finished, time_limit: Duration) -> Result<TaskReport> {
        let stream = fs::read_to_string(&self.stream).unwrap_or_default();
        let file = self.binary.package.join("../chapters").join(format!("{}.rs", self.binary.name));
        TestOrder::read(&file).sort(&mut transcript.finished);
        let comparisons = results::parse(&stream);
        remove_if_there(&self.stream)?;
        let ending = match finished.status {
            None if finished.seen_enough => Ending::Complete,
            None => Ending::TimedOut(time_limit),
            Some(_) if finished.stdout.lines().any(|line| libtest::totals(line).is_some()) => Ending::Complete,
            Some(status) => Ending::Died(how_it_died(status, &finished.stderr)),
        };
        let Task { id, title, .. } = self.task;
        let mut report = verdict::judge(id, title, transcript, &comparisons, &ending, finished.elapsed);
        if report.passed() {
            report.kernels = kernels::parse(&stream);
        }
        Ok(report)
    }
}

fn remove_if_there(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", file, &e)),
        _ => Ok(()),
    }
}

/// "signal 11 (SIGSEGV)", or the exit code, with the process's last words.
fn how_it_died(status: ExitStatus, stderr: &str) -> String {
    let last_words = stderr.trim().lines().rev().take(8).collect::<Vec<_>>();
    let last_words: Vec<&str> = last_words.into_iter().rev().collect();
    if last_words.is_empty() { status.to_string() } else { format!("{status}\n{}", last_words.join("\n")) }
}
