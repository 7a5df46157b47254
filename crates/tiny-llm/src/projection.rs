//! A projection, whatever its weights look like.

use mlx_rs::Array;

use crate::quantized::QuantizedLinear;
use crate::{Linear, Result};

/// The kinds of linear layers that a model may consist of.
#[derive(Debug, Clone)]
pub enum Projection {
    Dense(Linear),
    Quantized(QuantizedLinear),
}

impl Projection {
    /// `[.., I]` to `[.., O]`.
    ///
    /// # Errors
    /// As [`Linear::forward`] or [`QuantizedLinear::forward`].
    pub fn forward(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Dense(linear) => linear.forward(x),
            Self::Quantized(linear) => linear.forward(x),
        }
    }
}

impl From<Linear> for Projection {
    fn from(linear: Linear) -> Self {
        Self::Dense(linear)
    }
}

impl From<QuantizedLinear> for Projection {
    fn from(linear: QuantizedLinear) -> Self {
        Self::Quantized(linear)
    }
}
