//! What went wrong, and what to do about it, in one line.

use std::fmt;
use std::io;
use std::path::Path;

pub type Result<T> = std::result::Result<T, Error>;

/// A mistake in how the runner was called, or something missing on this machine.
///
/// A learner's wrong answer is never an `Error`: it is a verdict (see [`crate::exit_code`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    message: String,
    remedy: Option<String>,
}

impl Error {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: None }
    }

    /// The program that failed has told the reader already; nothing more is printed.
    pub fn already_reported() -> Self {
        Self::new("")
    }

    pub fn is_reported(&self) -> bool {
        self.message.is_empty()
    }

    /// Adds what the reader should do now.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// A failed file operation; `action` is an infinitive such as "read".
    pub fn io(action: &str, path: &Path, source: &io::Error) -> Self {
        let error = Self::new(format!("cannot {action} {}: {source}", path.display()));
        match source.kind() {
            io::ErrorKind::StorageFull => error.remedy("free some disk space and run it again"),
            io::ErrorKind::PermissionDenied => error.remedy("check who owns that file and that you may write there"),
            _ => error,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
