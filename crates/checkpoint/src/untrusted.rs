//! Showing text that somebody else wrote: what stands in a downloaded file, the name of a file, the answer of a model.
//!
//! Such a text may hold escape sequences, which a terminal obeys (another title, colours, a cleared screen), line ends, which
//! make one message look like two, and marks that reverse the order of letters. Every error of this crate passes through
//! [`one_line`]; a program that prints a path passes it through [`path`], and one that prints an answer through [`answer`].

use std::borrow::Cow;
use std::path::Path;

/// Longer texts lose their middle: an error is read by a person.
const MAX_CHARS: usize = 1_000;
/// What is left of a single value that an error quotes.
const MAX_VALUE_CHARS: usize = 120;

/// The text on one line, for an error or a log: every character that does not print stands as Rust writes it, `\n` or
/// `\u{1b}`. Other characters stay, backslashes and quotes included, so that a text comes out of a second call unchanged.
pub fn one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for piece in shortened(text, MAX_CHARS).split_inclusive(['\\', '"', '\'']) {
        let printable = piece.trim_end_matches(['\\', '"', '\'']);
        // Escapes what does not print, and would escape the three characters that the pieces were cut at.
        shown.extend(printable.escape_debug());
        shown.push_str(&piece[printable.len()..]);
    }
    shown
}

/// A path for an error or a log. See [`one_line`].
pub fn path(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

/// A value from a file, such as a JSON value, for the middle of a sentence: on one line and not longer than half of it.
pub(crate) fn value(value: impl std::fmt::Display) -> String {
    one_line(&shortened(&value.to_string(), MAX_VALUE_CHARS))
}

/// A model's answer, or a part of it, for a terminal: without control characters except line ends and tabs, and without the
/// marks that reorder what stands between them. Where an answer goes to a file or a pipe, it stays as it is.
pub fn answer(text: &str) -> Cow<'_, str> {
    let is_harmless = |c: char| {
        let reorders = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        matches!(c, '\n' | '\t') || !(c.is_control() || reorders)
    };
    if text.chars().all(is_harmless) { Cow::Borrowed(text) } else { text.chars().filter(|&c| is_harmless(c)).collect() }
}

/// The text, or its two ends with a word about what is left out.
fn shortened(text: &str, max_chars: usize) -> Cow<'_, str> {
    // At most `max_chars` bytes are as many characters or fewer: the usual case needs no counting.
    if text.len() <= max_chars || text.chars().count() <= max_chars {
        return Cow::Borrowed(text);
    }
    let kept = max_chars / 2;
    let start = text.char_indices().nth(kept).map_or(text.len(), |(at, _)| at);
    let end = text.char_indices().nth_back(kept - 1).map_or(start, |(at, _)| at).max(start);
    Cow::Owned(format!("{} [{} bytes left out] {}", &text[..start], end - start, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_print_is_written_out() {
        let cases = [
            ("plain, `quoted` \"text\" and C:\\folder", "plain, `quoted` \"text\" and C:\\folder"),
            ("Größe 大 👍", "Größe 大 👍"),
            ("e\u{301}t\u{e9}", "e\u{301}t\u{e9}"), // a combining accent, as macOS writes file names
            ("a\nerror: b\r", "a\\nerror: b\\r"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{7f}\0", "\\u{7f}\\0"),
            ("a\u{202e}b\u{2066}c\u{2028}", "a\\u{202e}b\\u{2066}c\\u{2028}"),
            ("'\u{1b}'\\\u{1b}\"", "'\\u{1b}'\\\\u{1b}\""),
        ];
        for (text, expected) in cases {
            assert_eq!(one_line(text), expected);
            assert_eq!(one_line(&one_line(text)), expected, "twice");
        }
        assert_eq!(path(Path::new("a\u{1b}[2Jb")), "a\\u{1b}[2Jb");
    }

    #[test]
    fn a_long_text_keeps_its_ends() {
        let text = format!("begin{}end", "ä".repeat(100_000));
        let shown = one_line(&text);
        assert!(
            shown.chars().count() < MAX_CHARS + 50 && shown.starts_with("begin") && shown.ends_with("end"),
            "{shown}"
        );
        assert!(shown.contains("bytes left out"));
        assert!(value(&text).chars().count() < MAX_VALUE_CHARS + 50);
        assert_eq!(one_line(&"ä".repeat(MAX_CHARS)), "ä".repeat(MAX_CHARS));
    }

    #[test]
    fn an_answer_keeps_its_lines_and_loses_what_a_terminal_obeys() {
        let plain = "Zwei\tSpalten\nשלום\u{200f} 👩\u{200d}💻\n";
        assert!(matches!(answer(plain), Cow::Borrowed(text) if text == plain));
        assert_eq!(answer("\u{1b}]0;x\u{7}a\u{1b}[31mb\u{9b}1mc\rd\u{7f}\u{202e}e\u{2069}\n"), "]0;xa[31mb1mcde\n");
    }
}
