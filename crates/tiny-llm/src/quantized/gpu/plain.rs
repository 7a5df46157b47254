//! One thread for each output: the multiplication as one would write it first, and the oracle of the others.

use mlx_custom::gpu::{GpuKernel, Launch};
use mlx_rs::Array;

use crate::Result;
use crate::quantized::gpu::operands::{Operands, single};

/// One thread computes one output.
pub static PLAIN: GpuKernel = GpuKernel {
    name: "quantized_matmul_plain",
    inputs: &["x", "packed", "scales", "biases", "bias"],
    outputs: &["out"],
    header: include_str!("../../kernels/quantized.metal"),
    body: include_str!("../../kernels/quantized_matmul_plain.metal"),
    strided: false,
};

/// Threads along the outputs. Along the tokens a threadgroup has one.
const THREADGROUP: usize = 64;

/// `x Wᵀ + b`: `[M, N]`.
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) when the kernel cannot run.
pub fn plain(operands: &Operands<'_>) -> Result<Array> {
    // [task 2.3.2] launch quantized_matmul_plain
    todo!("week 2 day 3 task 2: launch quantized_matmul_plain - see book/src/week2/day3.md")
    // [end]
}
