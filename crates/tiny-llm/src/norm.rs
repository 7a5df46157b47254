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
        todo!("week 1 day 4 task 1: RmsNorm::forward - see book/src/week1/day4.md")
        // [end]
    }
}
