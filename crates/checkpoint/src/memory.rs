//! Asking for memory before it is needed.
//!
//! MLX's allocator returns null where there is no memory, and MLX writes through it; Rust's own ends the process. So before a
//! tensor is made, its bytes are asked for in a way that can fail, and given back. A system that promises more memory than it
//! has (most desktops) says yes to anything; under a limit (batch systems, containers, `ulimit -v`) the answer is true.

use std::alloc::{GlobalAlloc, Layout, System};

use crate::error::{Error, Result};

/// What the first tokens need besides the weights, in small pieces.
const LEFT_FOR_RUNNING: usize = 48 << 20;

/// What building a tokenizer takes, at least: vocabularies of 50,000 to 150,000 entries in several tables.
pub(crate) const FOR_TOKENIZER: usize = 32 << 20;

/// An error unless `bytes` can be allocated for `tensor`.
pub(crate) fn ask(tensor: &str, bytes: usize) -> Result<()> {
    if has(bytes) { Ok(()) } else { Err(Error::Memory { tensor: tensor.to_owned(), bytes }) }
}

/// Whether `bytes` can be allocated, and something is left for running.
pub(crate) fn has(bytes: usize) -> bool {
    let layout = Layout::array::<u8>(bytes.saturating_add(LEFT_FOR_RUNNING));
    layout.is_ok_and(|layout| {
        // SAFETY: the size is not zero. Nothing reads or writes the block, and it goes back with the layout that it came with.
        unsafe {
            // An allocation that nothing uses may be left out by the compiler, and so would be the answer.
            let block = std::hint::black_box(System.alloc(layout));
            if !block.is_null() {
                System.dealloc(block, layout);
            }
            !block.is_null()
        }
    })
}

/// Starts the threads of `rayon`, which would panic at the first use if the system refused them.
pub(crate) fn start_threads() -> std::result::Result<(), String> {
    use std::error::Error as _;
    match rayon::ThreadPoolBuilder::new().build_global() {
        // The other failure is that they run already; it has no cause.
        Err(error) if error.source().is_some() => Err(format!("cannot start threads: {error}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_given_and_what_is_not_is_refused() {
        ask("weight", 1 << 20).unwrap();
        // More than an address space has, and more than a layout can say.
        for bytes in [1 << 60, usize::MAX] {
            let error = ask("weight", bytes).unwrap_err();
            assert!(matches!(&error, Error::Memory { tensor, .. } if tensor == "weight"), "{error}");
            assert!(
                error.to_string().contains("not enough memory") && error.to_string().contains("ulimit -v"),
                "{error}"
            );
        }
    }

    #[test]
    fn threads_that_run_already_are_no_failure() {
        start_threads().unwrap();
        start_threads().unwrap();
    }
}
