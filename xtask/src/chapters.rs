//! `tests/chapters.toml`, the one list of chapters and tasks, and the selections that a reader
//! types: `1.1.2`, `1.1`, `1`, `all`. A long day is in parts: `2.2` is all of them, `2.2a` the first, `2.2a.1` its first task.

use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};
use crate::workspace::{Workspace, read_text};

#[derive(Debug, Clone)]
pub struct Course {
    pub chapters: Vec<Chapter>,
}

/// One day of the course.
#[derive(Debug, Clone)]
pub struct Chapter {
    /// `week.day`, or `week.day` and a letter for a part of a day; stable, because progress is stored under it.
    pub id: String,
    pub title: String,
    /// The test target, and `tests/chapters/<test>.rs`.
    pub test: String,
    /// The page, under `book/src`.
    pub book: String,
    pub fixtures: Vec<String>,
    /// How long one test may run before it counts as hanging.
    pub time_limit: Option<Duration>,
    pub tasks: Vec<Task>,
}

/// One thing to write.
#[derive(Debug, Clone)]
pub struct Task {
    pub id: String,
    pub title: String,
    /// Paths inside the crate, such as `attention::softmax`.
    pub items: Vec<String>,
    /// The prefix shared by the names of its tests.
    pub tests: String,
    /// From a nudge to nearly the code.
    pub hints: Vec<String>,
    /// The heading's anchor on the chapter's page.
    pub anchor: String,
    /// Tests that may pass on the untouched stub; what follows the name is the reason.
    pub passes_untouched: Vec<String>,
    /// `TEST: PIECE` where a test's name doesn't tell which of several pieces it is about.
    pub pieces: Vec<String>,
}

/// Tasks picked by the reader, grouped by chapter, in course order.
pub type Selected<'a> = Vec<(&'a Chapter, Vec<&'a Task>)>;

impl Course {
    pub fn load(workspace: &Workspace) -> Result<Self> {
        let path = workspace.chapters_file();
        let text = read_text(&path)?;
        Self::parse(&text).map_err(|e| Error::new(format!("{}: {e}", workspace.display(&path))))
    }

    pub fn parse(text: &str) -> Result<Self> {
        let document = DeTable::parse(text).map_err(|e| Error::new(e.to_string().trim().to_owned()))?;
        let chapters =
            tables(document.get_ref(), "chapter", "the file")?.into_iter().map(chapter).collect::<Result<Vec<_>>>()?;
        let course = Self { chapters };
        course.require_unique_ids()?;
        Ok(course)
    }

    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.chapters.iter().flat_map(|chapter| &chapter.tasks)
    }

    pub fn task(&self, id: &str) -> Option<(&Chapter, &Task)> {
        self.chapters
            .iter()
            .flat_map(|chapter| chapter.tasks.iter().map(move |task| (chapter, task)))
            .find(|(_, task)| task.id == id)
    }

    /// The tasks under `selector`: `all`, a week `1`, a day `1.1` with all its parts, a part `2.2a` or a task `1.1.2`.
    pub fn select(&self, selector: &str) -> Result<Selected<'_>> {
        let is_day = selector.matches('.').count() == 1;
        let below = |id: &str| {
            selector == "all"
                || id.strip_prefix(selector).is_some_and(|rest| {
                    rest.is_empty() || rest.starts_with('.') || (is_day && part_of_day(rest).is_some())
                })
        };
        let selected: Selected<'_> = self
            .chapters
            .iter()
            .map(|chapter| (chapter, chapter.tasks.iter().filter(|t| below(&t.id)).collect()))
            .filter(|(_, tasks): &(_, Vec<_>)| !tasks.is_empty())
            .collect();
        if selected.is_empty() { Err(self.unknown(selector)) } else { Ok(selected) }
    }

    /// The parts of the day of a task id that has no letter, such as `2.2.7`: empty unless that day is in parts.
    fn parts_of_day(&self, selector: &str) -> Vec<&str> {
        let Some((day, _)) = selector.rsplit_once('.').filter(|(day, _)| day.contains('.')) else { return Vec::new() };
        let is_part = |id: &&str| id.strip_prefix(day).is_some_and(|rest| part_of_day(rest).is_some());
        self.chapters.iter().map(|chapter| chapter.id.as_str()).filter(is_part).collect()
    }

    fn unknown(&self, selector: &str) -> Error {
        let parts = self.parts_of_day(selector);
        if let [first, .., last] = parts[..] {
            let day = &first[..first.len() - 1];
            let tasks = |id: &&str| {
                let n =
                    self.chapters.iter().find(|chapter| chapter.id == **id).map_or(0, |chapter| chapter.tasks.len());
                format!("{id}.1 to {id}.{n}")
            };
            let tasks: Vec<String> = parts.iter().map(tasks).collect();
            return Error::new(format!("there is no task `{selector}`: day {day} was split into {first} to {last}"))
                .remedy(format!("its tasks are {}; `{day}` is all of them", tasks.join(", ")));
        }
        let what = if selector.matches('.').count() == 2 { "task" } else { "chapter" };
        let mut known: Vec<&str> = self.chapters.iter().map(|c| c.id.as_str()).collect();
        // A mistyped task of a known day: name that day's tasks instead of all days.
        if let Some(chapter) = self.chapters.iter().find(|c| selector.starts_with(&format!("{}.", c.id))) {
            known = chapter.tasks.iter().map(|t| t.id.as_str()).collect();
        }
        Error::new(format!("there is no {what} `{selector}`"))
            .remedy(format!("choose one of {}, or `all`", known.join(", ")))
    }

    fn require_unique_ids(&self) -> Result<()> {
        let mut seen = std::collections::BTreeSet::new();
        let ids = self.chapters.iter().map(|c| &c.id).chain(self.tasks().map(|t| &t.id));
        for id in ids {
            if !seen.insert(id) {
                return Err(Error::new(format!("the id {id} appears twice")));
            }
        }
        for chapter in &self.chapters {
            if let Some(task) = chapter.tasks.iter().find(|t| !t.id.starts_with(&format!("{}.", chapter.id))) {
                return Err(Error::new(format!("task {} stands under chapter {}", task.id, chapter.id)));
            }
        }
        Ok(())
    }
}

/// The letter in front of `rest`, the end of an id after `week.day`, if it is that of a part: `a`, `a.1`.
fn part_of_day(rest: &str) -> Option<char> {
    let letter = rest.chars().next().filter(char::is_ascii_lowercase)?;
    (rest.len() == 1 || rest[1..].starts_with('.')).then_some(letter)
}

/// Whether this is the form of a task's id: `1.1.2`, or `2.2a.1` in a day that is in parts.
pub fn is_task_id(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = text.split('.').collect();
    let [week, day, number] = parts[..] else { return false };
    let day = day.strip_suffix(|c: char| c.is_ascii_lowercase()).unwrap_or(day);
    is_number(week) && is_number(day) && is_number(number)
}

impl Task {
    /// Whether the test called `name` belongs to this task: one part of its path starts with the
    /// task's prefix.
    pub fn owns_test(&self, name: &str) -> bool {
        name.split("::").any(|part| part.starts_with(&self.tests))
    }

    /// The piece to which the list assigns the test function called `name`; entries name the beginnings of tests.
    pub fn piece_of_test(&self, name: &str) -> Option<&str> {
        let parts = self.pieces.iter().filter_map(|entry| entry.split_once(": "));
        let own = parts.filter(|(test, _)| name.starts_with(test.trim()));
        own.max_by_key(|(test, _)| test.len()).map(|(_, piece)| piece.trim())
    }
}

impl Chapter {
    /// The task's heading on the chapter's page.
    pub fn page_of(&self, task: &Task) -> String {
        format!("book/src/{}#{}", self.book, task.anchor)
    }
}

fn chapter(table: &DeTable<'_>) -> Result<Chapter> {
    let id = string(table, "id", "a chapter")?;
    let place = format!("chapter {id}");
    Ok(Chapter {
        title: string(table, "title", &place)?,
        test: string(table, "test", &place)?,
        book: string(table, "book", &place)?,
        fixtures: strings(table, "fixtures", &place)?,
        time_limit: seconds(table, "time_limit_s", &place)?,
        tasks: tables(table, "task", &place)?.into_iter().map(|table| task(table, &place)).collect::<Result<_>>()?,
        id,
    })
}

fn task(table: &DeTable<'_>, chapter: &str) -> Result<Task> {
    let id = string(table, "id", &format!("a task of {chapter}"))?;
    let place = format!("task {id}");
    Ok(Task {
        title: string(table, "title", &place)?,
        items: strings(table, "items", &place)?,
        tests: string(table, "tests", &place)?,
        hints: strings(table, "hints", &place)?,
        anchor: string(table, "anchor", &place)?,
        passes_untouched: strings(table, "passes_untouched", &place)?,
        pieces: strings(table, "pieces", &place)?,
        id,
    })
}

fn tables<'a, 'i>(table: &'a DeTable<'i>, key: &str, place: &str) -> Result<Vec<&'a DeTable<'i>>> {
    let Some(value) = table.get(key) else { return Ok(Vec::new()) };
    value
        .get_ref()
        .as_array()
        .and_then(|array| array.iter().map(|item| item.get_ref().as_table()).collect())
        .ok_or_else(|| Error::new(format!("{place}: `{key}` must be written as [[{key}]] tables")))
}

fn string(table: &DeTable<'_>, key: &str, place: &str) -> Result<String> {
    table
        .get(key)
        .and_then(|value| value.get_ref().as_str())
        .map(str::to_owned)
        .ok_or_else(|| Error::new(format!("{place}: `{key}` is missing or is not a string")))
}

fn strings(table: &DeTable<'_>, key: &str, place: &str) -> Result<Vec<String>> {
    let Some(value) = table.get(key) else { return Ok(Vec::new()) };
    value
        .get_ref()
        .as_array()
        .and_then(|array| array.iter().map(|i| i.get_ref().as_str().map(str::to_owned)).collect())
        .ok_or_else(|| Error::new(format!("{place}: `{key}` must be a list of strings")))
}

fn seconds(table: &DeTable<'_>, key: &str, place: &str) -> Result<Option<Duration>> {
    match table.get(key).map(toml::Spanned::get_ref) {
        None => Ok(None),
        Some(DeValue::Integer(n)) => n
            .as_str()
            .parse()
            .map(|s| Some(Duration::from_secs(s)))
            .map_err(|_| Error::new(format!("{place}: `{key}` must be a whole number of seconds"))),
        Some(_) => Err(Error::new(format!("{place}: `{key}` must be a whole number of seconds"))),
    }
}

/// An entry of `passes_untouched`, `TEST: REASON`, in parts. A test in a module has a name with colons of its own: `task_5_x::y`.
pub fn test_and_reason(entry: &str) -> Option<(&str, &str)> {
    let (test, reason) = entry.split_once(": ")?;
    let (test, reason) = (test.trim(), reason.trim());
    (!test.is_empty() && !reason.is_empty()).then_some((test, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_DAYS: &str = r#"
        [[chapter]]
        id = "1.1"
        title = "One"
        test = "week1_day1"
        book = "week1/day1.md"
        fixtures = ["a"]
        time_limit_s = 5
        [[chapter.task]]
        id = "1.1.1"
        title = "first"
        items = ["m::first"]
        tests = "task_1_"
        hints = ["a", "b", "c"]
        anchor = "task-1-first"
        [[chapter.task]]
        id = "1.1.10"
        title = "tenth"
        items = []
        tests = "task_10_"
        hints = ["a", "b", "c"]
        anchor = "task-10-tenth"
        passes_untouched = ["task_10_x: it only checks a constant"]
        [[chapter]]
        id = "1.2"
        title = "Two"
        test = "week1_day2"
        book = "week1/day2.md"
        fixtures = []
        [[chapter.task]]
        id = "1.2.1"
        title = "only"
        items = []
        tests = "task_1_"
        hints = ["a", "b", "c"]
        anchor = "task-1-only"
    "#;

    fn ids(course: &Course, selector: &str) -> Vec<String> {
        let selected = course.select(selector).unwrap();
        selected.iter().flat_map(|(_, tasks)| tasks.iter().map(|t| t.id.clone())).collect()
    }

    #[test]
    fn a_selector_picks_a_task_a_day_a_week_or_all() {
        let course = Course::parse(TWO_DAYS).unwrap();
        assert_eq!(ids(&course, "1.1.1"), ["1.1.1"]); // and not 1.1.10
        assert_eq!(ids(&course, "1.1"), ["1.1.1", "1.1.10"]);
        assert_eq!(ids(&course, "1"), ["1.1.1", "1.1.10", "1.2.1"]);
        assert_eq!(ids(&course, "all"), ["1.1.1", "1.1.10", "1.2.1"]);
    }

    /// Day 1.2 in two parts.
    fn in_parts() -> Course {
        let part = |letter: &str| {
            let (_, second) = TWO_DAYS.split_once("[[chapter]]\n        id = \"1.2\"").unwrap();
            let text = format!("[[chapter]]\n        id = \"1.2\"{second}");
            text.replace("\"1.2\"", &format!("\"1.2{letter}\"")).replace("1.2.1", &format!("1.2{letter}.1"))
        };
        let (first, _) = TWO_DAYS.split_once("[[chapter]]\n        id = \"1.2\"").unwrap();
        Course::parse(&format!("{first}{}{}", part("a"), part("b"))).unwrap()
    }

    #[test]
    fn a_day_in_parts_is_picked_whole_or_by_its_letter() {
        let course = in_parts();
        assert_eq!(ids(&course, "1.2"), ["1.2a.1", "1.2b.1"]);
        assert_eq!(ids(&course, "1.2b"), ["1.2b.1"]);
        assert_eq!(ids(&course, "1.2a.1"), ["1.2a.1"]);
        assert_eq!(ids(&course, "1"), ["1.1.1", "1.1.10", "1.2a.1", "1.2b.1"]);
        assert_eq!(ids(&course, "1.1"), ["1.1.1", "1.1.10"]);
    }

    #[test]
    fn an_id_from_before_a_day_was_split_says_which_there_are() {
        let course = in_parts();
        let message = course.select("1.2.7").unwrap_err().to_string();
        assert_eq!(
            message,
            "there is no task `1.2.7`: day 1.2 was split into 1.2a to 1.2b; its tasks are 1.2a.1 to 1.2a.1, 1.2b.1 to 1.2b.1; \
             `1.2` is all of them"
        );
        for unknown in ["1.2c", "1.2ab", "1.2a.2", "1.2A"] {
            assert!(course.select(unknown).unwrap_err().to_string().starts_with("there is no"), "{unknown}");
        }
    }

    #[test]
    fn a_task_id_is_three_numbers_and_perhaps_a_letter_after_the_second() {
        for id in ["1.1.2", "2.2a.1", "12.3b.10"] {
            assert!(is_task_id(id), "{id}");
        }
        for id in ["1.1", "1.1.2.3", "1a.1.1", "1.1.1a", "1.ab.1", "1.1ab.1", "1.a.1", "", "1..1", "1.1A.1"] {
            assert!(!is_task_id(id), "{id}");
        }
    }

    #[test]
    fn an_unknown_selector_lists_what_there_is() {
        let course = Course::parse(TWO_DAYS).unwrap();
        let message = |selector| course.select(selector).unwrap_err().to_string();
        assert_eq!(message("9.9"), "there is no chapter `9.9`; choose one of 1.1, 1.2, or `all`");
        assert_eq!(message("1.1.7"), "there is no task `1.1.7`; choose one of 1.1.1, 1.1.10, or `all`");
        assert!(message("").contains("there is no chapter ``"));
    }

    #[test]
    fn a_test_belongs_to_the_task_whose_prefix_it_carries() {
        let course = Course::parse(TWO_DAYS).unwrap();
        let (_, first) = course.task("1.1.1").unwrap();
        assert!(first.owns_test("task_1_first::case_2"));
        assert!(first.owns_test("inner::task_1_first"));
        assert!(!first.owns_test("task_10_tenth"));
        assert!(!first.owns_test("helper_task_1_"));
    }

    #[test]
    fn a_broken_list_says_where() {
        let message = |text: &str| Course::parse(text).unwrap_err().to_string();
        assert_eq!(message("[[chapter]]\nid = \"1.1\""), "chapter 1.1: `title` is missing or is not a string");
        assert!(message("[[chapter]\n").contains("TOML parse error"));
        let twice = TWO_DAYS.replace("1.1.10", "1.1.1");
        assert_eq!(message(&twice), "the id 1.1.1 appears twice");
        let astray = TWO_DAYS.replace("1.2.1", "1.3.1");
        assert_eq!(message(&astray), "task 1.3.1 stands under chapter 1.2");
    }

    #[test]
    fn a_test_in_a_module_may_pass_untouched() {
        assert_eq!(test_and_reason("task_1_a: it is given"), Some(("task_1_a", "it is given")));
        assert_eq!(test_and_reason("task_5_x::y: the cache: given"), Some(("task_5_x::y", "the cache: given")));
        for incomplete in ["task_1_a", "task_5_x::y", "task_1_a: ", ": it is given"] {
            assert_eq!(test_and_reason(incomplete), None, "{incomplete}");
        }
    }
}
