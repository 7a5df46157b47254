//! What launches did, counted: the numbers that a chapter asks to bring down.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::abi;

/// Lanes of a SIMD group.
const LANES: usize = 32;
/// Device memory comes in pieces of this many bytes.
const SEGMENT_BYTES: u64 = 128;
/// Threadgroup memory has this many banks, each 4 bytes wide.
const BANKS: usize = 32;
/// Launches that are remembered, at most, until somebody takes them.
const MAX_LAUNCHES: usize = 4096;

/// What one watched launch did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KernelCounters {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Threads along each axis.
    pub grid: [u64; 3],
    /// Threads of a threadgroup along each axis.
    pub threadgroup: [u64; 3],
    /// Threads in all.
    pub threads: u64,
    /// Threadgroups in all.
    pub threadgroups: u64,
    /// Bytes read from inputs and outputs by all threads together.
    pub device_bytes_read: u64,
    /// Bytes written to outputs by all threads together.
    pub device_bytes_written: u64,
    /// The same with each byte counted once, however often it was read: what must come from memory at least.
    pub device_bytes_read_distinct: u64,
    /// Bytes that were written, each counted once.
    pub device_bytes_written_distinct: u64,
    /// Bytes read from threadgroup memory by all threads together.
    pub threadgroup_bytes_read: u64,
    /// Bytes written to threadgroup memory by all threads together.
    pub threadgroup_bytes_written: u64,
    /// Threadgroup memory that one threadgroup declares, in bytes.
    pub threadgroup_memory: u64,
    /// Threadgroup barriers passed, summed over threadgroups.
    pub barriers: u64,
    /// SIMD-group barriers passed, summed over SIMD groups.
    pub simd_barriers: u64,
    /// SIMD-group operations (sums, shuffles, products of tiles), summed over SIMD groups.
    pub simd_operations: u64,
    /// Of the first SIMD group's accesses to device memory (at most 512 per lane): pieces of 128 bytes touched by its lanes together,
    /// divided by the fewest that could hold as many bytes. 1 is perfect; 32, or more, is one piece per lane.
    pub segments_per_least: f64,
    /// Of the first SIMD group's accesses to threadgroup memory: the most lanes that want different words of one
    /// bank (of 32, 4 bytes wide) at once. 1 is free of conflicts; 0: there was no such access.
    pub worst_bank_conflict: u32,
}

static TAKEN: Mutex<Vec<KernelCounters>> = Mutex::new(Vec::new());

/// The counters of all watched launches that ran without a finding since the last call, in the order in which they ended. After
/// 4096 of them later ones are not kept.
pub fn take_counters() -> Vec<KernelCounters> {
    std::mem::take(&mut *TAKEN.lock().unwrap_or_else(PoisonError::into_inner))
}

pub(super) fn record(counters: KernelCounters) {
    let mut all = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if all.len() < MAX_LAUNCHES {
        all.push(counters);
    }
}

/// Puts together what the workers counted.
pub(super) fn sum(kernel: &'static str, workers: &[&abi::Counters], accesses: &[abi::Access]) -> KernelCounters {
    let total = |count: fn(&abi::Counters) -> u64| workers.iter().map(|worker| count(worker)).sum();
    let (segments_per_least, worst_bank_conflict) = accesses_together(accesses);
    KernelCounters {
        kernel,
        device_bytes_read: total(|counters| counters.device_read),
        device_bytes_written: total(|counters| counters.device_written),
        threadgroup_bytes_read: total(|counters| counters.threadgroup_read),
        threadgroup_bytes_written: total(|counters| counters.threadgroup_written),
        barriers: total(|counters| counters.barriers),
        simd_barriers: total(|counters| counters.simd_barriers),
        simd_operations: total(|counters| counters.simd_operations),
        threadgroup_memory: workers.iter().map(|worker| worker.threadgroup_memory).max().unwrap_or(0),
        segments_per_least,
        worst_bank_conflict,
        ..KernelCounters::default()
    }
}

/// The n-th access of each lane at one instruction is taken for one access of the SIMD group.
fn accesses_together(accesses: &[abi::Access]) -> (f64, u32) {
    let mut occurrences: HashMap<(u16, u64), u32> = HashMap::new();
    let mut together: HashMap<(u16, u64, u32), Vec<&abi::Access>> = HashMap::new();
    for access in accesses {
        let n = occurrences.entry((access.thread, access.pc)).or_default();
        together.entry((access.thread / LANES as u16, access.pc, *n)).or_default().push(access);
        *n += 1;
    }
    let (mut segments, mut least, mut worst) = (0, 0, 0);
    for lanes in together.values() {
        if lanes[0].is_threadgroup != 0 {
            worst = worst.max(bank_conflict(lanes));
        } else {
            let (touched, needed) = segments_of(lanes);
            segments += touched;
            least += needed;
        }
    }
    (if least == 0 { 1.0 } else { segments as f64 / least as f64 }, worst)
}

/// Pieces of device memory that the lanes touch, and the fewest that could hold the bytes they want.
fn segments_of(lanes: &[&abi::Access]) -> (u64, u64) {
    let mut bytes: Vec<(u64, u64)> = lanes.iter().map(|lane| (lane.address, u64::from(lane.n_bytes))).collect();
    bytes.sort_unstable();
    bytes.dedup();
    let mut segments: Vec<u64> = bytes
        .iter()
        .flat_map(|&(address, n_bytes)| address / SEGMENT_BYTES..=(address + n_bytes - 1) / SEGMENT_BYTES)
        .collect();
    segments.sort_unstable();
    segments.dedup();
    let n_bytes: u64 = bytes.iter().map(|&(_, n_bytes)| n_bytes).sum();
    (segments.len() as u64, n_bytes.div_ceil(SEGMENT_BYTES))
}

/// The most different words that lie in one bank. Wide accesses go in parts: as many lanes at a time as can move 128 bytes.
fn bank_conflict(lanes: &[&abi::Access]) -> u32 {
    let widest = lanes.iter().map(|lane| lane.n_bytes).max().unwrap_or(4).max(4);
    let at_once = (SEGMENT_BYTES as usize / widest as usize).max(1);
    let mut worst = 1;
    for part in lanes.chunks(at_once) {
        let mut words: Vec<u64> =
            part.iter().flat_map(|lane| lane.address / 4..=(lane.address + u64::from(lane.n_bytes) - 1) / 4).collect();
        words.sort_unstable();
        words.dedup();
        let mut in_bank = [0_u32; BANKS];
        for word in words {
            in_bank[word as usize % BANKS] += 1;
        }
        worst = worst.max(in_bank.into_iter().max().unwrap_or(0));
    }
    worst
}
