use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a wheel could not be installed. The text is one line that says what to do.
#[derive(Debug)]
pub enum Error {
    /// No `pip` was found that answers `--version`.
    NoPip,
    /// pip ran and failed; `reason` is its own last word.
    Pip { wheels: String, reason: String },
    /// A folder or file could not be written.
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Neither `TINY_LLM_CACHE` nor a home folder is known.
    NoCacheFolder,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPip => f.write_str(
                "no working pip was found: install Python 3.10 or newer with pip \
                 (Debian/Ubuntu: `apt install python3-pip`, Fedora: `dnf install python3-pip`)",
            ),
            Self::Pip { wheels, reason } => write!(f, "pip could not fetch {wheels}: {reason}"),
            Self::Io { action, path, source } if source.kind() == io::ErrorKind::StorageFull => {
                write!(
                    f,
                    "the disk is full: cannot {action} {}; free some space or point TINY_LLM_CACHE at another disk",
                    path.display()
                )
            }
            Self::Io { action, path, source } => {
                write!(f, "cannot {action} {}: {source}", path.display())
            }
            Self::NoCacheFolder => {
                f.write_str("no cache folder: set TINY_LLM_CACHE to a folder where downloads may be kept")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
