//! Standard output and error that survive a closed pipe (`cargo xtask check | head`), where `println!` and `eprintln!`
//! would panic.

use std::fmt;
use std::io::{self, Write};

pub fn line(text: fmt::Arguments<'_>) {
    write_line(&mut io::stdout().lock(), text);
}

pub fn error_line(text: fmt::Arguments<'_>) {
    write_line(&mut io::stderr().lock(), text);
}

/// Asks something on standard output; the answer comes on the same line.
pub fn question(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Replaces the terminal line that standard error stands on.
pub fn replace_error_line(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "\r\u{1b}[2K{text}").and_then(|()| stderr.flush());
}

fn write_line(stream: &mut impl Write, text: fmt::Arguments<'_>) {
    // If nobody reads any more, there is nobody to tell either.
    let _ = stream.write_fmt(text).and_then(|()| stream.write_all(b"\n")).and_then(|()| stream.flush());
}

/// `println!` without the panic.
#[macro_export]
macro_rules! say {
    () => { $crate::output::line(format_args!("")) };
    ($($argument:tt)*) => { $crate::output::line(format_args!($($argument)*)) };
}

/// `eprintln!` without the panic.
#[macro_export]
macro_rules! tell {
    ($($argument:tt)*) => { $crate::output::error_line(format_args!($($argument)*)) };
}
