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
    todo!("week 1 day 3 task 1: causal_mask - see book/src/week1/day3.md")
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
    todo!("week 1 day 3 task 2: scaled_dot_product_attention_grouped - see book/src/week1/day3.md")
    // [end]
}

// [task 1.3.2 helpers] splitting an axis
// [end]
