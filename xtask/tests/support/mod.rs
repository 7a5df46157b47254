//! A copy of the miniature course in a temporary folder, and the runner run on it.
// Every test binary uses its own part; and in a test a panic is the right answer to a surprise.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

pub struct Course {
    pub root: PathBuf,
}

pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Course {
    /// The course as it comes: stubs generated, nothing written.
    pub fn untouched() -> Self {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("xtask-course-{}-{number}", std::process::id()));
        copy(&data().join("course"), &root);
        let course = Self { root: root.canonicalize().unwrap() };
        assert_eq!(course.run(&["author", "stubs"]).code, 0);
        course
    }

    pub fn solved() -> Self {
        let course = Self::untouched();
        assert_eq!(course.run(&["solve", "all"]).code, 0);
        course
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(arguments)
            .current_dir(&self.root)
            .env("TINY_LLM_WORKSPACE", &self.root)
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .env("CARGO_NET_OFFLINE", "true")
            .env("NO_COLOR", "1")
            .env_remove("RUST_BACKTRACE");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().unwrap())
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    pub fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).unwrap()
    }

    pub fn write(&self, relative: &str, text: &str) {
        fs::write(self.path(relative), text).unwrap();
    }

    /// Replaces a text that must be there.
    pub fn edit(&self, relative: &str, from: &str, to: &str) {
        let text = self.read(relative);
        assert!(text.contains(from), "{relative} has no {from:?}:\n{text}");
        self.write(relative, &text.replacen(from, to, 1));
    }

    /// Fills task 1.1.1's body with `code`.
    pub fn write_double(&self, code: &str) {
        let todo = "todo!(\"week 1 day 1 task 1: double - see book/src/week1/day1.md\")";
        self.edit("crates/tiny-llm/src/numbers.rs", todo, code);
    }

    /// Compares with `golden/<name>.txt`; times and the temporary folder are blanked out.
    /// `UPDATE_GOLDEN=1 cargo test -p xtask` writes the files instead.
    pub fn assert_golden(&self, name: &str, ran: &Ran) {
        let actual = format!("exit {}\n{}", ran.code, self.normalised(&ran.stdout));
        let actual = match ran.stderr.lines().find(|line| line.starts_with("error:")) {
            Some(error) => format!("{actual}{}\n", self.normalised(error)),
            None => actual,
        };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &actual).unwrap();
            return;
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(actual, expected, "{} differs (UPDATE_GOLDEN=1 rewrites it)", path.display());
    }

    fn normalised(&self, text: &str) -> String {
        blank_times(&text.replace(&self.root.display().to_string(), "ROOT"))
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// `0.57 s` becomes `_.__ s`.
fn blank_times(text: &str) -> String {
    let mut output = String::new();
    let mut rest = text;
    while let Some(index) = rest.find(" s") {
        let (before, after) = rest.split_at(index);
        let digits = before.len() - before.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let number = &before[before.len() - digits..];
        if number.contains('.') && number.len() > 2 {
            output.push_str(&before[..before.len() - digits]);
            output.extend(number.chars().map(|c| if c == '.' { '.' } else { '_' }));
        } else {
            output.push_str(before);
        }
        output.push_str(" s");
        rest = &after[2..];
    }
    output.push_str(rest);
    output
}
