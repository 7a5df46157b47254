//! Standard output that survives a closed pipe (`cargo xtask check | head`), where `println!`
//! would panic.

use std::fmt;
use std::io::{self, Write};

pub fn line(text: fmt::Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    // Nobody reads any more: there is nobody to tell either.
    let _ = stdout.write_fmt(text).and_then(|()| stdout.write_all(b"\n"));
    let _ = stdout.flush();
}

/// `println!` without the panic.
#[macro_export]
macro_rules! say {
    () => { $crate::output::line(format_args!("")) };
    ($($argument:tt)*) => { $crate::output::line(format_args!($($argument)*)) };
}
