//! Attention in which several query heads share one key-value head
//! (Ainslie et al., *GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints*, 2023).

use mlx_rs::Array;

use crate::attention::scaled_dot_product_attention;
use crate::{Error, Result};

/// Which keys a query may attend to.
#[derive(Debug, Clone)]
pub enum AttentionMask {
    /// All of them.
    None,
    /// Those at its own position and before, see [`causal_mask`].
    Causal,
    /// As the array says: boolean (`true` = may attend) or float (added to the scores), broadcastable to
    /// `[.., H_q, L, S]`.
    Array(Array),
}

/// The causal mask for the last `query_len` of `key_len` positions: boolean `[L, S]`, `true` where query `i`
/// may attend to key `j`, that is `j <= i + (S - L)`.
///
/// Queries are the newest tokens: with a cache, L new queries meet S keys, and query 0 is at position `S - L`.
///
/// # Errors
/// [`Error::InvalidArgument`] when a length is negative or L > S: such a query would have no key at all, and softmax
/// would answer NaN.
pub fn causal_mask(query_len: i32, key_len: i32) -> Result<Array> {
    // [task 1.3.1] causal_mask
    if query_len < 0 || query_len > key_len {
        let message = format!("{query_len} queries need at least as many keys, got {key_len}");
        return Err(Error::invalid("causal_mask", message));
    }
    let query_positions = Array::arange::<i32, i32>(key_len - query_len, key_len, None)?;
    let key_positions = Array::arange::<i32, i32>(0, key_len, None)?;
    Ok(key_positions.le(query_positions.reshape(&[query_len, 1])?)?) // [1, S] against [L, 1]
    // [end]
}

/// [`scaled_dot_product_attention`] with `H_q = n * H_kv` query heads; query head `h` uses key-value head `h / n`.
///
/// - `query`: `[.., H_q, L, D]`
/// - `key`, `value`: `[.., H_kv, S, D]`
/// - `scale`: `None` means `1 / sqrt(D)`
///
/// `H_kv = 1` is multi-query attention, `H_kv = H_q` plain multi-head attention. Returns `query`'s shape and dtype;
/// scores and weights are f32.
///
/// # Errors
/// [`Error::InvalidArgument`] when an input has fewer than three axes, `key` and `query` differ in their number of axes,
/// `value` and `key` differ in shape, `H_kv` is 0 or does not divide `H_q`, or the mask is causal and L > S.
pub fn scaled_dot_product_attention_grouped(
    query: &Array,
    key: &Array,
    value: &Array,
    scale: Option<f32>,
    mask: &AttentionMask,
) -> Result<Array> {
    // [task 1.3.2] scaled_dot_product_attention_grouped
    const OPERATION: &str = "scaled_dot_product_attention_grouped";
    if query.ndim() < 3 || key.ndim() != query.ndim() || value.shape() != key.shape() {
        let message = format!(
            "query {:?}, key {:?} and value {:?} are not [.., H_q, L, D], [.., H_kv, S, D] and [.., H_kv, S, D]",
            query.shape(),
            key.shape(),
            value.shape()
        );
        return Err(Error::invalid(OPERATION, message));
    }
    let (num_heads, query_len) = (query.dim(-3), query.dim(-2)); // H_q, L
    let (num_kv_heads, key_len) = (key.dim(-3), key.dim(-2)); // H_kv, S
    if num_kv_heads == 0 || num_heads % num_kv_heads != 0 {
        let message = format!("{num_heads} query heads cannot share {num_kv_heads} key-value heads evenly");
        return Err(Error::invalid(OPERATION, message));
    }
    let group = num_heads / num_kv_heads; // n

    // An axis of length 1 in key and value broadcasts over the group: nothing is repeated in memory.
    let grouped_query = split_axis(query, -3, &[num_kv_heads, group])?; // [.., H_kv, n, L, D]
    let grouped_key = key.expand_dims(-3)?; // [.., H_kv, 1, S, D]
    let grouped_value = value.expand_dims(-3)?;
    let mask = match mask {
        AttentionMask::None => None,
        AttentionMask::Causal => Some(causal_mask(query_len, key_len)?),
        // A mask may differ from head to head, so its head axis is grouped like the query's.
        AttentionMask::Array(mask) if mask.ndim() >= 3 => Some(match mask.dim(-3) {
            1 => mask.expand_dims(-3)?,
            _ => split_axis(mask, -3, &[num_kv_heads, group])?,
        }),
        AttentionMask::Array(mask) => Some(mask.clone()),
    };
    let attended = scaled_dot_product_attention(&grouped_query, &grouped_key, &grouped_value, scale, mask.as_ref())?;
    Ok(attended.reshape(query.shape())?)
    // [end]
}

// [task 1.3.2 helpers] splitting an axis
/// Replaces the axis (counted from the end) by `parts`, whose product is its length.
fn split_axis(x: &Array, axis: i32, parts: &[i32]) -> Result<Array> {
    let axis = (x.ndim() as i32 + axis) as usize;
    let mut shape = x.shape().to_vec();
    shape.splice(axis..=axis, parts.iter().copied());
    Ok(x.reshape(&shape)?)
}
// [end]
