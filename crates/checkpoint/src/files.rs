//! Opening files whose kind, size and content come from somebody else.

use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read};
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};
use crate::{memory, untrusted};

/// How the small text begins that stands for a large file in a Git repository.
const GIT_LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Whether an optional file is there. A folder, a pipe or a link to nothing in its place is an error: whoever put it there
/// meant something by it, and without the file the model would answer differently.
pub(crate) fn is_there(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => regular(path).map(|_| true),
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(cause) => Err(Error::io(path, cause)),
    }
}

/// The metadata of a file that has a beginning and an end. Asked before opening, because opening a pipe waits for its other
/// end, and reading a device may never end.
fn regular(path: &Path) -> Result<Metadata> {
    let metadata = fs::metadata(path).map_err(|cause| {
        let is_link = cause.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_ok();
        match is_link {
            true => Error::malformed(path, "is a link to a file that is not there; download the file again"),
            false => Error::io(path, cause),
        }
    })?;
    if metadata.is_dir() {
        return Err(Error::malformed(path, "is a folder, where a file is expected"));
    }
    if !metadata.is_file() {
        return Err(Error::malformed(path, "is a pipe or a device, where a file is expected"));
    }
    Ok(metadata)
}

/// The text of a file, if it is not larger than `max_bytes`.
pub(crate) fn read_text(path: &Path, max_bytes: u64) -> Result<String> {
    let metadata = regular(path)?;
    let too_large =
        |len: u64| Error::malformed(path, format!("has {len} bytes; at most {max_bytes} are expected here"));
    if metadata.len() > max_bytes {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::new();
    // The length was that of a moment ago, and for some files (in /proc) it is no length at all.
    let mut file = File::open(path).map_err(|cause| Error::io(path, cause))?.take(max_bytes + 1);
    file.read_to_end(&mut bytes).map_err(|cause| Error::io(path, cause))?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_large(bytes.len() as u64));
    }
    refuse_git_lfs_pointer(path, &bytes)?;
    String::from_utf8(bytes).map_err(|_| Error::malformed(path, "is not a text in UTF-8"))
}

/// Maps a file for reading.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    regular(path)?;
    let file = File::open(path).map_err(|cause| Error::io(path, cause))?;
    // SAFETY: the map is read-only. A file that another process shortens while it is mapped makes reads fault; every
    // engine that maps its weights accepts that, because copying gigabytes is the alternative.
    let map = unsafe { Mmap::map(&file) }.map_err(|cause| Error::io(path, cause))?;
    refuse_git_lfs_pointer(path, &map)?;
    // Under a limit the map may have taken the last of it, and the header is read with Rust's own collections.
    if !memory::has(0) {
        return Err(Error::io(path, ErrorKind::OutOfMemory.into()));
    }
    Ok(map)
}

/// Takes the pages that were read out of this process's memory; the system keeps them as cache, or reads them again.
///
/// Without this a loaded model would count twice: once in its arrays, once in the mapped file.
pub(crate) fn release_pages(map: &Mmap) {
    #[cfg(unix)]
    {
        // SAFETY: the map is read-only and shared with the file, so dropped pages come back with the same bytes.
        // It is advice: where it fails, nothing is wrong but the memory that is counted.
        let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }
    #[cfg(not(unix))]
    let _ = map;
}

fn refuse_git_lfs_pointer(path: &Path, bytes: &[u8]) -> Result<()> {
    if !bytes.starts_with(GIT_LFS) {
        return Ok(());
    }
    let size = bytes.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"size "));
    let size = size.map(|size| untrusted::value(String::from_utf8_lossy(size))).unwrap_or_else(|| "?".to_owned());
    Err(Error::malformed(
        path,
        format!(
            "is a Git LFS pointer, which only stands for the file of {size} bytes: run `git lfs pull` in its folder, or download the file again"
        ),
    ))
}

/// The names of a folder's files that end in `suffix`, in order. A folder that cannot be read has none.
pub(crate) fn names_ending_in(folder: &Path, suffix: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(suffix)).collect();
    names.sort();
    names
}
