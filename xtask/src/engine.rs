//! `chat`, `generate`, `logits`, `perplexity`: handed on to the engine's own binary, in release.

use std::path::Path;

use crate::cargo;
use crate::chapters::Course;
use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::process;
use crate::progress::Progress;
use crate::setup;
use crate::workspace::{Solution, Workspace};

const PACKAGE: &str = "tiny-llm-cli";

/// Runs `command` of the engine with everything in `rest` but `--solution`.
pub fn run(workspace: &Workspace, command: &str, rest: &[String]) -> Result<Verdict> {
    let (wanted, passed_on) = split_off_solution(rest)?;
    let course = Course::load(workspace)?;
    setup::ensure(workspace)?;
    let solution = match wanted {
        Some(solution) => solution,
        None => {
            let (solution, why) = default_solution(workspace, &course);
            eprintln!("using the {} ({why}; --solution chooses)", who(solution));
            solution
        }
    };

    // The hub's client is a large build that the built-in model and files do not need.
    let hub = if needs_hub(&passed_on) { ",hub" } else { "" };
    let features = format!("{}{hub}", solution.name());
    let mut cargo = cargo::command(workspace.root());
    cargo.args(["build", "--release", "--package", PACKAGE, "--no-default-features", "--features", &features]);
    if !process::run_attached(&mut cargo)?.success() {
        return Err(build_failed(solution));
    }
    // `cargo run` finds the binary built just now, and gives it our terminal and the rest.
    let mut cargo = cargo::command(workspace.root());
    cargo.args(["run", "--quiet", "--release", "--package", PACKAGE, "--no-default-features"]);
    cargo.args(["--features", &features, "--", command]).args(&passed_on);
    match process::run_attached(&mut cargo)?.code() {
        Some(0) => Ok(Verdict::Passed),
        Some(1) => Ok(Verdict::NotPassed),
        // The engine has said what is wrong; Ctrl-C needs no words.
        _ => Err(Error::already_reported()),
    }
}

/// Whether `--model` names something of the form `owner/model` that is not on this disk.
fn needs_hub(arguments: &[String]) -> bool {
    let mut model = None;
    for (argument, next) in arguments.iter().zip(arguments.iter().skip(1).map(Some).chain([None])) {
        if let Some(value) = argument.strip_prefix("--model=") {
            model = Some(value);
        } else if argument == "--model" || argument == "-m" {
            model = next.map(String::as_str);
        }
    }
    model.is_some_and(|model| model.matches('/').count() == 1 && !Path::new(model).exists())
}

fn build_failed(solution: Solution) -> Error {
    let error = Error::new(format!("the engine could not be built with the {}", who(solution)));
    match solution {
        Solution::Student => error.remedy("`--solution reference` runs the model answer instead"),
        Solution::Reference => error.remedy("`cargo xtask doctor` says what this machine lacks"),
    }
}

fn who(solution: Solution) -> &'static str {
    match solution {
        Solution::Student => "learner's crate",
        Solution::Reference => "reference",
    }
}

/// The learner's own engine once it can talk, until then the reference; with the reason.
fn default_solution(workspace: &Workspace, course: &Course) -> (Solution, String) {
    let progress = Progress::load(workspace);
    let mut week_1 = course.chapters.iter().filter(|chapter| chapter.id.starts_with("1."));
    match week_1.find(|chapter| !progress.finished(chapter)) {
        None => (Solution::Student, "week 1 of it is finished".to_owned()),
        Some(day) => (Solution::Reference, format!("your crate has not passed day {} yet", day.id)),
    }
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
    fn an_unknown_solution_is_refused() {
        let message = split(&["--solution=mine"]).unwrap_err().to_string();
        assert_eq!(message, "`--solution mine` is not known; choose student or reference");
        assert!(split(&["--solution"]).is_err());
    }
}
