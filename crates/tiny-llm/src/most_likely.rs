//! The most likely token, and what no sampler can work with: given, so that day 1.6 can generate before day 1.7.

use mlx_rs::ops::indexing::argmax_axis;
use mlx_rs::{Array, transforms};

use crate::{Error, Result};

/// What [`greedy`](crate::greedy) answers.
///
/// # Errors
/// As [`MostLikely::new`] and [`MostLikely::read`].
pub(crate) fn most_likely(logits: &Array) -> Result<Vec<u32>> {
    MostLikely::new(logits)?.read()
}

/// The most likely token of each row, and whether there is any NaN, before anybody has waited for them. Both questions are
/// answered where the logits are, and waited for once: only tokens and a bool come from a GPU, and not 150,000 logits.
pub(crate) struct MostLikely {
    /// `[B]`, u32.
    token_ids: Array,
    /// One bool.
    has_nan: Array,
}

impl MostLikely {
    const OPERATION: &str = "Sampler::sample";

    /// Of `logits` (`[B, V]`). Computes nothing yet.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `logits` is not `[B, V]`.
    pub(crate) fn new(logits: &Array) -> Result<Self> {
        logits_shape(Self::OPERATION, logits)?;
        Ok(Self { token_ids: argmax_axis(logits, -1, false)?, has_nan: has_nan(logits)? })
    }

    /// Starts the computation and does not wait for it.
    ///
    /// # Errors
    /// [`Error::Mlx`] when MLX cannot start it.
    pub(crate) fn start(&self) -> Result<()> {
        Ok(transforms::async_eval([&self.token_ids, &self.has_nan])?)
    }

    /// The tokens as input of a model: `[B, 1]`. Does not wait for them.
    ///
    /// # Errors
    /// [`Error::Mlx`] when MLX refuses.
    pub(crate) fn token_ids(&self) -> Result<Array> {
        Ok(self.token_ids.expand_dims(-1)?)
    }

    /// Waits for the tokens.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the logits contain NaN.
    pub(crate) fn read(&self) -> Result<Vec<u32>> {
        transforms::eval([&self.token_ids, &self.has_nan])?;
        refuse_nan(Self::OPERATION, &self.has_nan)?;
        Ok(self.token_ids.as_slice::<u32>().to_vec())
    }
}

/// The shape of `[B, V]` logits.
///
/// # Errors
/// [`Error::InvalidArgument`] when they have another, or contain NaN or +infinity. A logit that is infinite, such as after a
/// division by a temperature of 1e-38, makes the probabilities NaN; one that is -infinity excludes its token.
pub(crate) fn check_logits<'a>(operation: &'static str, logits: &'a Array) -> Result<&'a [i32; 2]> {
    let shape = logits_shape(operation, logits)?;
    // Evaluated together: every token waits for this.
    let (has_nan, is_infinite) = (has_nan(logits)?, logits.is_pos_inf()?.any(None)?);
    transforms::eval([&has_nan, &is_infinite])?;
    refuse_nan(operation, &has_nan)?;
    if is_infinite.as_slice::<bool>() == [true] {
        return Err(Error::invalid(operation, "the logits contain +infinity: something before this overflowed"));
    }
    Ok(shape)
}

fn logits_shape<'a>(operation: &'static str, logits: &'a Array) -> Result<&'a [i32; 2]> {
    <&[i32; 2]>::try_from(logits.shape())
        .map_err(|_| Error::invalid(operation, format!("logits have shape {:?}, not [B, V]", logits.shape())))
}

/// Whether any of the logits is NaN, as an array of one bool.
fn has_nan(logits: &Array) -> Result<Array> {
    Ok(logits.is_nan()?.any(None)?)
}

fn refuse_nan(operation: &'static str, has_nan: &Array) -> Result<()> {
    has_nan.eval()?;
    if has_nan.as_slice::<bool>() == [true] {
        return Err(Error::invalid(operation, "the logits contain NaN: something before this went wrong"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_without_probabilities_are_refused() {
        let check =
            |value: f32| check_logits("f", &Array::from_slice(&[0.0, value, 1.0, f32::NEG_INFINITY], &[2, 2])).is_ok();
        assert!(check(3.0e38) && check(f32::NEG_INFINITY));
        assert!(!check(f32::NAN) && !check(f32::INFINITY));
    }
}
