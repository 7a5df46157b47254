//! Working memory that begins at the start of a cache line, so that no vector load straddles two.

use std::ops::{Deref, DerefMut};

/// How many f32 a cache line of 64 bytes holds; also the lanes of the widest vector.
pub const LINE: usize = 16;

/// Numbers, zero at first.
pub struct AlignedBuffer {
    memory: Vec<f32>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    pub fn zeroed(len: usize) -> Self {
        let memory = vec![0.0; len + LINE];
        // `align_offset` may give up (it never does at run time); the buffer then merely is not aligned.
        let start = memory.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Self { memory, start, len }
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
