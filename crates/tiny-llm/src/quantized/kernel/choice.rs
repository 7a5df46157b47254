//! Which kernel multiplies: the one that a variable names, or a default.

use std::env;
use std::ffi::{OsStr, OsString};
use std::sync::OnceLock;

use super::{Kernel, available_kernels};

/// The environment variable that names a kernel.
pub const KERNEL_VARIABLE: &str = "TINY_LLM_KERNEL";

/// All kernels there are. [`available_kernels`] gives those that this processor can run.
pub const KERNEL_NAMES: [&str; 4] = ["avx512", "avx2", "neon", "portable"];

/// The kernel of every quantized operation: the one that [`KERNEL_VARIABLE`] names, else the default. The variable is read once.
///
/// The default is the fastest of the kernels that are written in the course and that this processor can run: `avx2`, `neon` or
/// `portable`. One that is given is only taken by its name.
///
/// # Errors
/// When this processor has no kernel of that name: a sentence that lists those that it has.
pub fn chosen_kernel() -> Result<&'static dyn Kernel, String> {
    static CHOSEN: OnceLock<Result<&'static dyn Kernel, String>> = OnceLock::new();
    CHOSEN.get_or_init(|| choose(env::var_os(KERNEL_VARIABLE), available_kernels())).clone()
}

/// Kernels that are taken without being named, the first that the processor can run.
const DEFAULTS: &[&str] = &[
    // The vector kernels of day 2.2b, of which one is compiled, and the one that runs everywhere.
    "avx2", "neon", "portable",
];

/// The kernel called `name`, or the default where there is no name. An empty name is none.
fn choose(name: Option<OsString>, kernels: &[&'static dyn Kernel]) -> Result<&'static dyn Kernel, String> {
    let name = name.filter(|name| !name.is_empty());
    let called = |name: &OsStr| kernels.iter().find(|kernel| name == OsStr::new(kernel.name()));
    let found = match name.as_deref() {
        Some(name) => called(name),
        None => DEFAULTS.iter().find_map(|name| called(OsStr::new(name))),
    };
    found.copied().ok_or_else(|| {
        let name = name.unwrap_or_default();
        let exists = KERNEL_NAMES.into_iter().any(|known| name == OsStr::new(known));
        let problem = if exists { "which this processor cannot run" } else { "and there is no such kernel" };
        let names: Vec<_> = kernels.iter().map(|kernel| kernel.name()).collect();
        format!("{KERNEL_VARIABLE} is {name:?}, {problem}; choose one of {}, or unset it", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_the_default_is_taken() {
        let available: Vec<_> = available_kernels().iter().map(|kernel| kernel.name()).collect();
        let default = *DEFAULTS.iter().find(|name| available.contains(name)).unwrap();
        for name in [None, Some("".into())] {
            assert_eq!(choose(name, available_kernels()).unwrap().name(), default);
        }
    }

    /// What a learner has written is what their engine runs.
    #[test]
    fn a_given_kernel_is_a_default_in_the_reference_only() {
        assert_eq!(DEFAULTS.contains(&"avx512"), env!("CARGO_PKG_NAME") == "tiny-llm-reference");
    }

    #[test]
    fn every_kernel_is_found_by_its_name() {
        for kernel in available_kernels() {
            assert!(KERNEL_NAMES.contains(&kernel.name()));
            assert_eq!(choose(Some(kernel.name().into()), available_kernels()).unwrap().name(), kernel.name());
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_list() {
        for name in ["sse9", "AVX2", "portable "] {
            let message = choose(Some(name.into()), available_kernels()).unwrap_err();
            assert!(message.contains(&format!("{name:?}, and there is no such kernel")), "{message}");
            for kernel in available_kernels() {
                assert!(message.contains(kernel.name()), "{message}");
            }
        }
    }

    #[test]
    fn a_kernel_of_another_processor_is_refused() {
        let foreign = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
        let message = choose(Some(foreign.into()), available_kernels()).unwrap_err();
        assert!(message.contains("cannot run") && message.contains("portable"), "{message}");
    }
}
