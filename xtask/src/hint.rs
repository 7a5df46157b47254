//! Hints: one more level each time, remembered per task.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fs;
use std::path::PathBuf;

use crate::chapters::{Chapter, Course, Task};
use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::say;
use crate::style::{Colour, Style, wrap};
use crate::workspace::{Workspace, write_text};

const WIDTH: usize = 88;

/// How many hints of each task have been shown.
#[derive(Debug, Default)]
struct Taken(BTreeMap<String, usize>);

fn file(workspace: &Workspace) -> PathBuf {
    workspace.state().join("hints")
}

impl Taken {
    fn load(workspace: &Workspace) -> Self {
        Self::parse(&fs::read_to_string(file(workspace)).unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        Self(lines.filter_map(|(id, n)| Some((id.to_owned(), n.trim().parse().ok()?))).collect())
    }

    fn save(&self, workspace: &Workspace) -> Result<()> {
        let text: String = self.0.iter().map(|(id, n)| format!("{id} {n}\n")).collect();
        write_text(&file(workspace), &text)
    }

    /// Goes one level up for `task`, at most to its last hint.
    fn next_level(&mut self, task: &Task) -> usize {
        let level = self.0.entry(task.id.clone()).or_insert(0);
        *level = (*level + 1).min(task.hints.len());
        *level
    }
}

/// The next hint of the task called `id`, after those already seen; `all` shows every level.
pub fn show(workspace: &Workspace, course: &Course, id: &str, all: bool, style: Style) -> Result<Verdict> {
    let (chapter, task) = find(course, id)?;
    let mut taken = Taken::load(workspace);
    let level = if all {
        taken.0.insert(task.id.clone(), task.hints.len());
        task.hints.len()
    } else {
        taken.next_level(task)
    };
    taken.save(workspace)?;

    say!("{}", style.paint(Colour::Bold, &format!("{} {}", task.id, task.title)));
    for (index, hint) in task.hints.iter().take(level).enumerate() {
        let heading = format!("Hint {} of {}", index + 1, task.hints.len());
        say!("\n{}\n{}", style.paint(Colour::Blue, &heading), wrap(&for_processor(hint, ARCH), "  ", WIDTH));
    }
    say!();
    if level < task.hints.len() {
        say!("For the next level: cargo xtask hint {}", task.id);
    } else {
        say!("That was the last one. The page: {}", chapter.page_of(task));
        say!("The model answer beside yours: cargo xtask diff {}", task.id);
    }
    Ok(Verdict::Passed)
}

/// Forgets which hints of the selected tasks were seen.
pub fn reset(workspace: &Workspace, course: &Course, selector: &str) -> Result<Verdict> {
    let mut taken = Taken::load(workspace);
    for (_, tasks) in course.select(selector)? {
        for task in tasks {
            taken.0.remove(&task.id);
        }
    }
    taken.save(workspace)?;
    say!("Hints of {selector} start again at the first level.");
    Ok(Verdict::Passed)
}

/// A hint of several lines as a list, without the lines for other processors.
fn for_processor(hint: &str, arch: &str) -> String {
    if !hint.contains('\n') {
        return hint.to_owned();
    }
    let own = |line: &str| match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some(("x86-64", line)) => (arch == "x86_64").then(|| line.to_owned()),
        Some(("aarch64", line)) => (arch == "aarch64").then(|| line.to_owned()),
        _ => Some(line.to_owned()),
    };
    hint.lines().filter_map(own).map(|line| format!("- {line}")).collect::<Vec<_>>().join("\n")
}

fn find<'a>(course: &'a Course, id: &str) -> Result<(&'a Chapter, &'a Task)> {
    if let Some(found) = course.task(id) {
        return Ok(found);
    }
    // A day or a week is a good question with too many answers.
    let selected = course.select(id)?;
    let ids: Vec<&str> = selected.iter().flat_map(|(_, t)| t.iter().map(|t| t.id.as_str())).collect();
    // A day's are few enough to read; of a week or of everything the ends will do.
    let range = match (&selected[..], &ids[..]) {
        ([_], _) | (_, []) => ids.join(", "),
        (_, [first, .., last]) => format!("{first} to {last}"),
        (_, [only]) => (*only).to_owned(),
    };
    Err(Error::new(format!("`{id}` is more than one task")).remedy(format!("ask for one: {range}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(hints: usize) -> Task {
        Task {
            id: "1.1.1".to_owned(),
            title: String::new(),
            items: Vec::new(),
            tests: String::new(),
            hints: vec!["h".to_owned(); hints],
            anchor: String::new(),
            passes_untouched: Vec::new(),
            pieces: Vec::new(),
        }
    }

    #[test]
    fn levels_rise_to_the_last_hint_and_stay() {
        let mut taken = Taken::default();
        let levels: Vec<usize> = (0..5).map(|_| taken.next_level(&task(3))).collect();
        assert_eq!(levels, [1, 2, 3, 3, 3]);
    }

    #[test]
    fn a_hint_of_several_lines_is_a_list_for_this_processor() {
        let hint = "first\n[x86-64] second\n[aarch64] third\n[B, L] is a shape";
        assert_eq!(for_processor(hint, "x86_64"), "- first\n- second\n- [B, L] is a shape");
        assert_eq!(for_processor(hint, "aarch64"), "- first\n- third\n- [B, L] is a shape");
        assert_eq!(for_processor("one line", ARCH), "one line");
    }

    #[test]
    fn a_damaged_file_costs_only_its_damaged_lines() {
        let taken = Taken::parse("1.1.1 2\nrubbish\n1.1.2 many\n");
        assert_eq!(taken.0.into_iter().collect::<Vec<_>>(), [("1.1.1".to_owned(), 2)]);
    }
}
