//! Token embeddings, which many models also use as their output head (Press and Wolf, *Using the Output Embedding to
//! Improve Language Models*, 2017).

use mlx_rs::Array;

use crate::{Result, linear};

/// One vector per token of the vocabulary.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// `[V, E]`
    pub weight: Array,
}

impl Embedding {
    /// `weight` is `[V, E]`.
    pub fn new(weight: Array) -> Self {
        Self { weight }
    }

    /// Looks up `token_ids` (`[..]`, an integer dtype): `[.., E]`.
    ///
    /// The ids must be below V. That is not checked here, since it would force MLX to compute them now;
    /// [`generate`](crate::generate()) checks what comes from outside.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) when the ids are not integers.
    pub fn forward(&self, token_ids: &Array) -> Result<Array> {
        // [task 1.5.1] Embedding::forward
        Ok(self.weight.take_axis(token_ids, 0)?)
        // [end]
    }

    /// Scores every token of the vocabulary by its vector's product with `x`: `[.., E]` to `[.., V]`.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) when the shapes do not fit.
    pub fn as_linear(&self, x: &Array) -> Result<Array> {
        // [task 1.5.1] Embedding::as_linear
        linear(x, &self.weight, None)
        // [end]
    }
}
