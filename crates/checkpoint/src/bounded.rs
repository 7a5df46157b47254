//! Runs what a downloaded file asks for within bounds: a chat template is a program, and a tokenizer is a pipeline of steps
//! of which each may multiply its input.
//!
//! The work gets a thread of its own, with a stack of known size, a deadline and a number of bytes. No library has a hook for
//! every place where it allocates or loops, so the bounds stand outside: work that goes past one is left behind, on a thread
//! that sleeps from its next allocation on, and the caller gets an error. A panic is an error as well.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// How often the caller looks whether the work has used up its bytes.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a piece of work may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) time: Duration,
    /// Live bytes, counted where a program has [`BoundedAllocator`] as its allocator.
    pub(crate) bytes: usize,
    pub(crate) stack: usize,
}

/// The system's allocator, which stops a thread that runs downloaded code at its number of bytes.
///
/// A program that opens files of strangers names it as its `#[global_allocator]`. Threads without bounds pay for one look at
/// a thread-local variable.
#[derive(Debug)]
pub struct BoundedAllocator;

/// The bytes that this thread may still allocate, and its words with the caller.
struct Budget {
    bytes_left: Cell<usize>,
    flags: Arc<Flags>,
}

#[derive(Default)]
struct Flags {
    /// Set by the work: an allocation would have gone past the bytes.
    is_exhausted: AtomicBool,
    /// Set by the caller, who does not wait any more.
    is_abandoned: AtomicBool,
}

thread_local! {
    /// Points to the budget on the stack of [`run`]'s thread while that runs.
    static BUDGET: Cell<*const Budget> = const { Cell::new(std::ptr::null()) };
}

fn with_budget(change: impl FnOnce(&Budget)) {
    let budget = BUDGET.get();
    if !budget.is_null() {
        // SAFETY: only `run` sets the pointer, to a value that outlives the setting, and no other thread sees it.
        change(unsafe { &*budget });
    }
}

fn take(bytes: usize) {
    with_budget(|budget| {
        match budget.bytes_left.get().checked_sub(bytes).filter(|_| !budget.flags.is_abandoned.load(Ordering::Relaxed))
        {
            Some(left) => budget.bytes_left.set(left),
            None => {
                budget.flags.is_exhausted.store(true, Ordering::Release);
                // To fail would end the process, and to unwind is not allowed here.
                loop {
                    std::thread::park();
                }
            }
        }
    });
}

fn give_back(bytes: usize) {
    with_budget(|budget| budget.bytes_left.set(budget.bytes_left.get().saturating_add(bytes)));
}

// SAFETY: every call goes to the system's allocator unchanged, or does not return.
unsafe impl GlobalAlloc for BoundedAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        take(new_size);
        give_back(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        give_back(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The result of `work`, or the bound that it went past, in words that continue a sentence about it.
pub(crate) fn run<T: Send + 'static>(bounds: Bounds, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let flags = Arc::new(Flags::default());
    let (sender, receiver) = sync_channel(1);
    let its_flags = Arc::clone(&flags);
    let thread = std::thread::Builder::new().name("bounded".to_owned()).stack_size(bounds.stack).spawn(move || {
        let budget = Budget { bytes_left: Cell::new(bounds.bytes), flags: its_flags };
        BUDGET.set(&budget);
        let outcome = catch_unwind(AssertUnwindSafe(work));
        BUDGET.set(std::ptr::null());
        let _ = sender.send(outcome);
    });
    thread.map_err(|error| format!("no thread could be started for it: {error}"))?;
    let start = Instant::now();
    loop {
        match receiver.recv_timeout(LOOK_EVERY) {
            Ok(Ok(result)) => return Ok(result),
            Ok(Err(panic)) => return Err(format!("the library panicked: {}", words(&*panic))),
            Err(RecvTimeoutError::Disconnected) => return Err("its thread ended without a result".to_owned()),
            Err(RecvTimeoutError::Timeout) if flags.is_exhausted.load(Ordering::Acquire) => {
                return Err(format!("it needs more than {} MB of memory", bounds.bytes >> 20));
            }
            Err(RecvTimeoutError::Timeout) if start.elapsed() > bounds.time => {
                flags.is_abandoned.store(true, Ordering::Relaxed);
                return Err(format!("it takes longer than {} seconds", bounds.time.as_secs()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// What a panic said.
pub(crate) fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { time: Duration::from_secs(60), bytes: 1 << 20, stack: 1 << 20 };

    #[test]
    fn work_that_goes_past_a_bound_is_an_error() {
        assert_eq!(run(BOUNDS, || 7), Ok(7));
        let error = run(BOUNDS, || -> u8 { panic!("a reason") }).unwrap_err();
        assert_eq!(error, "the library panicked: a reason");
        let bounds = Bounds { time: Duration::from_millis(20), ..BOUNDS };
        let error = run(bounds, || {
            loop {
                std::thread::park();
            }
        });
        assert_eq!(error, Err::<(), _>("it takes longer than 0 seconds".to_owned()));
    }
}
