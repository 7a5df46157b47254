//! The feed-forward layer of Qwen2: SwiGLU (Shazeer, *GLU Variants Improve Transformer*, 2020).

use mlx_rs::ops::select;
use mlx_rs::{Array, Dtype};

use crate::{Projection, Result};

/// `x * sigmoid(x)`, element by element, in `x`'s dtype.
///
/// Computed in f32 and right in both tails: for a large negative `x` the result is a small negative number and
/// not 0 (nor NaN), for a large positive `x` it is `x`. Infinity stays infinity, and NaN stays NaN.
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) when MLX itself fails: every shape fits.
pub fn silu(x: &Array) -> Result<Array> {
    // [task 1.4.2] silu
    let x_f32 = x.as_dtype(Dtype::Float32)?;
    // sigmoid(x) = 1 / (1 + exp(-x)) = exp(x) / (1 + exp(x)): the form whose exponent is not positive can neither
    // overflow nor lose the small result to a subtraction.
    let decay = x_f32.abs()?.negative()?.exp()?; // exp(-|x|), in (0, 1]
    let one = Array::from_f32(1.0);
    let numerator = select(x_f32.lt(Array::from_f32(0.0))?, &decay, &one)?;
    let sigmoid = numerator.divide(decay.add(&one)?)?;
    Ok(x_f32.multiply(sigmoid)?.as_dtype(x.dtype())?)
    // [end]
}

/// `down(silu(gate(x)) * up(x))`.
#[derive(Debug, Clone)]
pub struct SwiGluMlp {
    gate_proj: Projection,
    up_proj: Projection,
    down_proj: Projection,
}

impl SwiGluMlp {
    /// `gate_proj` and `up_proj` are `[I, E]`, `down_proj` is `[E, I]`.
    pub fn new(
        gate_proj: impl Into<Projection>,
        up_proj: impl Into<Projection>,
        down_proj: impl Into<Projection>,
    ) -> Self {
        Self { gate_proj: gate_proj.into(), up_proj: up_proj.into(), down_proj: down_proj.into() }
    }

    /// `[.., E]` to `[.., E]`.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) when the shapes do not fit.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        // [task 1.4.3] SwiGluMlp::forward
        let gate = silu(&self.gate_proj.forward(x)?)?; // [.., I]
        let up = self.up_proj.forward(x)?;
        self.down_proj.forward(&gate.multiply(up)?)
        // [end]
    }
}
