//! Findings as sentences.

use std::ffi::CStr;

use super::abi::{Array, Finding, Place, WorkerResult, finding as kinds};
use super::arrays::Arrays;
use super::library::Library;
use super::lines;
use crate::gpu::{GpuKernel, Lowered};

/// So many bytes from an array an index is taken for one that wrapped.
const WRAPPED: u64 = 1 << 31;

/// Lanes of a SIMD group.
const LANES: u32 = 32;

/// What a report calls things.
pub(super) struct Names<'a> {
    pub kernel: &'a GpuKernel,
    pub lowered: &'a Lowered,
    pub threadgroups: [u32; 3],
}

/// One sentence about the finding, a hint at the usual cause, and how many more there are.
pub(super) fn finding(
    names: &Names<'_>,
    finding: &Finding,
    n_more: u64,
    arrays: &Arrays,
    result: &WorkerResult,
    library: &Library,
) -> String {
    let here = place(finding.place, finding.pc, library);
    let there = place(finding.other_place, finding.other_pc, library);
    let subject = Subject::new(names, finding, arrays, result);
    let who = names.thread(finding.threadgroup, finding.thread);
    let other = finding.other_thread;
    let element = subject.elements();
    let text = match finding.kind {
        kinds::OUT_OF_BOUNDS_READ | kinds::OUT_OF_BOUNDS_WRITE => {
            let verb = if finding.kind == kinds::OUT_OF_BOUNDS_READ { "read" } else { "write" };
            format!(
                "{verb} of {element}, {side} its {n} elements, by {who}, {here}; {hint}",
                side = if finding.offset < 0 { "before" } else { "beyond" },
                n = subject.n_elements(),
                // Nobody misses an array by so much with an index that is only a little wrong.
                hint = if finding.offset.unsigned_abs() >= WRAPPED {
                    "did an index of 32 bits wrap?"
                } else {
                    "is the last tile guarded?"
                }
            )
        }
        kinds::WRITE_TO_INPUT => format!("write of {element}, which is an input, by {who}, {here}"),
        kinds::UNWRITTEN_READ if subject.is_threadgroup => format!(
            "read of {element} in threadgroup memory, which nothing has written, by {who}, {here}; \
             is a barrier missing before it, or a part of the tile not filled?"
        ),
        kinds::UNWRITTEN_READ => format!(
            "read of {element}, an output that nothing has written, by {who}, {here}; \
             outputs hold anything at first, unless the launch has a `fill`"
        ),
        kinds::WRITE_WRITE_RACE => format!(
            "write of {element} by {who}, {here}, and by thread {other}, {there}, with no barrier between them; \
             should only one of them write?"
        ),
        kinds::READ_WRITE_RACE => format!(
            "write of {element} by {who}, {here}, which thread {other} reads, {there}, with no barrier between them; \
             is one missing, perhaps at the end of a loop?"
        ),
        kinds::WRITE_READ_RACE => format!(
            "read of {element} by {who}, {here}, which thread {other} writes, {there}, with no barrier between them; \
             is one missing, perhaps at the end of a loop?"
        ),
        kinds::GROUPS_WRITE_RACE => {
            format!(
                "write of {element} by {who}, {here}, and by {}, {there}; threadgroups run in any order, so each element \
                 needs one that writes it",
                names.thread(finding.other_threadgroup, other)
            )
        }
        kinds::GROUPS_READ_RACE => format!(
            "read of {element} by {who}, {here}, which {} writes, {there}; threadgroups run in any order and can't wait \
             for each other within a launch",
            names.thread(finding.other_threadgroup, other)
        ),
        kinds::MISALIGNED => format!(
            "access to {} bytes at byte {} of {}, which is no multiple of {}, by {who}, {here}; a wide load needs an address \
             that its width divides",
            finding.n_bytes, finding.offset, subject.name, finding.n_bytes
        ),
        kinds::WILD_POINTER => {
            format!("access to address {:#x}, which is in no array, by {who}, {here}", finding.offset)
        }
        kinds::DIVERGED_BARRIER | kinds::DIVERGED_SIMD => {
            let (what, needed) = if finding.kind == kinds::DIVERGED_BARRIER {
                ("a barrier", "all threads of a threadgroup")
            } else {
                ("a SIMD-group operation", "all lanes of a SIMD group")
            };
            let doing = if finding.other_ended != 0 { "has ended".to_owned() } else { format!("waits, {there}") };
            format!(
                "{who} waits at {what}, {here}, and thread {other} {doing}; {needed} must come to the same one: is it inside an \
                 `if` or after a `return`?"
            )
        }
        _ => "more threadgroup memory than the emulator has room for: at most 32 arrays".to_owned(),
    };
    let more = match n_more {
        0 => String::new(),
        1 => " (and 1 more finding)".to_owned(),
        _ => format!(" (and {n_more} more findings)"),
    };
    text + &more
}

/// An output that has elements which no thread wrote.
pub(super) fn unwritten(names: &Names<'_>, number: usize, element: usize, count: usize) -> String {
    let name = names.kernel.inputs.iter().chain(names.kernel.outputs).nth(number).copied().unwrap_or_default();
    let more = if count > 1 { format!(" and {} other elements", count - 1) } else { String::new() };
    format!(
        "{name}[{element}]{more} of the output {name} {} never written; is the grid too small, or a guard too strict?",
        if count > 1 { "were" } else { "was" }
    )
}

/// `kernels/NAME.metal line 12`.
fn place(known: Place, pc: u64, library: &Library) -> String {
    let (file, line) = if known.file.is_null() {
        match lines::find(library, pc) {
            Some(found) => found,
            None => return "on an unknown line".to_owned(),
        }
    } else {
        // SAFETY: the runtime passes on what `__builtin_FILE` gave: a constant of the loaded library.
        (unsafe { CStr::from_ptr(known.file) }.to_string_lossy().into_owned(), known.line)
    };
    format!("{file} line {line}")
}

/// The array that a finding is about.
struct Subject<'a> {
    name: &'a str,
    is_threadgroup: bool,
    has_many_axes: bool,
    array: Option<Array>,
    finding: &'a Finding,
}

impl<'a> Subject<'a> {
    fn new(names: &Names<'a>, finding: &'a Finding, arrays: &Arrays, result: &WorkerResult) -> Self {
        let number = finding.array as usize;
        if let Some(array) = arrays.raw.get(number) {
            let name = names.kernel.inputs.iter().chain(names.kernel.outputs).nth(number).copied().unwrap_or_default();
            return Self { name, is_threadgroup: false, has_many_axes: false, array: Some(*array), finding };
        }
        let number = number - arrays.raw.len();
        let declared = names.lowered.threadgroup_arrays.get(number);
        Self {
            name: declared.map_or("threadgroup memory", |array| array.name.as_str()),
            is_threadgroup: true,
            has_many_axes: declared.is_some_and(|array| array.lengths.matches('[').count() > 1),
            array: result.threadgroup_arrays.get(number).copied(),
            finding,
        }
    }

    fn index_bytes(&self) -> i64 {
        self.array.map_or(1, |array| i64::from(array.index_bytes.max(1)))
    }

    fn n_elements(&self) -> u64 {
        self.array.map_or(0, |array| array.n_bytes / u64::from(array.index_bytes.max(1)))
    }

    /// `part[8]`, `x[4] to x[7]`, `element 35 of tile`.
    fn elements(&self) -> String {
        let first = self.finding.offset.div_euclid(self.index_bytes());
        let last = (self.finding.offset + i64::from(self.finding.n_bytes) - 1).div_euclid(self.index_bytes());
        let name = self.name;
        match (self.has_many_axes, first >= last) {
            (false, true) => format!("{name}[{first}]"),
            (false, false) => format!("{name}[{first}] to {name}[{last}]"),
            (true, true) => format!("element {first} of {name}"),
            (true, false) => format!("elements {first} to {last} of {name}"),
        }
    }
}

impl Names<'_> {
    /// `thread 40 (threadgroup 0, SIMD group 1, lane 8)`.
    fn thread(&self, threadgroup: u64, thread: u32) -> String {
        let [x, y, _] = self.threadgroups.map(u64::from);
        let position = match self.threadgroups {
            [_, 1, 1] => threadgroup.to_string(),
            [_, _, 1] => format!("[{}, {}]", threadgroup % x, threadgroup / x),
            _ => format!("[{}, {}, {}]", threadgroup % x, threadgroup / x % y, threadgroup / x / y),
        };
        format!("thread {thread} (threadgroup {position}, SIMD group {}, lane {})", thread / LANES, thread % LANES)
    }
}
