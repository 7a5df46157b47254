//! `cargo xtask`: see the library for everything.

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    ExitCode::from(xtask::cli::main(arguments))
}
