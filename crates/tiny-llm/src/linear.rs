//! Linear projections.

use mlx_rs::Array;

use crate::Result;

/// Projects the last axis: `x Wᵀ + b`.
///
/// - `x`: `[.., I]`, any number of leading axes
/// - `weight`: `[O, I]`, one row per output, as checkpoints store it
/// - `bias`: `[O]`
///
/// Returns `[.., O]` in `x`'s dtype (given that the weight has it too).
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) when the shapes do not fit.
pub fn linear(x: &Array, weight: &Array, bias: Option<&Array>) -> Result<Array> {
    // [task 1.1.2] linear
    todo!("week 1 day 1 task 2: linear - see book/src/week1/day1.md")
    // [end]
}

/// A projection with its weights.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[O, I]`
    pub weight: Array,
    /// `[O]`
    pub bias: Option<Array>,
}

impl Linear {
    /// `weight` is `[O, I]`, `bias` is `[O]`.
    pub fn new(weight: Array, bias: Option<Array>) -> Self {
        Self { weight, bias }
    }

    /// `[.., I]` to `[.., O]`, see [`linear`].
    ///
    /// # Errors
    /// As [`linear`].
    pub fn forward(&self, x: &Array) -> Result<Array> {
        linear(x, &self.weight, self.bias.as_ref())
    }
}
