//! Compiled kernels, kept in the user's cache folder under a digest of all that made them.
//!
//! An entry is a folder that appears complete or not at all: it is built under another name and renamed. Its file `digest` says
//! what the built file must hold; an entry that doesn't is built anew.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::prune;
use crate::OperationError;

pub(super) const DIGEST: &str = "digest";

/// After so many new entries of a process, old ones are looked for, and at its first.
const PRUNED_EVERY: u64 = 256;

/// The file `name` of the entry `key`, which `build` makes in the folder that it is given, unless it is there.
///
/// # Errors
/// What `build` says; a cache folder that can't be written.
pub(super) fn get(
    key: &str,
    name: &str,
    build: impl FnOnce(&Path) -> Result<(), OperationError>,
) -> Result<PathBuf, OperationError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let cache = wheel_fetch::cache_dir().map_err(|error| error.to_string())?.join("emulator");
    let entry = cache.join(key);
    if is_whole(&entry, name) {
        prune::note_use(&entry);
        return Ok(entry.join(name));
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    if number.is_multiple_of(PRUNED_EVERY) {
        prune::prune(&cache, prune::MOST_ENTRIES);
    }
    let staging = Staging(cache.join(format!("{key}.{}.{number}{}", std::process::id(), prune::PARTIAL)));
    fs::create_dir_all(&staging.0).map_err(|error| explain("create", &staging.0, &error))?;
    build(&staging.0)?;
    let built = staging.0.join(name);
    let contents = fs::read(&built).map_err(|error| explain("read", &built, &error))?;
    let digest = staging.0.join(DIGEST);
    fs::write(&digest, hex(&contents)).map_err(|error| explain("write", &digest, &error))?;
    // A broken entry makes room. If another process was faster, its entry is as good as this one.
    if !is_whole(&entry, name) {
        let _ = fs::remove_dir_all(&entry);
    }
    match fs::rename(&staging.0, &entry) {
        Err(error) if !is_whole(&entry, name) => Err(explain("rename", &staging.0, &error).into()),
        _ => Ok(entry.join(name)),
    }
}

/// The name of an entry that these texts decide.
pub(super) fn key(parts: &[&str]) -> String {
    let mut text = String::new();
    for part in parts {
        text.push_str(&format!("{}:", part.len()));
        text.push_str(part);
    }
    hex(text.as_bytes()).chars().take(32).collect()
}

/// Writes a source file.
///
/// # Errors
/// A full disk, no permission.
pub(super) fn write(path: &Path, text: &str) -> Result<(), OperationError> {
    fs::write(path, text).map_err(|error| explain("write", path, &error).into())
}

fn is_whole(entry: &Path, name: &str) -> bool {
    let (Ok(digest), Ok(contents)) = (fs::read_to_string(entry.join(DIGEST)), fs::read(entry.join(name))) else {
        return false;
    };
    digest == hex(&contents)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn explain(action: &str, path: &Path, error: &io::Error) -> String {
    let path = path.display();
    if error.kind() == io::ErrorKind::StorageFull {
        return format!(
            "the disk is full: cannot {action} {path}; free some space or point TINY_LLM_CACHE at another disk"
        );
    }
    format!("cannot {action} {path}: {error}; TINY_LLM_CACHE can name another folder for compiled kernels")
}

/// A folder that is deleted unless it was renamed.
struct Staging(PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
