//! Runs a kernel on the CPU, and watches what it does: a debugger for GPU kernels that needs no GPU.
//!
//! The kernel's body is put behind a prelude that gives Metal's words a meaning in C++ (`native/emulator`), compiled with the system's
//! C++ compiler, and kept in the user's cache folder. Threads of a threadgroup are fibers: each has a stack of its own and runs until a
//! barrier or a SIMD-group operation makes it wait. Threadgroups are spread over the processors.
//!
//! # What it finds
//!
//! The compiler is asked for the instrumentation of ThreadSanitizer (`-fsanitize=thread`): a call before every access to memory.
//! The calls go to the emulator's own runtime, which knows each array and who used which element when. It reports
//!
//! - reads and writes outside of an array, misaligned wide accesses, writes to inputs;
//! - reads of threadgroup memory or of outputs that nothing has written, and outputs that stay unwritten;
//! - races: two threads use one element, at least one writes, and no barrier stands between; or two threadgroups do;
//! - barriers and SIMD-group operations that some threads don't come to.
//!
//! The first finding becomes the error of the `eval` that waits for the kernel, with array, index, thread and line.
//! Arrays are copied for this, each into an address range of its own, so a wrong kernel can't do harm.
//!
//! With the environment variable `TINY_LLM_EMULATOR=unchecked`, or [`set_checked`], kernels run some ten times faster and
//! unwatched, except for barriers; a wrong one may then crash the program.
//!
//! # What it counts
//!
//! Bytes, barriers, threadgroup memory and more of every watched launch: [`take_counters`]. Where the environment variable
//! `TINY_LLM_RESULTS` names a file, a line for each launch is appended to it, from which `cargo xtask check` makes its table.
//!
//! # Not emulated
//!
//! Caches and time; the order in which a GPU's threads really run (here always the same, so a race may give the
//! right result, and is reported all the same); atomics.

mod abi;
mod arrays;
mod cache;
mod compiler;
mod counters;
mod library;
mod lines;
mod operation;
mod prune;
mod region;
mod report;
mod results;
mod source;
mod workers;

use std::ffi::OsStr;
use std::sync::atomic::{AtomicU8, Ordering};

use mlx_rs::Array;
use mlx_rs::error::Exception;

pub use counters::{KernelCounters, take_counters};
use operation::Emulation;

use crate::gpu::{GpuKernel, Launch, Lowered};
use crate::{OperationError, apply};

const MODE_VARIABLE: &str = "TINY_LLM_EMULATOR";
const UNSET: u8 = 0;
const CHECKED: u8 = 1;
const UNCHECKED: u8 = 2;

static MODE: AtomicU8 = AtomicU8::new(UNSET);

/// Whether launches from now on are watched. They are unless the environment variable `TINY_LLM_EMULATOR` is `unchecked`.
pub fn set_checked(checked: bool) {
    MODE.store(if checked { CHECKED } else { UNCHECKED }, Ordering::Relaxed);
}

/// # Errors
/// The variable holds another word.
fn is_checked() -> Result<bool, OperationError> {
    match MODE.load(Ordering::Relaxed) {
        UNSET => from_word(std::env::var_os(MODE_VARIABLE).as_deref()),
        mode => Ok(mode == CHECKED),
    }
}

fn from_word(word: Option<&OsStr>) -> Result<bool, OperationError> {
    match word.map(|word| word.to_str()) {
        None | Some(Some("" | "checked")) => Ok(true),
        Some(Some("unchecked")) => Ok(false),
        _ => {
            let word = word.unwrap_or_default();
            Err(format!("{MODE_VARIABLE} is {word:?}; it can be unchecked, or checked, which is the default").into())
        }
    }
}

/// Whether kernels can be compiled and what is counted can be written, as far as that can be known before there is one.
///
/// # Errors
/// No C++ compiler, a stream of results that can't be written, a mode that there isn't.
pub(crate) fn check_ready() -> Result<(), OperationError> {
    if is_checked()? {
        results::check()?;
    }
    compiler::Compiler::find().map(|_| ())
}

/// Adds the kernel to MLX's graph as an operation of the CPU. `GpuKernel::launch_on` has checked inputs and launch already.
///
/// # Errors
/// What can't be emulated. What only shows when the kernel runs is an error of `eval`.
pub(crate) fn launch(
    kernel: &GpuKernel,
    lowered: &Lowered,
    inputs: &[&Array],
    launch: &Launch<'_>,
) -> Result<Vec<Array>, Exception> {
    let mut threads = [0; 3];
    let mut threadgroups = [0; 3];
    for axis in 0..3 {
        let (grid, threadgroup) = (launch.grid[axis], launch.threadgroup[axis]);
        let too_many = |_| Exception::custom(format!("{}: a grid of {grid} threads is too large", kernel.name));
        threads[axis] = u32::try_from(threadgroup).map_err(too_many)?;
        threadgroups[axis] = u32::try_from(grid / threadgroup.max(1)).map_err(too_many)?;
    }
    let emulation = Emulation {
        kernel: *kernel,
        lowered: lowered.clone(),
        template: launch.template.to_vec(),
        outputs: launch.outputs.to_vec(),
        threadgroups,
        threads,
        fill: launch.fill,
        is_checked: is_checked().map_err(|error| Exception::custom(format!("{}: {error}", kernel.name)))?,
    };
    apply(emulation, inputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_that_there_is_not_is_refused() {
        let mode = |word: &str| from_word(Some(word.as_ref()));
        assert_eq!((from_word(None), mode(""), mode("checked")), (Ok(true), Ok(true), Ok(true)));
        assert_eq!(mode("unchecked"), Ok(false));
        for word in ["x", "Unchecked", "0"] {
            let message = mode(word).unwrap_err().to_string();
            assert!(message.starts_with(&format!("TINY_LLM_EMULATOR is {word:?}; ")), "{message}");
        }
    }
}
