//! Where GPU kernels run on this machine.

use std::env;
use std::ffi::{OsStr, OsString};
use std::sync::OnceLock;

use mlx_rs::error::Exception;

use crate::gpu::emulator;

/// The environment variable that chooses the backend.
const VARIABLE: &str = "TINY_LLM_GPU";

/// What runs a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GpuBackend {
    /// Apple's GPU.
    Metal,
    /// NVIDIA's GPU.
    Cuda,
    /// The CPU, one fiber per thread: slow, and it watches the kernel.
    Emulator,
}

impl GpuBackend {
    /// The real GPU of this machine if MLX has one, else the emulator; the variable `TINY_LLM_GPU`
    /// (`metal`, `cuda` or `emulator`) chooses otherwise. Empty, it counts as not set.
    ///
    /// # Errors
    /// The variable holds another word.
    pub fn current() -> Result<Self, Exception> {
        named().map_or_else(|| Ok(Self::best()), |word| Self::from_word(&word).map_err(Exception::custom))
    }

    /// Whether `TINY_LLM_GPU` names a backend.
    pub fn is_named() -> bool {
        named().is_some()
    }

    /// Looks at what [`GpuKernel::launch`](crate::gpu::GpuKernel::launch) would complain of, whatever the kernel: for a program that
    /// has a long way to go before the first one.
    ///
    /// # Errors
    /// This machine lacks the backend. For the emulator: no C++ compiler, a variable of the environment that makes no sense.
    pub fn check_ready(self) -> Result<(), Exception> {
        self.check_available()?;
        match self {
            Self::Emulator => emulator::check_ready().map_err(|error| Exception::custom(error.to_string())),
            Self::Metal | Self::Cuda => Ok(()),
        }
    }

    /// All that this machine can run, for tests; the emulator is always among them. Where `TINY_LLM_GPU` names one, that
    /// one alone: a machine with a GPU may have no C++ compiler, which the emulator needs.
    pub fn available() -> Vec<Self> {
        match Self::current() {
            Ok(chosen) if Self::is_named() => vec![chosen],
            // A word that can't be read is an error where a kernel is started.
            _ => Self::runnable(),
        }
    }

    fn runnable() -> Vec<Self> {
        let all = [Self::Metal, Self::Cuda, Self::Emulator];
        all.into_iter().filter(|backend| backend.is_available()).collect()
    }

    /// The word for this backend in `TINY_LLM_GPU` and in messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Metal => "metal",
            Self::Cuda => "cuda",
            Self::Emulator => "emulator",
        }
    }

    fn from_word(word: &OsStr) -> Result<Self, String> {
        match word.to_str() {
            Some("metal") => Ok(Self::Metal),
            Some("cuda") => Ok(Self::Cuda),
            Some("emulator") => Ok(Self::Emulator),
            _ => Err(format!("{VARIABLE} is {word:?}; it can be metal, cuda or emulator")),
        }
    }

    fn best() -> Self {
        let real = [Self::Metal, Self::Cuda];
        real.into_iter().find(|backend| backend.is_available()).unwrap_or(Self::Emulator)
    }

    fn is_available(self) -> bool {
        static METAL: OnceLock<bool> = OnceLock::new();
        static CUDA: OnceLock<bool> = OnceLock::new();
        match self {
            Self::Metal => *METAL.get_or_init(|| ask(mlx_sys::mlx_metal_is_available)),
            Self::Cuda => *CUDA.get_or_init(|| ask(mlx_sys::mlx_cuda_is_available)),
            Self::Emulator => true,
        }
    }

    /// # Errors
    /// This machine, or the MLX that this program was built with, lacks the backend.
    pub(crate) fn check_available(self) -> Result<(), Exception> {
        if self.is_available() {
            return Ok(());
        }
        let have: Vec<_> = Self::runnable().into_iter().map(Self::word).collect();
        let (word, have) = (self.word(), have.join(", "));
        Err(Exception::custom(format!("MLX has no {word} here; kernels can run on: {have} (see {VARIABLE})")))
    }
}

/// What `TINY_LLM_GPU` says, if it says anything.
fn named() -> Option<OsString> {
    env::var_os(VARIABLE).filter(|word| !word.is_empty())
}

/// Asks MLX a question with the answer yes or no.
fn ask(question: unsafe extern "C" fn(*mut bool) -> std::ffi::c_int) -> bool {
    let mut answer = false;
    // SAFETY: both functions write one bool.
    let status = unsafe { question(&raw mut answer) };
    status == 0 && answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_backends() {
        for backend in [GpuBackend::Metal, GpuBackend::Cuda, GpuBackend::Emulator] {
            assert_eq!(GpuBackend::from_word(backend.word().as_ref()), Ok(backend));
        }
        let message = GpuBackend::from_word("opencl".as_ref()).unwrap_err();
        assert!(message.contains("\"opencl\"") && message.contains("metal, cuda or emulator"), "{message}");
    }

    #[test]
    fn the_emulator_is_everywhere() {
        assert!(GpuBackend::runnable().contains(&GpuBackend::Emulator));
        assert!(GpuBackend::Emulator.check_available().is_ok());
    }

    #[test]
    fn a_missing_backend_is_an_error_that_says_what_is_there() {
        for backend in [GpuBackend::Metal, GpuBackend::Cuda] {
            if !GpuBackend::runnable().contains(&backend) {
                let message = backend.check_available().unwrap_err().to_string();
                assert!(message.contains(backend.word()) && message.contains("emulator"), "{message}");
            }
        }
    }
}
