//! What the system tells a program that is about to end.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;

/// Whether a line of progress is on the terminal.
static LINE_IS_SHOWN: AtomicBool = AtomicBool::new(false);

/// Goes to the beginning of the line, erases it, and shows the cursor.
const ERASE: &[u8] = b"\r\x1b[2K\x1b[?25h";
const SHORTENED: &[u8] =
    b"error: a file of the model became shorter while it was read, or its disk failed; try again when nothing writes to it\n";

pub fn set_line_is_shown(is_shown: bool) {
    LINE_IS_SHOWN.store(is_shown, Ordering::Relaxed);
}

/// Ctrl-C leaves no half line on the terminal, and a model that another program shortens while it is read (which the
/// system reports as SIGBUS, because files of weights are mapped) ends with a sentence.
pub fn install() {
    type Handler = extern "C" fn(c_int);
    // SAFETY: the handlers do nothing but what a signal handler may: an atomic load, `write`, `signal`, `raise`, `_exit`.
    unsafe {
        // A program that was told to ignore Ctrl-C, as `nohup` does, goes on ignoring it.
        if libc::signal(libc::SIGINT, on_interrupt as Handler as libc::sighandler_t) == libc::SIG_IGN {
            libc::signal(libc::SIGINT, libc::SIG_IGN);
        }
        // Elsewhere a stack that overflows is reported in the same way.
        if cfg!(target_os = "linux") {
            libc::signal(libc::SIGBUS, on_bus_error as Handler as libc::sighandler_t);
        }
    }
}

extern "C" fn on_interrupt(signal: c_int) {
    erase_line();
    // SAFETY: both may be called in a handler. The signal comes again when this one returns, and ends the program as ever.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

extern "C" fn on_bus_error(_: c_int) {
    erase_line();
    say(SHORTENED);
    // SAFETY: may be called in a handler. Returning would read the same page again.
    unsafe { libc::_exit(2) }
}

fn erase_line() {
    if LINE_IS_SHOWN.load(Ordering::Relaxed) {
        say(ERASE);
    }
}

fn say(text: &[u8]) {
    // SAFETY: may be called in a handler; the text is that long.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}
