//! A small workspace below the target folder in which a crate stands in for the learner's: the
//! untouched stubs, or the reference with a mistake in it.
//!
//! It has the real test package and the real Cargo profiles and lock file, and shares the target
//! folder, so that everything but the stand-in itself is already compiled.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo::{self, Built, Progress};
use crate::error::{Error, Result};
use crate::stubs::StubFile;
use crate::style::Style;
use crate::tell;
use crate::workspace::{Workspace, files_below, read_text, write_text};

pub struct Scratch {
    folder: PathBuf,
    target: PathBuf,
    /// Held as long as the scratch workspace is in use: two runs would exchange its files under
    /// each other's tests.
    _lock: File,
}

impl Scratch {
    pub fn create(workspace: &Workspace) -> Result<Self> {
        let root = workspace.root().canonicalize().map_err(|e| Error::io("find", workspace.root(), &e))?;
        let target = root.join(workspace.target());
        let folder = target.join("author");
        let scratch = Self { _lock: lock(&folder)?, folder, target };
        let learner = root.join("crates/tiny-llm");
        let stand_in = scratch.solution();
        let adapt = |text: &str, base: &Path| redirect(&absolute_paths(text, base), &learner, &stand_in);

        let manifest = read_text(&root.join("Cargo.toml"))?;
        write_if_changed(&scratch.folder.join("Cargo.toml"), &adapt(&members(&manifest), &root))?;
        scratch.use_cargo_config_of(&root)?;
        let lock = root.join("Cargo.lock");
        if lock.is_file() {
            write_text(&scratch.folder.join("Cargo.lock"), &read_text(&lock)?)?;
        }
        let tests = root.join("tests/student");
        let manifest = read_text(&tests.join("Cargo.toml"))?;
        write_if_changed(&scratch.folder.join("tests/Cargo.toml"), &adapt(&manifest, &tests))?;
        for file in files_below(&tests.join("src"))? {
            let to = scratch.folder.join("tests/src").join(file.strip_prefix(tests.join("src")).unwrap_or(&file));
            write_if_changed(&to, &read_text(&file)?)?;
        }
        Ok(scratch)
    }

    /// Cargo reads the configuration of every folder above: the repository's too, unless the target folder is elsewhere.
    fn use_cargo_config_of(&self, root: &Path) -> Result<()> {
        let original = root.join(".cargo/config.toml");
        if self.folder.starts_with(root) || !original.is_file() {
            return Ok(());
        }
        let quoted = original.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
        let text = format!("include = [\"{quoted}\"]\n");
        write_if_changed(&self.folder.join(".cargo/config.toml"), &text)
    }

    fn solution(&self) -> PathBuf {
        self.folder.join("solution")
    }

    /// Puts `files` (of a crate that lies at `crates/tiny-llm`) in as the solution. Files that are
    /// already so keep their time, and need no compiling.
    pub fn put(&self, workspace: &Workspace, files: &[StubFile]) -> Result<()> {
        let root = workspace.root().canonicalize().map_err(|e| Error::io("find", workspace.root(), &e))?;
        for file in files {
            let is_manifest = file.path == Path::new("Cargo.toml");
            let text =
                if is_manifest { absolute_paths(&file.text, &root.join("crates/tiny-llm")) } else { file.text.clone() };
            self.put_file(&file.path, &text)?;
        }
        for path in files_below(&self.solution().join("src"))? {
            let wanted = path.strip_prefix(self.solution()).is_ok_and(|p| files.iter().any(|f| f.path == p));
            if !wanted {
                fs::remove_file(&path).map_err(|e| Error::io("remove", &path, &e))?;
            }
        }
        Ok(())
    }

    fn put_file(&self, relative: &Path, text: &str) -> Result<()> {
        write_if_changed(&self.solution().join(relative), text)
    }

    /// Cargo in the scratch workspace, with the real one's target folder.
    fn cargo(&self) -> Command {
        let mut command = cargo::command(&self.folder);
        command.env("CARGO_TARGET_DIR", &self.target);
        command
    }

    pub fn build_tests(&self, tests: &[&str]) -> Result<Built> {
        cargo::build_tests(self.cargo(), "tests-student", tests, Style::plain(), Progress::Hidden)
    }

    /// Compiles the solution alone. Nothing runs it, so it is not optimised.
    pub fn build_solution(&self) -> Result<Built> {
        let mut cargo = self.cargo();
        cargo.args(["--config", "profile.dev.package.tiny-llm.opt-level=0"]);
        cargo::build_library(cargo, "tiny-llm", Progress::Hidden)
    }
}

/// Waits until no other process uses the scratch workspace.
fn lock(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, &e))?;
    let path = folder.join("lock");
    let failed = |e| Error::io("lock", &path, &e);
    let file = File::create(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            tell!("waiting for another `author check` of this clone to end");
            file.lock().map_err(failed)?;
        }
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    Ok(file)
}

fn write_if_changed(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    write_text(path, text)
}

/// The workspace's manifest with the two scratch members instead of its own.
fn members(manifest: &str) -> String {
    let mut text = String::new();
    let mut skipping = false;
    for line in manifest.lines() {
        if line.starts_with("members = [") || line.starts_with("default-members = [") || line.starts_with("exclude = [")
        {
            skipping = true;
            if line.starts_with("members") {
                text.push_str("members = [\"solution\", \"tests\"]\n");
            }
        }
        if !skipping {
            text.push_str(line);
            text.push('\n');
        }
        if skipping && line.trim_end().ends_with(']') {
            skipping = false;
        }
    }
    text
}

/// Every `path = "x"` made absolute, as seen from `base`.
fn absolute_paths(text: &str, base: &Path) -> String {
    const KEY: &str = "path = \"";
    let mut output = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(KEY) {
        let (before, after) = rest.split_at(start + KEY.len());
        let Some(end) = after.find('"') else { break };
        output.push_str(before);
        let path = base.join(&after[..end]);
        output.push_str(&crate::links::normalised(&path).display().to_string());
        rest = &after[end..];
    }
    output.push_str(rest);
    output
}

fn redirect(text: &str, from: &Path, to: &Path) -> String {
    text.replace(&format!("\"{}\"", from.display()), &format!("\"{}\"", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_adapted() {
        let manifest = "[workspace]\nmembers = [\n    \"a\",\n    \"b\",\n]\ndefault-members = [\"a\"]\n\n\
            [workspace.dependencies]\na = { path = \"crates/a\" }\n";
        let text = absolute_paths(&members(manifest), Path::new("/w"));
        assert_eq!(
            text,
            "[workspace]\nmembers = [\"solution\", \"tests\"]\n\n[workspace.dependencies]\na = { path = \"/w/crates/a\" }\n"
        );
        let tests = absolute_paths("x = { path = \"../../crates/tiny-llm\" }\n", Path::new("/w/tests/student"));
        assert_eq!(redirect(&tests, Path::new("/w/crates/tiny-llm"), Path::new("/s")), "x = { path = \"/s\" }\n");
    }
}
