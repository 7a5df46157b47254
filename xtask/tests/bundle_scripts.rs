//! The scripts of a bundle, on a bundle of small test programs that pass, fail and crash.
#![cfg(target_os = "linux")]
// In a test a panic is the right answer to a surprise.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Real programs of libtest, because the scripts read what it writes.
const RIGHT: &str = r#"
#[test] fn a() {}
#[test] #[should_panic] fn b_panics() { panic!() }
#[test] #[ignore = "slow"] fn c_slow() {}
"#;
const WRONG: &str = r#"
#[test] fn a() { println!("test z ... ok") }
mod inner { #[test] fn b_is_wrong() { assert_eq!(1, 2) } }
#[test] fn c() {}
"#;
/// It writes past libtest, as a library in C++ does, and dies twice.
const CRASHING: &str = r#"
use std::io::Write;
#[test] fn a_prints() { std::io::stdout().lock().write_all(b"from below ").unwrap() }
#[test] fn b_aborts() { std::process::abort() }
#[test] fn c() {}
#[test] fn d_exits() { std::process::exit(7) }
#[test] fn e_is_wrong() { panic!() }
"#;
/// Says of a test what its name asks for, as compute-sanitizer does.
const SANITIZER: &str = r#"#!/bin/sh
echo "========= COMPUTE-SANITIZER"
while [ "$1" != --exact ]; do program=$1; shift; done
"$program" "$@"
status=$?
case "$2" in
*leaves*) echo "========= Error: Target application terminated before first instrumented API call"; exit 1 ;;
*writes*) echo "========= Invalid __global__ write of size 4 bytes"; echo "========= ERROR SUMMARY: 3 errors"; exit 99 ;;
*once_late*)
    if mkdir "$0.$2" 2>/dev/null; then
        printf 'test x ... ========= Error: CUDA initialized before the Sanitizer. The Sanitizer will be disabled\n'
        echo "========= ERROR SUMMARY: 1 error"; exit 99
    fi ;;
*late*) echo "========= Error: CUDA initialized before the Sanitizer"; echo "========= ERROR SUMMARY: 1 error"; exit 99 ;;
*remark*) echo "========= Warning: slow" ;;
*unseen*) echo "========= Internal Sanitizer Error: out of memory"; exit 255 ;;
esac
echo "========= ERROR SUMMARY: 0 errors"
exit $status
"#;

struct Bundle(PathBuf);

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Bundle {
    /// For CUDA 13, whose headers and libraries seem to be there.
    fn new(programs: &[(&str, &str)]) -> Self {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("xtask bundle {}-{number}", std::process::id()));
        for name in ["bin", "tests", "cuda/include"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let bundle = Self(folder);
        let manifest = format!("backend: cuda13\narchitecture: {}\nnvidia: libcuda.so.1\n", std::env::consts::ARCH);
        fs::write(bundle.0.join("manifest.txt"), manifest).unwrap();
        fs::write(bundle.0.join("cuda/include/cuda_fp16.h"), "").unwrap();
        fs::copy("/bin/true", bundle.0.join("bin/tiny-llm")).unwrap();
        xtask::bundle::write_scripts(&bundle.0).unwrap();
        for (name, source) in programs {
            let file = bundle.0.join(format!("{name}.rs"));
            fs::write(&file, source).unwrap();
            let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
            let mut compile = Command::new(rustc);
            compile.args(["--test", "--edition=2024", "-o"]).arg(bundle.0.join("tests").join(name)).arg(&file);
            assert!(compile.status().unwrap().success(), "{name}");
        }
        bundle
    }

    fn with_sanitizer(self) -> Self {
        let script = self.0.join("cuda/bin/compute-sanitizer");
        fs::create_dir_all(script.parent().unwrap()).unwrap();
        fs::write(&script, SANITIZER).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// One process at a time, so that all lines have their order.
    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with("1", arguments)
    }

    fn run_with(&self, jobs: &str, arguments: &[&str]) -> Ran {
        let mut command = Command::new(self.0.join("run"));
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("CUDA_HOME", self.0.join("cuda"));
        command.env("TINY_LLM_JOBS", jobs);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The lines, with one space for several, without seconds and without the text in place of the folder.
fn lines(text: &str, folder: &Path) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let is_time = |word: &[String]| word.len() == 2 && word[0].parse::<u64>().is_ok() && word[1] == "s";
    let mut all = Vec::new();
    for line in text.replace(folder.to_str().unwrap(), "BUNDLE").lines() {
        let mut words = words(line);
        while let Some(at) = words.windows(2).position(is_time) {
            words.drain(at..at + 2);
        }
        all.push(words.join(" "));
    }
    all
}

#[test]
fn all_that_pass_make_one_line_each() {
    let bundle = Bundle::new(&[("gpu", RIGHT)]);
    let ran = bundle.run(&["tests"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let expected =
        ["ok tests/gpu 2 passed, 1 ignored,", "1 test programs passed, 0 did not; what they wrote is in BUNDLE/logs"];
    assert_eq!(lines(&ran.stdout, &bundle.0), expected);
}

#[test]
fn a_crash_is_named_and_what_comes_behind_it_still_runs() {
    let bundle = Bundle::new(&[("gpu", CRASHING), ("week2_day3", WRONG), ("week2_day5", RIGHT)]);
    let ran = bundle.run(&["tests"]);
    assert_eq!(ran.code, Some(1), "{}{}", ran.stdout, ran.stderr);
    let expected = [
        "CRASHED tests/gpu 2 passed, 1 failed, 2 crashed,",
        "crashed: b_aborts (signal 6)",
        "crashed: d_exits (exit status 7)",
        "failed: e_is_wrong",
        "FAILED tests/week2_day3 2 passed, 1 failed,",
        "failed: inner::b_is_wrong",
        "ok tests/week2_day5 2 passed, 1 ignored,",
        "1 test programs passed, 2 did not; what they wrote is in BUNDLE/logs",
    ];
    assert_eq!(lines(&ran.stdout, &bundle.0), expected);
    let log = fs::read_to_string(bundle.path("logs/week2_day3.txt")).unwrap();
    assert!(log.contains("left: 1"), "{log}");
}

#[test]
fn several_processes_find_what_one_finds() {
    let bundle = Bundle::new(&[("gpu", CRASHING), ("week2_day3", WRONG)]);
    let sorted = |jobs| {
        let ran = bundle.run_with(jobs, &["tests"]);
        assert_eq!(ran.code, Some(1), "{jobs}: {}{}", ran.stdout, ran.stderr);
        let mut lines = lines(&ran.stdout, &bundle.0);
        lines.sort();
        lines
    };
    let one = sorted("1");
    for jobs in ["2", "3", "16"] {
        assert_eq!(sorted(jobs), one, "{jobs} processes");
    }
    let left: Vec<_> = fs::read_dir(bundle.path("logs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    for jobs in ["0", "x", "-1"] {
        let ran = bundle.run_with(jobs, &["tests"]);
        let expected = format!("error: TINY_LLM_JOBS is `{jobs}`, and must be a number from 1 on");
        assert_eq!((ran.code, ran.stderr.trim()), (Some(2), expected.as_str()));
    }
}

#[test]
fn a_program_that_cannot_start_is_no_success() {
    let bundle = Bundle::new(&[]);
    fs::copy("/bin/false", bundle.path("tests/gpu")).unwrap();
    let ran = bundle.run(&["tests"]);
    assert_eq!(ran.code, Some(1), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.starts_with("CRASHED  tests/gpu          it cannot list its tests;"), "{}", ran.stdout);
}

#[test]
fn one_file_takes_the_arguments_of_libtest() {
    let bundle = Bundle::new(&[("gpu", WRONG)]);
    let ran = bundle.run(&["tests", "gpu", "inner"]);
    assert!(ran.code == Some(101) && ran.stdout.contains("inner::b_is_wrong ... FAILED"), "{}", ran.stdout);
    let ran = bundle.run(&["tests", "gpv"]);
    assert_eq!((ran.code, ran.stderr.trim()), (Some(2), "error: there is no tests/gpv; there are: gpu"));
}

#[test]
fn the_sanitizer_sees_each_test_in_a_process_of_its_own() {
    let source = "
        #[test] fn adds() {}
        #[test] fn leaves_early() {}
        #[test] fn makes_a_remark() {}
        #[test] #[ignore] fn slow() {}
    ";
    let bundle = Bundle::new(&[("gpu", source)]).with_sanitizer();
    let ran = bundle.run(&["sanitize"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let expected = [
        "ok adds",
        "no-cuda leaves_early passed without a call of CUDA",
        "ok makes_a_remark Warning: slow",
        "ignored slow",
        "4 tests: 0 with an error, 1 without a call of CUDA; what the sanitizer wrote is in BUNDLE/logs/sanitizer",
    ];
    assert_eq!(lines(&ran.stdout, &bundle.0), expected);
    let ran = bundle.run(&["sanitize", "nothing"]);
    assert_eq!((ran.code, ran.stderr.trim()), (Some(2), "error: no test of tests/gpu has `nothing` in its name"));
}

#[test]
fn each_error_under_the_sanitizer_counts() {
    let source = "
        #[test] fn adds() {}
        mod far { #[test] fn writes_far() {} }
        #[test] fn is_unseen() {}
        #[test] fn is_wrong() { panic!() }
        #[test] fn late() {}
        #[test] fn leaves_wrong() { panic!() }
        #[test] fn once_late() {}
    ";
    let bundle = Bundle::new(&[("gpu", source)]).with_sanitizer();
    let ran = bundle.run(&["sanitize"]);
    assert_eq!(ran.code, Some(1), "{}{}", ran.stdout, ran.stderr);
    let expected = [
        "ok adds",
        "ERRORS far::writes_far 3 by memcheck, the first: Invalid __global__ write of size 4 bytes",
        "UNSEEN is_unseen the sanitizer did not finish (exit status 255): \
         Internal Sanitizer Error: out of memory",
        "FAILED is_wrong no error of memory, but the test fails (exit status 101)",
        "UNSEEN late 5 tries, and each time: Error: CUDA initialized before the Sanitizer",
        "FAILED leaves_wrong without a call of CUDA",
        "ok once_late",
        "7 tests: 5 with an error, 0 without a call of CUDA; what the sanitizer wrote is in BUNDLE/logs/sanitizer",
    ];
    assert_eq!(lines(&ran.stdout, &bundle.0), expected);
    // Several at the same time keep the order of their lines.
    assert_eq!(lines(&bundle.run_with("4", &["sanitize"]).stdout, &bundle.0), expected);
    assert_eq!(bundle.run(&["sanitize", "adds"]).code, Some(0));
}

#[test]
fn what_is_missing_is_said_in_one_line() {
    let bundle = Bundle::new(&[("gpu", RIGHT)]);
    let ran = bundle.run(&["sanitize"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stdout);
    assert!(
        ran.stderr.starts_with("error: compute-sanitizer is missing: install the CUDA toolkit 13"),
        "{}",
        ran.stderr
    );

    let manifest = fs::read_to_string(bundle.path("manifest.txt")).unwrap();
    fs::write(bundle.path("manifest.txt"), manifest.replace("cuda13", "cpu")).unwrap();
    let ran = bundle.run(&["sanitize"]);
    let expected = "error: compute-sanitizer watches CUDA, and this bundle is for the CPU";
    assert_eq!((ran.code, ran.stderr.trim()), (Some(2), expected));

    fs::write(bundle.path("manifest.txt"), manifest.replace(std::env::consts::ARCH, "riscv64")).unwrap();
    let ran = bundle.run(&["tests"]);
    assert!(ran.code == Some(2) && ran.stderr.starts_with("error: this bundle is for riscv64"), "{}", ran.stderr);
}
