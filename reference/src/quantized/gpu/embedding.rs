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
    // An id of 64 bits must not become another one's lower half.
    let token_ids = match ids_dtype {
        Dtype::Int64 | Dtype::Uint64 => {
            let number = |number: i32| Array::from_int(number).as_dtype(ids_dtype);
            let not_beyond = mlx_rs::ops::minimum(token_ids, number(matrix.outputs() as i32)?)?;
            if ids_dtype == Dtype::Int64 { mlx_rs::ops::maximum(not_beyond, number(-1)?)? } else { not_beyond }
        }
        _ => token_ids.clone(),
    };
    // A negative id becomes one that no vocabulary has.
    let token_ids = token_ids.as_dtype(Dtype::Uint32)?.reshape(&[tokens as i32])?;
    let launch = Launch {
        template: &format_of(matrix),
        outputs: &[TensorType { shape: vec![tokens, matrix.inputs()], dtype }],
        grid: [tokens * THREADGROUP, 1, 1],
        threadgroup: [THREADGROUP, 1, 1],
        fill: None,
    };
    let inputs = [&token_ids, &matrix.packed, &matrix.scales, &matrix.biases];
    let vectors = single("quantized_embedding_gpu", EMBEDDING.launch_on(backend, &inputs, &launch)?)?;
    Ok(vectors.reshape(&shape)?)
    // [end]
}
