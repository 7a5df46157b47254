//! The most likely token, and what no sampler can work with: given, so that day 1.6 can generate before day 1.7.

use mlx_rs::ops::indexing::argmax_axis;
use mlx_rs::{Array, transforms};

use crate::{Error, Result};

/// What [`greedy`](crate::greedy) answers. Both questions are answered where the logits are, and waited for once: only a token
/// and a bool come from a GPU, and not 150,000 logits.
///
/// # Errors
/// [`Error::InvalidArgument`] when `logits` is not `[B, V]` or contains NaN.
pub(crate) fn most_likely(logits: &Array) -> Result<Vec<u32>> {
    const OPERATION: &str = "Sampler::sample";
    logits_shape(OPERATION, logits)?;
    let (token_ids, has_nan) = (argmax_axis(logits, -1, false)?, has_nan(logits)?);
    transforms::eval([&token_ids, &has_nan])?;
    refuse_nan(OPERATION, &has_nan)?;
    Ok(token_ids.as_slice::<u32>().to_vec())
}

/// The shape of `[B, V]` logits.
///
/// # Errors
/// [`Error::InvalidArgument`] when they have another, or contain NaN.
pub(crate) fn check_logits<'a>(operation: &'static str, logits: &'a Array) -> Result<&'a [i32; 2]> {
    let shape = logits_shape(operation, logits)?;
    refuse_nan(operation, &has_nan(logits)?)?;
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
