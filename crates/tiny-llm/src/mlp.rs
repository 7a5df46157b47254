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
    todo!("week 1 day 4 task 2: silu - see book/src/week1/day4.md")
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
        todo!("week 1 day 4 task 3: SwiGluMlp::forward - see book/src/week1/day4.md")
        // [end]
    }
}
