//! Every kernel beside exact sums, in all formats and around every boundary. The chapter's tests check what learners
//! write; here is what is given as well.

use std::io::Write;

use tiny_llm_reference::quantized;
use tiny_llm_reference::quantized::kernel::{KERNEL_NAMES, available_kernels};

#[allow(dead_code)] // the example uses the rest
#[path = "../examples/kernel_table/comparison.rs"]
mod comparison;

fn check(name: &str) {
    match available_kernels().iter().find(|kernel| kernel.name() == name) {
        Some(kernel) => match comparison::compare(*kernel) {
            Ok(n_tiles) => assert!(n_tiles > 10_000, "only {n_tiles} tiles were compared"),
            Err(problem) => panic!("{problem}"),
        },
        // To the stream itself, since the test harness hides what a passing test prints.
        None => {
            let written =
                writeln!(std::io::stderr(), "note: the kernel {name} was NOT tested, this processor cannot run it");
            assert!(written.is_ok(), "the note that {name} was not tested could not be written");
        }
    }
}

#[test]
fn avx512() {
    check("avx512");
}

#[test]
fn avx2() {
    check("avx2");
}

#[test]
fn neon() {
    check("neon");
}

#[test]
fn portable() {
    check("portable");
}

#[test]
fn every_kernel_has_a_test_above() {
    assert_eq!(KERNEL_NAMES, ["avx512", "avx2", "neon", "portable"]);
}
