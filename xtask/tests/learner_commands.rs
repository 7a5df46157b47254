//! Hints, diff, solve, reset and watch on the miniature course.

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use support::Course;

const NUMBERS: &str = "crates/tiny-llm/src/numbers.rs";

#[test]
fn hints_come_one_level_at_a_time() {
    let course = Course::untouched();
    course.assert_golden("hint_1", &course.run(&["hint", "1.1.1"]));
    course.assert_golden("hint_2", &course.run(&["hint", "1.1.1"]));
    course.assert_golden("hint_3", &course.run(&["hint", "1.1.1"]));
    // The last level stays; another task starts at its own first.
    course.assert_golden("hint_3", &course.run(&["hint", "1.1.1"]));
    assert!(course.run(&["hint", "1.1.2"]).stdout.contains("Hint 1 of 3"));
    assert_eq!(course.read(".tiny-llm/hints"), "1.1.1 3\n1.1.2 1\n");
    assert_eq!(course.run(&["hint", "1.1", "--reset"]).code, 0);
    course.assert_golden("hint_1", &course.run(&["hint", "1.1.1"]));
    course.assert_golden("hint_3", &course.run(&["hint", "1.1.1", "--all"]));
}

#[test]
fn diff_shows_the_marked_code_only() {
    let course = Course::untouched();
    course.edit(NUMBERS, "//! Day 1.1.", "//! Day 1.1, my notes.");
    course.write_double("let factor = 2.0;\n    factor * x");
    course.assert_golden("diff", &course.run(&["diff", "1.1.1"]));
    assert_eq!(course.run(&["solve", "1.1.1"]).code, 0);
    let ran = course.run(&["diff", "1.1.1"]);
    assert!(ran.stdout.contains("the same as the reference"), "{}", ran.stdout);
}

#[test]
fn solve_and_reset_touch_marked_code_only_and_keep_a_backup() {
    let course = Course::untouched();
    let stub = course.read(NUMBERS);
    course.edit(NUMBERS, "//! Day 1.1.", "//! Day 1.1, my notes.");
    let mine = course.read(NUMBERS);

    let ran = course.run(&["solve", "1.1.1"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let solved = course.read(NUMBERS);
    assert!(solved.contains("my notes.") && solved.contains("times(2.0, x)"));
    assert!(solved.contains("todo!(\"week 1 day 1 task 2"));
    // Its helpers are marked by themselves, and are no second task.
    let expected = format!("solved 1.1.1 double   ({NUMBERS})\nA check ticks it off: cargo xtask check 1.1.1\n");
    assert!(ran.stdout.starts_with(&expected), "{}", ran.stdout);
    let folder = ran.stdout.lines().last().unwrap().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(course.read(&format!("{folder}/{NUMBERS}")), mine);

    assert!(course.run(&["solve", "1.1.1"]).stdout.contains("Nothing to do"));
    assert_eq!(course.run(&["reset", "all"]).code, 0);
    assert_eq!(course.read(NUMBERS), stub.replace("Day 1.1.", "Day 1.1, my notes."));
    assert!(course.run(&["reset", "1"]).stdout.contains("Nothing to do"));
    let backups = std::fs::read_dir(course.path(".tiny-llm/backup")).unwrap().count();
    assert_eq!(backups, 2);
}

#[test]
fn a_missing_marker_stops_everything_before_anything_is_written() {
    let course = Course::untouched();
    course.edit("crates/tiny-llm/src/words.rs", "    // [task 1.2.1] shout\n", "");
    let before = course.read(NUMBERS);
    let ran = course.run(&["solve", "all"]);
    assert_eq!(ran.code, 2);
    assert_eq!(
        ran.stderr.trim(),
        "error: crates/tiny-llm/src/words.rs: the line `// [task 1.2.1] shout` is missing; put it back on its own \
         line after `let mut loud = text.to_owned();`, and `// [end]` after your code"
    );
    assert_eq!(course.read(NUMBERS), before);
    assert!(!course.path(".tiny-llm/backup").exists());
    // The other days are not held up by it.
    assert_eq!(course.run(&["solve", "1.1"]).code, 0);
}

#[test]
fn a_task_solved_alone_brings_its_helpers_and_compiles() {
    let course = Course::untouched();
    assert_eq!(course.run(&["solve", "1.2"]).code, 0);
    assert_eq!(course.run(&["check", "1.2"]).code, 0);
    assert_eq!(course.run(&["check", "1.1"]).code, 1);
}

#[test]
fn watch_checks_again_after_a_save() {
    let course = Course::untouched();
    let mut child = course
        .command(&["watch", "1.2"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (sender, lines) = mpsc::channel();
    let stdout = child.stdout.take().unwrap();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let wait_for = |text: &str| {
        let mut seen = Vec::new();
        while let Ok(line) = lines.recv_timeout(Duration::from_secs(60)) {
            if line.contains(text) {
                return;
            }
            seen.push(line);
        }
        panic!("{text:?} did not come:\n{}", seen.join("\n"));
    };
    wait_for("1.2.1  shout  not started");
    wait_for("watching for saves");
    assert_eq!(course.run(&["solve", "1.2"]).code, 0); // writes the file, as a save does
    wait_for("1.2.1  shout  pass");
    child.kill().unwrap();
    child.wait().unwrap();
}
