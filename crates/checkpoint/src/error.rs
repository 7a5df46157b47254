//! Everything that can be wrong with a checkpoint, said in one line that names the file and, where there is one, the tensor.

use std::path::{Path, PathBuf};

use crate::untrusted::{one_line, path};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a checkpoint, a tokenizer, a chat template or a model name was refused.
///
/// Names and problems may come from a downloaded file, so all of them are shown by [`one_line`]. A cause is part of the
/// message, and not its `source`, so that a program that prints the whole chain does not say it twice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system could not open, map or read a file.
    #[error("{}: {}", path(.file), one_line(&.cause.to_string()))]
    Io { file: PathBuf, cause: std::io::Error },

    /// The bytes break the rules of the file's format: truncated, offsets outside the file, not JSON.
    #[error("{}: {}", path(.file), one_line(.problem))]
    Malformed { file: PathBuf, problem: String },

    /// A well-formed request for something that this crate does not do, refused rather than computed wrongly.
    #[error("{}: {}", path(.file), one_line(.problem))]
    Unsupported { file: PathBuf, problem: String },

    /// One tensor is at fault: absent, of another shape or dtype than the configuration says, or out of place.
    #[error("{}: tensor `{}`: {}", path(.file), one_line(.tensor), one_line(.problem))]
    Tensor { file: PathBuf, tensor: String, problem: String },

    /// The tokenizer cannot be built, or does not fit the model.
    #[error("{}: tokenizer: {}", path(.file), one_line(.problem))]
    Tokenizer { file: PathBuf, problem: String },

    /// The model chose a token that the tokenizer has no text for.
    #[error(
        "token {token} is not in the tokenizer, which has {entries} entries; the model's vocabulary may be padded beyond them"
    )]
    UnknownToken { token: u32, entries: usize },

    /// The chat template is not valid, or it refused the conversation (`raise_exception`).
    #[error("{}: chat template: {}", path(.file), one_line(.problem))]
    ChatTemplate { file: PathBuf, problem: String },

    /// The name is neither a built-in model, nor a path, nor something that can be downloaded.
    #[error("`{}` is not a model that can be opened: {}", one_line(.name), one_line(.problem))]
    UnknownModel { name: String, problem: String },

    /// A model could not be downloaded.
    #[error("downloading `{}`: {}", one_line(.name), one_line(.problem))]
    Download { name: String, problem: String },

    /// The system, or a limit set for this process, has no memory for a tensor.
    #[error(
        "tensor `{}`: there is not enough memory for its {} MB; use a smaller or a quantized model, or raise the limit (`ulimit -v`)",
        one_line(.tensor),
        .bytes.div_ceil(1_000_000)
    )]
    Memory { tensor: String, bytes: usize },

    /// The system refused to start threads.
    #[error("{problem}; there may be a limit on processes or on memory (`ulimit -u`, `ulimit -v`)")]
    Threads { problem: String },

    /// MLX refused to make or to convert an array.
    #[error("tensor `{}`: {}", one_line(.tensor), one_line(.cause.what()))]
    Mlx { tensor: String, cause: mlx_rs::error::Exception },
}

impl Error {
    pub(crate) fn io(file: &Path, cause: std::io::Error) -> Self {
        Self::Io { file: file.to_owned(), cause }
    }

    pub(crate) fn malformed(file: &Path, problem: impl Into<String>) -> Self {
        Self::Malformed { file: file.to_owned(), problem: problem.into() }
    }

    pub(crate) fn unsupported(file: &Path, problem: impl Into<String>) -> Self {
        Self::Unsupported { file: file.to_owned(), problem: problem.into() }
    }

    pub(crate) fn tensor(file: &Path, tensor: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { file: file.to_owned(), tensor: tensor.to_owned(), problem: problem.into() }
    }

    pub(crate) fn tokenizer(file: &Path, problem: impl Into<String>) -> Self {
        Self::Tokenizer { file: file.to_owned(), problem: problem.into() }
    }
}
