//! Where a model computes.

use std::fmt;

/// The processor for which a model is loaded. All compute the same function.
///
/// MLX's own operations run wherever its default device is. The choice here is about the course's: custom operations
/// run on the CPU, kernels on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// Custom operations of days 2.1 to 2.2c and 2.4.
    #[default]
    Cpu,
    /// Kernels, from day 2.3 on: on the machine's GPU, or in the emulator.
    Gpu,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        })
    }
}
