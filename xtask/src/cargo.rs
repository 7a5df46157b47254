//! Calls of Cargo: building test binaries and reading what the compiler said.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;

use tinyjson::JsonValue;

use crate::error::{Error, Result};
use crate::output;
use crate::process::{self, Line};
use crate::style::Style;
use crate::tell;

/// A Cargo command in the folder `root`, free of the variables that describe the runner's own
/// package (they would make build scripts run again).
pub fn command(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(root);
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy();
        let describes_us =
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST") || name.starts_with("CARGO_BIN_");
        if describes_us {
            command.env_remove(&key);
        }
    }
    command
}

/// An executable that Cargo built.
#[derive(Debug, Clone)]
pub struct Binary {
    /// Its target, such as the test `week1_day1`.
    pub name: String,
    pub path: PathBuf,
    /// The folder of its package: Cargo runs test binaries there.
    pub package: PathBuf,
}

/// An error as the compiler rendered it.
#[derive(Debug, Clone)]
pub struct CompileError {
    /// The target it arose in: a library or a test file.
    pub target: String,
    pub rendered: String,
    /// The lines that it is about.
    pub places: Vec<Place>,
}

/// A line of a source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As the compiler was given it: relative to the workspace, or absolute.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
}

#[derive(Debug)]
pub enum Built {
    Binaries(Vec<Binary>),
    /// The code does not compile.
    Errors(Vec<CompileError>),
}

/// Whether Cargo's progress should be seen while it builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Shown,
    Hidden,
}

/// Builds the test targets `tests` of `package`; `command` comes from [`command`].
pub fn build_tests(
    mut command: Command,
    package: &str,
    tests: &[&str],
    style: Style,
    progress: Progress,
) -> Result<Built> {
    let format = if style.is_coloured() { "json-diagnostic-rendered-ansi" } else { "json" };
    command.args(["test", "--no-run", "--package", package, "--message-format", format]);
    for test in tests {
        command.args(["--test", test]);
    }
    build(command, progress)
}

/// Builds the library of `package` as a dependency of the learner's tests.
///
/// Cargo unifies features over the packages that are asked for, and counts dev-dependencies only where something that
/// may use them is built. The package of the tests and `--examples` (it has none) make the library and all that it depends
/// on the same as for `check`, instead of a second build.
pub fn build_library(mut command: Command, package: &str, progress: Progress) -> Result<Built> {
    command.args(["build", "--lib", "--examples", "--package", package, "--package", "tests-student"]);
    command.args(["--message-format", "json"]);
    build(command, progress)
}

/// Builds what `command` asks for; its binaries, or the compiler's errors.
pub fn build(mut command: Command, progress: Progress) -> Result<Built> {
    let mut messages = Messages::default();
    let mut display = BuildDisplay::new(progress);
    let finished = process::run_captured(&mut command, None, &mut |line| {
        if let Line::Stderr(line) = line {
            display.line(line);
        }
    })?;
    display.clear();
    for line in finished.stdout.lines() {
        messages.read(line);
    }
    if finished.succeeded() {
        return Ok(Built::Binaries(messages.binaries));
    }
    if messages.errors.is_empty() {
        // No compiler ran: a manifest is broken, a dependency cannot be fetched, a linker is missing.
        return Err(cargo_failed(&finished.stderr));
    }
    Ok(Built::Errors(messages.errors))
}

/// Cargo's own explanation as one error; its first `error:` line is the reason, the rest detail.
fn cargo_failed(stderr: &str) -> Error {
    let reason = stderr.lines().skip_while(|line| !line.starts_with("error")).take(12).collect::<Vec<_>>().join("\n");
    let reason = if reason.is_empty() { stderr.trim().to_owned() } else { reason };
    Error::new(format!("cargo could not build: {}", reason.trim()))
        .remedy("`cargo xtask doctor` says what this machine lacks")
}

#[derive(Default)]
struct Messages {
    binaries: Vec<Binary>,
    errors: Vec<CompileError>,
}

impl Messages {
    fn read(&mut self, line: &str) {
        let Ok(message) = line.parse::<JsonValue>() else { return };
        match text(&message, &["reason"]) {
            Some("compiler-artifact") => self.binaries.extend(binary(&message)),
            Some("compiler-message") => self.errors.extend(compile_error(&message)),
            _ => {}
        }
    }
}

fn binary(message: &JsonValue) -> Option<Binary> {
    let path = PathBuf::from(text(message, &["executable"])?);
    let package = Path::new(text(message, &["manifest_path"])?).parent()?.to_owned();
    Some(Binary { name: text(message, &["target", "name"])?.to_owned(), path, package })
}

fn compile_error(message: &JsonValue) -> Option<CompileError> {
    let is_error = text(message, &["message", "level"])?.starts_with("error");
    let rendered = text(message, &["message", "rendered"])?.trim_end().to_owned();
    // "aborting due to 2 previous errors" and "Some errors have detailed explanations" add nothing.
    let is_summary = text(message, &["message", "message"])?.starts_with("aborting due to");
    let target = text(message, &["target", "name"])?.to_owned();
    (is_error && !is_summary).then(|| CompileError { target, rendered, places: places(message) })
}

/// Where the compiler points to.
fn places(message: &JsonValue) -> Vec<Place> {
    let place = |span: &JsonValue| {
        let is_primary = *field(span, "is_primary")?.get::<bool>()?;
        let line = *field(span, "line_start")?.get::<f64>()? as usize;
        is_primary.then_some(Place { file: text(span, &["file_name"])?.to_owned(), line })
    };
    let spans = field(message, "message").and_then(|message| field(message, "spans")?.get::<Vec<JsonValue>>());
    spans.map(|spans| spans.iter().filter_map(place).collect()).unwrap_or_default()
}

fn field<'a>(value: &'a JsonValue, key: &str) -> Option<&'a JsonValue> {
    value.get::<std::collections::HashMap<String, JsonValue>>()?.get(key)
}

/// The string at a path of object keys.
pub fn text<'a>(value: &'a JsonValue, path: &[&str]) -> Option<&'a str> {
    let value = path.iter().try_fold(value, |value, key| field(value, key))?;
    value.get::<String>().map(String::as_str)
}

/// Cargo's "Compiling x" lines on one line of standard error that is overwritten; on something
/// that is not a terminal every line, so that a log shows what took the time.
struct BuildDisplay {
    progress: Progress,
    terminal: bool,
    written: bool,
}

impl BuildDisplay {
    fn new(progress: Progress) -> Self {
        Self { progress, terminal: io::stderr().is_terminal(), written: false }
    }

    fn line(&mut self, line: &str) {
        let line = line.trim();
        let news = ["Compiling", "Downloading", "Downloaded", "Updating", "Blocking", "Building"];
        if self.progress == Progress::Hidden || !news.iter().any(|word| line.starts_with(word)) {
            return;
        }
        if self.terminal {
            let short: String = line.chars().take(76).collect();
            output::replace_error_line(&short);
            self.written = true;
        } else {
            tell!("{line}");
        }
    }

    fn clear(&self) {
        if self.written {
            output::replace_error_line("");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_and_errors_are_told_apart() {
        let mut messages = Messages::default();
        let lines = [
            r#"{"reason":"compiler-artifact","manifest_path":"/w/tests/student/Cargo.toml","target":{"name":"week1_day1"},"executable":"/t/week1_day1-abc"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/w/x/Cargo.toml","target":{"name":"x"},"executable":null}"#,
            r#"{"reason":"compiler-message","target":{"name":"tiny_llm"},"message":{"level":"warning","message":"unused","rendered":"warning: unused"}}"#,
            r#"{"reason":"compiler-message","target":{"name":"tiny_llm"},"message":{"level":"error","message":"mismatched types","rendered":"error[E0308]: mismatched types\n","spans":[{"file_name":"src/a.rs","line_start":7,"is_primary":true},{"file_name":"src/a.rs","line_start":3,"is_primary":false}]}}"#,
            r#"{"reason":"compiler-message","target":{"name":"tiny_llm"},"message":{"level":"error","message":"aborting due to 1 previous error","rendered":"error: aborting"}}"#,
            "not json",
        ];
        for line in lines {
            messages.read(line);
        }
        assert_eq!(messages.binaries.len(), 1);
        assert_eq!(messages.binaries[0].package, Path::new("/w/tests/student"));
        assert_eq!(messages.errors.len(), 1);
        assert_eq!(messages.errors[0].rendered, "error[E0308]: mismatched types");
        assert_eq!(messages.errors[0].places, [Place { file: "src/a.rs".to_owned(), line: 7 }]);
    }

    #[test]
    fn cargos_own_failure_is_quoted_from_its_first_error_line() {
        let error = cargo_failed("   Compiling x\nerror: failed to parse manifest\n\nCaused by: y\n");
        assert!(error.to_string().starts_with("cargo could not build: error: failed to parse"));
    }
}
