//! Ranges of addresses from the system, of which only the pages that are used take memory.

use std::io;
use std::ptr;

/// Memory that can be read and written, zero at first.
pub(super) struct Region {
    start: *mut u8,
    len: usize,
}

// SAFETY: the region owns its memory, like a `Box<[u8]>`, and hands out raw pointers only.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// # Errors
    /// The system's, when it has no such range, or not so much memory and counts strictly.
    pub fn new(len: usize) -> io::Result<Self> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
        // SAFETY: a new mapping at an address of the system's choice touches no memory of anybody.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags | libc::MAP_NORESERVE, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // Pages of 2 MiB would be cleared for arrays of a few bytes each.
        #[cfg(target_os = "linux")]
        // SAFETY: advice about the mapping made above; where it isn't taken, nothing changes.
        unsafe {
            libc::madvise(start, len, libc::MADV_NOHUGEPAGE);
        }
        Ok(Self { start: start.cast(), len })
    }

    /// A region of `n << shift` bytes, with the largest shift that the system allows, of `smallest..=largest`.
    ///
    /// # Errors
    /// As `new`, for the smallest.
    pub fn with_largest_shift(n: usize, largest: u32, smallest: u32) -> io::Result<(Self, u32)> {
        let mut shift = largest;
        loop {
            match Self::new(n << shift) {
                Ok(region) => return Ok((region, shift)),
                Err(error) if shift <= smallest => return Err(error),
                Err(_) => shift -= 1,
            }
        }
    }

    pub fn start(&self) -> *mut u8 {
        self.start
    }

    /// Makes a page unusable, so that running into it stops the program instead of overwriting what lies there.
    pub fn forbid(&self, offset: usize, len: usize) {
        debug_assert!(offset + len <= self.len);
        // SAFETY: the pages are inside the mapping. Where the system refuses, they stay usable.
        unsafe { libc::mprotect(self.start.add(offset).cast(), len, libc::PROT_NONE) };
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new`, and whoever has pointers into it has given them up.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}
