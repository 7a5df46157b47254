//! `bench` before it measures anything: mistakes in its arguments, and machines that lack something.
#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use support::{Course, Ran};

/// Exit code 2 and exactly this line.
fn assert_refused(ran: &Ran, line: &str) {
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{}", ran.stderr);
    assert_eq!(ran.stderr.trim(), format!("error: {line}"));
}

#[test]
fn mistakes_are_one_line() {
    let course = Course::untouched();
    assert_refused(
        &course.run(&["bench", "--compare", "vllm"]),
        "there is no peer `vllm` to compare with; choose from llama.cpp, mlx-lm",
    );
    assert_refused(
        &course.run(&["bench", "--stages", "dense,fast"]),
        "there is no stage `fast`; choose from dense, cached, packed, quantized, fused, flash, or all",
    );
    assert_refused(
        &course.run(&["bench", "--repeats", "many"]),
        "`--repeats many` does not work; give a whole number, at least 1",
    );
}

/// Runs `bench --compare mlx-lm` with a Python that is this shell script.
fn with_python(course: &Course, script: &str) -> Ran {
    let programs = course.path("programs");
    fs::create_dir_all(&programs).unwrap();
    let python = programs.join("python3");
    fs::write(&python, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = course.command(&["bench", "--compare", "mlx-lm"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", programs.display())).env("TINY_LLM_CACHE", course.path("cache"));
    Ran::from(command.output().unwrap())
}

/// The last line on standard error, and that nothing half-made is left where the peer would be looked for.
fn last_line<'a>(course: &Course, ran: &'a Ran) -> &'a str {
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(!course.path("cache/bench/environments/mlx-lm-0.32.2").exists());
    ran.stderr.trim().lines().last().unwrap()
}

#[test]
fn a_python_without_environments_is_explained() {
    let course = Course::untouched();
    let ran =
        with_python(&course, "echo 'The virtual environment was not created: ensurepip is not available.'; exit 1");
    let line = last_line(&course, &ran);
    assert!(line.starts_with("error: this Python cannot make virtual environments; install"), "{line}");
    assert!(line.contains("apt install python3-venv"), "{line}");
}

#[test]
fn a_pip_that_fails_is_explained_and_its_words_are_kept() {
    let course = Course::untouched();
    // Makes an "environment" whose interpreter cannot reach the package index.
    let script = "mkdir -p \"$3/bin\"\n\
        printf '#!/bin/sh\\necho collecting\\necho Failed to establish a new connection >&2\\nexit 1\\n' > \"$3/bin/python\"\n\
        chmod +x \"$3/bin/python\"";
    let ran = with_python(&course, script);
    let line = last_line(&course, &ran);
    assert!(line.starts_with("error: mlx-lm could not be installed: the package index cannot be reached"), "{line}");
    let log = line.rsplit(' ').next().unwrap();
    let said = fs::read_to_string(Path::new(log)).unwrap();
    assert!(said.contains("collecting") && said.contains("Failed to establish"), "{said}");
    // The next call starts over.
    assert!(with_python(&course, script).stderr.contains("setup: installing mlx-lm"));
}
