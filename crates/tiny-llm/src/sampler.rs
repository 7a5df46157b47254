//! Choosing the next token.

use mlx_rs::random::{self, RandomState};
use mlx_rs::{Array, Dtype};

use crate::most_likely::{check_logits, most_likely};
use crate::{Error, LogitFilter, MinP, RepetitionPenalty, Result, Temperature, TopK, TopP};

/// The most likely token of each row of `logits` (`[B, V]`); of equals the one with the lowest index.
///
/// # Errors
/// [`Error::InvalidArgument`] when `logits` is not `[B, V]` or contains NaN.
pub fn greedy(logits: &Array) -> Result<Vec<u32>> {
    // [task 1.7.1] greedy
    todo!("week 1 day 7 task 1: greedy - see book/src/week1/day7.md")
    // [end]
}

/// Draws one token for each row of `logits` (`[B, V]`) by inverting the cumulative distribution: the first token at
/// which the sum of the probabilities so far exceeds the row's number in `uniforms` (B numbers in `[0, 1)`).
///
/// A token with logit `-inf` is never drawn.
///
/// # Errors
/// [`Error::InvalidArgument`] when `logits` is not `[B, V]`, contains NaN or excludes every token of a row, or when
/// there is not one uniform number per row.
pub fn sample_from_uniform(logits: &Array, uniforms: &[f32]) -> Result<Vec<u32>> {
    // [task 1.7.5] sample_from_uniform
    todo!("week 1 day 7 task 5: sample_from_uniform - see book/src/week1/day7.md")
    // [end]
}

// [task 1.7.5 helpers] drawing from one row
// [end]

/// How to sample, as a user says it.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerOptions {
    /// 0 means greedy: the most likely token, always.
    pub temperature: f32,
    /// See [`TopK`].
    pub top_k: Option<usize>,
    /// See [`TopP`].
    pub top_p: Option<f32>,
    /// See [`MinP`].
    pub min_p: Option<f32>,
    /// See [`RepetitionPenalty`].
    pub repetition_penalty: Option<f32>,
    /// The same seed gives the same tokens.
    pub seed: u64,
}

impl Default for SamplerOptions {
    /// Greedy.
    fn default() -> Self {
        Self { temperature: 0.0, top_k: None, top_p: None, min_p: None, repetition_penalty: None, seed: 0 }
    }
}

/// A chain of filters, and a choice at its end.
pub struct Sampler {
    filters: Vec<Box<dyn LogitFilter>>,
    /// `None` chooses the most likely token.
    random: Option<RandomState>,
}

impl Sampler {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self { filters: Vec::new(), random: None }
    }

    /// As [`Sampler::greedy`], with a filter that only looks.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it does more than that.
    pub fn greedy_watched_by(watcher: Box<dyn LogitFilter>) -> Result<Self> {
        if !watcher.only_looks() {
            return Err(Error::invalid("Sampler::greedy_watched_by", "this filter changes logits"));
        }
        Ok(Self { filters: vec![watcher], random: None })
    }

    /// Applies `filters` in order, then draws. The same seed gives the same tokens.
    ///
    /// # Errors
    /// [`Error::Mlx`] when MLX cannot make a random state.
    pub fn new(filters: Vec<Box<dyn LogitFilter>>, seed: u64) -> Result<Self> {
        Ok(Self { filters, random: Some(RandomState::with_seed(seed)?) })
    }

    /// The usual chain: repetition penalty, temperature, top-k, top-p, min-p. With temperature 0 the penalty, if any,
    /// and then the most likely token.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when a value is out of its range.
    pub fn from_options(options: &SamplerOptions) -> Result<Self> {
        // [task 1.7.5] Sampler::from_options
        todo!("week 1 day 7 task 5: Sampler::from_options - see book/src/week1/day7.md")
        // [end]
    }

    /// Whether it takes the most likely token of the logits as they are.
    pub(crate) fn is_plain_greedy(&self) -> bool {
        self.filters.is_empty() && self.random.is_none()
    }

    /// Chooses a token for each row of `logits` (`[B, V]`).
    ///
    /// `history` has one entry per row: the tokens so far, prompt included.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the logits contain NaN or a filter refuses.
    pub fn sample(&mut self, logits: &Array, history: &[Vec<u32>]) -> Result<Vec<u32>> {
        // Given, so that day 1.6 can generate before this day is written.
        if self.random.is_none() && self.filters.iter().all(|filter| filter.only_looks()) {
            self.filters.iter().try_for_each(|filter| filter.apply(logits, history).map(|_| ()))?;
            return most_likely(logits);
        }
        // A filter may drop a NaN without noticing it.
        check_logits("Sampler::sample", logits)?;
        // [task 1.7.5] Sampler::sample
        todo!("week 1 day 7 task 5: Sampler::sample - see book/src/week1/day7.md")
        // [end]
    }
}
