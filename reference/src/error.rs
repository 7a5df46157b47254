//! What can go wrong in the engine.

use mlx_rs::error::Exception;

/// The result of nearly every function in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error names the operation and the values that it objects to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A caller passed something that the operation cannot work with.
    #[error("{operation}: {message}")]
    InvalidArgument {
        /// The function or type that refused, e.g. `causal_mask`.
        operation: &'static str,
        /// What was wrong with the argument, with its value.
        message: String,
    },
    /// MLX refused an operation, e.g. because shapes do not fit.
    #[error("MLX: {}", mlx_custom::message(.0))]
    Mlx(Exception),
    /// The model's files are not what they should be.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
}

// Not `#[from]`, which would make the exception the error's source as well: whoever prints all causes would say it twice.
impl From<Exception> for Error {
    fn from(exception: Exception) -> Self {
        Self::Mlx(exception)
    }
}

impl Error {
    /// Shorthand for [`Error::InvalidArgument`].
    pub fn invalid(operation: &'static str, message: impl Into<String>) -> Self {
        Self::InvalidArgument { operation, message: message.into() }
    }
}
