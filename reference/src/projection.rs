//! A projection, whatever its weights look like.

use mlx_rs::Array;

use crate::quantized::QuantizedLinear;
use crate::quantized::matmul::Precision;
use crate::{Device, Linear, Result};

/// The kinds of linear layers that a model may consist of.
#[derive(Debug, Clone)]
pub enum Projection {
    Dense(Linear),
    Quantized(QuantizedLinear),
}

impl Projection {
    /// The same projection, computing on `device`. A dense one computes wherever MLX does.
    pub fn on(self, device: Device) -> Self {
        match self {
            Self::Dense(linear) => Self::Dense(linear),
            Self::Quantized(linear) => Self::Quantized(linear.on(device)),
        }
    }

    /// The same projection, multiplying as `precision` says if its weights are quantized and it computes on the CPU.
    pub fn in_precision(self, precision: Precision) -> Self {
        match self {
            Self::Dense(linear) => Self::Dense(linear),
            Self::Quantized(linear) => Self::Quantized(linear.in_precision(precision)),
        }
    }

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
