//! From the command line to a command, and from its result to an exit code.

use crate::arguments::{Accepts, Arguments, did_you_mean};
use crate::author;
use crate::bench;
use crate::book;
use crate::bundle;
use crate::chapters::Course;
use crate::check;
use crate::doctor;
use crate::engine;
use crate::error::{Error, Result};
use crate::exit_code::{Verdict, exit_code};
use crate::help;
use crate::hint;
use crate::progress;
use crate::region_pairs::Fill;
use crate::say;
use crate::setup;
use crate::solution;
use crate::style::Style;
use crate::suite;
use crate::tell;
use crate::watch;
use crate::workspace::{Solution, Workspace};

/// Runs the command that `arguments` ask for and returns the process's exit code.
pub fn main(arguments: Vec<String>) -> u8 {
    let result = dispatch(&arguments);
    if let Err(error) = &result
        && !error.is_reported()
    {
        tell!("error: {error}");
    }
    exit_code(&result)
}

fn dispatch(arguments: &[String]) -> Result<Verdict> {
    let Some((command, rest)) = arguments.split_first() else {
        say!("{}", help::overview());
        return Err(Error::new("no command was given"));
    };
    let help_about = match command.as_str() {
        "--help" | "-h" | "help" => rest.first(),
        _ => Some(command),
    };
    let Some(name) = help_about else {
        say!("{}", help::overview());
        return Ok(Verdict::Passed);
    };
    let Some(known) = help::find(name) else { return Err(unknown_command(name)) };
    // Behind `--` the words belong to the engine, `--help` too.
    let wants_help = rest.iter().take_while(|a| *a != "--").any(|a| a == "--help" || a == "-h");
    if name != command || wants_help {
        say!("cargo xtask {}: {}\n\n{}", known.name, known.summary, known.text);
        return Ok(Verdict::Passed);
    }

    match known.name {
        "check" => run_check(rest),
        "watch" => run_watch(rest),
        "hint" => run_hint(rest),
        "progress" => run_progress(rest),
        "diff" => {
            let (workspace, course, selector, arguments) = selected("diff", &["yes", "stat"], rest)?;
            let options = solution::DiffOptions { yes: arguments.has("yes"), stat: arguments.has("stat") };
            solution::show_diff(&workspace, &course, &selector, options, Style::for_stdout())
        }
        "solve" => {
            let (workspace, course, selector, _) = selected("solve", &[], rest)?;
            solution::fill(&workspace, &course, &selector, Fill::Reference)
        }
        "reset" => {
            let (workspace, course, selector, _) = selected("reset", &[], rest)?;
            solution::fill(&workspace, &course, &selector, Fill::Stub)
        }
        "doctor" => {
            plain("doctor", rest)?;
            doctor::run(&Workspace::find()?, Style::for_stdout())
        }
        "setup" => {
            let accepts = Accepts { command: "setup", max_positionals: 0, flags: &[], values: &["backend"] };
            let arguments = Arguments::parse(&accepts, rest)?;
            setup::run(&Workspace::find()?, arguments.value("backend"))
        }
        "book" => book::run(&Workspace::find()?, rest),
        "test" => suite::run(&Workspace::find()?, rest),
        "author" => author::run(&Workspace::find()?, rest),
        "bench" => bench::run(&Workspace::find()?, rest),
        "bundle" => bundle::run(&Workspace::find()?, rest),
        "serve" => Err(not_yet("serve", "week 4")),
        engine_command => engine::run(&Workspace::find()?, engine_command, rest),
    }
}

fn unknown_command(name: &str) -> Error {
    let names: Vec<&str> = help::COMMANDS.iter().map(|command| command.name).collect();
    let remedy = match did_you_mean(name, &names) {
        Some(command) => format!("did you mean `{command}`?"),
        None => "`cargo xtask --help` lists the commands".to_owned(),
    };
    Error::new(format!("there is no command `{name}`")).remedy(remedy)
}

fn not_yet(command: &str, when: &str) -> Error {
    Error::new(format!("`{command}` is not there yet: it comes with {when} of the course"))
}

/// A command without arguments.
fn plain(command: &'static str, rest: &[String]) -> Result<()> {
    let accepts = Accepts { command, max_positionals: 0, flags: &[], values: &[] };
    Arguments::parse(&accepts, rest).map(|_| ())
}

/// A command whose one argument selects tasks, and has no default: it shows or writes solutions.
fn selected(
    command: &'static str,
    flags: &'static [&'static str],
    rest: &[String],
) -> Result<(Workspace, Course, String, Arguments)> {
    let accepts = Accepts { command, max_positionals: 1, flags, values: &[] };
    let arguments = Arguments::parse(&accepts, rest)?;
    let Some(selector) = arguments.positional(0) else {
        return Err(Error::new(format!("`{command}` needs a task, a day, a week or `all`"))
            .remedy(format!("for example `cargo xtask {command} 1.1.2`")));
    };
    let workspace = Workspace::find()?;
    let course = Course::load(&workspace)?;
    Ok((workspace, course, selector.to_owned(), arguments))
}

fn run_check(rest: &[String]) -> Result<Verdict> {
    let accepts =
        Accepts { command: "check", max_positionals: 1, flags: &["json"], values: &["solution", "time-limit"] };
    let arguments = Arguments::parse(&accepts, rest)?;
    let solutions = match arguments.choice("solution", &["student", "reference", "both"])? {
        Some("reference") => vec![Solution::Reference],
        Some("both") => vec![Solution::Student, Solution::Reference],
        _ => vec![Solution::Student],
    };
    let options = check::Options {
        selector: arguments.positional(0).map(str::to_owned),
        solutions,
        json: arguments.has("json"),
        time_limit: arguments.seconds("time-limit")?,
    };
    let workspace = Workspace::find()?;
    let course = Course::load(&workspace)?;
    check::run(&workspace, &course, &options)
}

fn run_watch(rest: &[String]) -> Result<Verdict> {
    let accepts = Accepts { command: "watch", max_positionals: 1, flags: &[], values: &[] };
    let arguments = Arguments::parse(&accepts, rest)?;
    let workspace = Workspace::find()?;
    let course = Course::load(&workspace)?;
    watch::run(&workspace, &course, arguments.positional(0))
}

fn run_hint(rest: &[String]) -> Result<Verdict> {
    let accepts = Accepts { command: "hint", max_positionals: 1, flags: &["all", "reset"], values: &[] };
    let arguments = Arguments::parse(&accepts, rest)?;
    let workspace = Workspace::find()?;
    let course = Course::load(&workspace)?;
    let Some(id) = arguments.positional(0) else {
        return Err(Error::new("`hint` needs a task").remedy("for example `cargo xtask hint 1.1.2`"));
    };
    if arguments.has("reset") {
        hint::reset(&workspace, &course, id)
    } else {
        hint::show(&workspace, &course, id, arguments.has("all"), Style::for_stdout())
    }
}

fn run_progress(rest: &[String]) -> Result<Verdict> {
    let accepts = Accepts { command: "progress", max_positionals: 0, flags: &["verify"], values: &[] };
    let arguments = Arguments::parse(&accepts, rest)?;
    let workspace = Workspace::find()?;
    let course = Course::load(&workspace)?;
    if arguments.has("verify") {
        let options = check::Options {
            selector: Some("all".to_owned()),
            solutions: vec![Solution::Student],
            json: false,
            time_limit: None,
        };
        check::run(&workspace, &course, &options)?;
        say!();
    }
    progress::show(&workspace, &course, Style::for_stdout())
}
