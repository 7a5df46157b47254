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

use std::sync::atomic::{AtomicU8, Ordering};

use mlx_rs::Array;
use mlx_rs::error::Exception;

pub use counters::{KernelCounters, take_counters};
use operation::Emulation;

use crate::apply;
use crate::gpu::{GpuKernel, Launch, Lowered};

const MODE_VARIABLE: &str = "TINY_LLM_EMULATOR";
const UNSET: u8 = 0;
const CHECKED: u8 = 1;
const UNCHECKED: u8 = 2;

static MODE: AtomicU8 = AtomicU8::new(UNSET);

/// Whether launches from now on are watched. They are unless the environment variable `TINY_LLM_EMULATOR` is `unchecked`.
pub fn set_checked(checked: bool) {
    MODE.store(if checked { CHECKED } else { UNCHECKED }, Ordering::Relaxed);
}

fn is_checked() -> bool {
    match MODE.load(Ordering::Relaxed) {
        UNSET => std::env::var(MODE_VARIABLE).map_or(true, |mode| mode != "unchecked"),
        mode => mode == CHECKED,
    }
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
        is_checked: is_checked(),
    };
    apply(emulation, inputs)
}
