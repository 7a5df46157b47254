//! Kernels for a GPU, written once, in Metal.
//!
//! A kernel is the body of a Metal function in a `.metal` file of its own ([`GpuKernel`]). It runs
//!
//! - on Apple's GPUs as Metal, through MLX's `metal_kernel`;
//! - on NVIDIA's GPUs through MLX's `cuda_kernel`, behind a prelude that gives Metal's names a meaning in CUDA;
//! - anywhere else in an emulator on the CPU ([`emulator`]), which compiles the same body with the system's C++ compiler and
//!   watches it: accesses out of bounds, races, missed barriers, threadgroup memory read before it is written.

pub mod backend;
mod checks;
mod cuda;
pub mod emulator;
pub mod kernel;
pub mod launch;
pub mod lowering;
mod memory;
mod metal;
pub mod tokens;

pub use backend::GpuBackend;
pub use kernel::GpuKernel;
pub use launch::{Launch, TemplateValue};
pub use lowering::{Lowered, ThreadgroupArray};
