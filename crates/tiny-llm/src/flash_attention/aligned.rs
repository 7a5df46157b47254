//! Working memory that begins at the start of a cache line, so that no vector load straddles two.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// How many f32 a cache line of 64 bytes holds; also the lanes of the widest vector.
pub const LINE: usize = 16;

/// Numbers, zero at first.
///
/// A thread keeps the memory of its last buffers for the next ones: the tiles of a sequence all need the same, and
/// memory fresh from the system costs more than filling it with zeros.
pub struct AlignedBuffer {
    memory: Vec<f32>,
    start: usize,
    len: usize,
}

/// A tile of queries with its tile of keys has six buffers.
const MOST_SPARE: usize = 6;

thread_local! {
    static SPARE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

impl AlignedBuffer {
    pub fn zeroed(len: usize) -> Self {
        let mut memory = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        memory.clear();
        memory.resize(len + LINE, 0.0);
        // `align_offset` may give up (it never does at run time); the buffer then merely is not aligned.
        let start = memory.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Self { memory, start, len }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        // An error means that the thread is ending, and then nothing needs to be kept.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MOST_SPARE {
                spare.push(memory);
            }
        });
    }
}

impl Deref for AlignedBuffer {
    type Target = [f32];

    #[inline(always)]
    fn deref(&self) -> &[f32] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuffer {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..self.start + self.len]
    }
}
