//! One line on the terminal that says what is going on, and vanishes when it is over.

use std::io::{self, IsTerminal};

use crate::output;

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
            output::replace_error_line(&short);
        }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.show("");
    }
}
