//! Scaled dot-product attention and multi-head attention
//! (Vaswani et al., *Attention Is All You Need*, 2017, sections 3.2.1 and 3.2.2).

use mlx_rs::ops::select;
use mlx_rs::{Array, Dtype};

use crate::{Error, Result, linear};

/// Turns scores into weights that are positive and sum to 1 along `axis`.
///
/// Computes in f32 whatever `x`'s dtype, and returns `x`'s shape and dtype. Large scores are safe: the
/// maximum of each slice is subtracted first. An entry of `-inf` gets weight 0; a slice of nothing but `-inf` has
/// no answer and gives NaN, as in PyTorch.
///
/// # Errors
/// [`Error::Mlx`] when `x` has no such axis.
pub fn softmax(x: &Array, axis: i32) -> Result<Array> {
    // [task 1.1.1] softmax
    let scores = x.as_dtype(Dtype::Float32)?;
    // exp(x - c) / sum exp(x - c) is the same for every c; with c = max no exponent is above 0,
    // so nothing overflows, and the sum is at least 1.
    let shifted = scores.subtract(scores.max_axis(axis, true)?)?;
    let exponentials = shifted.exp()?;
    let weights = exponentials.divide(exponentials.sum_axis(axis, true)?)?;
    Ok(weights.as_dtype(x.dtype())?)
    // [end]
}

/// `softmax(Q Kᵀ · scale + mask) V`, independently for every combination of leading axes.
///
/// - `query`: `[.., L, D]`
/// - `key`: `[.., S, D]`, `value`: `[.., S, D]`
/// - `scale`: `None` means `1 / sqrt(D)`
/// - `mask`: broadcastable to `[.., L, S]`. Boolean: `true` where a query may attend to a key. Float: added to the
///   scaled scores.
///
/// Scores and weights are f32 whatever the inputs' dtype; the result has `query`'s dtype and shape.
///
/// # Errors
/// [`Error::Mlx`] when the shapes do not fit.
pub fn scaled_dot_product_attention(
    query: &Array,
    key: &Array,
    value: &Array,
    scale: Option<f32>,
    mask: Option<&Array>,
) -> Result<Array> {
    // [task 1.1.3] scaled_dot_product_attention
    let head_dim = query.dim(-1);
    let scale = scale.unwrap_or(1.0 / (head_dim as f32).sqrt());
    let [query_f32, key_f32, value_f32] = to_f32([query, key, value])?;

    // Scaling the query costs L x D multiplications, scaling the scores L x S.
    let scaled_query = query_f32.multiply(Array::from_f32(scale))?;
    let scores = scaled_query.matmul(key_f32.swap_axes(-1, -2)?)?; // [.., L, S]
    let weights = softmax(&apply_mask(&scores, mask)?, -1)?;
    Ok(weights.matmul(&value_f32)?.as_dtype(query.dtype())?)
    // [end]
}

// [task 1.1.3 helpers] scaled_dot_product_attention
/// Adds a float mask to `scores` (`[.., L, S]`, f32), or sets them to `-inf` where a boolean mask is false.
pub(crate) fn apply_mask(scores: &Array, mask: Option<&Array>) -> Result<Array> {
    Ok(match mask {
        None => scores.clone(),
        Some(mask) if mask.dtype() == Dtype::Bool => select(mask, scores, Array::from_f32(f32::NEG_INFINITY))?,
        Some(mask) => scores.add(mask.as_dtype(Dtype::Float32)?)?,
    })
}

/// f16 has a largest value of 65504 and bf16 three significant digits: too little for sums over D and S.
pub(crate) fn to_f32<const N: usize>(arrays: [&Array; N]) -> Result<[Array; N]> {
    let mut converted = arrays.map(Array::clone);
    for array in &mut converted {
        *array = array.as_dtype(Dtype::Float32)?;
    }
    Ok(converted)
}
// [end]

/// Several attention heads side by side, each over its own projection of the input.
#[derive(Debug, Clone)]
pub struct MultiHeadAttention {
    num_heads: i32,
    wq: Array,
    wk: Array,
    wv: Array,
    wo: Array,
}

impl MultiHeadAttention {
    /// `wq`, `wk`, `wv` are `[H * D, E]`, `wo` is `[E, H * D]`. The head dimension D follows from `wq` and
    /// need not be `E / H`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the rows of `wq` cannot be split into `num_heads` heads.
    pub fn new(num_heads: i32, wq: Array, wk: Array, wv: Array, wo: Array) -> Result<Self> {
        if num_heads < 1 || wq.ndim() != 2 || wq.dim(0) % num_heads != 0 {
            let message = format!("{num_heads} heads do not divide wq of shape {:?}", wq.shape());
            return Err(Error::invalid("MultiHeadAttention::new", message));
        }
        Ok(Self { num_heads, wq, wk, wv, wo })
    }

    /// - `query`: `[.., L, E]`; `key`, `value`: `[.., S, E]`; any number of leading axes
    /// - `mask`: as in [`scaled_dot_product_attention`], broadcastable to `[.., H, L, S]`
    ///
    /// Returns `[.., L, E]`.
    ///
    /// # Errors
    /// [`Error::Mlx`] when the shapes do not fit.
    pub fn forward(&self, query: &Array, key: &Array, value: &Array, mask: Option<&Array>) -> Result<Array> {
        // [task 1.1.4] MultiHeadAttention::forward
        let query = split_heads(&linear(query, &self.wq, None)?, self.num_heads)?; // [.., H, L, D]
        let key = split_heads(&linear(key, &self.wk, None)?, self.num_heads)?; // [.., H, S, D]
        let value = split_heads(&linear(value, &self.wv, None)?, self.num_heads)?;
        let attended = scaled_dot_product_attention(&query, &key, &value, None, mask)?;
        linear(&merge_heads(&attended)?, &self.wo, None)
        // [end]
    }
}

// [task 1.1.4 helpers] MultiHeadAttention::forward
/// `[.., L, H * D]` to `[.., H, L, D]`: neighbouring columns belong to the same head.
pub(crate) fn split_heads(x: &Array, num_heads: i32) -> Result<Array> {
    let mut shape = x.shape().to_vec();
    shape.pop();
    shape.extend([num_heads, x.dim(-1) / num_heads]);
    Ok(x.reshape(&shape)?.swap_axes(-3, -2)?)
}

/// `[.., H, L, D]` to `[.., L, H * D]`, the inverse of [`split_heads`].
pub(crate) fn merge_heads(x: &Array) -> Result<Array> {
    let by_position = x.swap_axes(-3, -2)?; // [.., L, H, D]
    let mut shape = by_position.shape().to_vec();
    shape.truncate(shape.len() - 2);
    shape.push(x.dim(-3) * x.dim(-1));
    Ok(by_position.reshape(&shape)?)
}
// [end]
