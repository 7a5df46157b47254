use std::env;
use std::path::PathBuf;

use crate::Error;

/// The folder in which the course keeps what it downloads, shared by all clones of the repository.
///
/// `$TINY_LLM_CACHE`, else `tiny-llm` inside the platform's cache folder (`$XDG_CACHE_HOME` or
/// `~/.cache`; `~/Library/Caches` on macOS). The folder need not exist yet.
///
/// # Errors
/// [`Error::NoCacheFolder`] when none of these is known.
pub fn cache_dir() -> Result<PathBuf, Error> {
    let variable = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(explicit) = variable("TINY_LLM_CACHE") {
        // Cargo's configuration and library names need absolute paths.
        return std::path::absolute(&explicit).map_err(|e| Error::io("resolve", &explicit, e));
    }
    let platform = if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library/Caches"))
    } else {
        // The XDG specification says to ignore a relative path.
        variable("XDG_CACHE_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| variable("HOME").map(|home| home.join(".cache")))
    };
    platform.map(|folder| folder.join("tiny-llm")).ok_or(Error::NoCacheFolder)
}
