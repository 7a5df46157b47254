//! Runs the tests of one task in a process of its own.
//!
//! One process per task: a hang or a crash then costs that task and no other, the result stream
//! needs no bookkeeping, and the time is the task's own.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::cargo::Binary;
use crate::chapters::{Selected, Task};
use crate::error::{Error, Result};
use crate::libtest;
use crate::process;
use crate::results;
use crate::verdict::{self, Ending, TaskReport};

/// How long one test may be silent when nothing else is said.
pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(30);

/// A task may load a real model, so memory bounds how many run at a time.
const MAX_WORKERS: usize = 4;

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

    let next_job = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    let work = || {
        loop {
            let job_idx = next_job.fetch_add(1, Ordering::Relaxed);
            let Some((binary, task, limit)) = jobs.get(job_idx) else { break };
            on_start(task);
            let report = grade_task(binary, task, *limit, scratch);
            reports.lock().unwrap_or_else(PoisonError::into_inner).push((job_idx, report));
        }
    };
    let n_workers = thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
    thread::scope(|scope| {
        for _ in 0..n_workers {
            scope.spawn(work);
        }
    });
    let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.sort_by_key(|(job_idx, _)| *job_idx);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// Runs `task`'s tests from `binary`; `scratch` is a folder for the result stream.
pub fn grade_task(binary: &Binary, task: &Task, time_limit: Duration, scratch: &Path) -> Result<TaskReport> {
    fs::create_dir_all(scratch).map_err(|e| Error::io("create", scratch, &e))?;
    let stream = scratch.join(format!("results-{}-{}.jsonl", task.id, std::process::id()));
    remove_if_there(&stream)?;

    let mut command = Command::new(&binary.path);
    command
        .current_dir(&binary.package)
        .args([task.tests.as_str(), "--test-threads=1"])
        .env("TINY_LLM_RESULTS", &stream)
        .env("RUST_BACKTRACE", "0")
        // The tests' matrices are small: a second BLAS thread mostly waits, and on a busy machine it waits long.
        .env("OPENBLAS_NUM_THREADS", "1")
        .env_remove("RUST_TEST_THREADS")
        .env_remove("RUST_TEST_NOCAPTURE");
    let finished = process::run_captured(&mut command, Some(time_limit), &mut |_| {})?;

    let comparisons = fs::read_to_string(&stream).map(|s| results::parse(&s)).unwrap_or_default();
    remove_if_there(&stream)?;
    let mut transcript = libtest::parse(&finished.stdout);
    // libtest filters by substring; keep what really is this task's.
    transcript.finished.retain(|test| task.owns_test(&test.name));

    let ending = match finished.status {
        None => Ending::TimedOut(time_limit),
        Some(_) if finished.stdout.lines().any(|line| libtest::totals(line).is_some()) => Ending::Complete,
        Some(status) => Ending::Died(how_it_died(status, &finished.stderr)),
    };
    Ok(verdict::judge(&task.id, &task.title, transcript, &comparisons, &ending, finished.elapsed))
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
