//! A quantized matrix as floats, unpacked on the GPU.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch};
use mlx_rs::{Array, Dtype};

use crate::quantized::QuantizedMatrix;
use crate::quantized::gpu::operands::{format_of, single};
use crate::quantized::matmul::is_float;
use crate::{Error, Result};

/// One thread unpacks one word.
pub static DEQUANTIZE: GpuKernel = GpuKernel {
    name: "quantized_dequantize",
    inputs: &["packed", "scales", "biases"],
    outputs: &["weights"],
    header: include_str!("../../kernels/quantized.metal"),
    body: include_str!("../../kernels/dequantize.metal"),
    strided: false,
};

const THREADGROUP: usize = 256;

/// The matrix as floats, `[N, K]`: `scale * integer + bias`, computed in f32 and rounded once to `dtype`.
///
/// # Errors
/// [`Error::InvalidArgument`] when `dtype` is not a floating-point type; [`Error::Mlx`] when the kernel cannot run.
pub fn dequantize_gpu(backend: GpuBackend, matrix: &QuantizedMatrix, dtype: Dtype) -> Result<Array> {
    if !is_float(dtype) {
        return Err(Error::invalid("dequantize_gpu", format!("weights are floating-point numbers, not {dtype:?}")));
    }
    let shape = vec![matrix.outputs(), matrix.inputs()];
    if matrix.outputs() == 0 {
        return Ok(mlx_rs::ops::zeros_dtype(&[0, matrix.inputs() as i32], dtype)?);
    }
    let words = matrix.outputs() * matrix.inputs() * matrix.bits / 32;
    let launch = Launch {
        template: &format_of(matrix),
        outputs: &[TensorType { shape, dtype }],
        grid: [words.next_multiple_of(THREADGROUP), 1, 1],
        threadgroup: [THREADGROUP, 1, 1],
        fill: None,
    };
    let inputs = [&matrix.packed, &matrix.scales, &matrix.biases];
    single("dequantize_gpu", DEQUANTIZE.launch_on(backend, &inputs, &launch)?)
}
