//! One line on the terminal that says what is going on, and vanishes when it is over.

use std::io::{self, IsTerminal, Write};

pub struct StatusLine {
    shown: bool,
}

impl StatusLine {
    /// A line on standard error, if that is a terminal and the line is `wanted`.
    pub fn new(wanted: bool) -> Self {
        Self { shown: wanted && io::stderr().is_terminal() }
    }

    /// Replaces what the line says.
    pub fn show(&self, text: &str) {
        if self.shown {
            let short: String = text.chars().take(76).collect();
            eprint!("\r\u{1b}[2K{short}");
            let _ = io::stderr().flush();
        }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.show("");
    }
}
