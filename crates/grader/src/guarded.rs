//! Memory that ends where a page begins which must not be touched: it shows what kernels read or write after the end.
//!
//! ```
//! let x = grader::Guarded::new(&[1.0_f32, 2.0, 3.0]);
//! let sum: f32 = x.iter().sum(); // a kernel would read through pointers here
//! x.expect_untouched("the sum of three values");
//! # assert_eq!(sum, 6.0);
//! ```
//!
//! An access after the end doesn't end the process: the fault is noted, the page becomes readable, and the access is
//! repeated. So a test fails as any other test does, and the tests after it run.

use std::ffi::c_void;
use std::ops::{Deref, DerefMut};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{io, mem, ptr, slice, thread};

use crate::cause::Diagnosis;
use crate::report::{Report, Status};
use crate::results::record;

/// A slice with untouchable pages after its last value.
#[derive(Debug)]
pub struct Guarded<T: Copy> {
    start: *mut u8,
    mapped: usize,
    first: *mut T,
    /// Values that may be touched.
    n_values: usize,
    /// With those that may not.
    len: usize,
    guard: &'static Guard,
}

// SAFETY: the memory belongs to this value alone, as that of a `Vec`.
unsafe impl<T: Copy + Send> Send for Guarded<T> {}
// SAFETY: as above.
unsafe impl<T: Copy + Sync> Sync for Guarded<T> {}

impl<T: Copy> Guarded<T> {
    /// A copy of `values`.
    ///
    /// # Panics
    /// When the system gives no memory, or there are thousands of such slices at once.
    pub fn new(values: &[T]) -> Self {
        Self::with_rest(values, 0)
    }

    /// A copy of `values`, and behind them `n_more` that belong to the slice and must not be touched either.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn with_rest(values: &[T], n_more: usize) -> Self {
        install_handler();
        let page = page_size();
        let bytes = size_of_val(values);
        let usable = bytes.next_multiple_of(page).max(page);
        let guarded = (n_more * size_of::<T>()).next_multiple_of(page) + page;
        let mapped = usable + guarded;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
        // SAFETY: new pages, which overlap nothing.
        let start = unsafe { libc::mmap(ptr::null_mut(), mapped, protection, flags, -1, 0) };
        assert!(start != libc::MAP_FAILED, "no memory for a guarded slice: {}", io::Error::last_os_error());
        let start = start.cast::<u8>();
        // SAFETY: the last of the pages that were just mapped.
        let failed = unsafe { libc::mprotect(start.add(usable).cast(), guarded, libc::PROT_NONE) };
        assert!(failed == 0, "a page cannot be guarded: {}", io::Error::last_os_error());
        // SAFETY: `bytes` fit before the guard. A type's size is a multiple of its alignment, and the guard is page-aligned.
        let first = unsafe { start.add(usable - bytes) }.cast::<T>();
        // SAFETY: room for all values, and nobody else knows this memory.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), first, values.len()) };
        let guard = Guard::take(start as usize + usable, guarded);
        Self { start, mapped, first, n_values: values.len(), len: values.len() + n_more, guard }
    }

    /// What to say about a read or write after the last value since the last question, if there was one.
    pub fn untouched(&self, what: &str) -> Result<(), String> {
        if self.guard.touched.swap(false, Ordering::SeqCst) { Err(self.message(what)) } else { Ok(()) }
    }

    /// # Panics
    /// When something read or wrote after the last value. `what` says whose memory it is: "the words of the matrix".
    #[track_caller]
    pub fn expect_untouched(&self, what: &str) {
        if let Err(message) = self.untouched(what) {
            let diagnosis = Diagnosis::mistake(&format!("memory after the end of {what} is read or written"));
            record(what, &Report::plain(Status::Fail, message.clone(), diagnosis));
            panic!("{message}");
        }
    }

    fn message(&self, what: &str) -> String {
        let at = self.guard.offset.load(Ordering::SeqCst);
        format!(
            "{what}: an access {at} bytes after the end of {} values: memory that isn't there was read or written",
            self.n_values
        )
    }
}

impl<T: Copy> Deref for Guarded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: values were written at the beginning; pages behind them are zeros once they can be read.
        unsafe { slice::from_raw_parts(self.first, self.len) }
    }
}

impl<T: Copy> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the borrow is exclusive.
        unsafe { slice::from_raw_parts_mut(self.first, self.len) }
    }
}

impl<T: Copy> Drop for Guarded<T> {
    fn drop(&mut self) {
        let touched = self.guard.touched.load(Ordering::SeqCst);
        let message = touched.then(|| self.message("guarded memory"));
        self.guard.start.store(0, Ordering::SeqCst);
        self.guard.taken.store(false, Ordering::SeqCst);
        // SAFETY: the pages of `new`; the handler doesn't look at this guard any more.
        unsafe { libc::munmap(self.start.cast(), self.mapped) };
        // What no test asked about still fails it.
        if let Some(message) = message
            && !thread::panicking()
        {
            panic!("{message}");
        }
    }
}

// ------------------------------------------------------------------------------------------- the signal handler

/// A guard page that the handler knows.
#[derive(Debug)]
struct Guard {
    taken: AtomicBool,
    /// The page's address; 0 while there is none.
    start: AtomicUsize,
    len: AtomicUsize,
    touched: AtomicBool,
    /// Where in the page the first access was.
    offset: AtomicUsize,
}

static GUARDS: [Guard; 4096] = [const {
    Guard {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        touched: AtomicBool::new(false),
        offset: AtomicUsize::new(0),
    }
}; 4096];

impl Guard {
    /// Registers pages.
    fn take(start: usize, len: usize) -> &'static Self {
        let free =
            |guard: &&Self| guard.taken.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        let Some(guard) = GUARDS.iter().find(free) else { panic!("more than {} guarded slices at once", GUARDS.len()) };
        guard.touched.store(false, Ordering::SeqCst);
        guard.len.store(len, Ordering::SeqCst);
        guard.start.store(start, Ordering::SeqCst);
        guard
    }
}

/// What the signals did before.
static mut BEFORE: [mem::MaybeUninit<libc::sigaction>; 2] = [mem::MaybeUninit::uninit(); 2];
const SIGNALS: [i32; 2] = [libc::SIGSEGV, libc::SIGBUS]; // Linux sends the first, macOS the second

fn install_handler() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        for (i, signal) in SIGNALS.into_iter().enumerate() {
            // SAFETY: all zeros is a valid `sigaction`; the handler only does what a handler may. `BEFORE` is written
            // here, once, and the handler that reads it isn't installed before.
            unsafe {
                let mut before: libc::sigaction = mem::zeroed();
                libc::sigaction(signal, ptr::null(), &mut before);
                (&raw mut BEFORE).cast::<libc::sigaction>().add(i).write(before);
                let mut action: libc::sigaction = mem::zeroed();
                action.sa_sigaction = on_fault as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigemptyset(&mut action.sa_mask);
                libc::sigaction(signal, &action, ptr::null_mut());
            }
        }
    });
}

/// Opens the guard page that was touched, or leaves the fault to whoever had the signal before.
extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the system passes the signal's information.
    let address = unsafe { (*info).si_addr() } as usize;
    for guard in &GUARDS {
        let (start, len) = (guard.start.load(Ordering::SeqCst), guard.len.load(Ordering::SeqCst));
        if start != 0 && (start..start + len).contains(&address) {
            if !guard.touched.swap(true, Ordering::SeqCst) {
                guard.offset.store(address - start, Ordering::SeqCst);
            }
            // SAFETY: a page of ours. It stays open: the test fails at its next question.
            unsafe { libc::mprotect(start as *mut c_void, len, libc::PROT_READ | libc::PROT_WRITE) };
            return;
        }
    }
    for (i, known) in SIGNALS.into_iter().enumerate() {
        if known == signal {
            // SAFETY: written before this handler was installed. The access is repeated and faults again.
            unsafe { libc::sigaction(signal, (&raw const BEFORE).cast::<libc::sigaction>().add(i), ptr::null_mut()) };
        }
    }
}

fn page_size() -> usize {
    // SAFETY: asks for a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// The value at `index`, read as kernels read: through a pointer.
    fn peek<T: Copy>(values: &[T], index: usize) -> T {
        // SAFETY: none; that is what is tested. The page after the slice is mapped.
        unsafe { values.as_ptr().add(index).read_volatile() }
    }

    fn message_of(action: impl FnOnce()) -> Option<String> {
        let panic = catch_unwind(AssertUnwindSafe(action)).err()?;
        panic.downcast_ref::<String>().cloned()
    }

    #[test]
    fn all_values_can_be_read_and_written() {
        for len in [0, 1, 3, 1023, 1024, 1025] {
            let values: Vec<u32> = (0..len).collect();
            let mut guarded = Guarded::new(&values);
            assert_eq!(guarded[..], values[..]);
            guarded.iter_mut().for_each(|value| *value += 1);
            assert_eq!(guarded.last().copied().unwrap_or(len), len);
            guarded.expect_untouched("values");
        }
    }

    #[test]
    fn a_read_after_the_end_is_named() {
        let guarded = Guarded::new(&[1_u16, 2, 3]);
        assert_eq!(peek(&guarded, 2), 3);
        guarded.expect_untouched("three values");
        assert_eq!(peek(&guarded, 5), 0, "the access itself goes on");
        let message = message_of(|| guarded.expect_untouched("three values")).unwrap();
        assert!(message.starts_with("three values: an access 4 bytes after the end of 3 values"), "{message}");
        guarded.expect_untouched("what was said once");
    }

    #[test]
    fn a_part_of_the_slice_can_be_untouchable() {
        let guarded = Guarded::with_rest(&[1_u32, 2, 3], 5000);
        assert_eq!((guarded.len(), guarded[2]), (5003, 3));
        guarded.expect_untouched("three values and a rest");
        assert_eq!(peek(&guarded, 5002), 0, "the access itself goes on");
        let message = message_of(|| guarded.expect_untouched("x")).unwrap();
        assert!(message.starts_with("x: an access 19996 bytes after the end of 3 values"), "{message}");
    }

    #[test]
    fn what_no_test_asks_about_fails_at_the_end() {
        let message = message_of(|| {
            let guarded = Guarded::new(&[1.0_f32]);
            peek(&guarded, 1);
        });
        assert!(message.unwrap().contains("0 bytes after the end of 1 values"));
    }

    #[test]
    fn several_at_once_and_in_several_threads() {
        let guarded: Vec<_> = (0..20_u8).map(|i| Guarded::new(&[i; 100])).collect();
        std::thread::scope(|scope| {
            for i in (0..20).step_by(2) {
                let guarded = &guarded[i];
                scope.spawn(move || peek(guarded, 100));
            }
        });
        for (i, guarded) in guarded.iter().enumerate() {
            assert_eq!(message_of(|| guarded.expect_untouched("x")).is_some(), i % 2 == 0, "slice {i}");
        }
    }
}
