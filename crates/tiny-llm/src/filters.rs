//! Filters that reshape the distribution over the next token before one is drawn.
//!
//! Each is a small pure function on logits `[B, V]`; a [`Sampler`](crate::Sampler) chains them. An excluded token
//! gets the logit `-inf`, and stays excluded in later filters. Rows are independent of each other.

use mlx_rs::ops::{argsort_axis, partition_axis, select};
use mlx_rs::{Array, Dtype};

use crate::{Error, Result, softmax};

/// Reshapes logits.
pub trait LogitFilter {
    /// Takes and returns logits `[B, V]`; the result is f32.
    ///
    /// `history` has one entry per row: the tokens so far, prompt included.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the filter's parameter makes no sense.
    fn apply(&self, logits: &Array, history: &[Vec<u32>]) -> Result<Array>;

    /// Whether it looks at logits and history and returns the logits as they are. Tests and logs have such filters;
    /// [`Sampler::greedy_watched_by`](crate::Sampler::greedy_watched_by) takes one before day 1.7 is written.
    fn only_looks(&self) -> bool {
        false
    }
}

/// Divides the logits: below 1 sharpens the distribution, above 1 flattens it. Must be above 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temperature(pub f32);

impl LogitFilter for Temperature {
    fn apply(&self, logits: &Array, _history: &[Vec<u32>]) -> Result<Array> {
        // [task 1.7.2] Temperature
        todo!("week 1 day 7 task 2: Temperature - see book/src/week1/day7.md")
        // [end]
    }
}

/// Keeps the k most likely tokens, exactly k of them: of tokens with equal logits the one with the lower index stays.
/// With k = V or more, all stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopK(pub usize);

impl LogitFilter for TopK {
    fn apply(&self, logits: &Array, _history: &[Vec<u32>]) -> Result<Array> {
        // [task 1.7.2] TopK
        todo!("week 1 day 7 task 2: TopK - see book/src/week1/day7.md")
        // [end]
    }
}

/// Nucleus sampling (Holtzman et al., *The Curious Case of Neural Text Degeneration*, 2020): keeps the most likely
/// tokens, as few as needed for their probabilities to sum to at least p. At least one stays; with p = 1, all stay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopP(pub f32);

impl LogitFilter for TopP {
    fn apply(&self, logits: &Array, _history: &[Vec<u32>]) -> Result<Array> {
        // [task 1.7.3] TopP
        todo!("week 1 day 7 task 3: TopP - see book/src/week1/day7.md")
        // [end]
    }
}

/// Keeps tokens that are at least `min_p` times as likely as the most likely one (Nguyen et al., *Turning Up the
/// Heat: Min-p Sampling*, 2024). Must be between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MinP(pub f32);

impl LogitFilter for MinP {
    fn apply(&self, logits: &Array, _history: &[Vec<u32>]) -> Result<Array> {
        // [task 1.7.3] MinP
        todo!("week 1 day 7 task 3: MinP - see book/src/week1/day7.md")
        // [end]
    }
}

/// Makes tokens that have occurred less likely (Keskar et al., *CTRL*, 2019): a positive logit is divided by the
/// penalty, a negative one multiplied, once however often the token occurred. Must be above 0; 1 changes nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RepetitionPenalty(pub f32);

impl LogitFilter for RepetitionPenalty {
    fn apply(&self, logits: &Array, history: &[Vec<u32>]) -> Result<Array> {
        // [task 1.7.4] RepetitionPenalty
        todo!("week 1 day 7 task 4: RepetitionPenalty - see book/src/week1/day7.md")
        // [end]
    }
}

/// `-inf` where `keep` is false.
fn exclude_unless(keep: &Array, logits: &Array) -> Result<Array> {
    Ok(select(keep, logits, Array::from_f32(f32::NEG_INFINITY))?)
}

/// Refuses a parameter outside its range.
fn check(filter: &'static str, value: f32, in_range: bool, range: &str) -> Result<()> {
    if in_range { Ok(()) } else { Err(Error::invalid(filter, format!("{value} is not {range}"))) }
}
