//! `chat`, `generate`, `logits`, `perplexity`: handed on to the engine's own binary, in release.

use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::cargo::{self, Built, Progress as BuildProgress};
use crate::chapters::{Chapter, Course};
use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::next_step;
use crate::pieces;
use crate::process;
use crate::progress::Progress;
use crate::setup;
use crate::stages;
use crate::tell;
use crate::workspace::{Solution, Workspace};

const PACKAGE: &str = "tiny-llm-cli";
const BINARY: &str = "tiny-llm";

/// Runs `command` of the engine with everything in `rest` but `--solution`.
pub fn run(workspace: &Workspace, command: &str, rest: &[String]) -> Result<Verdict> {
    let (wanted, mut passed_on) = split_off_solution(rest)?;
    let course = Course::load(workspace)?;
    setup::ensure(workspace)?;
    let solution = match wanted {
        Some(solution) => solution,
        None => {
            let (solution, why) = default_solution(workspace, &course);
            tell!("using the {} ({why}; --solution chooses)", who(solution));
            solution
        }
    };

    passed_on.extend(stage_reached(workspace, &course, solution, &passed_on));
    let binary = build(workspace, solution, needs_hub(&passed_on))?;
    // In the reader's own folder, so that relative paths of models and texts mean what they say.
    let mut engine = Command::new(binary);
    engine.arg(command).args(&passed_on);
    let status = process::run_attached(&mut engine)?;
    match status.code() {
        Some(0) => Ok(Verdict::Passed),
        Some(1) => Ok(Verdict::NotPassed),
        // The engine has said what is wrong.
        Some(_) => Err(Error::already_reported()),
        None => Err(stopped(status)),
    }
}

/// The engine was ended by a signal, and had no chance to say so.
fn stopped(status: ExitStatus) -> Error {
    const INTERRUPT: i32 = 2;
    const KILL: i32 = 9;
    match status.signal() {
        // Ctrl-C needs no words.
        Some(INTERRUPT) => Error::already_reported(),
        Some(KILL) => Error::new(format!("the engine was stopped ({status})"))
            .remedy("the memory probably did not suffice: try a smaller model or `--dtype bf16`"),
        _ => Error::new(format!("the engine crashed ({status})")),
    }
}

/// The engine's binary in release, with the crate of `solution`.
pub fn build(workspace: &Workspace, solution: Solution, hub: bool) -> Result<PathBuf> {
    let features = if hub { format!("{},hub", solution.name()) } else { solution.name().to_owned() };
    let format = if io::stderr().is_terminal() { "json-diagnostic-rendered-ansi" } else { "json" };
    let mut command = cargo::command(workspace.root());
    command.args(["build", "--release", "--package", PACKAGE, "--no-default-features"]);
    command.args(["--features", &features, "--message-format", format]);
    match cargo::build(command, BuildProgress::Shown)? {
        Built::Binaries(binaries) => binaries
            .into_iter()
            .find(|binary| binary.name == BINARY)
            .map(|binary| binary.path)
            .ok_or_else(|| Error::new(format!("cargo built no binary called {BINARY}"))),
        Built::Errors(errors) => {
            for error in errors {
                tell!("{}\n", error.rendered);
            }
            Err(build_failed(solution))
        }
    }
}

/// Whether the model is asked for by hub id: the client is a large build, made only then.
fn needs_hub(arguments: &[String]) -> bool {
    let model = arguments.iter().enumerate().find_map(|(index, argument)| {
        let joined = argument.strip_prefix("--model=").or_else(|| argument.strip_prefix("-m="));
        let separate = || (argument == "--model" || argument == "-m").then(|| arguments.get(index + 1))?;
        joined.or_else(|| separate().map(String::as_str))
    });
    model.is_some_and(is_hub_id)
}

/// Whether a model's name is `owner/model` and not a path.
pub fn is_hub_id(name: &str) -> bool {
    let is_id = name.matches('/').count() == 1 && !name.starts_with(['/', '.', '~']);
    is_id && !name.ends_with(".gguf") && !Path::new(name).exists()
}

fn build_failed(solution: Solution) -> Error {
    let error = Error::new(format!("the engine could not be built with the {}", who(solution)));
    match solution {
        Solution::Student => error.remedy("`--solution reference` runs the model answer instead"),
        Solution::Reference => error.remedy("`cargo xtask doctor` says what this machine lacks"),
    }
}

pub fn who(solution: Solution) -> &'static str {
    match solution {
        Solution::Student => "learner's crate",
        Solution::Reference => "reference",
    }
}

/// The learner's own engine once it can talk, until then the reference; with the reason.
pub fn default_solution(workspace: &Workspace, course: &Course) -> (Solution, String) {
    let progress = Progress::load(workspace);
    let open: Vec<&Chapter> = next_step::needed_to_talk(course).filter(|chapter| !progress.finished(chapter)).collect();
    let Some(first) = open.first() else {
        return (Solution::Student, "it can generate text".to_owned());
    };
    let is_written = |chapter: &Chapter| {
        let mut pieces = chapter.tasks.iter().flat_map(|task| pieces::of_task(workspace, task));
        pieces.all(|piece| !piece.is_open)
    };
    let why = match (open.iter().all(|chapter| is_written(chapter)), open.len()) {
        (true, 1) => {
            format!("day {0} of yours is written, but no check has passed it: cargo xtask check {0}", first.id)
        }
        (true, n) => format!("{n} days of yours are written, but no check has passed them: cargo xtask check 1"),
        (false, _) => format!("yours talks after day {}, and day {} is not done", last_needed(course), first.id),
    };
    (Solution::Reference, why)
}

fn last_needed(course: &Course) -> &str {
    next_step::needed_to_talk(course).last().map_or("1.6", |chapter| chapter.id.as_str())
}

/// The option that runs the learner's engine as far as it has come; the reference has come to the end, which is the default.
fn stage_reached(workspace: &Workspace, course: &Course, solution: Solution, arguments: &[String]) -> Option<String> {
    let is_given = arguments.iter().any(|argument| argument == "--stage" || argument.starts_with("--stage="));
    if solution == Solution::Reference || is_given {
        return None;
    }
    stages::reached(course, &Progress::load(workspace)).last().map(|stage| format!("--stage={}", stage.name))
}

/// Takes `--solution X` out of the arguments; the first `--` only separates and goes as well.
fn split_off_solution(rest: &[String]) -> Result<(Option<Solution>, Vec<String>)> {
    let mut solution = None;
    let mut passed_on = Vec::new();
    let mut arguments = rest.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            passed_on.extend(arguments.by_ref().cloned());
        } else if let Some(name) = argument.strip_prefix("--solution=") {
            solution = Some(solution_called(name)?);
        } else if argument == "--solution" {
            let name = arguments.next().map(String::as_str).unwrap_or_default();
            solution = Some(solution_called(name)?);
        } else {
            passed_on.push(argument.clone());
        }
    }
    Ok((solution, passed_on))
}

fn solution_called(name: &str) -> Result<Solution> {
    match name {
        "student" => Ok(Solution::Student),
        "reference" => Ok(Solution::Reference),
        other => Err(Error::new(format!("`--solution {other}` is not known")).remedy("choose student or reference")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(arguments: &[&str]) -> Result<(Option<Solution>, Vec<String>)> {
        let owned: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        split_off_solution(&owned)
    }

    #[test]
    fn the_solution_is_ours_and_the_rest_is_the_engines() {
        let (solution, rest) = split(&["--seed", "7", "--solution", "reference", "Hello", "--top-k=3"]).unwrap();
        assert_eq!(solution, Some(Solution::Reference));
        assert_eq!(rest, ["--seed", "7", "Hello", "--top-k=3"]);
        let (solution, rest) = split(&["--", "--solution", "x"]).unwrap();
        assert_eq!((solution, rest.len()), (None, 2));
    }

    #[test]
    fn only_a_hub_id_needs_the_hub() {
        let needs = |arguments: &[&str]| needs_hub(&arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        assert!(needs(&["--model", "Qwen/Qwen2.5-0.5B-Instruct"]));
        assert!(needs(&["-m", "Qwen/Qwen2.5-0.5B-Instruct", "Hello"]));
        assert!(needs(&["--model=Qwen/Qwen2.5-0.5B-Instruct"]));
        assert!(!needs(&["Is a/b a fraction?"]));
        assert!(!needs(&["--model", "smollm2-135m"]));
        assert!(!needs(&["--model", "/somewhere/else/model"]));
        assert!(!needs(&["--model"]));
    }

    #[test]
    fn a_hub_id_is_told_from_a_path() {
        let hub = |arguments: &[&str]| needs_hub(&arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        assert!(hub(&["--model", "owner/model-0.5B", "hello"]));
        assert!(hub(&["hello", "--model=owner/model"]));
        assert!(hub(&["-m", "owner/model"]));
        assert!(!hub(&["owner/model"]));
        assert!(!hub(&["--model", "./models/x"]));
        assert!(!hub(&["--model", "/models/x"]));
        assert!(!hub(&["--model", "models/x.gguf"]));
        assert!(!hub(&["--model", "smollm2-135m"]));
        assert!(!hub(&["--model"]));
    }

    #[test]
    fn an_engine_that_was_killed_is_not_passed_over_in_silence() {
        let text = |signal: i32| stopped(ExitStatus::from_raw(signal)).to_string();
        assert!(text(9).contains("SIGKILL") && text(9).contains("memory"), "{}", text(9));
        assert!(text(11).starts_with("the engine crashed (signal: 11 (SIGSEGV)"), "{}", text(11));
        assert!(stopped(ExitStatus::from_raw(2)).is_reported());
    }

    #[test]
    fn an_unknown_solution_is_refused() {
        let message = split(&["--solution=mine"]).unwrap_err().to_string();
        assert_eq!(message, "`--solution mine` is not known; choose student or reference");
        assert!(split(&["--solution"]).is_err());
    }
}
