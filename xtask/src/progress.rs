//! Which tasks passed when they were last checked: a text file of `1.1.1 pass` lines.
//!
//! It is a memory, not a proof: `check` re-verifies what it looks at, and a failing re-run takes
//! the tick away. Lines with unknown ids are kept and ignored, so that nothing is lost when the
//! course changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::chapters::{Chapter, Course};
use crate::error::Result;
use crate::exit_code::Verdict;
use crate::next_step;
use crate::say;
use crate::style::{Colour, Style};
use crate::verdict::{Status, TaskReport};
use crate::workspace::{Workspace, files_below, write_text};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Passed,
    Tried,
}

#[derive(Debug, Default, Clone)]
pub struct Progress {
    marks: BTreeMap<String, Mark>,
}

fn file(workspace: &Workspace) -> PathBuf {
    workspace.state().join("progress")
}

impl Progress {
    /// What is remembered; nothing if the file is missing.
    pub fn load(workspace: &Workspace) -> Self {
        Self::parse(&fs::read_to_string(file(workspace)).unwrap_or_default())
    }

    pub fn parse(text: &str) -> Self {
        let marks = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(id, word)| match word.trim() {
                "pass" => Some((id.to_owned(), Mark::Passed)),
                "tried" => Some((id.to_owned(), Mark::Tried)),
                _ => None,
            })
            .collect();
        Self { marks }
    }

    fn render(&self) -> String {
        let word = |mark: &Mark| if *mark == Mark::Passed { "pass" } else { "tried" };
        self.marks.iter().map(|(id, mark)| format!("{id} {}\n", word(mark))).collect()
    }

    /// Takes over a check's results and saves them.
    pub fn record(workspace: &Workspace, reports: &[TaskReport]) -> Result<Self> {
        let mut progress = Self::load(workspace);
        progress.update(reports);
        write_text(&file(workspace), &progress.render())?;
        Ok(progress)
    }

    /// Takes over results.
    pub fn update(&mut self, reports: &[TaskReport]) {
        for report in reports {
            match report.status {
                Status::Passed => {
                    self.marks.insert(report.id.clone(), Mark::Passed);
                }
                Status::NotStarted | Status::Needs(_) => {
                    self.marks.remove(&report.id);
                }
                _ => {
                    self.marks.insert(report.id.clone(), Mark::Tried);
                }
            }
        }
    }

    pub fn passed(&self, task: &str) -> bool {
        self.marks.get(task) == Some(&Mark::Passed)
    }

    pub fn finished(&self, chapter: &Chapter) -> bool {
        chapter.tasks.iter().all(|task| self.passed(&task.id))
    }

    /// How many of the course's tasks passed.
    pub fn n_passed(&self, course: &Course) -> usize {
        course.tasks().filter(|task| self.passed(&task.id)).count()
    }

    /// The first day with a task that has not passed.
    pub fn current<'a>(&self, course: &'a Course) -> Option<&'a Chapter> {
        course.chapters.iter().find(|chapter| !self.finished(chapter))
    }
}

/// `cargo xtask progress`: a row for every day, a mark for every task.
pub fn show(workspace: &Workspace, course: &Course, style: Style) -> Result<Verdict> {
    let progress = Progress::load(workspace);
    let id_width = course.chapters.iter().map(|c| c.id.len()).max().unwrap_or(0);
    let width = course.chapters.iter().map(|c| c.title.chars().count()).max().unwrap_or(0);
    let mut week = "";
    for chapter in &course.chapters {
        let this_week = chapter.id.split('.').next().unwrap_or_default();
        if this_week != week {
            week = this_week;
            say!("{}", style.paint(Colour::Bold, &format!("Week {week}")));
        }
        let marks: Vec<String> = chapter.tasks.iter().map(|t| mark(&progress, &t.id, style)).collect();
        let padding = " ".repeat(width - chapter.title.chars().count());
        let done = chapter.tasks.iter().filter(|t| progress.passed(&t.id)).count();
        say!(
            "  {:<id_width$}  {}{padding}  {}   {done}/{}",
            chapter.id,
            chapter.title,
            marks.join(" "),
            chapter.tasks.len()
        );
    }
    let done = progress.n_passed(course);
    let all = course.tasks().count();
    say!();
    say!("{done} of {all} tasks passed when last checked   (✓ passed, ✗ tried, · not started)");
    if edited_since(workspace)? {
        say!("You have edited the crate since: `cargo xtask check all` brings this up to date.");
    }
    match next_step::next_task(course, &progress, None) {
        Some((chapter, task)) => {
            say!("Next: {} {}   ({})", task.id, task.title, chapter.page_of(task));
            if let Some((word, place)) = next_step::place(workspace, task) {
                say!("  {word:<7} {place}");
            }
            say!("  check   cargo xtask check {}", task.id);
        }
        None => say!("Every task is done."),
    }
    Ok(Verdict::Passed)
}

fn mark(progress: &Progress, task: &str, style: Style) -> String {
    match progress.marks.get(task) {
        Some(Mark::Passed) => style.paint(Colour::Green, "✓"),
        Some(Mark::Tried) => style.paint(Colour::Red, "✗"),
        None => style.paint(Colour::Grey, "·"),
    }
}

/// Whether a source file of the learner is newer than the last check.
fn edited_since(workspace: &Workspace) -> Result<bool> {
    let modified = |path: &std::path::Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let Some(checked) = modified(&file(workspace)) else { return Ok(false) };
    let newest: Option<SystemTime> =
        files_below(&workspace.learner().join("src"))?.iter().filter_map(|f| modified(f)).max();
    Ok(newest.is_some_and(|newest| newest > checked))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(id: &str, status: Status) -> TaskReport {
        TaskReport::not_run(id, "", status)
    }

    #[test]
    fn a_failing_rerun_takes_the_tick_away() {
        let mut progress = Progress::default();
        progress.update(&[report("1.1.1", Status::Passed), report("1.1.2", Status::Passed)]);
        assert!(progress.passed("1.1.1"));
        progress.update(&[report("1.1.1", Status::Failed)]);
        assert!(!progress.passed("1.1.1") && progress.passed("1.1.2"));
        progress.update(&[report("1.1.2", Status::NotStarted)]);
        assert_eq!(progress.render(), "1.1.1 tried\n");
    }

    #[test]
    fn unknown_ids_are_kept_and_nonsense_is_dropped() {
        let progress = Progress::parse("9.9.9 pass\nnonsense\n1.1.1 perhaps\n1.1.2 tried\n");
        assert_eq!(progress.render(), "1.1.2 tried\n9.9.9 pass\n");
    }
}
