//! A line on the terminal that says what is being done, gone when it is done.

use std::io::{self, IsTerminal};
use std::ops::Deref;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::signals;

/// Erased when it is dropped, also on the way out of a function that fails.
pub struct ProgressLine(ProgressBar);

impl ProgressLine {
    /// Something of unknown length. Nothing in a log.
    pub fn spinner(message: String) -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        signals::set_line_is_shown(true);
        let spinner = ProgressBar::new_spinner().with_message(message);
        spinner.enable_steady_tick(Duration::from_millis(100));
        Self(spinner)
    }

    /// Something of which a known part is done. Nothing in a log.
    ///
    /// # Errors
    /// The bar's template is not valid.
    pub fn bar(length: u64) -> Result<Self> {
        if !io::stderr().is_terminal() {
            return Ok(Self(ProgressBar::hidden()));
        }
        signals::set_line_is_shown(true);
        let style = ProgressStyle::with_template("{bar:40} {percent} %, {msg}, {eta} left")?;
        Ok(Self(ProgressBar::new(length).with_style(style)))
    }
}

impl Deref for ProgressLine {
    type Target = ProgressBar;

    fn deref(&self) -> &ProgressBar {
        &self.0
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.0.finish_and_clear();
        signals::set_line_is_shown(false);
    }
}
