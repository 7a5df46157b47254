//! Looking up vectors of a quantized embedding on the GPU.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch};
use mlx_rs::{Array, Dtype};

use crate::quantized::QuantizedMatrix;
use crate::quantized::gpu::operands::{format_of, single};
use crate::quantized::matmul::is_float;
use crate::{Error, Result};

/// A threadgroup looks up one token.
pub static EMBEDDING: GpuKernel = GpuKernel {
    name: "quantized_embedding",
    inputs: &["token_ids", "packed", "scales", "biases"],
    outputs: &["vectors"],
    header: include_str!("../../kernels/quantized.metal"),
    body: include_str!("../../kernels/quantized_embedding.metal"),
    strided: false,
};

/// A row has a few hundred words.
const THREADGROUP: usize = 128;

/// The vectors of `token_ids` (`[..]`, an integer dtype) as `dtype`: `[.., E]`. An id beyond the vocabulary gives a vector of
/// NaN: a kernel cannot return an error.
///
/// # Errors
/// [`Error::InvalidArgument`] when the ids are not integers or `dtype` is not a float; [`Error::Mlx`] when the kernel
/// cannot run.
pub fn quantized_embedding_gpu(
    backend: GpuBackend,
    token_ids: &Array,
    matrix: &QuantizedMatrix,
    dtype: Dtype,
) -> Result<Array> {
    let ids_dtype = token_ids.dtype();
    if is_float(ids_dtype) || matches!(ids_dtype, Dtype::Bool | Dtype::Complex64) || !is_float(dtype) {
        let message = format!("token ids are integers and vectors floats, not {ids_dtype:?} and {dtype:?}");
        return Err(Error::invalid("quantized_embedding_gpu", message));
    }
    let shape = [token_ids.shape(), &[matrix.inputs() as i32]].concat();
    let tokens = token_ids.size();
    if tokens == 0 {
        return Ok(mlx_rs::ops::zeros_dtype(&shape, dtype)?);
    }
    // [task 2.3.5] launch quantized_embedding
    todo!("week 2 day 3 task 5: launch quantized_embedding - see book/src/week2/day3.md")
    // [end]
}
