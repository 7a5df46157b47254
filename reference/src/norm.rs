//! Root mean square normalization (Zhang and Sennrich, *Root Mean Square Layer Normalization*, 2019).

use mlx_rs::{Array, Dtype};

use crate::{Error, Result};

/// Divides each vector by its root mean square, then scales each component by a learned weight.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    pub(crate) weight: Array,
    pub(crate) eps: f32,
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
    /// [`Error::InvalidArgument`] when `x`'s last axis is not as long as the weight.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        // An axis of length 1 would broadcast against the weight without a word.
        if x.shape().last() != self.weight.shape().last() {
            let message =
                format!("x of shape {:?} does not fit a weight of shape {:?}", x.shape(), self.weight.shape());
            return Err(Error::invalid("RmsNorm::forward", message));
        }
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
