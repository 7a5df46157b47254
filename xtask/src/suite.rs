//! `cargo xtask test`: everything that must be green before a change goes in.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::arguments::{Accepts, Arguments};
use crate::author;
use crate::author_check;
use crate::book;
use crate::cargo;
use crate::chapters::Course;
use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::libtest;
use crate::process::{self, Line};
use crate::say;
use crate::setup;
use crate::status_line::StatusLine;
use crate::style::{Colour, Style};
use crate::workspace::Workspace;

/// What a step counts, and what to show if it is not all green.
struct Outcome {
    n_passed: usize,
    n_failed: usize,
    details: String,
}

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Workspace) -> Result<Outcome>,
}

const STEPS: &[Step] = &[
    Step { name: "setup", about: "MLX is there", run: set_up },
    Step { name: "fmt", about: "the code is formatted", run: fmt },
    Step { name: "stubs", about: "crates/tiny-llm is what reference/ generates", run: stubs },
    Step { name: "list", about: "hints, markers, fences and mutants are complete", run: |w| course(w, "list") },
    Step { name: "rules", about: "every rule that a day states has a test", run: |w| course(w, "rules") },
    Step { name: "clippy", about: "no warnings in any crate", run: clippy },
    Step { name: "unit", about: "tests of every crate, the runner's own among them", run: unit },
    Step { name: "reference", about: "the reference passes every chapter's tests", run: |w| course(w, "reference") },
    Step { name: "untouched", about: "the untouched stubs fail every task", run: |w| course(w, "stubs") },
    Step { name: "solve", about: "every task can be solved on its own", run: |w| course(w, "solve") },
    Step {
        name: "wrong",
        about: "stored wrong answers are rejected with their own message",
        run: |w| course(w, "wrong"),
    },
    Step { name: "mutants", about: "mistakes put into the reference are noticed", run: |w| course(w, "mutants") },
    Step { name: "book", about: "the book builds and its links lead somewhere", run: the_book },
];

pub fn run(workspace: &Workspace, rest: &[String]) -> Result<Verdict> {
    let flags = &["list", "fail-fast"];
    let accepts = Accepts { command: "test", max_positionals: 0, flags, values: &["only", "skip"] };
    let arguments = Arguments::parse(&accepts, rest)?;
    if arguments.has("list") {
        for step in STEPS {
            say!("  {:<10} {}", step.name, step.about);
        }
        return Ok(Verdict::Passed);
    }
    let only = step_names(arguments.value("only"))?;
    let skip = step_names(arguments.value("skip"))?;
    let chosen =
        STEPS.iter().filter(|step| (only.is_empty() || only.contains(&step.name)) && !skip.contains(&step.name));

    let style = Style::for_stdout();
    let (mut n_passed, mut n_failed) = (0, 0);
    let start = Instant::now();
    for step in chosen {
        let status = StatusLine::new(true);
        status.show(&format!("{}: {}", step.name, step.about));
        let begin = Instant::now();
        // A step that cannot run is a failure of that step; the others still say what they find.
        let outcome = (step.run)(workspace).unwrap_or_else(|error| Outcome {
            n_passed: 0,
            n_failed: 1,
            details: error.to_string(),
        });
        drop(status);
        print_step(step, &outcome, begin.elapsed(), style);
        n_passed += outcome.n_passed;
        n_failed += outcome.n_failed;
        if outcome.n_failed > 0 && arguments.has("fail-fast") {
            break;
        }
    }
    say!("\nin {:.0} s", start.elapsed().as_secs_f64());
    say!("{n_passed} passed, {n_failed} failed");
    Ok(Verdict::from_passed(n_failed == 0))
}

fn print_step(step: &Step, outcome: &Outcome, elapsed: Duration, style: Style) {
    let failed = outcome.n_failed > 0;
    let (word, colour) = if failed { ("FAILED", Colour::Red) } else { ("ok", Colour::Green) };
    let word = style.paint(colour, &format!("{word:<6}"));
    let counts = match (outcome.n_passed, outcome.n_failed) {
        (passed, 0) => format!("{passed} passed"),
        (passed, failed) => format!("{passed} passed, {failed} failed"),
    };
    say!("{word} {:<10} {:6.1} s  {counts:<24} {}", step.name, elapsed.as_secs_f64(), step.about);
    if failed {
        say!("\n{}\n", outcome.details.trim_end());
    }
}

fn step_names(list: Option<&str>) -> Result<Vec<&str>> {
    let names: Vec<&str> = list.map(|list| list.split(',').collect()).unwrap_or_default();
    match names.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        None => Ok(names),
        Some(unknown) => {
            let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
            Err(Error::new(format!("there is no step `{unknown}`")).remedy(format!("choose from {}", known.join(", "))))
        }
    }
}

/// A step that is one check.
fn one(passed: bool, details: String) -> Outcome {
    Outcome { n_passed: usize::from(passed), n_failed: usize::from(!passed), details }
}

fn set_up(workspace: &Workspace) -> Result<Outcome> {
    setup::ensure(workspace).map(|()| one(true, String::new()))
}

fn command(mut command: Command) -> Result<Outcome> {
    let finished = process::output(&mut command)?;
    Ok(one(finished.succeeded(), format!("{}{}", finished.stdout, finished.stderr)))
}

fn fmt(workspace: &Workspace) -> Result<Outcome> {
    let mut cargo = cargo::command(workspace.root());
    cargo.args(["fmt", "--all", "--check"]);
    command(cargo)
}

fn clippy(workspace: &Workspace) -> Result<Outcome> {
    let mut cargo = cargo::command(workspace.root());
    cargo.args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]);
    command(cargo)
}

fn stubs(workspace: &Workspace) -> Result<Outcome> {
    let verdict = author::check_stubs(workspace, &Course::load(workspace)?)?;
    Ok(one(verdict == Verdict::Passed, "crates/tiny-llm is not in sync, see above".to_owned()))
}

/// All test binaries and doc tests but the chapters': those are graded task by task.
/// Cargo unifies features over the packages that one command names, and every other combination builds the heavy
/// libraries once more. So: what shares the learner's build first, then the book's builder, then the command line as
/// `chat` builds it. Each with the folder that it is about.
const UNIT: [(&str, &[&str]); 3] = [
    (
        ".",
        &[
            "--workspace",
            "--exclude=tests-student",
            "--exclude=tests-reference",
            "--exclude=book-builder",
            "--exclude=tiny-llm-cli",
        ],
    ),
    ("crates/book-builder", &["--package=book-builder"]),
    ("crates/cli", &["--release", "--package=tiny-llm-cli", "--no-default-features", "--features=reference"]),
];

fn unit(workspace: &Workspace) -> Result<Outcome> {
    let mut outcome = Outcome { n_passed: 0, n_failed: 0, details: String::new() };
    for (folder, packages) in UNIT {
        if !workspace.root().join(folder).exists() {
            continue; // a workspace of the runner's own tests
        }
        let mut cargo = cargo::command(workspace.root());
        cargo.args(["test", "--no-fail-fast"]).args(packages);
        cargo.env("OPENBLAS_NUM_THREADS", "1"); // as in `grade`
        let (mut n_passed, mut n_failed) = (0, 0);
        let finished = process::run_captured(&mut cargo, None, &mut |line| {
            if let Line::Stdout(line) = line
                && let Some((passed, failed)) = libtest::totals(line)
            {
                n_passed += passed;
                n_failed += failed;
            }
        })?;
        // A compile error or a crash has no summary line.
        if !finished.succeeded() && n_failed == 0 {
            n_failed = 1;
        }
        outcome.n_passed += n_passed;
        outcome.n_failed += n_failed;
        if n_failed > 0 {
            outcome.details += &format!("{}\n{}\n", failures(&finished.stdout), tail(&finished.stderr, 60));
        }
    }
    Ok(outcome)
}

/// The parts of a test run's output that belong to failed tests.
fn failures(stdout: &str) -> String {
    let mut kept = Vec::new();
    let mut inside = false;
    for line in stdout.lines() {
        if line == "failures:" {
            inside = true;
        }
        if inside {
            kept.push(line);
        }
        if line.starts_with("test result:") {
            inside = false;
        }
    }
    kept.join("\n")
}

fn tail(text: &str, n_lines: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(n_lines)..].join("\n")
}

/// One part of `author check`.
fn course(workspace: &Workspace, part: &str) -> Result<Outcome> {
    let options =
        author_check::Options { selector: "all".to_owned(), only: Some(part.to_owned()), mutant: None, json: true };
    let parts = author_check::run_parts(workspace, &Course::load(workspace)?, &options)?;
    let problems: Vec<&String> = parts.iter().flat_map(|part| &part.problems).collect();
    let details: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
    Ok(Outcome {
        n_passed: parts.iter().map(|part| part.n_passed).sum(),
        n_failed: problems.len(),
        details: details.join("\n"),
    })
}

fn the_book(workspace: &Workspace) -> Result<Outcome> {
    let verdict = book::test(workspace)?;
    Ok(one(verdict == Verdict::Passed, "see above".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_chosen_by_name() {
        assert_eq!(step_names(Some("fmt,book")).unwrap(), ["fmt", "book"]);
        assert!(step_names(None).unwrap().is_empty());
        let error = step_names(Some("fmt,bok")).unwrap_err().to_string();
        assert!(error.starts_with("there is no step `bok`; choose from setup, fmt,"), "{error}");
    }

    #[test]
    fn only_the_failures_of_a_test_run_are_kept() {
        let text = "test a ... ok\n\nfailures:\n\n---- b stdout ----\nwhy\n\nfailures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed;\n\nrunning 1 test\n";
        assert_eq!(
            failures(text),
            "failures:\n\n---- b stdout ----\nwhy\n\nfailures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed;"
        );
    }
}
