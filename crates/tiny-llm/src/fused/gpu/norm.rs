//! RMSNorm, with or without a residual addition in front.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch, TemplateValue};
use mlx_rs::Array;

use super::{sizes, take};
use crate::{Error, Result, RmsNorm};

/// The kernel.
pub static RMS_NORM: GpuKernel = GpuKernel {
    name: "rms_norm",
    inputs: &["x", "residual", "weight"],
    outputs: &["normalized", "sum"],
    header: "",
    body: include_str!("../../kernels/rms_norm.metal"),
    strided: false,
};

/// A row goes to one threadgroup, whose threads wait for memory together: so many threads that each has few numbers.
const NUMBERS_OF_THREAD: usize = 4;
/// SIMD groups of a threadgroup, at least and at most.
const SIMD_GROUPS: std::ops::RangeInclusive<usize> = 2..=32;

/// As [`RmsNorm::forward`]: `[.., E]`.
///
/// # Errors
/// As [`RmsNorm::forward`].
pub fn rms_norm_gpu(x: &Array, norm: &RmsNorm, backend: GpuBackend) -> Result<Array> {
    let [normalized, _] = run(x, None, norm, backend)?;
    Ok(normalized)
}

/// `x + residual`, and its norm: both `[.., E]`. The sum is rounded to the inputs' dtype before it is normalized, as the
/// plain layers do.
///
/// # Errors
/// [`Error::InvalidArgument`] when the inputs differ in shape or dtype, and as [`RmsNorm::forward`].
pub fn add_rms_norm_gpu(x: &Array, residual: &Array, norm: &RmsNorm, backend: GpuBackend) -> Result<(Array, Array)> {
    if (x.shape(), x.dtype()) != (residual.shape(), residual.dtype()) {
        let message = format!(
            "x, {:?} {:?}, and the residual, {:?} {:?}, differ",
            x.dtype(),
            x.shape(),
            residual.dtype(),
            residual.shape()
        );
        return Err(Error::invalid("add_rms_norm_gpu", message));
    }
    let [normalized, sum] = run(x, Some(residual), norm, backend)?;
    Ok((sum, normalized))
}

fn run(x: &Array, residual: Option<&Array>, norm: &RmsNorm, backend: GpuBackend) -> Result<[Array; 2]> {
    if x.shape().last() != norm.weight.shape().last() {
        let (x, weight) = (x.shape(), norm.weight.shape());
        return Err(Error::invalid(
            "rms_norm_gpu",
            format!("x of shape {x:?} does not fit a weight of shape {weight:?}"),
        ));
    }
    let shape = sizes(x.shape());
    let features = norm.weight.dim(0) as usize;
    let rows = shape.iter().product::<usize>() / features.max(1);
    if rows == 0 {
        return Ok([x.clone(), x.clone()]);
    }
    let sum_shape = if residual.is_some() { shape.clone() } else { vec![1] };
    let simd_groups = features.div_ceil(32 * NUMBERS_OF_THREAD).clamp(*SIMD_GROUPS.start(), *SIMD_GROUPS.end());
    let threads = 32 * simd_groups;
    let launch = Launch {
        template: &[
            ("T", TemplateValue::Dtype(x.dtype())),
            ("HAS_RESIDUAL", TemplateValue::Bool(residual.is_some())),
            ("SIMD_GROUPS", TemplateValue::Int(simd_groups as i32)),
            ("NUMBERS", TemplateValue::Int(features.div_ceil(threads) as i32)),
            ("EPS_BITS", TemplateValue::Int(norm.eps.to_bits() as i32)),
        ],
        outputs: &[TensorType::new(shape, x.dtype()), TensorType::new(sum_shape, x.dtype())],
        grid: [rows * threads, 1, 1],
        threadgroup: [threads, 1, 1],
        fill: None,
    };
    take("rms_norm", RMS_NORM.launch_on(backend, &[x, residual.unwrap_or(x), &norm.weight], &launch)?)
}
