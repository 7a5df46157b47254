//! Where things are: the root folder of the course and the paths below it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The course's root folder. It is recognised by `tests/chapters.toml`.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
}

/// Which crate answers: the learner's, or the model answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Solution {
    Student,
    Reference,
}

impl Solution {
    pub fn name(self) -> &'static str {
        match self {
            Self::Student => "student",
            Self::Reference => "reference",
        }
    }

    /// The package whose test binaries are compiled against this crate.
    pub fn tests_package(self) -> &'static str {
        match self {
            Self::Student => "tests-student",
            Self::Reference => "tests-reference",
        }
    }
}

impl Workspace {
    /// `TINY_LLM_WORKSPACE` if set (the runner's own tests point it at a small course), else the
    /// current folder or the nearest one above it that holds the course.
    pub fn find() -> Result<Self> {
        if let Some(root) = env::var_os("TINY_LLM_WORKSPACE") {
            return Self::at(Path::new(&root));
        }
        let here = env::current_dir().map_err(|e| Error::new(format!("cannot tell the current folder: {e}")))?;
        here.ancestors().find_map(|folder| Self::at(folder).ok()).ok_or_else(|| {
            Error::new("this folder is not inside the course")
                .remedy("run `cargo xtask` somewhere below the folder that holds tests/chapters.toml")
        })
    }

    /// The course at exactly this folder.
    pub fn at(root: &Path) -> Result<Self> {
        let workspace = Self { root: root.to_owned() };
        if workspace.chapters_file().is_file() {
            Ok(workspace)
        } else {
            Err(Error::new(format!("{} holds no tests/chapters.toml", root.display())))
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn chapters_file(&self) -> PathBuf {
        self.root.join("tests/chapters.toml")
    }

    pub fn learner(&self) -> PathBuf {
        self.root.join("crates/tiny-llm")
    }

    pub fn reference(&self) -> PathBuf {
        self.root.join("reference")
    }

    pub fn fixtures(&self) -> PathBuf {
        self.root.join("tests/fixtures")
    }

    pub fn book(&self) -> PathBuf {
        self.root.join("book")
    }

    /// The git-ignored folder for hints taken, progress and backups.
    pub fn state(&self) -> PathBuf {
        self.root.join(".tiny-llm")
    }

    /// Cargo's target folder: `CARGO_TARGET_DIR` as Cargo itself reads it, else `target`.
    pub fn target(&self) -> PathBuf {
        match env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => self.root.join(folder),
            None => self.root.join("target"),
        }
    }

    /// Whether this course computes with MLX at all (the runner's own tests do not).
    pub fn uses_mlx(&self) -> bool {
        self.root.join("crates/course-mlx").is_dir()
    }

    /// `path` as the reader would type it: below the root when it is.
    pub fn display(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

/// A text file's content, or an error that names it.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))
}

/// Writes through a temporary neighbour and a rename, so that a crash never leaves half a file.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, &e))?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    fs::write(&temporary, text).map_err(|e| Error::io("write", &temporary, &e))?;
    fs::rename(&temporary, path).map_err(|e| {
        let _ = fs::remove_file(&temporary);
        Error::io("write", path, &e)
    })
}

/// Every file below `folder` in a stable order; a missing folder is an empty one.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(next) = pending.pop() {
        if !next.is_dir() {
            continue;
        }
        let entries = fs::read_dir(&next).map_err(|e| Error::io("list", &next, &e))?;
        for entry in entries {
            let path = entry.map_err(|e| Error::io("list", &next, &e))?.path();
            if path.is_dir() {
                pending.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
