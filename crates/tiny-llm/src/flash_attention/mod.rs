//! Attention that never holds its matrix of scores
//! (Dao, *FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning*, 2023), on the CPU
//! and, in [`gpu`], on a GPU.
//!
//! The plain path computes all `L x S` scores, then their softmax, then the weighted values. Here a tile of queries
//! meets one tile of keys after another, and keeps what it needs to go on: for each query the largest score, the sum of
//! the exponentials, and the weighted sum of the values.
//!
//! | module | what |
//! |---|---|
//! | [`online_softmax`] | the idea: softmax over keys that come a part at a time |
//! | [`query_tile`], [`key_tile`] | a tile of queries meets a tile of keys |
//! | [`tile_rows`], [`mask`], [`attention`] | which queries and keys belong together; one tile's way through the keys |
//! | [`schedule`], [`output`] | the tiles on several threads |
//! | [`operation`] | the whole as an operation of MLX |
//! | [`shape`], [`operand`], [`aligned`] | sizes, inputs, working memory |
//! | [`simd`] | vectors and products |
//! | [`gpu`] | the same on a GPU, day 2.5 |

pub mod aligned;
pub mod attention;
pub mod gpu;
pub mod key_tile;
pub mod mask;
pub mod online_softmax;
pub mod operand;
pub mod operation;
pub mod output;
pub mod query_tile;
pub mod schedule;
pub mod shape;
pub mod simd;
pub mod tile_rows;

use mlx_custom::apply_n;
use mlx_rs::{Array, Dtype, ops};

use crate::{AttentionMask, Error, Result};
pub use attention::Attention;
pub use mask::Mask;
pub use online_softmax::Partial;
pub use operation::{Options, Schedule};
pub use query_tile::{KeyFilter, QueryTile};
pub use shape::{AttentionShape, Tiling};
pub use simd::{Variant, available_variants};

const OPERATION: &str = "flash_attention";

/// The same function as [`scaled_dot_product_attention_grouped`](crate::scaled_dot_product_attention_grouped), with
/// working memory for a few tiles in place of the `L x S` scores.
///
/// - `query`: `[B, H_q, L, D]`
/// - `key`, `value`: `[B, H_kv, S, D]`
/// - `scale`: `None` means `1 / sqrt(D)`
///
/// Inputs are f32, f16 or bf16, in any memory order. Scores, weights and sums are f32; the result has `query`'s shape
/// and dtype. A query that may see no key at all gets NaN, as on the plain path.
///
/// # Errors
/// [`Error::InvalidArgument`] when an input has not four axes or is of another dtype, `key` and `query` differ in B or
/// D, `value` and `key` differ in shape, `H_kv` is 0 or does not divide `H_q`, there are queries but no keys, or the
/// mask is causal and L > S. [`Error::Mlx`] when a mask does not broadcast to `[B, H_q, L, S]`.
pub fn flash_attention(
    query: &Array,
    key: &Array,
    value: &Array,
    scale: Option<f32>,
    mask: &AttentionMask,
) -> Result<Array> {
    flash_attention_with(query, key, value, scale, mask, Options::default())
}

/// [`flash_attention`], with a say in how: for tests and measurements.
///
/// # Errors
/// As [`flash_attention`].
pub fn flash_attention_with(
    query: &Array,
    key: &Array,
    value: &Array,
    scale: Option<f32>,
    mask: &AttentionMask,
    options: Options,
) -> Result<Array> {
    let shape = shape_of(OPERATION, query, key, value)?;
    if let Some(tiling @ (Tiling { positions: 0, .. } | Tiling { keys: 0, .. } | Tiling { splits: 0, .. })) =
        options.tiling
    {
        return Err(Error::invalid(OPERATION, format!("{tiling:?}: a tile holds something")));
    }
    let is_causal = matches!(mask, AttentionMask::Causal);
    if is_causal && shape.query_len > shape.key_len {
        let (n_queries, n_keys) = (shape.query_len, shape.key_len);
        let message = format!("under a causal mask {n_queries} queries need at least as many keys, got {n_keys}");
        return Err(Error::invalid(OPERATION, message));
    }
    let scale = scale.unwrap_or(1.0 / (shape.head_dim as f32).sqrt());
    let operation = operation::FlashAttention { shape, scale, is_causal, options };
    let [attended] = match mask {
        AttentionMask::None | AttentionMask::Causal => apply_n(operation, &[query, key, value])?,
        AttentionMask::Array(mask) => {
            let scores = [query.dim(0), query.dim(1), query.dim(2), key.dim(2)];
            // A broadcast array is a view with strides of 0: nothing is repeated in memory.
            let mask = ops::broadcast_to(as_readable(mask)?, &scores)?;
            apply_n(operation, &[query, key, value, &mask])?
        }
    };
    Ok(attended)
}

/// The sizes, if the three belong together; errors name the `operation`.
fn shape_of(operation: &'static str, query: &Array, key: &Array, value: &Array) -> Result<AttentionShape> {
    let fits = query.ndim() == 4
        && key.ndim() == 4
        && value.shape() == key.shape()
        && (query.dim(0), query.dim(3)) == (key.dim(0), key.dim(3));
    if !fits {
        let (query, key, value) = (query.shape(), key.shape(), value.shape());
        let message = format!(
            "query {query:?}, key {key:?}, value {value:?} are not [B, H_q, L, D], [B, H_kv, S, D] and [B, H_kv, S, D]"
        );
        return Err(Error::invalid(operation, message));
    }
    let size = |array: &Array, axis| array.dim(axis) as usize;
    let shape = AttentionShape {
        batch: size(query, 0),
        num_heads: size(query, 1),
        num_kv_heads: size(key, 1),
        query_len: size(query, 2),
        key_len: size(key, 2),
        head_dim: size(query, 3),
    };
    if shape.num_kv_heads == 0 || !shape.num_heads.is_multiple_of(shape.num_kv_heads) {
        let (n_heads, n_kv_heads) = (shape.num_heads, shape.num_kv_heads);
        let message = format!("{n_heads} query heads cannot share {n_kv_heads} key-value heads evenly");
        return Err(Error::invalid(operation, message));
    }
    if shape.query_len > 0 && shape.key_len == 0 {
        return Err(Error::invalid(operation, format!("{} queries and no keys", shape.query_len)));
    }
    for array in [query, key, value] {
        if !is_readable(array.dtype()) {
            let message = format!("takes Float32, Float16 and Bfloat16, not {:?}", array.dtype());
            return Err(Error::invalid(operation, message));
        }
    }
    Ok(shape)
}

fn is_readable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16)
}

/// A mask in a dtype that the operation reads: booleans as bytes, without a copy.
fn as_readable(mask: &Array) -> Result<Array> {
    Ok(match mask.dtype() {
        Dtype::Bool => mask.view_dtype(Dtype::Uint8)?,
        dtype if is_readable(dtype) => mask.clone(),
        _ => mask.as_dtype(Dtype::Float32)?,
    })
}
