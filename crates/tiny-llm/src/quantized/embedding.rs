//! The embedding with quantized vectors, which is also the output head of a tied model.

use half::{bf16, f16};
use mlx_custom::gpu::GpuBackend;
use mlx_custom::{CpuOperation, OperationError, Tensor, TensorMut, TensorType, apply_n};
use mlx_rs::{Array, Dtype};

use crate::quantized::QuantizedMatrix;
use crate::quantized::gpu::{quantized_embedding_gpu, quantized_matmul_gpu};
use crate::quantized::matmul::{Precision, quantized_matmul_in};
use crate::quantized::matrix::ConstantMatrix;
use crate::quantized::tiles::Float;
use crate::{Device, Result};

/// One vector per token of the vocabulary, quantized.
#[derive(Debug, Clone)]
pub struct QuantizedEmbedding {
    /// `[V, E]`
    pub weight: QuantizedMatrix,
    /// Of the vectors that [`QuantizedEmbedding::forward`] returns.
    dtype: Dtype,
    device: Device,
    /// How the CPU multiplies in [`QuantizedEmbedding::as_linear`].
    precision: Precision,
}

impl QuantizedEmbedding {
    /// `weight` is `[V, E]`; looked-up vectors have `dtype`. It computes on the CPU.
    pub fn new(weight: QuantizedMatrix, dtype: Dtype) -> Self {
        Self { weight, dtype, device: Device::Cpu, precision: Precision::default() }
    }

    /// The same embedding, computing on `device`.
    pub fn on(self, device: Device) -> Self {
        Self { device, ..self }
    }

    /// The same embedding, multiplying as `precision` says while it computes on the CPU.
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Looks up `token_ids` (`[..]`, u32 or i32): `[.., E]`. Only these rows are dequantized, each number in f32 and rounded
    /// once.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) when the ids have another dtype, at once; when an id is negative or beyond the
    /// vocabulary, as the array is evaluated. On the GPU such an id gives a vector of NaN.
    pub fn forward(&self, token_ids: &Array) -> Result<Array> {
        if self.device == Device::Gpu {
            return quantized_embedding_gpu(GpuBackend::current()?, token_ids, &self.weight, self.dtype);
        }
        // [task 2.2a.5] QuantizedEmbedding::forward
        todo!("week 2 day 2a task 5: QuantizedEmbedding::forward - see book/src/week2/day2a.md")
        // [end]
    }

    /// Scores every token of the vocabulary by its vector's product with `x`: `[.., E]` to `[.., V]`.
    ///
    /// # Errors
    /// As [`quantized_matmul_in`] or [`quantized_matmul_gpu`].
    pub fn as_linear(&self, x: &Array) -> Result<Array> {
        if self.device == Device::Gpu {
            return self.as_linear_on_gpu(x);
        }
        // [task 2.2a.5] QuantizedEmbedding::as_linear
        todo!("week 2 day 2a task 5: QuantizedEmbedding::as_linear - see book/src/week2/day2a.md")
        // [end]
    }

    fn as_linear_on_gpu(&self, x: &Array) -> Result<Array> {
        // [task 2.3.5] QuantizedEmbedding::as_linear on the GPU
        todo!("week 2 day 3 task 5: QuantizedEmbedding::as_linear on the GPU - see book/src/week2/day3.md")
        // [end]
    }
}

/// Input: token ids, `[..]`.
struct LookUp {
    matrix: ConstantMatrix,
    dtype: Dtype,
}

impl CpuOperation for LookUp {
    fn name(&self) -> &'static str {
        "quantized_embedding"
    }

    fn outputs(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
        let [token_ids] = inputs else { return Err("takes token ids".into()) };
        if token_ids.dtype != Dtype::Uint32 {
            return Err(format!("token ids are u32 or i32, not {:?}", token_ids.dtype).into());
        }
        let mut shape = token_ids.shape.clone();
        shape.push(self.matrix.inputs());
        Ok(vec![TensorType { shape, dtype: self.dtype }])
    }

    fn run(&self, inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), OperationError> {
        match self.dtype {
            Dtype::Float32 => self.run_in::<f32>(inputs, &mut outputs[0]),
            Dtype::Float16 => self.run_in::<f16>(inputs, &mut outputs[0]),
            _ => self.run_in::<bf16>(inputs, &mut outputs[0]),
        }
    }
}

impl LookUp {
    fn run_in<T: Float>(&self, inputs: &[Tensor<'_>], output: &mut TensorMut<'_>) -> Result<(), OperationError> {
        let token_ids = inputs[0].as_slice::<u32>()?;
        let matrix = self.matrix.view()?;
        let vectors = output.as_mut_slice::<T>()?.chunks_exact_mut(matrix.inputs);
        for (&token_id, vector) in token_ids.iter().zip(vectors) {
            let row = token_id as usize;
            if row >= matrix.outputs {
                return Err(format!("token {row} is not in the vocabulary of {} tokens", matrix.outputs).into());
            }
            // [task 2.2a.5] look up one vector
            todo!("week 2 day 2a task 5: look up one vector - see book/src/week2/day2a.md")
            // [end]
        }
        Ok(())
    }
}
