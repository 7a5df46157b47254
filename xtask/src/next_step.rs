//! What to do next: the place of the next code to write, and what a finished day is good for.

use std::collections::BTreeMap;
use std::fs;

use tinyjson::JsonValue;

use crate::chapters::{Chapter, Course, Task};
use crate::pieces;
use crate::progress::Progress;
use crate::stages::{self, STAGES};
use crate::workspace::Workspace;

/// The last day without which the engine cannot talk.
const TALKS_FROM: &str = "1.6";

/// The first task that has not passed, of `chapter` alone if it is given.
pub fn next_task<'a>(
    course: &'a Course,
    progress: &Progress,
    chapter: Option<&Chapter>,
) -> Option<(&'a Chapter, &'a Task)> {
    let chapters = course.chapters.iter().filter(|c| chapter.is_none_or(|only| only.id == c.id));
    let mut tasks = chapters.flat_map(|chapter| chapter.tasks.iter().map(move |task| (chapter, task)));
    tasks.find(|(_, task)| !progress.passed(&task.id))
}

/// Where to go on after `done`: the first open task of a later day; what earlier days left open comes when nothing else is.
pub fn next_after<'a>(course: &'a Course, progress: &Progress, done: &Chapter) -> Option<(&'a Chapter, &'a Task)> {
    let later = course.chapters.iter().skip_while(|chapter| chapter.id != done.id).skip(1);
    later
        .filter_map(|chapter| next_task(course, progress, Some(chapter)))
        .next()
        .or_else(|| next_task(course, progress, None))
}

/// Where the task's next code goes: `write` and its first open piece; or `code` and its first piece, when all are written.
pub fn place(workspace: &Workspace, task: &Task) -> Option<(&'static str, String)> {
    let pieces = pieces::of_task(workspace, task);
    let open = pieces.iter().find(|piece| piece.is_open);
    let word = if open.is_some() { "write" } else { "code" };
    Some((word, open.or(pieces.first())?.place(workspace)))
}

/// What can be tried or measured once `chapter` is done: a word and a line for each.
pub fn bought(
    workspace: &Workspace,
    course: &Course,
    progress: &Progress,
    chapter: &Chapter,
) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if chapter.id == TALKS_FROM && talks(course, progress) {
        lines.push(("talk", "cargo xtask chat \"What is the capital of France?\"   (your engine answers)".to_owned()));
    }
    let own: Vec<usize> = (0..STAGES.len()).filter(|index| STAGES[*index].day() == Some(&chapter.id)).collect();
    let (Some(first), Some(last)) = (own.first(), own.last()) else { return lines };
    if stages::reached(course, progress).len() <= *last {
        return lines; // an earlier day is still open
    }
    // The stage before the day's own is what to compare with.
    let names: Vec<&str> = STAGES[first.saturating_sub(1)..=*last].iter().map(|stage| stage.name).collect();
    lines.push(("speed", format!("cargo xtask bench --quick --stages {}   (what the day bought)", names.join(","))));
    let measured = decode_speeds(workspace);
    let speeds: Vec<String> =
        names.iter().filter_map(|name| Some(format!("{name} {:.1}", measured.get(*name)?))).collect();
    if speeds.len() == names.len() {
        lines.push(("", format!("your crate when last measured, in tokens/s of decode: {}", speeds.join(", "))));
    }
    lines
}

/// Whether the days are done that make the learner's engine talk.
pub fn talks(course: &Course, progress: &Progress) -> bool {
    needed_to_talk(course).all(|chapter| progress.finished(chapter))
}

/// The days up to the one from which the engine talks.
pub fn needed_to_talk(course: &Course) -> impl Iterator<Item = &Chapter> {
    let n = course.chapters.iter().position(|chapter| chapter.id == TALKS_FROM);
    // A course without that day needs its whole first week.
    let first_week = course.chapters.iter().take_while(|chapter| chapter.id.starts_with("1.")).count();
    course.chapters.iter().take(n.map_or(first_week, |n| n + 1))
}

/// Decode speed of the learner's crate at each stage, from the newest measurement of `cargo xtask bench` that has them.
fn decode_speeds(workspace: &Workspace) -> BTreeMap<String, f64> {
    let folders = fs::read_dir(workspace.state().join("bench")).into_iter().flatten().flatten();
    let mut files: Vec<_> = folders.map(|folder| folder.path().join("measurements.json")).collect();
    files.sort(); // the folders are called after their time
    let newest = files.iter().rev().filter_map(|file| Some(speeds_in(&fs::read_to_string(file).ok()?)));
    newest.into_iter().find(|speeds| !speeds.is_empty()).unwrap_or_default()
}

fn speeds_in(json: &str) -> BTreeMap<String, f64> {
    let mut times: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let value: Option<JsonValue> = json.parse().ok();
    let runs = value.as_ref().and_then(|value| field(value, "runs")?.get::<Vec<JsonValue>>());
    for run in runs.into_iter().flatten() {
        let text = |key: &str| field(run, key)?.get::<String>();
        let seconds = field(run, "token_seconds").and_then(|list| list.get::<Vec<JsonValue>>());
        let (Some("student"), Some(stage), Some(seconds)) =
            (text("engine").map(String::as_str), text("stage"), seconds)
        else {
            continue;
        };
        let (tokens, sum) = times.entry(stage.clone()).or_default();
        *tokens += seconds.len() as f64;
        *sum += seconds.iter().filter_map(|s| s.get::<f64>()).sum::<f64>();
    }
    times.into_iter().filter(|(_, (_, sum))| *sum > 0.0).map(|(stage, (tokens, sum))| (stage, tokens / sum)).collect()
}

fn field<'a>(value: &'a JsonValue, key: &str) -> Option<&'a JsonValue> {
    value.get::<std::collections::HashMap<String, JsonValue>>()?.get(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_those_of_the_learners_crate() {
        let json = r#"{"runs": [
            {"engine": "student", "stage": "dense", "token_seconds": [0.5, 0.5]},
            {"engine": "student", "stage": "dense", "token_seconds": [0.25, 0.75]},
            {"engine": "reference", "stage": "cached", "token_seconds": [0.1]},
            {"engine": "llama.cpp", "stage": null, "token_seconds": [0.1]}
        ]}"#;
        assert_eq!(speeds_in(json).into_iter().collect::<Vec<_>>(), [("dense".to_owned(), 2.0)]);
        assert!(speeds_in("not JSON").is_empty() && speeds_in("{}").is_empty());
    }

    fn course() -> Course {
        let day = |id: &str| {
            format!(
                "[[chapter]]\nid = \"{id}\"\ntitle = \"T\"\ntest = \"t\"\nbook = \"b\"\n[[chapter.task]]\nid = \"{id}.1\"\n\
                 title = \"t\"\ntests = \"task_1_\"\nanchor = \"a\"\n"
            )
        };
        Course::parse(&["1.1", "1.6", "1.7", "2.1"].map(day).concat()).unwrap()
    }

    #[test]
    fn the_engine_talks_after_day_1_6() {
        let course = course();
        assert!(!talks(&course, &Progress::parse("1.1.1 pass\n")));
        assert!(talks(&course, &Progress::parse("1.1.1 pass\n1.6.1 pass\n")));
    }

    #[test]
    fn the_next_task_is_the_first_that_has_not_passed() {
        let course = course();
        let progress = Progress::parse("1.1.1 pass\n1.7.1 pass\n");
        assert_eq!(next_task(&course, &progress, None).unwrap().1.id, "1.6.1");
        assert!(next_task(&course, &progress, Some(&course.chapters[2])).is_none());
        let after = |day: usize| next_after(&course, &progress, &course.chapters[day]).unwrap().1.id.clone();
        assert_eq!([after(0), after(1), after(2)], ["1.6.1", "2.1.1", "2.1.1"]);
        assert_eq!(after(3), "1.6.1", "what was skipped comes last");
    }

    #[test]
    fn a_day_with_a_stage_says_how_to_measure_it() {
        let course = course();
        let nowhere =
            Workspace::at(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/course")).unwrap();
        let lines = |marks: &str, day: usize| bought(&nowhere, &course, &Progress::parse(marks), &course.chapters[day]);
        let done = "1.1.1 pass\n1.6.1 pass\n1.7.1 pass\n2.1.1 pass\n";
        let [("speed", line)] = &lines(done, 3)[..] else { panic!() };
        assert!(line.starts_with("cargo xtask bench --quick --stages dense,cached "), "{line}");
        assert!(lines("2.1.1 tried\n", 3).is_empty());
        assert_eq!(lines(done, 1)[0].0, "talk");
        assert!(lines(done, 0).is_empty());
    }
}
