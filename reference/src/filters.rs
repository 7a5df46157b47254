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
        check("Temperature", self.0, self.0 > 0.0 && self.0.is_finite(), "above 0")?;
        Ok(logits.as_dtype(Dtype::Float32)?.divide(Array::from_f32(self.0))?)
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
        let logits = logits.as_dtype(Dtype::Float32)?;
        let vocab = logits.dim(-1);
        if self.0 == 0 {
            return Err(Error::invalid("TopK", "k is 0, which leaves no token to choose"));
        }
        if self.0 >= vocab as usize {
            return Ok(logits);
        }
        let k = self.0 as i32;
        // The k-th largest is the smallest but V - k; a partition finds it without sorting the vocabulary.
        let kth = partition_axis(&logits, vocab - k, -1)?.take_axis(Array::from_slice(&[vocab - k], &[1]), -1)?; // [B, 1]
        let above = logits.gt(&kth)?;
        let equal = logits.eq(&kth)?;
        // Fewer than k are above; equals fill up the rest in index order.
        let room = Array::from_int(k).subtract(above.as_dtype(Dtype::Int32)?.sum_axis(-1, true)?)?;
        let rank_among_equals = equal.as_dtype(Dtype::Int32)?.cumsum(-1, None, None)?; // from 1
        let keep = above.logical_or(equal.logical_and(rank_among_equals.le(room)?)?)?;
        exclude_unless(&keep, &logits)
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
        check("TopP", self.0, self.0 > 0.0 && self.0 <= 1.0, "above 0 and at most 1")?;
        let logits = logits.as_dtype(Dtype::Float32)?;
        if self.0 == 1.0 {
            return Ok(logits); // a rounded sum must not cut the tail
        }
        // Sorting the negated logits puts the most likely first, equals in index order.
        let order = argsort_axis(logits.negative()?, -1)?; // [B, V]
        let sorted = softmax(&logits, -1)?.take_along_axis(&order, -1)?;
        // A token is needed while those before it have not reached p. The first one always is.
        let mass_before = sorted.cumsum(-1, None, false)?;
        let keep_sorted = mass_before.lt(Array::from_f32(self.0))?;
        // Back from sorted order to token order.
        let keep = keep_sorted.put_along_axis(&order, &keep_sorted, -1)?;
        exclude_unless(&keep, &logits)
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
        check("MinP", self.0, (0.0..=1.0).contains(&self.0), "between 0 and 1")?;
        let logits = logits.as_dtype(Dtype::Float32)?;
        // p_i >= min_p * p_max is exp(l_i - l_max) >= min_p: the softmax's sum cancels.
        let relative = logits.subtract(logits.max_axis(-1, true)?)?.exp()?;
        exclude_unless(&relative.ge(Array::from_f32(self.0))?, &logits)
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
        check("RepetitionPenalty", self.0, self.0 > 0.0 && self.0.is_finite(), "above 0")?;
        let logits = logits.as_dtype(Dtype::Float32)?;
        let &[batch, vocab] = logits.shape() else {
            return Err(Error::invalid(
                "RepetitionPenalty",
                format!("logits have shape {:?}, not [B, V]", logits.shape()),
            ));
        };
        if history.len() != batch as usize {
            let message = format!("{} histories for a batch of {batch} rows", history.len());
            return Err(Error::invalid("RepetitionPenalty", message));
        }
        let mut seen = vec![false; batch as usize * vocab as usize];
        for (row, tokens) in seen.chunks_mut(vocab as usize).zip(history) {
            for &token in tokens {
                // A token that the model does not know cannot be penalized.
                if let Some(flag) = row.get_mut(token as usize) {
                    *flag = true;
                }
            }
        }
        let seen = Array::from_slice(&seen, &[batch, vocab]);
        let penalty = Array::from_f32(self.0);
        let is_negative = logits.lt(Array::from_f32(0.0))?;
        let penalized = select(is_negative, logits.multiply(&penalty)?, logits.divide(&penalty)?)?;
        Ok(select(seen, penalized, logits)?)
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
