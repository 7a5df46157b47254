//! `diff`, `solve` and `reset`: the learner's marked regions beside the reference's.
//!
//! Everything is read and checked before anything is written, and every file that is touched is
//! copied to `.tiny-llm/backup/` first.

use std::fs;
use std::path::{Path, PathBuf};

use crate::chapters::Course;
use crate::clock::Moment;
use crate::diff;
use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::region_pairs::{self, Files, Fill, Pair, read_sources};
use crate::say;
use crate::stubs::StubFile;
use crate::style::{Colour, Style};
use crate::workspace::{Workspace, files_below, read_text, write_text};

/// Shows how the selected regions differ from the reference.
pub fn show_diff(workspace: &Workspace, course: &Course, selector: &str, style: Style) -> Result<Verdict> {
    let reference = read_sources(workspace, &workspace.reference())?;
    let learner = read_sources(workspace, &workspace.learner())?;
    for pair in selected_pairs(course, &reference, &learner, selector)? {
        let heading = format!("{} {}", pair.region.task, pair.region.name);
        say!("{}", style.paint(Colour::Bold, &heading));
        let yours: Vec<&str> = pair.learner.iter().map(String::as_str).collect();
        let model: Vec<&str> = pair.reference.iter().map(String::as_str).collect();
        let first_lines = (pair.place.start + 2, pair.region.start + 2);
        match diff::unified(&yours, &model, first_lines, style) {
            Some(text) => {
                say!("--- crates/tiny-llm/{} (yours)", pair.file.display());
                say!("+++ reference/{}\n{text}", pair.file.display());
            }
            None => say!("  the same as the reference\n"),
        }
    }
    Ok(Verdict::Passed)
}

/// `solve` and `reset`: fills the selected regions of the learner's crate.
pub fn fill(workspace: &Workspace, course: &Course, selector: &str, fill: Fill) -> Result<Verdict> {
    let reference = read_sources(workspace, &workspace.reference())?;
    let learner = read_sources(workspace, &workspace.learner())?;
    let mut pairs = selected_pairs(course, &reference, &learner, selector)?;
    if fill == Fill::Reference {
        pairs.extend(region_pairs::borrowed_helpers(course, &reference, &learner, &pairs)?);
    }
    let filled = region_pairs::fill(&learner, &pairs, fill);
    if filled.is_empty() {
        match fill {
            Fill::Reference => say!("Nothing to do: {selector} is already the reference's solution."),
            Fill::Stub => say!("Nothing to do: {selector} is already as it was at the start."),
        }
        return Ok(Verdict::Passed);
    }

    let backup = new_backup_folder(workspace);
    for file in filled.keys() {
        back_up(&workspace.learner().join(file), &backup.join("crates/tiny-llm").join(file))?;
    }
    for (file, text) in &filled {
        write_text(&workspace.learner().join(file), text)?;
    }
    for pair in pairs.iter().filter(|pair| pair.learner != pair.wanted(fill)) {
        let done = if fill == Fill::Stub { "reset" } else { "solved" };
        let file = workspace.display(&workspace.learner().join(&pair.file));
        say!("{done} {} {}   ({file})", pair.region.task, pair.region.name);
    }
    say!("Your earlier version is in {}", workspace.display(&backup));
    Ok(Verdict::Passed)
}

fn selected_pairs(course: &Course, reference: &Files, learner: &Files, selector: &str) -> Result<Vec<Pair>> {
    let selected = course.select(selector)?;
    let ids: Vec<&str> = selected.iter().flat_map(|(_, tasks)| tasks.iter().map(|task| task.id.as_str())).collect();
    let pairs = region_pairs::of_tasks(course, reference, learner, &ids)?;
    if pairs.is_empty() {
        return Err(Error::new(format!("the reference has no marked code for {selector}")));
    }
    Ok(pairs)
}

/// The generated crate with one task solved, as `solve` would do it.
pub fn solve_in(workspace: &Workspace, course: &Course, stubs: &[StubFile], task: &str) -> Result<Vec<StubFile>> {
    let reference = read_sources(workspace, &workspace.reference())?;
    let learner: Files = stubs.iter().map(|file| (file.path.clone(), file.text.clone())).collect();
    let mut pairs = region_pairs::of_tasks(course, &reference, &learner, &[task])?;
    pairs.extend(region_pairs::borrowed_helpers(course, &reference, &learner, &pairs)?);
    let mut solved = learner.clone();
    solved.extend(region_pairs::fill(&learner, &pairs, Fill::Reference));
    Ok(solved.into_iter().map(|(path, text)| StubFile { path, text }).collect())
}

/// Where a task's code goes: the learner's file and the line to write in, from 1.
pub fn place_of(workspace: &Workspace, task: &str) -> Option<(PathBuf, usize)> {
    let body = format!("// [task {task}] ");
    for path in files_below(&workspace.learner().join("src")).ok()? {
        let Ok(text) = read_text(&path) else { continue };
        if let Some(index) = text.lines().position(|line| line.trim_start().starts_with(&body)) {
            return Some((path, index + 2));
        }
    }
    None
}

/// Whether the `todo!` that the stub came with still stands in the task's (first) region.
pub fn is_untouched(workspace: &Workspace, task: &str) -> bool {
    place_of(workspace, task).is_some_and(|(path, line)| {
        let text = read_text(&path).unwrap_or_default();
        text.lines().nth(line - 1).is_some_and(|line| line.trim_start().starts_with("todo!(\"week "))
    })
}

fn back_up(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, &e))?;
    }
    fs::copy(from, to).map(|_| ()).map_err(|e| Error::io("back up to", to, &e))
}

/// A folder that does not exist yet, so that no backup ever replaces another.
fn new_backup_folder(workspace: &Workspace) -> PathBuf {
    let first = workspace.state().join("backup").join(Moment::now().compact());
    let mut folder = first.clone();
    let mut n = 1;
    while folder.exists() {
        n += 1;
        folder = first.with_extension(n.to_string());
    }
    folder
}
