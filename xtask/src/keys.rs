//! Single key presses, if standard input is a terminal.
//!
//! `stty` switches the terminal's line mode, so no foreign function is needed. While keys are awaited, signals from the
//! keyboard are off: Ctrl-C arrives as a key, and the terminal is always restored. While a check runs the terminal is as
//! it was, and Ctrl-C ends the check's programs too.

use std::io::{self, IsTerminal, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

pub struct Keys {
    /// What `stty` needs to restore the terminal.
    saved: String,
    presses: Receiver<u8>,
}

pub const CTRL_C: u8 = 3;

impl Keys {
    /// `None` if there is no terminal to read keys from.
    pub fn open() -> Option<Self> {
        if !io::stdin().is_terminal() {
            return None;
        }
        let saved = stty(&["-g"])?;
        let (sender, presses) = mpsc::channel();
        thread::spawn(move || {
            let mut byte = [0];
            while io::stdin().read_exact(&mut byte).is_ok() && sender.send(byte[0]).is_ok() {}
        });
        Some(Self { saved: saved.trim().to_owned(), presses })
    }

    /// The next key within `wait`.
    pub fn next(&self, wait: Duration) -> Option<u8> {
        match self.presses.recv_timeout(wait) {
            Ok(key) => Some(key),
            Err(RecvTimeoutError::Timeout) => None,
            // The terminal is gone: as good as quitting.
            Err(RecvTimeoutError::Disconnected) => Some(CTRL_C),
        }
    }

    /// From here on every key press counts. What was typed while nobody listened is thrown away: it was meant for a
    /// screen that is gone.
    pub fn listen(&self) {
        stty(&["-icanon", "-echo", "-isig", "min", "1", "time", "0"]);
        while self.presses.recv_timeout(Duration::from_millis(20)).is_ok() {}
    }

    /// The terminal as it was before.
    pub fn pause(&self) {
        stty(&[&self.saved]);
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.pause();
    }
}

fn stty(arguments: &[&str]) -> Option<String> {
    let output = Command::new("stty").args(arguments).stdin(Stdio::inherit()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
