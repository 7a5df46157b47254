use std::fmt;

/// Why an operation refused its inputs or could not compute its outputs: one sentence for a person.
///
/// From [`CpuOperation::outputs`](crate::CpuOperation::outputs) it is what [`apply`](crate::apply) returns; from
/// [`CpuOperation::run`](crate::CpuOperation::run) it is what `eval` returns. Both put the operation's name in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationError(String);

impl OperationError {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for OperationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OperationError {}

impl From<String> for OperationError {
    fn from(message: String) -> Self {
        Self(message)
    }
}

impl From<&str> for OperationError {
    fn from(message: &str) -> Self {
        Self(message.to_owned())
    }
}
