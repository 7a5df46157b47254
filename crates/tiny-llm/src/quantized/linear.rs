//! The linear layer with quantized weights.

use mlx_rs::Array;

use crate::Result;
use crate::quantized::{QuantizedMatrix, quantized_matmul};

/// A projection whose weights stay quantized.
#[derive(Debug, Clone)]
pub struct QuantizedLinear {
    /// `[O, I]`
    pub weight: QuantizedMatrix,
    /// `[O]`
    pub bias: Option<Array>,
}

impl QuantizedLinear {
    /// `weight` is `[O, I]`, `bias` is `[O]`.
    pub fn new(weight: QuantizedMatrix, bias: Option<Array>) -> Self {
        Self { weight, bias }
    }

    /// `[.., I]` to `[.., O]`, as [`Linear::forward`](crate::Linear::forward) with the dequantized weight.
    ///
    /// # Errors
    /// As [`quantized_matmul`].
    pub fn forward(&self, x: &Array) -> Result<Array> {
        // [task 2.2.9] QuantizedLinear::forward
        todo!("week 2 day 2 task 9: QuantizedLinear::forward - see book/src/week2/day2.md")
        // [end]
    }
}
