use std::borrow::Cow;
use std::ffi::c_char;
use std::fs;
use std::path::{Path, PathBuf};

use crate::backend::MLX_VERSION;
use crate::{Backend, Error};

/// The bindings that mlx-sys's build script would have made.
const BINDINGS: &str = include_str!("../bindings/mlx_c.rs");

/// Our own C++ sources, by file name.
pub(crate) const FORMAT_STANDIN: (&str, &str) = ("format_standin.h", include_str!("../native/format_standin.h"));
pub(crate) const OWN_SOURCES: [(&str, &str); 2] = [
    ("supplied_symbols.cpp", include_str!("../native/supplied_symbols.cpp")),
    ("blas_forward.cpp", include_str!("../native/blas_forward.cpp")),
];

/// Where the parts of one installation lie.
///
/// The folder's name carries a digest of everything of ours that goes into it, so a course update with
/// other sources makes a new folder and never meets a stale library.
pub(crate) struct Layout {
    pub folder: PathBuf,
}

impl Layout {
    pub fn for_backend(backend: Backend) -> Result<Self, Error> {
        let cache = wheel_fetch::cache_dir()?;
        Ok(Self { folder: cache.join(folder_name(backend)) })
    }

    /// Where the wheels of `backend` lie that are carried to another machine, and not linked here.
    pub fn wheels_to_carry(backend: Backend) -> Result<PathBuf, Error> {
        Ok(wheel_fetch::cache_dir()?.join(format!("mlx-{MLX_VERSION}-{backend}-to-carry")))
    }

    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub fn folder_name(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub fn folder_name_for(&self, backend: Backend) -> String {
        folder_name(backend)
    }

    /// What pip installed: `mlx/`, `scipy_openblas32/`, for CUDA `nvidia/`.
    pub fn wheels(&self) -> PathBuf {
        self.folder.join("wheels")
    }

    /// MLX's C++ headers.
    pub fn include(&self) -> PathBuf {
        self.wheels().join("mlx/include")
    }

    /// Holds `bindings.rs`; stands in for mlx-sys's `OUT_DIR`.
    pub fn bindings(&self) -> PathBuf {
        self.folder.join("bindings")
    }

    pub fn objects(&self) -> PathBuf {
        self.folder.join("objects")
    }

    pub fn library_folder(&self) -> PathBuf {
        self.folder.join("lib")
    }

    /// mlx-c and our additions, which in turn load MLX and OpenBLAS.
    pub fn library(&self) -> PathBuf {
        self.library_folder().join("libtiny_llm_mlx.so")
    }

    pub fn write_bindings(&self) -> Result<(), Error> {
        write_if_changed(&self.bindings().join("bindings.rs"), &bindings(c_char::MIN == 0))
    }
}

/// [`BINDINGS`] as mlx-rs 0.33.0 needs them where C's `char` is unsigned, as on Linux for aarch64: it passes one string,
/// the mode of `mlx_pad`, as `*const i8` everywhere. Either type is the address of the same bytes.
fn bindings(char_is_unsigned: bool) -> Cow<'static, str> {
    const MODE: &str = "mode: *const ::std::os::raw::c_char";
    let parts = BINDINGS.split_once("pub fn mlx_pad(").filter(|_| char_is_unsigned);
    parts.map_or(Cow::Borrowed(BINDINGS), |(before, after)| {
        Cow::Owned(format!("{before}pub fn mlx_pad({}", after.replacen(MODE, "mode: *const i8", 1)))
    })
}

fn folder_name(backend: Backend) -> String {
    let mut digest = fnv1a(0xcbf2_9ce4_8422_2325, &bindings(c_char::MIN == 0));
    for (_, text) in OWN_SOURCES.iter().chain([&FORMAT_STANDIN]) {
        digest = fnv1a(digest, text);
    }
    format!("mlx-{MLX_VERSION}-{backend}-{:08x}", digest as u32 ^ (digest >> 32) as u32)
}

/// FNV-1a, enough to tell versions of our own files apart.
fn fnv1a(seed: u64, text: &str) -> u64 {
    text.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Leaves an equal file alone, so that Cargo sees no change in its timestamp.
pub(crate) fn write_if_changed(path: &Path, text: &str) -> Result<(), Error> {
    if fs::read_to_string(path).is_ok_and(|current| current == text) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
    }
    // Written beside and renamed: a full disk leaves the old file.
    let partial = path.with_extension("partial");
    fs::write(&partial, text).map_err(|e| Error::io("write", &partial, e))?;
    fs::rename(&partial, path).map_err(|e| Error::io("rename", &partial, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_chars_are_unsigned_one_line_differs() {
        assert_eq!(bindings(false), BINDINGS);
        let unsigned = bindings(true);
        let lines = || unsigned.lines().zip(BINDINGS.lines());
        assert_eq!(unsigned.lines().count(), BINDINGS.lines().count());
        let differing: Vec<_> = lines().enumerate().filter(|(_, (ours, original))| ours != original).collect();
        let [(number, (ours, _))] = differing[..] else { panic!("{differing:?}") };
        assert_eq!(ours.trim(), "mode: *const i8,");
        let function = BINDINGS.lines().take(number).filter(|line| line.contains("pub fn ")).last();
        assert_eq!(function.map(str::trim), Some("pub fn mlx_pad("));
    }
}
