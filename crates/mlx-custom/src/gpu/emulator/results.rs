//! The course's result stream: a line of JSON for every watched launch, for the table of `cargo xtask check`.
//!
//! The grader writes to the same file. Kernels run on a thread of MLX's own, so a line cannot name the test: the runner gives each task's
//! tests a process and a file of their own, and knows a line's task by that.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::Write;

use super::KernelCounters;

/// The environment variable that names the file.
const VARIABLE: &str = "TINY_LLM_RESULTS";

/// Appends `counters` to the result stream, if there is one.
///
/// # Errors
/// The file can't be written: the runner would show a table with holes.
pub(super) fn append(counters: &KernelCounters) -> Result<(), String> {
    named().map_or(Ok(()), |path| append_to(&path, counters))
}

/// Looks whether the result stream, if there is one, can be written.
///
/// # Errors
/// It can't.
pub(super) fn check() -> Result<(), String> {
    named().map_or(Ok(()), |path| write(&path, b""))
}

fn append_to(path: &OsStr, counters: &KernelCounters) -> Result<(), String> {
    write(path, line(counters).as_bytes())
}

fn write(path: &OsStr, line: &[u8]) -> Result<(), String> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    // One write for the whole line: others append to the same file.
    file.and_then(|mut file| file.write_all(line)).map_err(|error| {
        format!("{VARIABLE}: cannot write what was counted to {}: {error}; unset it, or name a file", path.display())
    })
}

fn named() -> Option<OsString> {
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty())
}

/// A kernel's name is letters, digits and `_`, so nothing needs to be escaped.
fn line(counters: &KernelCounters) -> String {
    let KernelCounters { kernel, grid, threadgroup, .. } = counters;
    let numbers = [
        ("device_bytes_read", counters.device_bytes_read),
        ("device_bytes_read_distinct", counters.device_bytes_read_distinct),
        ("device_bytes_written", counters.device_bytes_written),
        ("device_bytes_written_distinct", counters.device_bytes_written_distinct),
        ("barriers", counters.barriers),
        ("threadgroup_memory", counters.threadgroup_memory),
        ("worst_bank_conflict", u64::from(counters.worst_bank_conflict)),
    ];
    let numbers: String = numbers.iter().map(|(name, value)| format!(",\"{name}\":{value}")).collect();
    format!("{{\"kernel\":\"{kernel}\",\"grid\":{grid:?},\"threadgroup\":{threadgroup:?}{numbers}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_every_number() {
        let counters = KernelCounters {
            kernel: "copy",
            grid: [64, 2, 1],
            threadgroup: [32, 1, 1],
            device_bytes_read: 1024,
            device_bytes_read_distinct: 512,
            device_bytes_written: 256,
            device_bytes_written_distinct: 128,
            barriers: 4,
            threadgroup_memory: 96,
            worst_bank_conflict: 2,
            ..KernelCounters::default()
        };
        let expected = concat!(
            r#"{"kernel":"copy","grid":[64, 2, 1],"threadgroup":[32, 1, 1],"device_bytes_read":1024,"#,
            r#""device_bytes_read_distinct":512,"device_bytes_written":256,"device_bytes_written_distinct":128,"#,
            r#""barriers":4,"threadgroup_memory":96,"worst_bank_conflict":2}"#,
            "\n"
        );
        assert_eq!(line(&counters), expected);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = append_to(OsStr::new("/nowhere/results.jsonl"), &KernelCounters::default()).unwrap_err();
        assert!(
            error.starts_with("TINY_LLM_RESULTS: cannot write what was counted to /nowhere/results.jsonl: "),
            "{error}"
        );
    }
}
