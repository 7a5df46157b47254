//! The activation of the MLP.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch, TemplateValue};
use mlx_rs::{Array, Dtype, ops};

use super::{sizes, take};
use crate::{Error, Result};

/// The kernel.
pub static SWIGLU: GpuKernel = GpuKernel {
    name: "swiglu",
    inputs: &["gate_up"],
    outputs: &["out"],
    header: "",
    body: include_str!("../../kernels/swiglu.metal"),
    strided: false,
};

/// Threads of a threadgroup.
const THREADS: usize = 256;

/// `silu(gate) * up`, number by number: `[.., 2 * I]`, of each row first gate and then up, to `[.., I]`, in its dtype;
/// computed in f32.
///
/// # Errors
/// [`Error::InvalidArgument`] when the last axis is not twice as long as something.
pub fn swiglu_gpu(gate_up: &Array, backend: GpuBackend) -> Result<Array> {
    let mut shape = sizes(gate_up.shape());
    match shape.last_mut() {
        Some(last) if last.is_multiple_of(2) => *last /= 2,
        _ => {
            let message = format!("{:?} is not [.., 2 * I]: gate and up, equally long", gate_up.shape());
            return Err(Error::invalid("swiglu_gpu", message));
        }
    }
    if gate_up.size() == 0 {
        let shape: Vec<i32> = shape.iter().map(|&len| len as i32).collect();
        return Ok(ops::zeros_dtype(&shape, gate_up.dtype())?);
    }
    let (wide, size) = (if gate_up.dtype() == Dtype::Float32 { 4 } else { 8 }, shape[shape.len() - 1]);
    let rows = gate_up.size() / (2 * size);
    let launch = Launch {
        template: &[("T", TemplateValue::Dtype(gate_up.dtype()))],
        outputs: &[TensorType::new(shape, gate_up.dtype())],
        grid: [rows * THREADS, size.div_ceil(wide * THREADS), 1],
        threadgroup: [THREADS, 1, 1],
        fill: None,
    };
    let [out] = take("swiglu", SWIGLU.launch_on(backend, &[gate_up], &launch)?)?;
    Ok(out)
}
