//! `cargo xtask doctor`: is this machine set up, and if not, what to do.

use std::env;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::Command;

use crate::cargo::{self, Built, Progress};
use crate::chapters::Course;
use crate::error::{Error, Result};
use crate::exit_code::Verdict;
use crate::next_step;
use crate::process;
use crate::progress::Progress as Passed;
use crate::say;
use crate::setup;
use crate::style::{Colour, Style};
use crate::tell;
use crate::workspace::{Workspace, read_text};

/// One thing that was looked at.
enum Finding {
    Fine(String),
    /// Worth knowing; nothing has to be done.
    Note(String),
    /// What is wrong, and the remedy.
    Broken(String, String),
}

pub fn run(workspace: &Workspace, style: Style) -> Result<Verdict> {
    let on_linux = cfg!(target_os = "linux");
    let mut n_broken = 0;
    let mut tell = |what: &str, finding: Finding| {
        let (mark, colour, text, remedy) = match finding {
            Finding::Fine(text) => ("ok", Colour::Green, text, None),
            Finding::Note(text) => ("note", Colour::Yellow, text, None),
            Finding::Broken(text, remedy) => ("!!", Colour::Red, text, Some(remedy)),
        };
        say!("  {} {what:<14} {text}", style.paint(colour, &format!("{mark:<4}")));
        if let Some(remedy) = remedy {
            n_broken += 1;
            say!("       {:<14} -> {remedy}", "");
        }
    };

    tell("Rust", rust(workspace));
    if on_linux {
        tell("C++ compiler", cpp_compiler());
        tell("pip", pip());
    } else if cfg!(target_os = "macos") {
        tell("CMake", program("cmake", "install it, for example with `brew install cmake`"));
    }
    tell("MLX", mlx(workspace));
    tell("model", model());
    let course = Course::load(workspace);
    match &course {
        Ok(course) => {
            tell("fixtures", fixtures(workspace, course));
            if workspace.uses_mlx() {
                tell(
                    "CPU kernels",
                    cpu_kernels(env::var(KERNEL_VARIABLE).ok().as_deref(), &kernels_of_this_processor()),
                );
            }
            tell("your crate", learner_compiles(workspace));
            tell("progress", progress_so_far(workspace, course));
        }
        Err(error) => tell("course", Finding::Broken(error.to_string(), restore("tests/chapters.toml"))),
    }
    say!();
    if n_broken > 0 {
        return Err(Error::new(format!("{n_broken} of these need your attention")).remedy("follow the arrows above"));
    }
    say!("Your machine is set up. A task that you have not written yet is red and says \"not started\".");
    if let Ok(course) = &course {
        say_where_to_go_on(workspace, course);
    }
    Ok(Verdict::Passed)
}

fn progress_so_far(workspace: &Workspace, course: &Course) -> Finding {
    let passed = Passed::load(workspace).n_passed(course);
    Finding::Fine(format!("{passed} of {} tasks passed when last checked", course.tasks().count()))
}

fn say_where_to_go_on(workspace: &Workspace, course: &Course) {
    let progress = Passed::load(workspace);
    let Some((chapter, task)) = next_step::next_task(course, &progress, None) else {
        say!("Every task is done. Talk to your engine: cargo xtask chat");
        return;
    };
    let verb = if progress.n_passed(course) == 0 { "Begin" } else { "Go on" };
    say!("{verb} with {} {}: {} and `cargo xtask check {}`.", task.id, task.title, chapter.page_of(task), task.id);
}

/// As `quantized::kernel` of the learner's crate reads it.
const KERNEL_VARIABLE: &str = "TINY_LLM_KERNEL";

/// The kernels for quantized products that this processor can run, the fastest first: the rule of `available_kernels`.
fn kernels_of_this_processor() -> Vec<&'static str> {
    let mut names = vec!["portable"];
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx2") && has!("fma") && has!("f16c") {
            names.push("avx2");
            if has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512vnni") {
                names.push("avx512");
            }
        }
    }
    if cfg!(target_arch = "aarch64") {
        names.push("neon");
    }
    names.reverse();
    names
}

fn cpu_kernels(chosen: Option<&str>, available: &[&str]) -> Finding {
    let list = available.join(", ");
    match chosen.filter(|name| !name.is_empty()) {
        None => Finding::Fine(format!("{list}: `chat` and `bench` print the one that they take")),
        Some(name) if available.contains(&name) => Finding::Fine(format!("{name}, by {KERNEL_VARIABLE}; of {list}")),
        Some(name) => Finding::Broken(
            format!("{KERNEL_VARIABLE} is {name:?}, which this processor cannot run"),
            format!("choose one of {list}, or unset it"),
        ),
    }
}

fn restore(file: &str) -> String {
    format!("bring it back with `git checkout -- {file}`")
}

/// A program's `--version`, first line; `None` if it cannot be run.
fn version(program: &str, arguments: &[&str]) -> Option<String> {
    let finished = process::output(Command::new(program).args(arguments)).ok()?;
    finished.succeeded().then(|| finished.stdout.lines().next().unwrap_or_default().trim().to_owned())
}

fn program(name: &str, remedy: &str) -> Finding {
    match version(name, &["--version"]) {
        Some(version) => Finding::Fine(version),
        None => Finding::Broken(format!("`{name}` does not run"), remedy.to_owned()),
    }
}

fn rust(workspace: &Workspace) -> Finding {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let Some(found) = version(&rustc, &["--version"]) else {
        return Finding::Broken("rustc does not run".to_owned(), "install Rust with rustup".to_owned());
    };
    let wanted = read_text(&workspace.root().join("Cargo.toml")).ok().and_then(|manifest| minimum_rust(&manifest));
    let has = found.split_whitespace().nth(1).and_then(numbers);
    match (wanted, has) {
        (Some(wanted), Some(has)) if has < wanted => Finding::Broken(
            format!("{found} is too old: the course needs {}.{}", wanted.0, wanted.1),
            "run `rustup update stable`".to_owned(),
        ),
        _ => Finding::Fine(found),
    }
}

/// `rust-version = "1.95"` of a manifest.
fn minimum_rust(manifest: &str) -> Option<(u32, u32)> {
    let line = manifest.lines().find_map(|line| line.trim().strip_prefix("rust-version = \""))?;
    numbers(line.trim_end_matches('"'))
}

/// `1.95.0-nightly` as (1, 95).
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The compiler that setup would take.
fn cpp_compiler() -> Finding {
    match mlx_setup::compiler() {
        Ok(compiler) => Finding::Fine(version(&compiler, &["--version"]).unwrap_or(compiler)),
        Err(error) => Finding::Broken("none that understands C++20 was found".to_owned(), error.to_string()),
    }
}

fn pip() -> Finding {
    match wheel_fetch::pip_version() {
        // "pip 25.0 from /a/long/path (python 3.12)"
        Some(text) => Finding::Fine(text.split(" from ").next().unwrap_or_default().to_owned()),
        None => Finding::Broken(
            "Python with pip was not found; it fetches MLX and the model".to_owned(),
            "install Python 3.10 or newer with pip (Debian/Ubuntu: `apt install python3-pip`)".to_owned(),
        ),
    }
}

fn mlx(workspace: &Workspace) -> Finding {
    match mlx_setup::status(workspace.root()) {
        _ if !workspace.uses_mlx() => Finding::Note("this course does not use it".to_owned()),
        mlx_setup::Status::NotNeeded => Finding::Fine("cargo builds it from source here".to_owned()),
        mlx_setup::Status::Ready { backend, .. } if !backend.has_driver() => {
            Finding::Broken(setup::no_driver(backend), setup::WITHOUT_DRIVER.to_owned())
        }
        mlx_setup::Status::Ready { backend, folder } => {
            Finding::Fine(format!("backend {backend}, in {}", folder.display()))
        }
        mlx_setup::Status::Missing(why) => {
            Finding::Broken(why, "run `cargo xtask setup` (every other command does it when needed)".to_owned())
        }
    }
}

/// The built-in model is fetched by the first chat; that it is missing is no fault.
fn model() -> Finding {
    match wheel_fetch::cache_dir() {
        Err(error) => Finding::Broken(error.to_string(), "set TINY_LLM_CACHE".to_owned()),
        Ok(cache) => match any_model_in(&cache.join("models")) {
            true => Finding::Fine(format!("cached in {}", cache.display())),
            false => Finding::Note("not fetched yet: the first `cargo xtask chat` does it (about 100 MB)".to_owned()),
        },
    }
}

fn any_model_in(folder: &Path) -> bool {
    // The loader writes this file once a model's checksum was right.
    let verified = |entry: std::fs::DirEntry| entry.path().join("verified").is_file();
    std::fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(verified))
}

fn fixtures(workspace: &Workspace, course: &Course) -> Finding {
    let all: Vec<&String> = course.chapters.iter().flat_map(|chapter| &chapter.fixtures).collect();
    let missing: Vec<String> = all
        .iter()
        .filter(|name| !workspace.fixtures().join(name.as_str()).exists())
        .map(|name| format!("tests/fixtures/{name}"))
        .collect();
    match missing.first() {
        None => Finding::Fine(format!("{} files", all.len())),
        Some(first) => {
            Finding::Broken(format!("{first} is missing ({} in all)", missing.len()), restore("tests/fixtures"))
        }
    }
}

fn learner_compiles(workspace: &Workspace) -> Finding {
    if workspace.uses_mlx() && matches!(mlx_setup::status(workspace.root()), mlx_setup::Status::Missing(_)) {
        return Finding::Note("not compiled: MLX comes first".to_owned());
    }
    if io::stderr().is_terminal() {
        tell!("compiling your crate: some minutes the first time, seconds later");
    }
    match cargo::build_library(cargo::command(workspace.root()), "tiny-llm", Progress::Shown) {
        Ok(Built::Binaries(_)) => Finding::Fine("compiles".to_owned()),
        Ok(Built::Errors(errors)) => Finding::Broken(
            format!("does not compile ({} errors)", errors.len()),
            "`cargo xtask check` shows them".to_owned(),
        ),
        Err(error) => Finding::Broken(
            "cargo cannot build it".to_owned(),
            error.to_string().lines().next().unwrap_or_default().to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_this_processor_lacks_is_refused() {
        let available = kernels_of_this_processor();
        assert_eq!(available.last(), Some(&"portable"));
        assert!(matches!(cpu_kernels(None, &available), Finding::Fine(text) if text.contains("portable")));
        assert!(matches!(cpu_kernels(Some(""), &available), Finding::Fine(_)));
        assert!(
            matches!(cpu_kernels(Some("portable"), &available), Finding::Fine(text) if text.starts_with("portable, by"))
        );
        assert!(matches!(cpu_kernels(Some("x"), &available), Finding::Broken(..)));
    }

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(numbers("1.95.0"), Some((1, 95)));
        assert_eq!(numbers("1.100-nightly"), Some((1, 100)));
        assert!(numbers("1.100") > numbers("1.95"));
        assert_eq!(minimum_rust("[workspace.package]\nrust-version = \"1.95\"\n"), Some((1, 95)));
    }
}
