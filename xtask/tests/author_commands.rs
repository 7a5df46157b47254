//! The authors' tools on the miniature course: what is right passes, what is wrong is found.

mod support;

use std::process::Command;

use support::Course;

#[test]
fn a_sound_course_passes() {
    let course = Course::untouched();
    let ran = course.run(&["author", "check"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    for line in [
        "list       3 right, 0 wrong",
        "rules      2 right, 0 wrong",
        "wrong      2 right, 0 wrong",
        "mutants    5 right, 0 wrong",
    ] {
        assert!(ran.stdout.contains(line), "{line:?} is missing:\n{}", ran.stdout);
    }
}

#[test]
fn a_rule_without_a_test_is_found() {
    let course = Course::untouched();
    course.edit("book/src/week1/day1.md", "## Task 1: double\n", "## Task 1: double\n\n- It must not round.\n");
    course.edit("tests/rules/week1_day2.toml", "task_1_shout", "task_1_whisper");
    let ran = course.run(&["author", "check", "--only", "rules"]);
    assert_eq!(ran.code, 1);
    for part in [
        "day 1.1: Task 1 states a rule without a test: \"It must not round.\"",
        "names the test task_1_whisper, which is not there",
    ] {
        assert!(ran.stdout.contains(part), "{part:?} is missing:\n{}", ran.stdout);
    }
}

#[test]
fn a_test_that_accepts_wrong_answers_is_found() {
    let course = Course::untouched();
    // Passes on the stub, belongs to no task, and lets the mutant live.
    let test = "tests/chapters/week1_day1.rs";
    let text = course.read(test);
    let cut = text.find("#[test]\nfn task_2").unwrap();
    course.write(test, &format!("{}#[test]\nfn task_2_nothing() {{}}\n\n#[test]\nfn stray() {{}}\n", &text[..cut]));
    let ran = course.run(&["author", "check", "--chapter", "1.1"]);
    assert_eq!(ran.code, 1);
    for part in [
        "1.1.2: the untouched stub is \"pass\"",
        "1.1.2: task_2_nothing passes on the untouched stub",
        "1.1: the test stray belongs to 0 tasks",
        "mutant double-triples (the factor is 3): the tests of 1.1.2 accept it",
    ] {
        assert!(ran.stdout.contains(part), "{part:?} is missing:\n{}", ran.stdout);
    }
}

#[test]
fn a_target_folder_elsewhere_keeps_the_courses_cargo_configuration() {
    let course = Course::untouched();
    std::fs::create_dir_all(course.path(".cargo")).unwrap();
    course.write(".cargo/config.toml", "[env]\nOF_THE_COURSE = \"yes\"\n");
    let test = "tests/chapters/week1_day2.rs";
    course.write(test, &format!("{}\nconst _: &str = env!(\"OF_THE_COURSE\");\n", course.read(test)));
    let elsewhere = course.root.with_extension("target");
    let arguments = ["author", "check", "--only", "stubs", "--chapter", "1.2"];
    let ran = course.command(&arguments).env("CARGO_TARGET_DIR", &elsewhere).output().unwrap();
    let _ = std::fs::remove_dir_all(&elsewhere);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn a_mutant_outside_a_body_gets_a_build_of_its_own() {
    let course = Course::untouched();
    let list = "tests/mutants/week1.toml";
    let signature = "fn times(factor: f32, x: f32) -> f32 {";
    let swapped = format!(
        "\n[[mutant]]\nid = \"times-adds\"\nfile = \"src/numbers.rs\"\nkills = [\"1.1.2\"]\ndescription = \"added\"\n\
         find = \"\"\"{signature}\n    factor * x\"\"\"\nreplace = \"\"\"{signature}\n    factor + x\"\"\"\n"
    );
    course.write(list, &format!("{}{swapped}", course.read(list)));
    let ran = course.run(&["author", "check", "--only", "mutants", "--mutant", "times-adds"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    // No build with several mutants was made, so none had to be shown harmless.
    assert!(ran.stdout.ends_with("mutants    1 right, 0 wrong\n"), "{}", ran.stdout);
}

#[test]
fn broken_mutants_are_authoring_errors() {
    let course = Course::untouched();
    let list = "tests/mutants/week1.toml";
    course.edit(list, "times(3.0, x)", "times(3.0, y)");
    course.edit(list, "while loud.len() > 1 {}", "");
    course.edit(list, "find = \"loud.push('!');\"", "find = \"loud\"");
    let ran = course.run(&["author", "check", "--only", "mutants"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("it does not compile: error[E0425]"), "{}", ran.stdout);
    assert!(ran.stdout.contains("its text occurs"), "{}", ran.stdout);
}

#[test]
fn an_incomplete_list_is_found() {
    let course = Course::untouched();
    course.edit("tests/chapters.toml", "\"Multiply by two.\", ", "");
    course.edit("tests/chapters.toml", "task-2-doubled-sum", "task-2-sum");
    course.edit("tests/chapters.toml", "numbers.txt", "lost.txt");
    course.edit("book/src/week1/day1.md", "```rust", "```");
    course.edit("reference/src/words.rs", "[task 1.2.1] shout", "[task 1.2.7] shout");
    let pieces = "tests = \"task_2_\"\npieces = [\"task_2_doubled: doubled\"]";
    course.edit("tests/chapters.toml", "tests = \"task_2_\"", pieces);
    let ran = course.run(&["author", "check", "--only", "list"]);
    assert_eq!(ran.code, 1);
    for part in [
        "task 1.1.1: it must have 3 hints, none of them empty",
        "task 1.1.2: week1/day1.md has no heading with the anchor #task-2-sum",
        "day 1.1: the fixture lost.txt is missing",
        "book/src/week1/day1.md:7: a code fence has no language",
        "reference/src/words.rs: `// [task 1.2.7] shout` names no task of the list",
        "task 1.2.1: no region of the reference belongs to it",
        "task 1.1.2: `task_2_doubled: doubled` of `pieces` names no marker of the task",
    ] {
        assert!(ran.stdout.contains(part), "{part:?} is missing:\n{}", ran.stdout);
    }
}

#[test]
fn stubs_out_of_sync_are_found_and_uncommitted_work_is_not_overwritten() {
    let course = Course::untouched();
    assert_eq!(course.run(&["author", "stubs", "--check"]).code, 0);
    let git = |arguments: &[&str]| {
        let name = ["-c", "user.name=t", "-c", "user.email=t@t"];
        let ran = Command::new("git").current_dir(&course.root).args(name).args(arguments).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "all"]);
    course.write("crates/tiny-llm/src/numbers.rs", "// all my work\n");

    let ran = course.run(&["author", "stubs", "--check"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("differs: crates/tiny-llm/src/numbers.rs"), "{}", ran.stdout);
    let ran = course.run(&["author", "stubs"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("crates/tiny-llm/src/numbers.rs has changes that are not committed"), "{}", ran.stderr);
    assert_eq!(course.read("crates/tiny-llm/src/numbers.rs"), "// all my work\n");
    assert_eq!(course.run(&["author", "stubs", "--force"]).code, 0);
    assert_eq!(course.run(&["author", "stubs", "--check"]).code, 0);
}

#[test]
fn the_suite_counts_and_names_its_steps() {
    let course = Course::untouched();
    assert!(course.run(&["test", "--list"]).stdout.contains("  mutants    "));
    let ran = course.run(&["test", "--only", "fmt,stubs,list,unit"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    // One for each of fmt and stubs, three tasks, and two unit tests.
    assert_eq!(ran.stdout.lines().last(), Some("7 passed, 0 failed"), "{}", ran.stdout);

    course.edit("reference/src/words.rs", "\"A!\"", "\"B!\"");
    let ran = course.run(&["test", "--only", "unit"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.stdout.lines().last(), Some("1 passed, 1 failed"), "{}", ran.stdout);
    assert!(ran.stdout.contains("assertion `left == right` failed"), "{}", ran.stdout);
}
