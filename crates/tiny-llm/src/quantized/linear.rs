//! The linear layer with quantized weights.

use mlx_rs::Array;

use crate::quantized::QuantizedMatrix;
use crate::quantized::gpu::quantized_matmul_gpu;
use crate::quantized::matmul::{Precision, quantized_matmul_in};
use crate::{Device, Result};

/// A projection whose weights stay quantized.
#[derive(Debug, Clone)]
pub struct QuantizedLinear {
    /// `[O, I]`
    pub weight: QuantizedMatrix,
    /// `[O]`
    pub bias: Option<Array>,
    device: Device,
    /// How the CPU multiplies.
    precision: Precision,
}

impl QuantizedLinear {
    /// `weight` is `[O, I]`, `bias` is `[O]`. It computes on the CPU.
    pub fn new(weight: QuantizedMatrix, bias: Option<Array>) -> Self {
        Self { weight, bias, device: Device::Cpu, precision: Precision::default() }
    }

    /// The same layer, computing on `device`.
    pub fn on(self, device: Device) -> Self {
        Self { device, ..self }
    }

    /// The same layer, multiplying as `precision` says while it computes on the CPU.
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// `[.., I]` to `[.., O]`, as [`Linear::forward`](crate::Linear::forward) with the dequantized weight.
    ///
    /// # Errors
    /// As [`quantized_matmul_in`] or [`quantized_matmul_gpu`].
    pub fn forward(&self, x: &Array) -> Result<Array> {
        if self.device == Device::Gpu {
            return self.forward_on_gpu(x);
        }
        // [task 2.2a.5] QuantizedLinear::forward
        todo!("week 2 day 2a task 5: QuantizedLinear::forward - see book/src/week2/day2a.md")
        // [end]
    }

    fn forward_on_gpu(&self, x: &Array) -> Result<Array> {
        // [task 2.3.5] QuantizedLinear on the GPU
        todo!("week 2 day 3 task 5: QuantizedLinear on the GPU - see book/src/week2/day3.md")
        // [end]
    }
}
