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
        todo!("week 1 day 4 task 1: RmsNorm::forward - see book/src/week1/day4.md")
        // [end]
    }
}
