//! `native/emulator/abi.h` in Rust.

use std::ffi::{c_char, c_void};

/// The emulated threadgroup may declare so many arrays.
pub(super) const MAX_THREADGROUP_ARRAYS: usize = 32;
/// The stack of one thread, which is also its alignment.
pub(super) const STACK_BYTES: usize = 256 << 10;

pub(super) const INPUT: u32 = 0;
pub(super) const OUTPUT: u32 = 1;

pub(super) type Entry = unsafe extern "C" fn(thread: *const c_void, arguments: *const *const c_void);
pub(super) type Run = unsafe extern "C" fn(
    launch: *const Launch,
    memory: *const WorkerMemory,
    next: *mut u64,
    result: *mut WorkerResult,
) -> i32;

#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Place {
    pub file: *const c_char,
    pub line: u32,
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Array {
    pub name: *const c_char,
    pub start: *mut u8,
    pub origin: *mut u8,
    pub n_bytes: u64,
    pub element_bytes: u32,
    pub index_bytes: u32,
    pub kind: u32,
    pub touched: *mut u8,
    pub writers: *mut u64,
    pub writer_pcs: *mut u32,
    pub is_filled: u32,
}

/// `FindingKind`.
pub(super) mod finding {
    pub const OUT_OF_BOUNDS_READ: u32 = 1;
    pub const OUT_OF_BOUNDS_WRITE: u32 = 2;
    pub const WRITE_TO_INPUT: u32 = 3;
    pub const UNWRITTEN_READ: u32 = 4;
    pub const WRITE_WRITE_RACE: u32 = 5;
    pub const READ_WRITE_RACE: u32 = 6;
    pub const WRITE_READ_RACE: u32 = 7;
    pub const GROUPS_WRITE_RACE: u32 = 8;
    pub const GROUPS_READ_RACE: u32 = 9;
    pub const MISALIGNED: u32 = 10;
    pub const WILD_POINTER: u32 = 11;
    pub const DIVERGED_BARRIER: u32 = 12;
    pub const DIVERGED_SIMD: u32 = 13;
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Finding {
    pub kind: u32,
    pub array: u32,
    pub offset: i64,
    pub n_bytes: u32,
    pub thread: u32,
    pub threadgroup: u64,
    pub pc: u64,
    pub place: Place,
    pub other_thread: u32,
    pub other_ended: u32,
    pub other_threadgroup: u64,
    pub other_pc: u64,
    pub other_place: Place,
}

#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Access {
    pub address: u64,
    pub pc: u64,
    pub n_bytes: u32,
    pub thread: u16,
    pub is_threadgroup: u16,
}

#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Counters {
    pub device_read: u64,
    pub device_written: u64,
    pub threadgroup_read: u64,
    pub threadgroup_written: u64,
    pub barriers: u64,
    pub simd_barriers: u64,
    pub simd_operations: u64,
    pub threadgroup_memory: u64,
}

#[repr(C)]
pub(super) struct Launch {
    pub entry: Entry,
    pub arguments: *const *const c_void,
    pub threadgroups: [u32; 3],
    pub threads: [u32; 3],
    pub uses_fibers: u32,
    pub is_checked: u32,
    pub arrays: *mut Array,
    pub n_arrays: u32,
    pub shift: u32,
    pub base: u64,
}

#[repr(C)]
pub(super) struct WorkerMemory {
    pub stacks: *mut u8,
    pub n_stacks: u32,
    pub threadgroup_shift: u32,
    pub threadgroup_base: u64,
    pub accesses: *mut Access,
    pub max_accesses: u64,
}

#[repr(C)]
pub(super) struct WorkerResult {
    pub counters: Counters,
    pub first: Finding,
    pub n_findings: u64,
    pub n_accesses: u64,
    pub threadgroup_arrays: [Array; MAX_THREADGROUP_ARRAYS],
    pub n_threadgroup_arrays: u32,
}

// SAFETY: the pointers are addresses that reports compute with; only the runtime follows them, during the launch that made them.
unsafe impl Send for WorkerResult {}

impl WorkerResult {
    pub fn new() -> Box<Self> {
        // SAFETY: zero is a value of every field: numbers, and raw pointers that may be null.
        unsafe { Box::new(std::mem::zeroed()) }
    }
}

// The same numbers stand in abi.h.
const _: () = {
    assert!(size_of::<Array>() == 80 && size_of::<Finding>() == 96);
    assert!(size_of::<Access>() == 24 && size_of::<Counters>() == 64);
    assert!(size_of::<Launch>() == 72 && size_of::<WorkerMemory>() == 40 && size_of::<WorkerResult>() == 2744);
};
