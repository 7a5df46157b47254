//! One line on the terminal that says what is going on, and vanishes when it is over.

use std::io::{self, IsTerminal, Write};

pub struct StatusLine {
    shown: bool,
}

impl StatusLine {
    /// Shows `text` on standard error if that is a terminal and `wanted`.
    pub fn show(wanted: bool, text: &str) -> Self {
        let shown = wanted && io::stderr().is_terminal();
        if shown {
            let short: String = text.chars().take(76).collect();
            eprint!("\r\u{1b}[2K{short}");
            let _ = io::stderr().flush();
        }
        Self { shown }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\u{1b}[2K");
            let _ = io::stderr().flush();
        }
    }
}
