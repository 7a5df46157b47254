//! What each processor works with: stacks and threadgroup memory, kept for the next launch.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::abi::{self, Access, MAX_THREADGROUP_ARRAYS, STACK_BYTES};
use super::region::Region;

/// Threads of a threadgroup, at most.
const MAX_THREADS: usize = 1024;
/// The address range of one threadgroup array: 1 GiB, or what the system gives; arrays lie in its middle.
const SHIFTS: (u32, u32) = (30, 20);
/// Accesses that are recorded at most: 512 of each lane of a SIMD group.
const MAX_ACCESSES: usize = 1 << 14;
/// Room that stays untouched between two stacks. A page is not larger on any of the supported systems.
const GUARD_BYTES: usize = 16 << 10;

/// Stacks and threadgroup memory of one worker.
pub(super) struct WorkerMemory {
    stacks: Region,
    first_stack: usize,
    threadgroup: Region,
    threadgroup_shift: u32,
    accesses: Vec<Access>,
}

static IDLE: Mutex<Vec<WorkerMemory>> = Mutex::new(Vec::new());

impl WorkerMemory {
    /// From the store, or new.
    ///
    /// # Errors
    /// The system has no memory for it.
    pub fn take() -> io::Result<Self> {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(Self::new, Ok)
    }

    /// Back into the store.
    pub fn give_back(self) {
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }

    fn new() -> io::Result<Self> {
        // One more, so that the first can begin at a multiple of its length.
        let stacks = Region::new((MAX_THREADS + 1) * STACK_BYTES)?;
        let first_stack = stacks.start().addr().next_multiple_of(STACK_BYTES) - stacks.start().addr();
        for i in 0..MAX_THREADS {
            stacks.forbid(first_stack + i * STACK_BYTES, GUARD_BYTES);
        }
        let (threadgroup, threadgroup_shift) = Region::with_largest_shift(MAX_THREADGROUP_ARRAYS, SHIFTS.0, SHIFTS.1)?;
        Ok(Self { stacks, first_stack, threadgroup, threadgroup_shift, accesses: Vec::new() })
    }

    /// The view that the runtime uses; with `records`, it has room for the accesses of the first SIMD group.
    pub fn raw(&mut self, records: bool) -> abi::WorkerMemory {
        if records && self.accesses.is_empty() {
            self.accesses = vec![Access::default(); MAX_ACCESSES];
        }
        abi::WorkerMemory {
            stacks: self.stacks.start().wrapping_add(self.first_stack),
            n_stacks: MAX_THREADS as u32,
            threadgroup_shift: self.threadgroup_shift,
            threadgroup_base: self.threadgroup.start().expose_provenance() as u64,
            accesses: self.accesses.as_mut_ptr(),
            max_accesses: if records { self.accesses.len() as u64 } else { 0 },
        }
    }

    /// The first `n` recorded accesses.
    pub fn accesses(&self, n: u64) -> &[Access] {
        self.accesses.get(..n as usize).unwrap_or_default()
    }
}
