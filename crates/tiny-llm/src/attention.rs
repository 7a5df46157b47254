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
    todo!("week 1 day 1 task 1: softmax - see book/src/week1/day1.md")
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
    todo!("week 1 day 1 task 3: scaled_dot_product_attention - see book/src/week1/day1.md")
    // [end]
}

// [task 1.1.3 helpers] scaled_dot_product_attention
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
        todo!("week 1 day 1 task 4: MultiHeadAttention::forward - see book/src/week1/day1.md")
        // [end]
    }
}

// [task 1.1.4 helpers] MultiHeadAttention::forward
// [end]
