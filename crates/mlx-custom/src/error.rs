use std::fmt;

use mlx_rs::error::Exception;

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

/// What an error of MLX says, without the places in MLX's sources with which it ends. (As text, an [`Exception`] also has quotes
/// and a place in Rust's library.)
pub fn message(error: &Exception) -> &str {
    let mut message = error.what().trim_end();
    while let Some((before, place)) = message.rsplit_once(" at ") {
        // `/a/b.cpp:12`
        let is_line = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let is_place = place.starts_with('/') && place.rsplit_once(':').is_some_and(|(_, line)| is_line(line));
        if !is_place {
            break;
        }
        message = before.trim_end();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_where_the_sentence_ends() {
        let cases = [
            ("[reshape] Cannot reshape (6) to (4). at /a b/mlx/ops.cpp:45", "[reshape] Cannot reshape (6) to (4)."),
            ("x: no compiler at /a/one.cpp:1 at /b/two.cpp:22\n", "x: no compiler"),
            ("look at /tmp/kernel.cpp", "look at /tmp/kernel.cpp"),
            ("wrong at row 3", "wrong at row 3"),
            ("wrong at src/rope.rs:12", "wrong at src/rope.rs:12"),
            ("", ""),
        ];
        for (what, expected) in cases {
            assert_eq!(message(&Exception::custom(what)), expected);
        }
    }
}
