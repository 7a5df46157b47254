//! `cargo xtask watch`: check again on every save.
//!
//! Files are polled a few times a second: a notification service saves nothing here and is silent
//! on network file systems and in some virtual machines.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::chapters::{Chapter, Course};
use crate::check;
use crate::error::Result;
use crate::exit_code::Verdict;
use crate::hint;
use crate::keys::{CTRL_C, Keys};
use crate::progress::Progress;
use crate::say;
use crate::style::{Colour, Style};
use crate::workspace::{Solution, Workspace, files_below};

const POLL: Duration = Duration::from_millis(300);

type Snapshot = BTreeMap<PathBuf, Option<SystemTime>>;

pub fn run(workspace: &Workspace, course: &Course, selector: Option<&str>) -> Result<Verdict> {
    let style = Style::for_stdout();
    let mut selector = match selector {
        Some(selector) => selector.to_owned(),
        None => first_unfinished(workspace, course),
    };
    course.select(&selector)?; // a mistyped chapter ends here, before the loop
    let keys = Keys::open();

    loop {
        let before = snapshot(workspace)?;
        if style.is_coloured() {
            say!("\u{1b}[2J\u{1b}[H"); // a fresh screen
        }
        check_once(workspace, course, &selector)?;
        say!("\n{}", style.paint(Colour::Grey, &prompt(keys.is_some())));
        if let Some(keys) = &keys {
            keys.listen();
        }
        let event = loop {
            match wait(workspace, keys.as_ref(), &before)? {
                Event::Key(b'h') => show_hint(workspace, course, &selector, style)?,
                event => break event,
            }
        };
        if let Some(keys) = &keys {
            keys.pause();
        }
        match event {
            Event::Saved | Event::Key(b'r') => {}
            Event::Key(b'n') => selector = next_day(course, &selector),
            Event::Key(_) => return Ok(Verdict::Passed),
        }
    }
}

fn prompt(has_keys: bool) -> String {
    if has_keys {
        "watching for saves - r run, h hint, n next day, q quit".to_owned()
    } else {
        "watching for saves (no terminal for keys: stop with Ctrl-C)".to_owned()
    }
}

/// Something the runner cannot do (no compiler, say) is told and not the end: a save may mend it.
fn check_once(workspace: &Workspace, course: &Course, selector: &str) -> Result<()> {
    let options = check::Options {
        selector: Some(selector.to_owned()),
        solutions: vec![Solution::Student],
        json: false,
        time_limit: None,
    };
    if let Err(error) = check::run(workspace, course, &options) {
        say!("error: {error}");
    }
    Ok(())
}

enum Event {
    Saved,
    Key(u8),
}

/// Waits for a save or a key that means something.
fn wait(workspace: &Workspace, keys: Option<&Keys>, before: &Snapshot) -> Result<Event> {
    loop {
        if snapshot(workspace)? != *before {
            settle(workspace)?;
            return Ok(Event::Saved);
        }
        match keys {
            Some(keys) => match keys.next(POLL) {
                Some(b'q' | CTRL_C) => return Ok(Event::Key(b'q')),
                Some(key @ (b'r' | b'h' | b'n')) => return Ok(Event::Key(key)),
                _ => {}
            },
            None => thread::sleep(POLL),
        }
    }
}

/// Editors save in several steps, and "save all" several files: wait until it is quiet.
fn settle(workspace: &Workspace) -> Result<()> {
    let mut last = snapshot(workspace)?;
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(60));
        let now = snapshot(workspace)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(())
}

/// When each file of the learner's crate was last written.
fn snapshot(workspace: &Workspace) -> Result<Snapshot> {
    let mut files = files_below(&workspace.learner().join("src"))?;
    files.push(workspace.learner().join("Cargo.toml"));
    let modified = |file: &PathBuf| fs::metadata(file).and_then(|m| m.modified()).ok();
    Ok(files
        .into_iter()
        .map(|file| {
            let time = modified(&file);
            (file, time)
        })
        .collect())
}

fn first_unfinished(workspace: &Workspace, course: &Course) -> String {
    let progress = Progress::load(workspace);
    progress.current(course).or(course.chapters.last()).map_or_else(|| "all".to_owned(), |c| c.id.clone())
}

/// The day after the one that is watched; the last day stays.
fn next_day(course: &Course, selector: &str) -> String {
    let of_selector = |c: &Chapter| selector == c.id || selector.starts_with(&format!("{}.", c.id));
    let index = course.chapters.iter().position(of_selector);
    index
        .and_then(|index| course.chapters.get(index + 1))
        .map_or_else(|| selector.to_owned(), |chapter| chapter.id.clone())
}

/// A hint for the first task that has not passed, one level more each time.
fn show_hint(workspace: &Workspace, course: &Course, selector: &str, style: Style) -> Result<()> {
    let progress = Progress::load(workspace);
    let selected = course.select(selector)?;
    match selected.iter().flat_map(|(_, tasks)| tasks).find(|task| !progress.passed(&task.id)) {
        Some(task) => {
            hint::show(workspace, course, &task.id, false, style)?;
        }
        None => say!("Nothing to hint at: everything in {selector} passes."),
    }
    say!("\n{}", style.paint(Colour::Grey, "watching for saves - r run, h another hint, n next day, q quit"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_day_follows_the_list_and_stops_at_its_end() {
        let day = |id: &str| {
            format!(
                "[[chapter]]\nid = \"{id}\"\ntitle = \"T\"\ntest = \"t\"\nbook = \"b\"\n[[chapter.task]]\nid = \"{id}.1\"\ntitle = \"t\"\ntests = \"task_1_\"\nanchor = \"a\"\n"
            )
        };
        let course = Course::parse(&format!("{}{}", day("1.1"), day("1.2"))).unwrap();
        assert_eq!(next_day(&course, "1.1"), "1.2");
        assert_eq!(next_day(&course, "1.1.1"), "1.2");
        assert_eq!(next_day(&course, "1.2"), "1.2");
        assert_eq!(next_day(&course, "all"), "all");
    }
}
