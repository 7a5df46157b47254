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
    #[error("MLX: {0}")]
    Mlx(#[from] Exception),
    /// The model's files are not what they should be.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
}

impl Error {
    /// Shorthand for [`Error::InvalidArgument`].
    pub fn invalid(operation: &'static str, message: impl Into<String>) -> Self {
        Self::InvalidArgument { operation, message: message.into() }
    }
}
