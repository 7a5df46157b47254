//! A task of two functions: none, one and both of them written; and what comes after.

mod support;

use std::env::consts::ARCH;

use support::Course;

const WORDS: &str = "crates/tiny-llm/src/words.rs";
const TODO_SHOUT: &str = "todo!(\"week 1 day 2 task 1: shout - see book/src/week1/day2.md\")";
const TODO_WHISPER: &str = "todo!(\"week 1 day 2 task 1: whisper - see book/src/week1/day2.md\")";

const REFERENCE: &str = "//! Day 1.2.

/// `text` in capitals with an exclamation mark.
pub fn shout(text: &str) -> String {
    // [task 1.2.1] shout
    text.to_uppercase() + \"!\"
    // [end]
}

/// `text` in small letters.
pub fn whisper(text: &str) -> String {
    // [task 1.2.1] whisper
    text.to_lowercase()
    // [end]
}
";

/// Modules in place of cases, with the names that rstest gives.
const TESTS: &str = "//! Day 1.2.

use tiny_llm::words::{shout, whisper};

#[test]
fn task_1_shout() {
    assert_eq!(shout(\"hey\"), \"HEY!\");
}

#[test]
fn task_1_shout_and_whisper() {
    assert_eq!(whisper(&shout(\"Hey\")), \"hey!\");
}

mod task_1_whisper {
    #[test]
    fn name_1___short_f32__() {
        assert_eq!(super::whisper(\"Hey\"), \"hey\");
    }

    #[test]
    fn name_2___short_f16__() {
        assert_eq!(super::whisper(\"HEY\"), \"hey\", \"read /a/b/../c and crates/x/../y\");
    }

    #[test]
    fn name_3___long_f32__() {
        assert_eq!(super::whisper(\"Hey, you\"), \"hey, you\");
    }
}
";

fn course() -> Course {
    let course = Course::untouched();
    course.write("reference/src/words.rs", REFERENCE);
    course.write("tests/chapters/week1_day2.rs", TESTS);
    course.edit("tests/chapters.toml", "\"words::shout\"", "\"words::shout\", \"words::whisper\"");
    assert_eq!(course.run(&["author", "stubs", "--force"]).code, 0);
    course
}

#[test]
fn one_of_two_functions_is_written() {
    let course = course();
    let untouched = course.run(&["check", "1.2"]);
    assert!(untouched.stdout.contains("Nothing is written here yet"), "{}", untouched.stdout);
    course.edit(WORDS, TODO_WHISPER, "text.to_lowercase()");
    course.assert_golden("begun", &course.run(&["check", "1.2"]));
    // It was tried, and is not done.
    assert!(course.run(&["progress"]).stdout.contains("✗   0/1"));
}

#[test]
fn a_failing_test_names_its_function_and_what_it_has_in_common_with_others() {
    let course = course();
    course.edit(WORDS, TODO_SHOUT, "text.to_uppercase() + \"!\"");
    course.edit(WORDS, TODO_WHISPER, "text.replace('H', \"h\")");
    course.assert_golden("half_wrong", &course.run(&["check", "1.2"]));
    // With the other one open the wrong one is still where to look.
    course.edit(WORDS, "text.to_uppercase() + \"!\"", TODO_SHOUT);
    course.assert_golden("half_wrong_half_open", &course.run(&["check", "1.2"]));
}

#[test]
fn what_comes_after_a_task_and_after_a_day() {
    let course = course();
    course.write_double("2.0 * x");
    course.assert_golden("task_done", &course.run(&["check", "1.1.1"]));
    let progress = course.run(&["progress"]);
    assert!(progress.stdout.contains("Next: 1.1.2 doubled sum"), "{}", progress.stdout);
    assert!(progress.stdout.contains("write   crates/tiny-llm/src/numbers.rs:16"), "{}", progress.stdout);
    let doctor = course.run(&["doctor"]);
    assert!(doctor.stdout.contains("1 of 3 tasks passed when last checked"), "{}", doctor.stdout);
    if doctor.code == 0 {
        assert!(doctor.stdout.contains("Go on with 1.1.2 doubled sum"), "{}", doctor.stdout);
    }
}

#[test]
fn a_solved_crate_is_not_called_unfinished() {
    let course = course();
    let why = |course: &Course| course.run(&["chat", "hello"]).stderr;
    assert!(why(&course).contains("yours talks after day 1.2, and day 1.1 is not done"), "{}", why(&course));
    let solve = |id: &str| course.run(&["solve", id]).stdout;
    assert!(solve("1.1").contains("A check ticks it off: cargo xtask check 1.1\n"));
    // Both days wait for a check now.
    assert!(solve("1.2").contains("A check ticks it off: cargo xtask check 1\n"));
    let expected = "2 days of yours are written, but no check has passed them: cargo xtask check 1;";
    assert!(why(&course).contains(expected), "{}", why(&course));
    assert_eq!(course.run(&["check", "1.1"]).code, 0);
    let expected = "day 1.2 of yours is written, but no check has passed it: cargo xtask check 1.2;";
    assert!(why(&course).contains(expected), "{}", why(&course));
}

#[test]
fn diff_counts_first_and_leaves_out_other_processors() {
    let course = course();
    let foreign = if ARCH == "x86_64" { "aarch64" } else { "x86_64" };
    let modules = |name: &str| format!("#[cfg(target_arch = \"{foreign}\")]\nmod foreign;\npub mod {name};");
    course.edit("reference/src/lib.rs", "pub mod words;", &modules("words"));
    let function = "pub fn other() {\n    // [task 1.1.1] of another processor\n    drop(1);\n    // [end]\n}\n";
    course.write("reference/src/foreign.rs", function);
    assert_eq!(course.run(&["author", "stubs", "--force"]).code, 0);

    course.write_double("let factor = 2.0;\n    factor * x");
    course.assert_golden("diff_stat", &course.run(&["diff", "1.1", "--stat"]));
    let ran = course.run(&["diff", "1.1.1"]);
    assert!(!ran.stdout.contains("drop(1)"), "{}", ran.stdout);
    assert!(ran.stdout.contains("1 piece for other processors is left out"), "{}", ran.stdout);
    // Nor is it something to write here.
    assert_eq!(course.run(&["check", "1.1.1"]).code, 0);
}
