//! The engines to compare with: each in a virtual environment of its own, in the cache folder.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::process::{self, Finished, Line};
use crate::status_line::StatusLine;
use crate::tell;
use crate::workspace::Workspace;

/// An engine that is measured beside ours.
#[derive(Debug)]
pub struct Peer {
    pub name: &'static str,
    /// Of its environment: with the version, so that a new one is installed beside the old.
    folder: &'static str,
    packages: &'static [&'static str],
    /// What pip's builds need to know.
    variables: &'static [(&'static str, &'static str)],
    /// Whether pip compiles it on this machine, for this machine.
    is_compiled: bool,
    /// The script below `xtask/bench` that measures it.
    driver: &'static str,
    /// Of a context sweep: where its prefill takes minutes, that tells nothing new.
    pub longest_context: usize,
}

pub const PEERS: &[Peer] = &[
    Peer {
        name: "llama.cpp",
        folder: "llama-cpp-python-0.3.36",
        packages: &["llama-cpp-python==0.3.36", "numpy==2.4.6"],
        // For this processor, and the library only.
        variables: &[("CMAKE_ARGS", "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF")],
        is_compiled: true,
        driver: "run_llama_cpp.py",
        longest_context: usize::MAX,
    },
    Peer {
        name: "mlx-lm",
        folder: "mlx-lm-0.32.2",
        packages: &["mlx-lm==0.32.2", "mlx[cpu]==0.32.2"],
        variables: &[],
        is_compiled: false,
        driver: "run_mlx_lm.py",
        longest_context: 256,
    },
];

impl Peer {
    /// Measures with this; the caller adds the driver's arguments.
    pub fn command(&self, workspace: &Workspace) -> Result<Command> {
        let mut command = Command::new(python(&environments()?.join(self.folder)));
        command.arg(workspace.root().join("xtask/bench").join(self.driver));
        Ok(command)
    }

    /// Installs it unless it is there. It appears whole or not at all.
    pub fn ensure(&self) -> Result<()> {
        let environments = environments()?;
        let destination = environments.join(self.folder);
        if destination.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&environments).map_err(|e| Error::io("create", &environments, &e))?;
        // Another `bench` may be at it.
        let lock_path = environments.join(format!("{}.lock", self.folder));
        let lock = File::create(&lock_path).map_err(|e| Error::io("create", &lock_path, &e))?;
        lock.lock().map_err(|e| Error::io("lock", &lock_path, &e))?;
        if destination.is_dir() {
            return Ok(());
        }

        let time =
            if self.is_compiled { "it is compiled for this processor, which takes some minutes" } else { "once" };
        tell!("setup: installing {} ({time})", self.name);
        // An environment works under another name as long as it is used through its interpreter.
        let staging = environments.join(format!("{}.partial", self.folder));
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(|e| Error::io("remove", &staging, &e))?;
        }
        create_environment(&staging)?;
        self.install_packages(&staging)?;
        fs::rename(&staging, &destination).map_err(|e| Error::io("rename", &staging, &e))?;
        // Best effort: an old lock file is harmless.
        let _ = fs::remove_file(&lock_path);
        Ok(())
    }

    fn install_packages(&self, environment: &Path) -> Result<()> {
        let mut pip = Command::new(python(environment));
        pip.args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]);
        pip.args(["--retries", "3", "--timeout", "30"]);
        if self.is_compiled {
            pip.arg("--verbose"); // a line for each file that is compiled
        }
        pip.args(self.packages).envs(self.variables.iter().copied());
        let status = StatusLine::new(true);
        let finished = process::run_captured(&mut pip, None, &mut |line| {
            let (Line::Stdout(text) | Line::Stderr(text)) = line;
            status.show(&format!("{}: {}", self.name, text.trim()));
        })?;
        drop(status);
        if finished.succeeded() {
            return Ok(());
        }
        let log = environment.with_extension("log");
        // Without the log there is still the reason.
        let _ = fs::write(&log, format!("{}{}", finished.stdout, finished.stderr));
        Err(Error::new(format!("{} could not be installed: {}", self.name, self.reason(&finished)))
            .remedy(format!("everything that pip said is in {}", log.display())))
    }

    fn reason(&self, finished: &Finished) -> String {
        let said = format!("{}\n{}", finished.stdout, finished.stderr);
        if self.is_compiled && (said.contains("No CMAKE_C") || said.contains("CMAKE_CXX_COMPILER not set")) {
            return "no C++ compiler was found; install one (Debian/Ubuntu: `apt install g++`)".to_owned();
        }
        wheel_fetch::explain_pip_failure(&said)
    }
}

fn create_environment(folder: &Path) -> Result<()> {
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(folder);
    let finished = process::output(&mut venv)?;
    if finished.succeeded() {
        return Ok(());
    }
    let said = format!("{}{}", finished.stdout, finished.stderr);
    if said.contains("ensurepip") || said.contains("No module named venv") {
        return Err(Error::new("this Python cannot make virtual environments")
            .remedy("install that part of it (Debian/Ubuntu: `apt install python3-venv`) and run this again"));
    }
    let last = said.lines().last().unwrap_or("no reason given").trim();
    Err(Error::new(format!("python3 could not make a virtual environment: {last}"))
        .remedy("Python 3.10 or newer is needed"))
}

fn python(environment: &Path) -> PathBuf {
    environment.join("bin").join("python")
}

fn environments() -> Result<PathBuf> {
    Ok(folder()?.join("environments"))
}

/// What benchmarks keep between calls: the peers, and models in their formats.
pub fn folder() -> Result<PathBuf> {
    wheel_fetch::cache_dir().map(|cache| cache.join("bench")).map_err(|e| Error::new(e.to_string()))
}

/// Variables that decide how many threads an engine has, for all engines alike.
pub fn limit_threads(command: &mut Command, threads: usize) {
    for name in ["TINY_LLM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"] {
        command.env(name, threads.to_string());
    }
    // The engines find their own libraries.
    if env::var_os("PYTHONPATH").is_some() {
        command.env_remove("PYTHONPATH");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_is_pinned_and_has_its_driver() {
        for peer in PEERS {
            assert!(peer.packages.iter().all(|package| package.contains("==")), "{}", peer.name);
            assert!(peer.packages[0].replace("==", "-").starts_with(peer.folder), "{}", peer.name);
            let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench").join(peer.driver);
            assert!(driver.is_file(), "{}", driver.display());
        }
    }
}
