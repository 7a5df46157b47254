//! Thousands of damaged models: each loads, or is refused in one line that names its file. No panic, no crash, no hang, no
//! memory out of proportion.
//!
//! The damage is seeded, so each run of the suite does the same, and a failure names what repeats it:
//!
//! ```text
//! cargo test -p checkpoint --test fuzz -- --nocapture              the suite's runs, with the table of outcomes
//! TINY_LLM_FUZZ=50 cargo test -p checkpoint --test fuzz                  fifty times as many seeds
//! TINY_LLM_FUZZ_ONLY=gguf cargo test -p checkpoint --test fuzz           the kinds with this in their name
//! TINY_LLM_FUZZ_ONLY=config:1207 cargo test -p checkpoint --test fuzz    one seed of one kind, with its message and its file
//! ```
//!
//! The work is done in child processes, one per kind, which report each run in a line. So a stack that overflows, an abort
//! and an endless loop are outcomes like others, and the next run goes on in a new process.
//!
//! A new parser becomes a kind: a line of `KINDS`, what is damaged, and what a caller does with the result.

#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod common;
#[path = "fuzz/damage.rs"]
mod damage;
#[path = "fuzz/kinds.rs"]
mod kinds;

use std::alloc::{GlobalAlloc, Layout};
use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use checkpoint::BoundedAllocator;
use kinds::{KINDS, Kind};

/// More than the bounds of a tokenizer, which is given a minute; hardly any run takes a hundredth of that.
const DEADLINE: Duration = Duration::from_secs(150);
/// What a run may hold at once; a fixture has 0.1 MB, and its vocabulary and regular expressions need some.
const MAX_HELD_BYTES: usize = 64 << 20;
/// Where the allocator says no, so that a believed lie ends the child and not the machine.
const MAX_ALLOCATED_BYTES: usize = 2 << 30;
/// Work that went past its bounds sleeps, and keeps what it holds: above this, a new child goes on.
const MAX_LEFT_BEHIND: usize = 512 << 20;
/// So many failures say what there is to say about a kind.
const MAX_FAILURES: usize = 5;

/// The command line's allocator, which bounds what templates and tokenizers may hold, with a count of what is held.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the other allocator unchanged, or fails, as allocators may.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        let pointer = unsafe { BoundedAllocator.alloc(layout) };
        // Counted when it is there: a thread that asks for too much does not come back.
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        LARGEST.fetch_max(held, Relaxed);
        if held > MAX_ALLOCATED_BYTES && !pointer.is_null() {
            // SAFETY: the block comes from the line above, and nothing else knows it.
            unsafe { self.dealloc(pointer, layout) };
            return std::ptr::null_mut();
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { BoundedAllocator.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn damaged_models_load_or_are_refused() {
    if let Ok(job) = std::env::var("TINY_LLM_FUZZ_CHILD") {
        return child(&job);
    }
    let only = std::env::var("TINY_LLM_FUZZ_ONLY").unwrap_or_default();
    if let Some((name, seed)) = only.split_once(':') {
        return show(kind(name), seed.parse().unwrap());
    }
    let kinds: Vec<_> = KINDS.iter().filter(|kind| kind.name.contains(&only)).collect();
    assert!(!kinds.is_empty(), "no kind has {only:?} in its name");
    let factor: u64 = std::env::var("TINY_LLM_FUZZ").map_or(1, |factor| factor.parse().unwrap());
    // Two at a time; the next kind goes to whichever is free.
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(kind) = kinds.get(next.fetch_add(1, Relaxed)) {
                    let row = try_kind(kind, kind.runs * factor);
                    rows.lock().unwrap().push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|row| kinds.iter().position(|kind| kind.name == row.kind.name));
    let table = table(&rows);
    // Past the harness, which swallows what a test prints that passes.
    let _ = std::io::stderr().write_all(table.as_bytes());
    let failures: Vec<_> = rows.iter().flat_map(|row| row.failures.iter().map(String::as_str)).collect();
    assert!(failures.is_empty(), "\n{table}\n{}", failures.join("\n"));
    for Row { kind, n_loaded, n_refused, .. } in &rows {
        // Otherwise the damage is too harsh or too mild to mean anything.
        assert!(*n_loaded > 0 && *n_refused > 0, "{}: {n_loaded} load and {n_refused} are refused", kind.name);
    }
}

fn kind(name: &str) -> &'static Kind {
    KINDS.iter().find(|kind| kind.name == name).unwrap()
}

/// What came of the runs of one kind.
struct Row {
    kind: &'static Kind,
    n_runs: u64,
    n_loaded: u64,
    n_refused: u64,
    slowest: Duration,
    largest: usize,
    failures: Vec<String>,
}

fn table(rows: &[Row]) -> String {
    let mut table = format!(
        "\n{:<20}{:>8}{:>8}{:>9}{:>10}{:>12}{:>12}\n",
        "damaged", "runs", "load", "refused", "failures", "slowest ms", "largest MB"
    );
    for row in rows {
        table += &format!(
            "{:<20}{:>8}{:>8}{:>9}{:>10}{:>12}{:>12.1}\n",
            row.kind.name,
            row.n_runs,
            row.n_loaded,
            row.n_refused,
            row.failures.len(),
            row.slowest.as_millis(),
            row.largest as f64 / 1e6
        );
    }
    table
}

/// Runs the seeds of a kind in child processes, a new one after each that ends before its time.
fn try_kind(kind: &'static Kind, n_runs: u64) -> Row {
    let mut row =
        Row { kind, n_runs: 0, n_loaded: 0, n_refused: 0, slowest: Duration::ZERO, largest: 0, failures: Vec::new() };
    while row.n_runs < n_runs && row.failures.len() < MAX_FAILURES {
        let seed = row.n_runs;
        let job = format!("{}:{seed}:{n_runs}", kind.name);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "damaged_models_load_or_are_refused", "--nocapture"])
            .env("TINY_LLM_FUZZ_CHILD", job)
            .env("RAYON_NUM_THREADS", "2")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            output.lines().map_while(Result::ok).take_while(|line| sender.send(line.clone()).is_ok()).count()
        });
        let mut goes_on = false;
        let ended = loop {
            match lines.recv_timeout(DEADLINE) {
                Ok(line) if line == "another process" => goes_on = true,
                Ok(line) => row.count(&line),
                Err(mpsc::RecvTimeoutError::Timeout) => break "takes too long",
                Err(mpsc::RecvTimeoutError::Disconnected) => break "ends the process",
            }
        };
        let _ = child.kill();
        let status = child.wait().unwrap();
        reader.join().unwrap();
        if row.n_runs < n_runs && !goes_on {
            let seed = row.n_runs;
            row.failures.push(format!("{}:{seed} {ended} ({status})", kind.name));
            row.n_runs += 1;
        }
    }
    row
}

impl Row {
    /// Counts what a child reports: `run <outcome> <microseconds> <bytes> <seed> <message>`.
    fn count(&mut self, line: &str) {
        let Some(report) = line.strip_prefix("run ") else { return };
        let parts: Vec<_> = report.splitn(5, ' ').collect();
        let [outcome, micros, bytes, seed, message] = parts[..] else { return };
        self.n_runs += 1;
        self.slowest = self.slowest.max(Duration::from_micros(micros.parse().unwrap()));
        self.largest = self.largest.max(bytes.parse().unwrap());
        match outcome {
            "loads" => self.n_loaded += 1,
            "refused" => self.n_refused += 1,
            _ => self.failures.push(format!("{}:{seed} {message}", self.kind.name)),
        }
    }
}

/// `<kind>:<first seed>:<end>`
fn child(job: &str) {
    let parts: Vec<_> = job.split(':').collect();
    let kind = kind(parts[0]);
    let subject = (kind.prepare)();
    let mut output = std::io::stdout().lock();
    // The harness has begun a line.
    writeln!(output).unwrap();
    for seed in parts[1].parse().unwrap()..parts[2].parse::<u64>().unwrap() {
        let before = HELD.load(Relaxed);
        LARGEST.store(before, Relaxed);
        let start = Instant::now();
        let outcome = one_run(&subject, seed);
        let micros = start.elapsed().as_micros();
        let held = LARGEST.load(Relaxed).saturating_sub(before);
        let (word, message) = match outcome {
            _ if held > kind.max_held_bytes.unwrap_or(MAX_HELD_BYTES) => {
                ("fails", format!("holds {} MB at once", held / 1_000_000))
            }
            Ok(()) => ("loads", String::new()),
            Err(Fault::Refused(message)) => ("refused", message),
            Err(Fault::Wrong(message)) => ("fails", message),
        };
        writeln!(output, "run {word} {micros} {held} {seed} {}", message.escape_debug()).unwrap();
        if HELD.load(Relaxed) > MAX_LEFT_BEHIND {
            writeln!(output, "another process").unwrap();
            std::process::exit(0);
        }
    }
}

enum Fault {
    Refused(String),
    Wrong(String),
}

fn one_run(subject: &kinds::Subject, seed: u64) -> Result<(), Fault> {
    let place = (subject.damage)(&mut fastrand::Rng::with_seed(seed));
    match catch_unwind(AssertUnwindSafe(|| (subject.load)())) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(message)) if message.chars().any(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}')) => {
            Err(Fault::Wrong(format!("is refused with control characters: {message}")))
        }
        Ok(Err(message)) if message.len() > 6_000 => {
            Err(Fault::Wrong(format!("is refused in {} bytes", message.len())))
        }
        Ok(Err(message)) if !message.contains(&*place.to_string_lossy()) => {
            Err(Fault::Wrong(format!("is refused without a word about where: {message}")))
        }
        Ok(Err(message)) => Err(Fault::Refused(message)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(Fault::Wrong(format!("panics: {text}")))
        }
    }
}

/// One run in this process, for a debugger and for people. The damaged file stays.
fn show(kind: &Kind, seed: u64) {
    let subject = (kind.prepare)();
    let place = (subject.damage)(&mut fastrand::Rng::with_seed(seed));
    let kept = std::env::temp_dir().join(format!("tiny-llm-fuzz-{}-{seed}", kind.name.replace(' ', "-")));
    std::fs::copy(&subject.target, &kept).unwrap();
    println!("the damaged file of {} is kept as {}", place.display(), kept.display());
    println!("{:?}", (subject.load)());
}
