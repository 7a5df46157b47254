//! Which libraries the other machine must have: those that files of a bundle ask for, and that are not in it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::bundle_contents::entries;
use crate::bundle_elf;
use crate::error::{Error, Result};

/// Folders of a bundle in which programs and libraries lie.
const FOLDERS: [&str; 5] = ["bin", "tests", "benches", "lib", "wheels"];
/// What every Linux with glibc has, without the number behind `.so`.
const SYSTEM: [&str; 10] = [
    "ld-linux-x86-64",
    "ld-linux-aarch64",
    "libc",
    "libdl",
    "libgcc_s",
    "libm",
    "libpthread",
    "librt",
    "libstdc++",
    "libutil",
];
/// How NVIDIA's libraries begin: the driver, the CUDA toolkit, cuDNN, NCCL.
const NVIDIA: [&str; 7] = ["libcuda.so", "libcudart", "libcublas", "libcudnn", "libcufft", "libnccl", "libnv"];

/// Names of files, each once, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub nvidia: Vec<String>,
    pub system: Vec<String>,
}

impl Needs {
    /// Reads all programs and libraries below `folder`; links are followed.
    ///
    /// # Errors
    /// A file is damaged, or asks for a library that neither is in the bundle nor belongs to Linux or NVIDIA.
    pub fn of(folder: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for name in FOLDERS {
            collect(&folder.join(name), &mut files)?;
        }
        let inside: BTreeSet<_> = files.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        let mut outside = BTreeSet::new();
        for path in &files {
            let file = fs::read(path).map_err(|e| Error::io("read", path, &e))?;
            let needed = bundle_elf::needed_names(&file).map_err(|e| Error::new(format!("{}: {e}", path.display())))?;
            for name in needed.into_iter().filter(|name| !inside.contains(name.as_str())) {
                if !is_nvidia(&name) && !is_system(&name) {
                    return Err(Error::new(format!("the bundle lacks {name}, which {} needs", path.display()))
                        .remedy("add it in xtask/src/bundle_contents.rs"));
                }
                outside.insert(name);
            }
        }
        let (nvidia, system) = outside.into_iter().partition(|name| is_nvidia(name));
        Ok(Self { nvidia, system })
    }
}

fn is_nvidia(name: &str) -> bool {
    NVIDIA.iter().any(|start| name.starts_with(start))
}

fn is_system(name: &str) -> bool {
    SYSTEM.contains(&name.split_once(".so").map_or(name, |(stem, _)| stem))
}

/// All ELF files below `folder`. Headers, some thousands, are not looked at.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for path in entries(folder)? {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "include") {
                collect(&path, files)?;
            }
        } else {
            let mut start = Vec::new();
            let opened = File::open(&path).map_err(|e| Error::io("read", &path, &e))?;
            opened.take(4).read_to_end(&mut start).map_err(|e| Error::io("read", &path, &e))?;
            if bundle_elf::is_elf(&start) {
                files.push(path);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_nvidia_and_of_linux_are_told_apart_from_others() {
        for name in ["libcuda.so.1", "libcublasLt.so.13", "libcudnn.so.9", "libnvrtc.so.13", "libnvJitLink.so.13"] {
            assert!(is_nvidia(name) && !is_system(name), "{name}");
        }
        for name in ["libc.so.6", "libstdc++.so.6", "ld-linux-x86-64.so.2"] {
            assert!(is_system(name) && !is_nvidia(name), "{name}");
        }
        for name in ["libcrypto.so.3", "libgfortran.so.5", "libmlx.so"] {
            assert!(!is_system(name) && !is_nvidia(name), "{name}");
        }
    }

    /// This program stands for one of a bundle, and for a library with the name that is asked for.
    #[test]
    fn what_is_inside_is_not_needed() {
        if !cfg!(target_os = "linux") {
            return;
        }
        let folder = std::env::temp_dir().join(format!("xtask-bundle-needs-{}", std::process::id()));
        let include = folder.join("wheels/mlx/include");
        fs::create_dir_all(folder.join("bin")).unwrap();
        fs::create_dir_all(&include).unwrap();
        let program = std::env::current_exe().unwrap();
        fs::copy(&program, folder.join("bin/program")).unwrap();
        fs::write(folder.join("bin/script"), "#!/bin/sh\n").unwrap();
        fs::write(include.join("broken"), b"\x7fELF").unwrap();

        let before = Needs::of(&folder).unwrap();
        assert_eq!(before.nvidia, Vec::<String>::new());
        assert!(before.system.contains(&"libc.so.6".to_owned()), "{before:?}");
        fs::copy(&program, folder.join("wheels/libc.so.6")).unwrap();
        let after = Needs::of(&folder).unwrap();
        let others: Vec<_> = before.system.into_iter().filter(|name| name != "libc.so.6").collect();
        assert_eq!(after.system, others);

        fs::write(folder.join("bin/damaged"), b"\x7fELF").unwrap();
        let message = Needs::of(&folder).unwrap_err().to_string();
        assert!(message.contains("bin/damaged: this is no ELF file"), "{message}");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_library_of_nobody_is_an_error() {
        if !cfg!(target_os = "linux") {
            return;
        }
        let folder = std::env::temp_dir().join(format!("xtask-bundle-lacks-{}", std::process::id()));
        fs::create_dir_all(folder.join("bin")).unwrap();
        let mut program = fs::read(std::env::current_exe().unwrap()).unwrap();
        bundle_elf::rewrite(&mut program, |_, name| name.starts_with("libc.so").then(|| "libz.so.1".to_owned()))
            .unwrap();
        fs::write(folder.join("bin/program"), program).unwrap();
        let message = Needs::of(&folder).unwrap_err().to_string();
        assert!(message.contains("the bundle lacks libz.so.1, which"), "{message}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
