//! What text generation needs from a model.

use mlx_rs::Array;

use crate::{KvCache, Result};

/// For which positions a model computes logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitsToKeep {
    /// Every position of the input.
    All,
    /// The last so many positions. Generation needs one, and the output head is the largest matrix of a small model.
    Last(i32),
}

/// A model that predicts the next token. Tests script their own.
pub trait LanguageModel {
    /// Logits for the tokens `[B, L]` (u32): `[B, L, V]`, or fewer positions as `keep` says.
    ///
    /// With a `cache` (one entry per layer), `token_ids` are the tokens that it has not seen yet; without, they are
    /// the whole sequence.
    ///
    /// # Errors
    /// When the sequence is longer than [`max_positions`](Self::max_positions), or the model's own operations fail.
    fn forward(&self, token_ids: &Array, cache: Option<&mut [Box<dyn KvCache>]>, keep: LogitsToKeep) -> Result<Array>;

    /// The longest sequence that the model can take, in tokens.
    fn max_positions(&self) -> usize;

    /// The number of tokens that the model knows, V.
    fn vocab_size(&self) -> usize;

    /// An empty cache for one sequence, or `None` for a model that recomputes everything at each step.
    fn new_cache(&self) -> Option<Vec<Box<dyn KvCache>>> {
        None
    }

    /// Whether greedy generation starts each step behind the first token before the token of the one before it is known. Such a model has
    /// a cache, and [`forward`](Self::forward) never reads the numbers in `token_ids`. It pays where a GPU would wait for the CPU.
    fn works_ahead(&self) -> bool {
        false
    }
}
