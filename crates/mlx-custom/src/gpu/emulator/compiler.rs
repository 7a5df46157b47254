//! The system's C++ compiler: which one, and how it is called.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use crate::OperationError;

/// Programs that are tried when `CXX` is not set.
const NAMES: [&str; 3] = ["c++", "g++", "clang++"];
const REMEDY: &str = "the emulator of GPU kernels needs GCC 12 or clang 14 or newer (Debian/Ubuntu: `apt install g++`, \
                      Fedora: `dnf install gcc-c++`, macOS: `xcode-select --install`)";
/// Lines of the compiler that a message shows.
const MAX_MESSAGES: usize = 6;

/// Flags for everything. The ABI and the rounding of results must not depend on the user's defaults.
const FLAGS: [&str; 10] = [
    "-std=c++20",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-fdiagnostics-color=never",
    "-w",
];
/// Flags for a kernel that is watched: its accesses to memory call the runtime, and addresses lead back to lines.
const WATCHED: [&str; 3] = ["-O1", "-g1", "-fsanitize=thread"];
/// What clang needs besides: it would leave out a read that is followed by a write to the same place.
const WATCHED_BY_CLANG: [&str; 2] = ["-mllvm", "-tsan-instrument-read-before-write=1"];
/// Flags for a kernel that isn't, and for the runtime.
pub(super) const FAST: [&str; 1] = ["-O2"];

/// A compiler that answered.
#[derive(Clone)]
pub(super) struct Compiler {
    program: OsString,
    /// What `--version` says: part of the name under which results are kept.
    pub version: String,
}

impl Compiler {
    /// `$CXX`, else the first of `c++`, `g++` and `clang++` that there is.
    ///
    /// # Errors
    /// None answers.
    pub fn find() -> Result<Self, OperationError> {
        static KNOWN: Mutex<Option<HashMap<OsString, Compiler>>> = Mutex::new(None);
        let wanted = std::env::var_os("CXX").filter(|name| !name.is_empty());
        let key = wanted.clone().unwrap_or_default();
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiler) = known.get_or_insert_default().get(&key) {
            return Ok(compiler.clone());
        }
        let compiler = match &wanted {
            Some(program) => Self::ask(program).ok_or_else(|| {
                let name = program.to_string_lossy();
                format!("CXX is `{name}`, which is no C++ compiler that can be run; {REMEDY}; or unset CXX")
            })?,
            None => NAMES
                .iter()
                .find_map(|name| Self::ask(&OsString::from(name)))
                .ok_or_else(|| format!("no C++ compiler was found; {REMEDY}, or set CXX"))?,
        };
        known.get_or_insert_default().insert(key, compiler.clone());
        Ok(compiler)
    }

    fn ask(program: &OsString) -> Option<Self> {
        let output = Command::new(program).arg("--version").env("LC_ALL", "C").output().ok()?;
        let version = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success() && !version.is_empty()).then(|| Self { program: program.clone(), version })
    }

    /// The flags for kernels.
    pub fn kernel_flags(&self, is_checked: bool) -> Vec<&'static str> {
        if !is_checked {
            return FAST.to_vec();
        }
        let clang: &[&str] = if self.version.contains("clang") { &WATCHED_BY_CLANG } else { &[] };
        WATCHED.iter().chain(clang).copied().collect()
    }

    /// Compiles `source`, a file in `folder`, to `object` beside it. What `what` names doesn't compile if there are errors.
    ///
    /// # Errors
    /// The compiler's first messages, with file and line.
    pub fn compile(
        &self,
        folder: &Path,
        source: &str,
        object: &str,
        flags: &[&str],
        what: &str,
    ) -> Result<(), OperationError> {
        let mut command = self.command(folder);
        command.args(FLAGS).args(processor_flags()).args(flags).args(["-c", source, "-o", object]);
        self.run(command, what)
    }

    /// Links objects in `folder` to a shared library there.
    ///
    /// # Errors
    /// The linker's first messages.
    pub fn link(&self, folder: &Path, objects: &[&Path], library: &str) -> Result<(), OperationError> {
        let mut command = self.command(folder);
        command.arg("-shared").args(objects).args(["-o", library, "-lm"]);
        self.run(command, "linking")?;
        if cfg!(target_os = "macos") {
            // There the lines stay behind in the objects, unless this collects them. Without it reports name no lines.
            let _ = Command::new("dsymutil").arg(library).current_dir(folder).output();
        }
        Ok(())
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(folder).env("LC_ALL", "C");
        command
    }

    fn run(&self, mut command: Command, what: &str) -> Result<(), OperationError> {
        let program = self.program.to_string_lossy();
        let output = command.output().map_err(|error| format!("cannot run the C++ compiler `{program}`: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(explain(&output, what, &program).into())
    }
}

/// The first messages of a compiler that failed.
fn explain(output: &Output, what: &str, program: &str) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    if text.contains("No space left on device") {
        return "the disk is full: free some space or point TINY_LLM_CACHE (and TMPDIR) at another disk".to_owned();
    }
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("error") || line.contains("undefined")).collect();
    let chosen = if errors.is_empty() { text.lines().collect() } else { errors };
    let shown = chosen.iter().take(MAX_MESSAGES).map(|line| format!("\n  {line}"));
    let shown: String = shown.collect();
    let rest = chosen.len().saturating_sub(MAX_MESSAGES);
    let rest = if rest > 0 { format!("\n  and {rest} more") } else { String::new() };
    if shown.is_empty() {
        return format!("{what} failed: `{program}` ended with {} and no message", output.status);
    }
    format!("{what} does not compile:{shown}{rest}")
}

/// Instructions of this machine that make conversions of half and fused multiply-adds fast.
pub(super) fn processor_flags() -> &'static [&'static str] {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
        && std::arch::is_x86_feature_detected!("f16c")
    {
        return &["-mavx2", "-mfma", "-mf16c"];
    }
    &[]
}

/// All that decides what comes out of the compiler, besides source and flags.
pub(super) fn fixed_flags() -> String {
    format!("{} {}", FLAGS.join(" "), processor_flags().join(" "))
}
