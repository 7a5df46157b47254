//! Running pip and turning its failures into one line.

use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Error, Wheel};

/// The ways to call pip, best first: `python3 -m pip` is sure to match the interpreter.
const CANDIDATES: [&[&str]; 4] = [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip3"], &["pip"]];

pub(crate) fn install(wheels: &[Wheel], target: &Path) -> Result<(), Error> {
    let pip = find()?;
    fs::create_dir_all(target).map_err(|e| Error::io("create", target, e))?;
    // Digests can be given in a requirements file only.
    let requirements = target.join("requirements.txt");
    fs::write(&requirements, requirements_text(wheels)).map_err(|e| Error::io("write", &requirements, e))?;

    let mut command = Command::new(pip[0]);
    command
        .args(&pip[1..])
        .args(["install", "--no-input", "--disable-pip-version-check", "--no-compile"])
        .args(["--only-binary", ":all:", "--retries", "3", "--timeout", "30"])
        .arg("--target")
        .arg(target)
        .arg("-r")
        .arg(&requirements)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    if !wheels.iter().any(|wheel| wheel.with_dependencies) {
        command.arg("--no-deps");
    }
    // On a terminal pip's progress bar is worth showing; our own standard output stays clean.
    if io::stderr().is_terminal() {
        let terminal =
            io::stderr().as_fd().try_clone_to_owned().map_err(|e| Error::io("use", Path::new("standard error"), e))?;
        command.stdout(Stdio::from(terminal));
    } else {
        command.stdout(Stdio::null());
    }
    let output = command.output().map_err(|_| Error::NoPip)?;
    if output.status.success() {
        return Ok(());
    }
    let names: Vec<_> = wheels.iter().map(|w| format!("{}=={}", w.name, w.version)).collect();
    Err(Error::Pip { wheels: names.join(", "), reason: explain(&String::from_utf8_lossy(&output.stderr)) })
}

fn find() -> Result<&'static [&'static str], Error> {
    CANDIDATES.into_iter().find(|candidate| version_of(candidate).is_some()).ok_or(Error::NoPip)
}

/// What the pip that [`crate::install`] would use says about itself; `None` without one.
pub fn pip_version() -> Option<String> {
    CANDIDATES.into_iter().find_map(version_of)
}

fn version_of(candidate: &[&str]) -> Option<String> {
    let mut command = Command::new(candidate[0]);
    let output = command.args(&candidate[1..]).arg("--version").stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn requirements_text(wheels: &[Wheel]) -> String {
    // pip demands a digest for every file as soon as it sees one.
    let pin_digests = !wheels.iter().any(|w| w.with_dependencies || w.sha256.is_empty());
    let mut text = String::new();
    for wheel in wheels {
        text.push_str(&format!("{}=={}", wheel.name, wheel.version));
        if pin_digests {
            for digest in wheel.sha256 {
                text.push_str(&format!(" --hash=sha256:{digest}"));
            }
        }
        text.push('\n');
    }
    text
}

/// pip explains itself in many lines; these are the causes that a user can act on.
pub fn explain(stderr: &str) -> String {
    let has = |needle: &str| stderr.contains(needle);
    if has("No space left on device") {
        return "the disk is full; free some space or point TINY_LLM_CACHE at another disk".into();
    }
    if has("THESE PACKAGES DO NOT MATCH THE HASHES") {
        return "the downloaded file is not the pinned one (its SHA-256 differs); check the package index that pip is configured with".into();
    }
    if has("Failed to establish a new connection")
        || has("Temporary failure in name resolution")
        || has("Read timed out")
        || has("ConnectionError")
        || has("ProxyError")
    {
        return "the package index cannot be reached; check the network (pip's own settings for proxies and mirrors apply) and run the command again".into();
    }
    if has("requires a different Python") || has("Requires-Python") {
        return "this Python is too old; install Python 3.10 or newer".into();
    }
    if has("No matching distribution") {
        return "there is no such wheel for this platform (Linux with glibc 2.35 or newer on x86-64 or aarch64 is supported)".into();
    }
    let last = stderr.lines().rev().find(|line| line.contains("ERROR")).or(stderr.lines().last());
    last.unwrap_or("no reason given").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHEEL: Wheel = Wheel { name: "thing", version: "1.2", sha256: &["aa", "bb"], with_dependencies: false };

    #[test]
    fn digests_are_pinned_for_every_platform() {
        assert_eq!(requirements_text(&[WHEEL]), "thing==1.2 --hash=sha256:aa --hash=sha256:bb\n");
    }

    #[test]
    fn digests_are_dropped_when_requirements_come_along() {
        let open = Wheel { with_dependencies: true, ..WHEEL };
        assert_eq!(requirements_text(&[WHEEL, open]), "thing==1.2\nthing==1.2\n");
    }

    #[test]
    fn failures_are_explained_in_one_line() {
        let full = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n";
        assert!(explain(full).starts_with("the disk is full"));
        let unknown = "WARNING: x\nERROR: something odd\nnote: y\n";
        assert_eq!(explain(unknown), "ERROR: something odd");
        assert_eq!(explain(""), "no reason given");
    }
}
