//! From addresses in a compiled kernel to lines of its source.

use addr2line::Loader;

use super::library::Library;

/// The file and line that an address in the kernel comes from: the innermost function that isn't the emulator's own.
/// `None` if the debug information can't be read.
pub(super) fn find(library: &Library, return_address: u64) -> Option<(String, u32)> {
    // The instruction that was called from ends one byte before the address to which it returns.
    let address = return_address.checked_sub(library.base)?.checked_sub(1)?;
    let loader = Loader::new(&library.path).ok()?;
    let mut frames = loader.find_frames(address).ok()?;
    while let Ok(Some(frame)) = frames.next() {
        let Some(location) = frame.location else { continue };
        let (Some(file), Some(line)) = (location.file, location.line) else { continue };
        if let Some(name) = source_name(file) {
            return Some((name.to_owned(), line));
        }
    }
    None
}

/// A Metal file by the name that it was given in the source; compilers may put a folder in front.
fn source_name(path: &str) -> Option<&str> {
    let end = path.find(".metal")? + ".metal".len();
    let start = path.rfind("header of kernels/").or_else(|| path.rfind("kernels/"))?;
    path.get(start..end)
}
