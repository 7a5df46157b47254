//! The two streams that this program writes to. `print!` and its relatives panic where a stream is full or closed.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use anyhow::{Result, anyhow};
use checkpoint::untrusted;
use serde_json::Value;

/// A line on standard error, for people. If it can't be written, the program goes on.
macro_rules! note {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($argument)*);
    }};
}
pub(crate) use note;

/// Whoever read standard output does so no more, as `head` after some lines. The program then ends, and says nothing.
#[derive(Debug)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for Closed {}

/// Writes a line to standard output.
///
/// # Errors
/// [`Closed`]; or what the system says, such as that the disk is full.
pub fn line(text: &str) -> Result<()> {
    write(&format!("{text}\n"))
}

/// Writes an answer or a part of it to standard output, where a person may look: see [`untrusted::answer`].
///
/// # Errors
/// As [`line`].
pub fn answer(text: &str) -> Result<()> {
    if io::stdout().is_terminal() { write(&untrusted::answer(text)) } else { write(text) }
}

/// Writes a line of JSON to standard output. The same values, whatever a terminal makes of some characters.
///
/// # Errors
/// As [`line`].
pub fn json(value: &Value) -> Result<()> {
    line(&printable(&value.to_string()))
}

/// JSON with every character that does not print escaped. Such characters can stand in strings only.
fn printable(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        // What Rust would escape for a person, except quotes and backslashes, which have a meaning in JSON.
        if c.is_ascii_graphic() || c == ' ' || c.escape_debug().len() == 1 {
            text.push(c);
        } else {
            let mut units = [0; 2];
            text.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

fn write(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(failed)
}

/// The error of a failed write to standard output.
pub fn failed(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Closed.into(),
        _ => anyhow!("cannot write to standard output: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_prints_and_keeps_its_values() {
        let value = serde_json::json!({ "a": "\u{1b}[31m\u{9b}\u{7f}\u{202e}\n", "b": "\"é大\\👍\"", "c": "e\u{301}\u{e0001}" });
        let text = printable(&value.to_string());
        assert!(text.contains(r"\u009b\u007f\u202e\n") && text.contains("é大"), "{text}");
        assert!(text.contains(r"\udb40\udc01"), "{text}");
        assert!(!text.chars().any(char::is_control));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn a_closed_pipe_is_told_from_a_full_disk() {
        assert!(failed(io::ErrorKind::BrokenPipe.into()).is::<Closed>());
        let full = failed(io::ErrorKind::StorageFull.into());
        assert!(!full.is::<Closed>() && full.to_string().starts_with("cannot write to standard output: "), "{full}");
    }
}
