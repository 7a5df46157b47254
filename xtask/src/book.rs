//! `cargo xtask book`: the book builder does the work, the link checker looks at the result.

use crate::arguments::{Accepts, Arguments};
use crate::cargo;
use crate::chapters::Course;
use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::links;
use crate::process;
use crate::say;
use crate::workspace::Workspace;

const BUILDER: &str = "book-builder";

pub fn run(workspace: &Workspace, rest: &[String]) -> Result<Verdict> {
    let accepts = Accepts { command: "book", max_positionals: 2, flags: &[], values: &[] };
    let arguments = Arguments::parse(&accepts, rest)?;
    match (arguments.positional(0), arguments.positional(1)) {
        (None | Some("build"), None) => builder(workspace, &["build"]),
        (Some("serve"), None) => builder(workspace, &["serve"]),
        (Some("serve"), Some(port)) => builder(workspace, &["serve", port]),
        (Some("test"), None) => test(workspace),
        (Some(other), _) => {
            Err(Error::new(format!("`book {other}` is not known")).remedy("it is build, serve [port] or test"))
        }
        (None, Some(_)) => Err(Error::new("`book` was called without a subcommand")),
    }
}

fn builder(workspace: &Workspace, arguments: &[&str]) -> Result<Verdict> {
    let mut command = cargo::command(workspace.root());
    command.args(["run", "--quiet", "--package", BUILDER, "--"]).args(arguments);
    match process::run_attached(&mut command)?.success() {
        true => Ok(Verdict::Passed),
        false => Err(Error::new(format!("`book {}` failed", arguments.join(" "))).remedy("the reason stands above")),
    }
}

/// Builds the book, which checks fences and includes; compiles its examples; follows its links;
/// and looks up the anchor of every task.
pub fn test(workspace: &Workspace) -> Result<Verdict> {
    builder(workspace, &["build"])?;
    builder(workspace, &["test"])?;
    let course = Course::load(workspace)?;
    let html = workspace.book().join("book");
    let outcome = links::check(&html, &course)?;
    for problem in &outcome.problems {
        say!("  {problem}");
    }
    say!("book: {} pages, {} links, {} problems", outcome.n_pages, outcome.n_links, outcome.problems.len());
    Ok(Verdict::from_passed(outcome.problems.is_empty()))
}
