//! The number of threads.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

/// Read by the kernels of this course, and by the BLAS behind MLX's dense matrix products.
const VARIABLES: [&str; 2] = ["TINY_LLM_THREADS", "OPENBLAS_NUM_THREADS"];

/// Makes this process one with `threads` threads.
///
/// Libraries look at these variables when they are loaded, which was before `main`. So the program replaces itself by
/// itself, once.
pub fn restart_with(threads: usize) -> Result<()> {
    let wanted = threads.to_string();
    if VARIABLES.iter().all(|name| env::var(name).as_ref() == Ok(&wanted)) {
        return Ok(());
    }
    let program = env::current_exe().context("finding this program")?;
    let mut again = Command::new(program);
    again.args(env::args_os().skip(1)).envs(VARIABLES.map(|name| (name, &wanted)));
    // Returns only if it fails.
    Err(again.exec()).context("starting again with other threads")
}
