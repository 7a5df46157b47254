//! `cargo xtask author`: the tools of those who write the course.

use std::fs;
use std::process::Command;

use crate::arguments::{Accepts, Arguments};
use crate::author_check;
use crate::bindings;
use crate::chapters::Course;
use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::fixtures;
use crate::process;
use crate::say;
use crate::stubs::{self, StubFile};
use crate::workspace::{Workspace, files_below, write_text};

pub fn run(workspace: &Workspace, rest: &[String]) -> Result<Verdict> {
    let (subcommand, rest) = rest.split_first().map_or(("", rest), |(s, r)| (s.as_str(), r));
    let course = Course::load(workspace)?;
    match subcommand {
        "stubs" => {
            let flags = &["check", "force"];
            let accepts = Accepts { command: "author", max_positionals: 0, flags, values: &[] };
            let arguments = Arguments::parse(&accepts, rest)?;
            if arguments.has("check") {
                check_stubs(workspace, &course)
            } else {
                write_stubs(workspace, &course, arguments.has("force"))
            }
        }
        "fixtures" => {
            let accepts = Accepts { command: "author", max_positionals: 1, flags: &["check"], values: &[] };
            let arguments = Arguments::parse(&accepts, rest)?;
            let selector = arguments.positional(0).unwrap_or("all");
            fixtures::run(workspace, &course, selector, arguments.has("check"))
        }
        "check" => {
            let values = &["chapter", "only", "mutant"];
            let accepts = Accepts { command: "author", max_positionals: 0, flags: &["json"], values };
            let arguments = Arguments::parse(&accepts, rest)?;
            let options = author_check::Options {
                selector: arguments.value("chapter").unwrap_or("all").to_owned(),
                only: arguments.choice("only", &author_check::PARTS)?.map(str::to_owned),
                mutant: arguments.value("mutant").map(str::to_owned),
                json: arguments.has("json"),
            };
            author_check::run(workspace, &course, &options)
        }
        "bindings" => bindings::write(workspace),
        "" => Err(Error::new("`author` needs a subcommand").remedy("it is stubs, fixtures, check or bindings")),
        other => {
            Err(Error::new(format!("`author {other}` is not known")).remedy("it is stubs, fixtures, check or bindings"))
        }
    }
}

fn write_stubs(workspace: &Workspace, course: &Course, force: bool) -> Result<Verdict> {
    let files = stubs::generate(workspace, course)?;
    if !force && let Some(changed) = uncommitted_change(workspace) {
        return Err(Error::new(format!("{changed} has changes that are not committed, and would be overwritten"))
            .remedy("commit or drop them, or say --force"));
    }
    let mut n_written = 0;
    for file in &files {
        let path = workspace.learner().join(&file.path);
        if fs::read_to_string(&path).is_ok_and(|old| old == file.text) {
            continue;
        }
        write_text(&path, &file.text)?;
        n_written += 1;
    }
    for stale in stale_files(workspace, &files)? {
        fs::remove_file(&stale).map_err(|e| Error::io("remove", &stale, &e))?;
        say!("removed {}", workspace.display(&stale));
    }
    say!("crates/tiny-llm: {} files, {n_written} written", files.len());
    Ok(Verdict::Passed)
}

/// Compares the generated crate with the committed one.
pub fn check_stubs(workspace: &Workspace, course: &Course) -> Result<Verdict> {
    let files = stubs::generate(workspace, course)?;
    let mut different = Vec::new();
    for file in &files {
        let path = workspace.learner().join(&file.path);
        if !fs::read_to_string(&path).is_ok_and(|old| old == file.text) {
            different.push(path);
        }
    }
    different.extend(stale_files(workspace, &files)?);
    if different.is_empty() {
        say!("crates/tiny-llm is in sync with reference/ ({} files)", files.len());
        return Ok(Verdict::Passed);
    }
    for path in &different {
        say!("  differs: {}", workspace.display(path));
    }
    say!("Run `cargo xtask author stubs`. (In a learner's clone a difference is as it should be.)");
    Ok(Verdict::NotPassed)
}

/// Source files in the learner's crate that the reference no longer has.
fn stale_files(workspace: &Workspace, files: &[StubFile]) -> Result<Vec<std::path::PathBuf>> {
    let learner = workspace.learner();
    let mut stale = files_below(&learner.join("src"))?;
    stale.retain(|path| {
        path.strip_prefix(&learner).is_ok_and(|relative| files.iter().all(|file| file.path != relative))
    });
    Ok(stale)
}

/// A file of the learner's crate that differs from the last commit; `None` outside of git.
fn uncommitted_change(workspace: &Workspace) -> Option<String> {
    let mut git = Command::new("git");
    git.current_dir(workspace.root()).args(["status", "--porcelain", "--", "crates/tiny-llm"]);
    let finished = process::output(&mut git).ok()?;
    let line = finished.stdout.lines().next()?.get(3..)?.to_owned();
    Some(line)
}
