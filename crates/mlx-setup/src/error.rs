use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why MLX could not be provisioned. The text is one line that says what to do.
#[derive(Debug)]
pub enum Error {
    /// A wheel could not be fetched.
    Wheel(wheel_fetch::Error),
    /// This system, or this combination, is not supported.
    Unsupported(String),
    /// The sources of mlx-c were not found through Cargo.
    Sources(String),
    /// No C++ compiler, or one that is too old.
    Compiler(String),
    /// The compiler rejected a file.
    Compile { file: String, reason: String },
    /// A file could not be read or written.
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wheel(error) => error.fmt(f),
            Self::Unsupported(message) | Self::Sources(message) | Self::Compiler(message) => f.write_str(message),
            Self::Compile { file, reason } => write!(f, "compiling {file} failed: {reason}"),
            Self::Io { path, source, .. } if source.kind() == io::ErrorKind::StorageFull => write!(
                f,
                "the disk is full: cannot write {}; free some space or point TINY_LLM_CACHE at another disk",
                path.display()
            ),
            Self::Io { action, path, source } => {
                write!(f, "cannot {action} {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Wheel(error) => Some(error),
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<wheel_fetch::Error> for Error {
    fn from(error: wheel_fetch::Error) -> Self {
        Self::Wheel(error)
    }
}
