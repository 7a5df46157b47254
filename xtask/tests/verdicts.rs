//! What learners of every kind see, and the exit codes that scripts see.

mod support;

use std::process::Stdio;

use support::Course;

#[test]
fn nothing_written_yet() {
    let course = Course::untouched();
    course.assert_golden("not_started", &course.run(&["check", "1.1"]));
    // Without a chapter: the first unfinished day.
    assert_eq!(course.run(&["check"]).code, 1);
    course.assert_golden("progress_empty", &course.run(&["progress"]));
}

#[test]
fn everything_right() {
    let course = Course::solved();
    course.assert_golden("day_done", &course.run(&["check", "1.1"]));
    course.assert_golden("all_done", &course.run(&["check", "all"]));
    course.assert_golden("progress_done", &course.run(&["progress"]));
    course.assert_golden("both", &course.run(&["check", "1.1", "--solution", "both"]));
}

#[test]
fn a_wrong_answer_with_a_known_cause_and_a_tick_taken_away() {
    let course = Course::solved();
    assert_eq!(course.run(&["check", "1.1"]).code, 0);
    course.edit("crates/tiny-llm/src/numbers.rs", "factor * x", "println!(\"factor {factor}\");\n    x");
    course.assert_golden("wrong", &course.run(&["check", "1.1"]));
    course.assert_golden("progress_tick_taken_away", &course.run(&["progress"]));
}

#[test]
fn a_task_that_waits_for_another() {
    let course = Course::untouched();
    let todo = "todo!(\"week 1 day 1 task 2: doubled_sum - see book/src/week1/day1.md\")";
    course.edit("crates/tiny-llm/src/numbers.rs", todo, "values.iter().map(|x| double(*x)).sum()");
    course.assert_golden("needs_another", &course.run(&["check", "1.1.2"]));
}

#[test]
fn a_panic_of_the_learners_own() {
    let course = Course::untouched();
    course.write_double("[x][x as usize]");
    course.assert_golden("panicked", &course.run(&["check", "1.1.1"]));
}

#[test]
fn a_loop_that_never_ends() {
    let course = Course::untouched();
    course.write_double("if x == 0.0 { loop { std::hint::spin_loop() } } else { 2.0 * x }");
    course.assert_golden("hanging", &course.run(&["check", "1.1", "--time-limit", "1"]));
}

#[test]
fn a_process_that_dies() {
    let course = Course::untouched();
    course.write_double("std::process::abort()");
    let ran = course.run(&["check", "1.1"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("1.1.1  double       crashed"), "{}", ran.stdout);
    assert!(ran.stdout.contains("took the whole test process down: signal: 6"), "{}", ran.stdout);
    assert!(ran.stdout.contains("1.1.2  doubled sum  not started"), "{}", ran.stdout);
}

#[test]
fn code_that_does_not_compile() {
    let course = Course::untouched();
    course.write_double("\"two\"");
    let ran = course.run(&["check", "1.1"]);
    assert_eq!(ran.code, 1);
    for part in [
        "1.1.1  double       does not compile",
        "1.1.2  doubled sum  does not compile",
        "error[E0308]: mismatched types",
        "crates/tiny-llm/src/numbers.rs:6:5",
    ] {
        assert!(ran.stdout.contains(part), "{part:?} is missing:\n{}", ran.stdout);
    }
}

#[test]
fn a_changed_signature() {
    let course = Course::untouched();
    course.edit("crates/tiny-llm/src/numbers.rs", "double(x: f32)", "double(x: &f32)");
    let ran = course.run(&["check", "1.1"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("error[E0308]: mismatched types"), "{}", ran.stdout);
    assert!(ran.stdout.contains("tests/chapters/week1_day1.rs cannot call your crate"), "{}", ran.stdout);
}

#[test]
fn a_dependency_that_is_not_part_of_the_course() {
    let course = Course::solved();
    let dependency = "[dependencies]\ngrader = { path = \"../grader\" }";
    course.edit("crates/tiny-llm/Cargo.toml", "[dependencies]", dependency);
    course.assert_golden("forbidden_dependency", &course.run(&["check", "1.1"]));
}

#[test]
fn json_says_the_same() {
    let course = Course::untouched();
    course.write_double("x");
    let ran = course.run(&["check", "1.1", "--json"]);
    assert_eq!(ran.code, 1);
    let value: tinyjson::JsonValue = ran.stdout.parse().unwrap();
    assert!(!value["passed"].get::<bool>().unwrap());
    let tasks = &value["chapters"][0]["solutions"][0]["tasks"];
    let status = |index: usize| tasks[index]["status"].get::<String>().unwrap().clone();
    assert_eq!((status(0), status(1)), ("fail".to_owned(), "not_started".to_owned()));
    let cause = tasks[0]["cause"].get::<String>().unwrap();
    assert_eq!(cause, "looks like: x came back unchanged");
}

/// The course in miniature has no kernels: the solution writes the lines that the emulator would write.
#[test]
fn what_the_emulator_counted() {
    let course = Course::untouched();
    // Between `r#"` and `"#`, for the solution's source.
    const LINE: &str = concat!(
        r##"r#"{"kernel":"doubling","grid":[64, 2, 1],"threadgroup":[32, 1, 1],"device_bytes_read":READ,"##,
        r##""device_bytes_read_distinct":2048,"device_bytes_written":2048,"device_bytes_written_distinct":2048,"##,
        r##""barriers":4,"threadgroup_memory":128,"worst_bank_conflict":CONFLICT}"#"##
    );
    let solution = |read: &str, conflict: &str| {
        let line = LINE.replace("READ", read).replace("CONFLICT", conflict);
        format!(
            "let path = std::env::var_os(\"TINY_LLM_RESULTS\").unwrap();\n    \
             let stream = std::fs::OpenOptions::new().create(true).append(true).open(path);\n    \
             std::io::Write::write_all(&mut stream.unwrap(), concat!({line}, \"\\n\").as_bytes()).unwrap();\n    \
             2.0 * x"
        )
    };
    course.write_double(&solution("8192", "2"));
    course.edit("reference/src/numbers.rs", "times(2.0, x)", &solution("2048", "1"));
    let ran = course.run(&["check", "1.1", "--solution", "both"]);
    course.assert_golden("kernels", &ran);
    let ran = course.run(&["check", "1.1.1", "--json"]);
    let value: tinyjson::JsonValue = ran.stdout.parse().unwrap();
    let kernel = &value["chapters"][0]["solutions"][0]["tasks"][0]["kernels"][0];
    assert_eq!(*kernel["device_bytes_read"].get::<f64>().unwrap(), 8192.0);
    // A task that fails shows nothing.
    course.edit("crates/tiny-llm/src/numbers.rs", "2.0 * x", "x");
    let ran = course.run(&["check", "1.1.1"]);
    assert!(ran.code == 1 && !ran.stdout.contains("doubling"), "{}", ran.stdout);
}

#[test]
fn mistakes_in_the_call_exit_with_2_and_say_what_to_do() {
    let course = Course::untouched();
    let error = |arguments: &[&str]| {
        let ran = course.run(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.stdout);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        ran.stderr.trim().to_owned()
    };
    assert_eq!(error(&["check", "9.9"]), "error: there is no chapter `9.9`; choose one of 1.1, 1.2, or `all`");
    assert_eq!(error(&["chekc"]), "error: there is no command `chekc`; did you mean `check`?");
    assert!(error(&["check", "--fast"]).contains("`check` has no option `--fast`; see"));
    assert!(error(&["check", "--time-limit", "0"]).contains("at least 1"));
    assert!(error(&["hint"]).contains("for example `cargo xtask hint 1.1.2`"));
    assert!(error(&["hint", "1.1"]).contains("ask for one: 1.1.1, 1.1.2"));
    assert!(error(&["solve"]).contains("`solve` needs a task, a day, a week or `all`"));
    assert!(error(&["serve"]).contains("it comes with week 4"));
    assert!(error(&["setup", "--backend", "abacus"]).contains("abacus"));
    assert!(error(&["test", "--only", "nothing"]).contains("there is no step `nothing`"));
    assert!(error(&["author", "tidy"]).contains("stubs, fixtures, check or bindings"));
    assert!(error(&["book", "burn"]).contains("build, serve [port] or test"));
    assert!(error(&[]).contains("no command was given"));

    course.write("tests/chapters.toml", "[[chapter]]\nid = 7\n");
    assert_eq!(error(&["progress"]), "error: tests/chapters.toml: a chapter: `id` is missing or is not a string");
    std::fs::remove_file(course.path("tests/chapters.toml")).unwrap();
    assert!(error(&["progress"]).contains("holds no tests/chapters.toml"));
}

#[test]
fn help_is_there_for_everything() {
    let course = Course::untouched();
    let overview = course.run(&["--help"]);
    assert_eq!(overview.code, 0);
    for command in ["check", "watch", "hint", "solve", "doctor", "chat", "book", "test", "author"] {
        assert!(overview.stdout.contains(command));
        let help = course.run(&[command, "--help"]);
        assert_eq!(help.code, 0, "{command}");
        assert!(help.stdout.starts_with(&format!("cargo xtask {command}: ")), "{}", help.stdout);
        assert_eq!(course.run(&["help", command]).stdout, help.stdout);
    }
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let course = Course::untouched();
    let mut command = course.command(&["check", "9.9"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(2)); // and not 101, a panic's
    let mut child = course.command(&["--help"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
