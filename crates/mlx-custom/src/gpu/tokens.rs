//! Splits Metal source into tokens.
//!
//! Just enough of C++ to tell words from comments and strings: what comes before a compiler (lowering, the static check, the
//! search for `todo!`) must not be fooled by a word in a comment.

use std::ops::Range;

use crate::gpu::GpuKernel;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A name or a keyword.
    Word,
    /// A number, with its suffix.
    Number,
    /// A string or a character in quotes.
    Text,
    /// Anything else, one character at a time: `::` is two of them.
    Symbol,
    /// A line that begins with `#`, up to its end (and over lines continued with a backslash).
    Directive,
}

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub kind: TokenKind,
    /// Bytes of the source.
    pub range: Range<usize>,
    /// Line of the source, from 1.
    pub line: usize,
}

impl Token {
    /// The token as written.
    pub fn text<'a>(&self, source: &'a str) -> &'a str {
        source.get(self.range.clone()).unwrap_or_default()
    }
}

/// A source that can't be split: what is wrong, and in which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceError {
    /// Line of the source, from 1.
    pub line: usize,
    pub message: String,
}

impl SourceError {
    /// The message, with the line of the kernel's file.
    pub fn in_body_of(&self, kernel: &GpuKernel) -> String {
        format!("{}.metal:{}: {}", kernel.name, self.line, self.message)
    }
}

/// All tokens of `source`, without comments and spaces.
///
/// # Errors
/// A comment or a string that doesn't end.
pub fn tokenize(source: &str) -> Result<Vec<Token>, SourceError> {
    let bytes = source.as_bytes();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    let mut line_is_empty = true;
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        if byte == b'\n' {
            (at, line, line_is_empty) = (at + 1, line + 1, true);
            continue;
        }
        if byte.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        if rest.starts_with(b"//") {
            at += rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
            continue;
        }
        if rest.starts_with(b"/*") {
            let length = find(&rest[2..], b"*/").ok_or_else(|| error(line, "a comment `/*` that never ends"))? + 4;
            line += count_lines(&rest[..length]);
            at += length;
            continue;
        }
        let (kind, length) = match byte {
            b'#' if line_is_empty => (TokenKind::Directive, directive_length(rest)),
            b'"' | b'\'' => {
                (TokenKind::Text, quoted_length(rest).ok_or_else(|| error(line, "a quote that isn't closed"))?)
            }
            b'0'..=b'9' => (TokenKind::Number, number_length(rest)),
            b'.' if rest.get(1).is_some_and(u8::is_ascii_digit) => (TokenKind::Number, number_length(rest)),
            _ if is_word(byte) => (TokenKind::Word, rest.iter().position(|&b| !is_word(b)).unwrap_or(rest.len())),
            _ => (TokenKind::Symbol, source.get(at..).and_then(|s| s.chars().next()).map_or(1, char::len_utf8)),
        };
        line_is_empty = false;
        tokens.push(Token { kind, range: at..at + length, line });
        line += count_lines(&rest[..length]);
        at += length;
    }
    Ok(tokens)
}

fn error(line: usize, message: &str) -> SourceError {
    SourceError { line, message: message.to_owned() }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Up to the end of the line that isn't continued.
fn directive_length(rest: &[u8]) -> usize {
    let ends = rest.iter().enumerate().filter(|&(_, &byte)| byte == b'\n').map(|(at, _)| at);
    ends.into_iter().find(|&at| at == 0 || rest[at - 1] != b'\\').unwrap_or(rest.len())
}

fn quoted_length(rest: &[u8]) -> Option<usize> {
    let mut at = 1;
    while let Some(&byte) = rest.get(at) {
        match byte {
            b'\\' => at += 2,
            b'\n' => return None,
            _ if byte == rest[0] => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// With signs of exponents (`1e-6`), separators (`1'000`) and suffixes.
fn number_length(rest: &[u8]) -> usize {
    let hexadecimal = rest.starts_with(b"0x") || rest.starts_with(b"0X");
    let mut at = 1;
    while let Some(&byte) = rest.get(at) {
        let sign = matches!(byte, b'+' | b'-') && !hexadecimal && matches!(rest[at - 1], b'e' | b'E');
        let separator = byte == b'\'' && rest.get(at + 1).is_some_and(|&next| is_word(next));
        if !(is_word(byte) || byte == b'.' || sign || separator) {
            break;
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        tokenize(source).unwrap().iter().map(|token| token.text(source)).collect()
    }

    #[test]
    fn words_numbers_and_symbols() {
        assert_eq!(texts("a1 = b[2]*1e-6f + .5h;"), ["a1", "=", "b", "[", "2", "]", "*", "1e-6f", "+", ".5h", ";"]);
        assert_eq!(texts("x-1 0x1E-2 1'000u 'a'"), ["x", "-", "1", "0x1E", "-", "2", "1'000u", "'a'"]);
    }

    #[test]
    fn comments_and_strings_are_no_words() {
        assert_eq!(texts("a // b\n/* c \n d */ \"e // \\\" f\" g"), ["a", "\"e // \\\" f\"", "g"]);
        assert_eq!(texts("#define A \\\n  b\nc"), ["#define A \\\n  b", "c"]);
        assert_eq!(texts("größe;"), ["gr", "ö", "ß", "e", ";"]);
    }

    #[test]
    fn lines_are_counted_through_everything() {
        let source = "a\n/*\n\n*/ b\n#define X \\\n 1\nc";
        let lines: Vec<_> = tokenize(source).unwrap().iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 4, 5, 7]);
    }

    #[test]
    fn what_never_ends_is_an_error_with_its_line() {
        assert_eq!(tokenize("a\n/* b").unwrap_err().line, 2);
        assert_eq!(tokenize("a\n\nx = \"b\n").unwrap_err().line, 3);
    }
}
