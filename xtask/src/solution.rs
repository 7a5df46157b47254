//! `diff`, `solve` and `reset`: the learner's marked regions beside the reference's.
//!
//! Everything is read and checked before anything is written, and every file that is touched is
//! copied to `.tiny-llm/backup/` first.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use crate::chapters::{Course, Task};
use crate::clock::Moment;
use crate::diff;
use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::output;
use crate::pieces;
use crate::progress::Progress;
use crate::region_pairs::{self, Files, Fill, Pair, read_sources};
use crate::regions::Kind;
use crate::say;
use crate::stubs::StubFile;
use crate::style::{Colour, Style};
use crate::table::{Align, Cell, Table};
use crate::this_machine::compiles_here;
use crate::workspace::{Workspace, write_text};

/// More tasks than these are counted instead of listed.
const MAX_LISTED: usize = 4;

/// What of a difference is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiffOptions {
    /// The reader wants to see the solution of tasks that do not pass, and is not asked.
    pub yes: bool,
    /// How much differs, and not what.
    pub stat: bool,
}

/// Shows how the selected regions differ from the reference. On a terminal a learner who has not passed them is asked
/// first, unless they said `yes` already.
pub fn show_diff(
    workspace: &Workspace,
    course: &Course,
    selector: &str,
    options: DiffOptions,
    style: Style,
) -> Result<Verdict> {
    let reference = read_sources(workspace, &workspace.reference())?;
    let learner = read_sources(workspace, &workspace.learner())?;
    let mut pairs = selected_pairs(course, &reference, &learner, selector)?;
    let n_selected = pairs.len();
    pairs.retain(|pair| compiles_here(&reference, &pair.file));
    if options.stat {
        print_stat(&pairs, style);
    } else {
        let open = not_passed(&Progress::load(workspace), &pairs);
        let can_ask = io::stdin().is_terminal() && io::stdout().is_terminal();
        if !options.yes && can_ask && !open.is_empty() && !wants_to_see(&open) {
            return Ok(Verdict::Passed);
        }
        pairs.iter().for_each(|pair| print_diff(pair, style));
    }
    let n_foreign = n_selected - pairs.len();
    if n_foreign > 0 {
        let (pieces, are) = if n_foreign == 1 { ("piece", "is") } else { ("pieces", "are") };
        say!("{n_foreign} {pieces} for other processors {are} left out: this machine does not compile them.");
    }
    Ok(Verdict::Passed)
}

/// A task's body and its helpers may have one name.
fn title(pair: &Pair) -> String {
    let helpers = if pair.region.kind == Kind::Helpers { ", helpers" } else { "" };
    format!("{} {}{helpers}", pair.region.task, pair.region.name)
}

/// The learner's lines and the reference's.
fn sides(pair: &Pair) -> (Vec<&str>, Vec<&str>) {
    (pair.learner.iter().map(String::as_str).collect(), pair.reference.iter().map(String::as_str).collect())
}

fn print_diff(pair: &Pair, style: Style) {
    say!("{}", style.paint(Colour::Bold, &title(pair)));
    let (yours, model) = sides(pair);
    let first_lines = (pair.place.start + 2, pair.region.start + 2);
    match diff::unified(&yours, &model, first_lines, style) {
        Some(text) => {
            say!("--- crates/tiny-llm/{} (yours)", pair.file.display());
            say!("+++ reference/{}\n{text}", pair.file.display());
        }
        None => say!("  the same as the reference\n"),
    }
}

/// A row for every piece: how many lines each side has, and how many only one of them has.
fn print_stat(pairs: &[Pair], style: Style) {
    let columns = [
        ("piece", Align::Left),
        ("file", Align::Left),
        ("yours", Align::Right),
        ("", Align::Right),
        ("reference", Align::Right),
        ("", Align::Right),
    ];
    let mut table = Table::new(&columns);
    let mut n_same = 0;
    for pair in pairs {
        let (yours, model) = sides(pair);
        let (removed, added) = diff::counts(&yours, &model);
        n_same += usize::from(removed + added == 0);
        let only = |sign: char, n: usize| if n == 0 { String::new() } else { format!("{sign}{n}") };
        table.row(vec![
            Cell::new(title(pair)),
            Cell::new(pair.file.strip_prefix("src").unwrap_or(&pair.file).display().to_string()),
            Cell::new(yours.len().to_string()),
            Cell::coloured(only('-', removed), Colour::Red),
            Cell::new(model.len().to_string()),
            Cell::coloured(only('+', added), Colour::Green),
        ]);
    }
    say!("{}", table.render(style));
    say!("{} pieces, {n_same} the same as the reference", pairs.len());
}

/// The tasks that this would give away: the learner's code differs and did not pass when last checked.
fn not_passed<'a>(progress: &Progress, pairs: &'a [Pair]) -> Vec<&'a str> {
    let differing = pairs.iter().filter(|pair| pair.learner != pair.reference);
    let mut tasks: Vec<&str> = differing.map(|pair| pair.region.task.as_str()).collect();
    tasks.retain(|task| !progress.passed(task));
    tasks.dedup();
    tasks
}

fn wants_to_see(tasks: &[&str]) -> bool {
    let [first, others @ ..] = tasks else { return true };
    let (name, pass) = if others.is_empty() { ("Task", "does") } else { ("Tasks", "do") };
    let shown = match tasks.len() {
        n if n > MAX_LISTED => format!("{} and {} more", tasks[..MAX_LISTED - 1].join(", "), n + 1 - MAX_LISTED),
        _ => tasks.join(", "),
    };
    say!("{name} {shown} {pass} not pass yet, and this is the solution.");
    say!("A hint instead: cargo xtask hint {first}");
    output::question("Show it? [y/N] ");
    let mut answer = String::new();
    // Without an answer nothing is given away.
    let read = io::stdin().read_line(&mut answer);
    read.is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

/// `solve` and `reset`: fills the selected regions of the learner's crate.
pub fn fill(workspace: &Workspace, course: &Course, selector: &str, fill: Fill) -> Result<Verdict> {
    let reference = read_sources(workspace, &workspace.reference())?;
    let learner = read_sources(workspace, &workspace.learner())?;
    let mut pairs = selected_pairs(course, &reference, &learner, selector)?;
    let n_selected = pairs.len();
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
    let mut told = Vec::new();
    for (index, pair) in pairs.iter().enumerate().filter(|(_, pair)| pair.learner != pair.wanted(fill)) {
        let done = match fill {
            Fill::Stub => "reset",
            Fill::Reference if index < n_selected => "solved",
            Fill::Reference => "and what that calls of",
        };
        let title = course.task(&pair.region.task).map_or(&pair.region.name, |(_, task)| &task.title);
        let file = workspace.display(&workspace.learner().join(&pair.file));
        told.push(format!("{done} {} {title}   ({file})", pair.region.task));
    }
    // A task's body and its helpers are regions of their own.
    told.dedup();
    for line in told {
        say!("{line}");
    }
    if fill == Fill::Reference {
        say!("A check ticks it off: cargo xtask check {}", to_check(workspace, course, selector));
    }
    say!("Your earlier version is in {}", workspace.display(&backup));
    Ok(Verdict::Passed)
}

/// What to check after `selector` was solved: more of the course, if there is more that is written and not ticked off.
fn to_check(workspace: &Workspace, course: &Course, selector: &str) -> String {
    let progress = Progress::load(workspace);
    let is_due = |task: &Task| {
        let pieces = pieces::of_task(workspace, task);
        !progress.passed(&task.id) && !pieces.is_empty() && pieces.iter().all(|piece| !piece.is_open)
    };
    let is_selected =
        |task: &Task| course.select(selector).is_ok_and(|s| s.iter().any(|(_, t)| t.iter().any(|t| t.id == task.id)));
    let week = selector.split('.').next().unwrap_or(selector);
    let of_week = |task: &Task| task.id.split('.').next() == Some(week);
    let others: Vec<&Task> = course.tasks().filter(|task| !is_selected(task) && is_due(task)).collect();
    match others[..] {
        [] => selector.to_owned(),
        _ if others.iter().all(|task| of_week(task)) => week.to_owned(),
        _ => "all".to_owned(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{Status, TaskReport};

    #[test]
    fn only_code_that_differs_and_has_not_passed_is_given_away() {
        let stub =
            "// [task 1.1.1] a\n// [end]\n// [task 1.1.1 helpers] a\n// [end]\n// [task 1.1.2] b\nsame\n// [end]\n";
        let reference = stub.replace("1.1.1] a\n", "1.1.1] a\nx\n").replace("helpers] a\n", "helpers] a\ny\n");
        let task =
            |n: u8| format!("[[chapter.task]]\nid = \"1.1.{n}\"\ntitle = \"t\"\ntests = \"t\"\nanchor = \"a\"\n");
        let head = "[[chapter]]\nid = \"1.1\"\ntitle = \"A\"\ntest = \"t\"\nbook = \"d.md\"\n";
        let course = Course::parse(&format!("{head}{}{}", task(1), task(2))).unwrap();
        let files = |text: &str| Files::from([(PathBuf::from("src/a.rs"), text.to_owned())]);
        let pairs = selected_pairs(&course, &files(&reference), &files(stub), "1.1").unwrap();
        assert_eq!(not_passed(&Progress::default(), &pairs), ["1.1.1"]);
        let mut progress = Progress::default();
        progress.update(&[TaskReport::not_run("1.1.1", "", Status::Passed)]);
        assert!(not_passed(&progress, &pairs).is_empty());
    }
}
