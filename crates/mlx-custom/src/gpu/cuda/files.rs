//! Compiled kernels on disk, where MLX looks for them.
//!
//! Before MLX 0.32.2 compiles a module, it looks for `<module>.ptx`, which may hold machine code as well, and for `<module>.txt`,
//! which gives for each function of the source the name that it has in there. It writes such files for its own kernels and not for
//! those of `cuda_kernel`, but it reads them for all.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, process};

use crate::gpu::cuda::nvrtc::Compiled;

/// How an ELF file begins: machine code of CUDA is one.
const ELF: [u8; 4] = *b"\x7fELF";

/// The folder that MLX reads: `MLX_PTX_CACHE_DIR`, else one below the system's folder for temporary files. `None`: MLX was
/// told to use none.
pub(super) fn folder(mlx_version: &str) -> Option<PathBuf> {
    folder_for(mlx_version, |name| env::var_os(name).map(PathBuf::from))
}

fn folder_for(mlx_version: &str, variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    match variable("MLX_PTX_CACHE_DIR") {
        Some(folder) if folder.as_os_str().is_empty() => None,
        Some(folder) => Some(folder),
        None => {
            // As `std::filesystem::temp_directory_path` of GCC's library, by which MLX finds it.
            let temporary = ["TMPDIR", "TMP", "TEMP", "TEMPDIR"].into_iter().find_map(variable);
            Some(temporary.unwrap_or_else(|| "/tmp".into()).join("mlx").join(mlx_version).join("ptx"))
        }
    }
}

/// The two files of a module.
#[derive(Debug)]
pub(super) struct Files {
    binary: PathBuf,
    names: PathBuf,
}

impl Files {
    pub(super) fn new(folder: &Path, module: &str) -> Self {
        Self { binary: folder.join(format!("{module}.ptx")), names: folder.join(format!("{module}.txt")) }
    }

    /// Whether MLX will find this module, with this function. A file that can't be what was written is as good as none.
    pub(super) fn are_there(&self, function: &str) -> bool {
        let mut beginning = [0; ELF.len()];
        let is_binary = File::open(&self.binary).and_then(|mut file| file.read_exact(&mut beginning)).is_ok();
        let is_known =
            || fs::read_to_string(&self.names).is_ok_and(|names| names.starts_with(&format!("{function}\t")));
        is_binary && beginning == ELF && is_known()
    }

    /// Writes both. Other processes may read them, or write the same, meanwhile: each appears whole or not at all, the one that
    /// MLX looks for first as the last.
    ///
    /// # Errors
    /// A full disk, no permission.
    pub(super) fn write(&self, function: &str, compiled: &Compiled) -> io::Result<()> {
        if let Some(folder) = self.binary.parent() {
            fs::create_dir_all(folder)?;
        }
        write_whole(&self.names, names(function, &compiled.mangled_name).as_bytes())?;
        write_whole(&self.binary, &compiled.binary)
    }
}

fn names(function: &str, mangled: &str) -> String {
    format!("{function}\t{mangled}\n")
}

fn write_whole(path: &Path, contents: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let partial = path.with_added_extension(format!("{}.{number}.partial", process::id()));
    let write = || {
        let mut file = File::create_new(&partial)?;
        file.write_all(contents)?;
        // A machine that loses its power must not keep the name of a file without its contents.
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().inspect_err(|_| _ = fs::remove_file(&partial))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCTION: &str = "mlx::core::cu::custom_kernel_double_01";

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let folder = env::temp_dir().join(format!("mlx-custom-{name}-{}", process::id()));
            _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn contents(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0);
        }
    }

    fn compiled() -> Compiled {
        Compiled { binary: b"\x7fELF and more".to_vec(), mangled_name: "_Z6double".to_owned() }
    }

    #[test]
    fn the_folder_is_the_one_that_mlx_reads() {
        let with = |variables: &'static [(&str, &str)]| {
            let folder = folder_for("0.32.2", |name| {
                variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| PathBuf::from(value))
            });
            folder.map(|folder| folder.to_str().unwrap().to_owned())
        };
        assert_eq!(with(&[("MLX_PTX_CACHE_DIR", "/a/b"), ("TMPDIR", "/c")]).unwrap(), "/a/b");
        assert_eq!(with(&[("MLX_PTX_CACHE_DIR", "")]), None);
        assert_eq!(with(&[]).unwrap(), "/tmp/mlx/0.32.2/ptx");
        assert_eq!(with(&[("TEMP", "/e"), ("TMP", "/d")]).unwrap(), "/d/mlx/0.32.2/ptx");
        assert_eq!(with(&[("TMP", "/d"), ("TMPDIR", "/c")]).unwrap(), "/c/mlx/0.32.2/ptx");
    }

    #[test]
    fn two_files_appear_and_nothing_else() {
        let scratch = Scratch::new("files");
        let inner = scratch.0.join("made/when/needed");
        let files = Files::new(&inner, "custom_kernel_double_01");
        assert!(!files.are_there(FUNCTION));
        files.write(FUNCTION, &compiled()).unwrap();
        assert!(files.are_there(FUNCTION));
        assert!(!files.are_there("mlx::core::cu::custom_kernel_double_0"), "a line gives the whole name");
        let read = |name: &str| fs::read(inner.join(name)).unwrap();
        assert_eq!(read("custom_kernel_double_01.txt"), format!("{FUNCTION}\t_Z6double\n").as_bytes());
        assert_eq!(read("custom_kernel_double_01.ptx"), b"\x7fELF and more");
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 2);
        // As another process that was slower.
        files.write(FUNCTION, &compiled()).unwrap();
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 2);
    }

    #[test]
    fn a_broken_file_counts_as_none() {
        let scratch = Scratch::new("broken");
        let files = Files::new(&scratch.0, "custom_kernel_double_01");
        for broken in [b"".as_slice(), b"\x7fE", b"no machine code"] {
            files.write(FUNCTION, &compiled()).unwrap();
            fs::write(&files.binary, broken).unwrap();
            assert!(!files.are_there(FUNCTION));
        }
        files.write(FUNCTION, &compiled()).unwrap();
        fs::remove_file(&files.names).unwrap();
        assert!(!files.are_there(FUNCTION));
    }

    #[test]
    fn nothing_is_left_of_what_cannot_be_written() {
        let scratch = Scratch::new("unwritable");
        // Also a user who may write everywhere can't put a file into a file, nor rename one over a folder.
        let file = scratch.0.join("file");
        fs::write(&file, "").unwrap();
        assert!(Files::new(&file, "custom_kernel_double_01").write(FUNCTION, &compiled()).is_err());
        let files = Files::new(&scratch.0, "custom_kernel_double_01");
        fs::create_dir(&files.binary).unwrap();
        fs::create_dir(files.binary.join("inside")).unwrap();
        assert!(files.write(FUNCTION, &compiled()).is_err());
        assert!(!files.are_there(FUNCTION));
        assert_eq!(scratch.contents(), ["custom_kernel_double_01.ptx", "custom_kernel_double_01.txt", "file"]);
    }
}
