//! Root mean square normalization (Zhang and Sennrich, *Root Mean Square Layer Normalization*, 2019).

use mlx_rs::{Array, Dtype};

use crate::Result;

/// Divides each vector by its root mean square, then scales each component by a learned weight.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Array,
    eps: f32,
}

impl RmsNorm {
    /// `weight` is `[E]`; `eps` keeps a vector of zeros from being divided by zero.
    pub fn new(weight: Array, eps: f32) -> Self {
        Self { weight, eps }
    }

    /// `x / sqrt(mean(x²) + eps) * weight` over the last axis; `x` is `[.., E]`.
    ///
    /// Everything up to the last multiplication is f32; the result has `x`'s shape and dtype.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) when the weight does not fit.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        // [task 1.4.1] RmsNorm::forward
        // In f16 the square of 256 is already infinite.
        let x_f32 = x.as_dtype(Dtype::Float32)?;
        let mean_square = x_f32.square()?.mean_axis(-1, true)?; // [.., 1]
        let inverse_rms = mean_square.add(Array::from_f32(self.eps))?.rsqrt()?;
        let weight = self.weight.as_dtype(Dtype::Float32)?;
        Ok(x_f32.multiply(inverse_rms)?.multiply(weight)?.as_dtype(x.dtype())?)
        // [end]
    }
}
