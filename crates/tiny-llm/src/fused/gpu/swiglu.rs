//! The activation of the MLP.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch, TemplateValue};
use mlx_rs::{Array, Dtype};

use super::{sizes, take};
use crate::{Error, Result};

/// The kernel.
pub static SWIGLU: GpuKernel = GpuKernel {
    name: "swiglu",
    inputs: &["gate", "up"],
    outputs: &["out"],
    header: "",
    body: include_str!("../../kernels/swiglu.metal"),
    strided: false,
};

/// Threads of a threadgroup.
const THREADS: usize = 256;

/// `silu(gate) * up`, number by number, both `[.., I]`, in their dtype; computed in f32.
///
/// # Errors
/// [`Error::InvalidArgument`] when the inputs differ in shape or dtype.
pub fn swiglu_gpu(gate: &Array, up: &Array, backend: GpuBackend) -> Result<Array> {
    if (gate.shape(), gate.dtype()) != (up.shape(), up.dtype()) {
        let message = format!("gate {:?} {:?} and up {:?} {:?}", gate.dtype(), gate.shape(), up.dtype(), up.shape());
        return Err(Error::invalid("swiglu_gpu", format!("{message} differ")));
    }
    let n = gate.size();
    if n == 0 {
        return Ok(gate.clone());
    }
    let wide = if gate.dtype() == Dtype::Float32 { 4 } else { 8 };
    let launch = Launch {
        template: &[("T", TemplateValue::Dtype(gate.dtype()))],
        outputs: &[TensorType::new(sizes(gate.shape()), gate.dtype())],
        grid: [n.div_ceil(wide).next_multiple_of(THREADS), 1, 1],
        threadgroup: [THREADS, 1, 1],
        fill: None,
    };
    let (gate, up) = (gate.reshape(&[-1])?, up.reshape(&[-1])?);
    let [out] = take("swiglu", SWIGLU.launch_on(backend, &[&gate, &up], &launch)?)?;
    Ok(out)
}
