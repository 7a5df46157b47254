//! Is the list of chapters true? Hints, anchors, pages, fixtures, marked regions and the texts of mutants, without
//! building anything.

use std::collections::BTreeSet;

use crate::chapters::{Chapter, Course, test_and_reason};
use crate::error::Result;
use crate::mutants;
use crate::regions::{self, Kind};
use crate::workspace::{Workspace, files_below, read_text};

const N_HINTS: usize = 3;

/// What is wrong with the list, the markers and the book's source.
pub fn problems(workspace: &Workspace, course: &Course) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for chapter in &course.chapters {
        check_files(workspace, chapter, &mut problems);
        check_tasks(workspace, chapter, &mut problems);
    }
    check_regions(workspace, course, &mut problems)?;
    check_mutants(workspace, course, &mut problems)?;
    for page in files_below(&workspace.book().join("src"))? {
        if page.extension().is_some_and(|extension| extension == "md") {
            let shown = workspace.display(&page);
            let text = read_text(&page)?;
            problems.extend(
                bare_fences(&text).into_iter().map(|line| format!("{shown}:{line}: a code fence has no language")),
            );
        }
    }
    Ok(problems)
}

fn check_files(workspace: &Workspace, chapter: &Chapter, problems: &mut Vec<String>) {
    let test = workspace.root().join("tests/chapters").join(format!("{}.rs", chapter.test));
    if !test.is_file() {
        problems.push(format!("day {}: {} is missing", chapter.id, workspace.display(&test)));
    }
    for fixture in &chapter.fixtures {
        if !workspace.fixtures().join(fixture).exists() {
            problems.push(format!("day {}: the fixture {fixture} is missing", chapter.id));
        }
    }
}

fn check_tasks(workspace: &Workspace, chapter: &Chapter, problems: &mut Vec<String>) {
    let page = workspace.book().join("src").join(&chapter.book);
    let text = read_text(&page).unwrap_or_default();
    if text.is_empty() {
        problems.push(format!("day {}: the page {} is missing", chapter.id, workspace.display(&page)));
    }
    let anchors: BTreeSet<String> = text.lines().filter(|line| line.starts_with('#')).map(slug).collect();
    for task in &chapter.tasks {
        if task.hints.len() != N_HINTS || task.hints.iter().any(|hint| hint.trim().is_empty()) {
            problems.push(format!("task {}: it must have {N_HINTS} hints, none of them empty", task.id));
        }
        if task.items.is_empty() {
            problems.push(format!("task {}: it names no item to write", task.id));
        }
        if !text.is_empty() && !anchors.contains(&task.anchor) {
            problems
                .push(format!("task {}: {} has no heading with the anchor #{}", task.id, chapter.book, task.anchor));
        }
        for exception in &task.passes_untouched {
            if test_and_reason(exception).is_none() {
                problems.push(format!(
                    "task {}: `{exception}` passes untouched without a reason (\"test: reason\")",
                    task.id
                ));
            }
        }
    }
}

fn check_regions(workspace: &Workspace, course: &Course, problems: &mut Vec<String>) -> Result<()> {
    let mut with_body = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for path in files_below(&workspace.reference().join("src"))? {
        let shown = workspace.display(&path);
        let regions = match regions::parse(&read_text(&path)?) {
            Ok(regions) => regions,
            Err(error) => {
                problems.push(format!("{shown}: {error}"));
                continue;
            }
        };
        for region in regions.iter().filter(|region| region.kind != Kind::ReferenceOnly) {
            if course.task(&region.task).is_none() {
                problems.push(format!("{shown}: `{}` names no task of the list", region.marker()));
            }
            if !seen.insert(region.marker()) {
                problems.push(format!("{shown}: `{}` appears in another file as well", region.marker()));
            }
            if region.kind == Kind::Body {
                with_body.insert((region.task.clone(), region.name.clone()));
            }
        }
    }
    for task in course.tasks() {
        if !with_body.iter().any(|(id, _)| *id == task.id) {
            problems.push(format!("task {}: no region of the reference belongs to it", task.id));
        }
        for entry in &task.pieces {
            let piece = entry.split_once(": ").map(|(_, piece)| (task.id.clone(), piece.trim().to_owned()));
            if !piece.is_some_and(|piece| with_body.contains(&piece)) {
                problems.push(format!("task {}: `{entry}` of `pieces` names no marker of the task", task.id));
            }
        }
    }
    Ok(())
}

/// A change of the reference can move or double the text that a mutant replaces. Said here, before anything is built.
fn check_mutants(workspace: &Workspace, course: &Course, problems: &mut Vec<String>) -> Result<()> {
    for mutant in mutants::load(workspace)? {
        let id = &mutant.id;
        let source = read_text(&workspace.reference().join(&mutant.file));
        if let Err(error) = source.and_then(|source| mutant.apply(&source)) {
            problems.push(format!("mutant {id}: {error}"));
        }
        for task in mutant.kills.iter().filter(|task| course.task(task).is_none()) {
            problems.push(format!("mutant {id}: `kills` names {task}, which is no task of the list"));
        }
    }
    Ok(())
}

/// A heading's anchor as mdBook makes it: lower case, blanks to dashes, other signs dropped.
fn slug(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .chars()
        .filter_map(|c| match c {
            c if c.is_alphanumeric() || c == '_' || c == '-' => c.to_lowercase().next(),
            c if c.is_whitespace() => Some('-'),
            _ => None,
        })
        .collect()
}

/// Line numbers of fences that open without a language.
fn bare_fences(markdown: &str) -> Vec<usize> {
    let mut open: Option<&str> = None;
    let mut bare = Vec::new();
    for (index, line) in markdown.lines().enumerate() {
        let line = line.trim_start_matches([' ', '>']);
        let ticks = line.len() - line.trim_start_matches('`').len();
        let tildes = line.len() - line.trim_start_matches('~').len();
        let length = ticks.max(tildes);
        if length < 3 {
            continue;
        }
        let (fence, rest) = line.split_at(length);
        match open {
            None => {
                if rest.trim().is_empty() {
                    bare.push(index + 1);
                }
                open = Some(fence);
            }
            Some(opening) if fence.starts_with(opening) && rest.trim().is_empty() => open = None,
            Some(_) => {}
        }
    }
    bare
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_mdbooks() {
        assert_eq!(slug("## Task 1: softmax"), "task-1-softmax");
        assert_eq!(slug("## Task 4: RoPE, with `offsets`"), "task-4-rope-with-offsets");
    }

    #[test]
    fn a_fence_without_a_language_is_found() {
        let text = "```rust\nx\n```\n\n````\n```\n````\n> ```\n> y\n> ```\n";
        assert_eq!(bare_fences(text), [5, 8]);
    }
}
