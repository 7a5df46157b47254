//! Colours for a terminal, nothing for a pipe; and wrapping of prose.

use std::env;
use std::io::{self, IsTerminal};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Red,
    Green,
    Yellow,
    Blue,
    Grey,
    Bold,
}

/// Whether the text that is written may carry colours.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    coloured: bool,
}

impl Style {
    /// Colours if standard output is a terminal and `NO_COLOR` is not set.
    pub fn for_stdout() -> Self {
        Self { coloured: io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none() }
    }

    pub fn plain() -> Self {
        Self { coloured: false }
    }

    pub fn is_coloured(self) -> bool {
        self.coloured
    }

    pub fn paint(self, colour: Colour, text: &str) -> String {
        if !self.coloured || text.is_empty() {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Blue => 34,
            Colour::Grey => 90,
            Colour::Bold => 1,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Breaks prose into lines of at most `width` characters, each behind `indent`.
pub fn wrap(text: &str, indent: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.lines() {
        let mut line = indent.to_owned();
        for word in paragraph.split_whitespace() {
            let fits = line.chars().count() + 1 + word.chars().count() <= width;
            if line.len() > indent.len() {
                if fits {
                    line.push(' ');
                } else {
                    lines.push(std::mem::replace(&mut line, indent.to_owned()));
                }
            }
            line.push_str(word);
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

/// Puts `indent` before every line that is not empty.
pub fn indent(text: &str, indent: &str) -> String {
    text.lines()
        .map(|line| if line.trim().is_empty() { String::new() } else { format!("{indent}{line}") })
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_wraps_at_the_width_and_keeps_paragraphs() {
        assert_eq!(wrap("one two three", "  ", 9), "  one two\n  three");
        assert_eq!(wrap("a\n\nb", "", 10), "a\n\nb");
        assert_eq!(wrap("unbreakablelongword x", "", 5), "unbreakablelongword\nx");
    }

    #[test]
    fn a_pipe_gets_no_colours() {
        assert_eq!(Style::plain().paint(Colour::Red, "x"), "x");
        assert_eq!(Style { coloured: true }.paint(Colour::Red, "x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
