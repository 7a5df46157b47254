//! Inputs that belong together.

use mlx_rs::Array;

use crate::flash_attention::shape::AttentionShape;
use crate::flash_attention::shape_of;
use crate::{AttentionMask, Error, Result};

const OPERATION: &str = "flash_attention_gpu";

/// Attention to be computed: the inputs fit together.
pub struct Problem<'a> {
    pub shape: AttentionShape,
    /// `[B, H_q, L, D]`
    pub query: &'a Array,
    /// `[B, H_kv, S, D]`
    pub key: &'a Array,
    /// `[B, H_kv, S, D]`
    pub value: &'a Array,
    pub scale: f32,
    pub mask: &'a AttentionMask,
    /// The answer of a single query is wanted as `[B, H_q * D]`: the same numbers in the same order.
    pub merges_heads: bool,
}

impl<'a> Problem<'a> {
    /// # Errors
    /// As [`flash_attention_gpu`](super::flash_attention_gpu).
    pub fn new(
        query: &'a Array,
        key: &'a Array,
        value: &'a Array,
        scale: Option<f32>,
        mask: &'a AttentionMask,
    ) -> Result<Self> {
        let shape = shape_of(OPERATION, query, key, value)?;
        let dtypes = [query.dtype(), key.dtype(), value.dtype()];
        if dtypes != [query.dtype(); 3] {
            let message = format!("query, key and value are {dtypes:?}; convert them to one dtype");
            return Err(Error::invalid(OPERATION, message));
        }
        if matches!(mask, AttentionMask::Causal) && shape.query_len > shape.key_len {
            let (n_queries, n_keys) = (shape.query_len, shape.key_len);
            let message = format!("under a causal mask {n_queries} queries need at least as many keys, got {n_keys}");
            return Err(Error::invalid(OPERATION, message));
        }
        let scale = scale.unwrap_or(1.0 / (shape.head_dim as f32).sqrt());
        Ok(Self { shape, query, key, value, scale, mask, merges_heads: false })
    }

    /// Whether keys are hidden from some query: with a single query, causal or not is the same.
    pub fn is_causal(&self) -> bool {
        matches!(self.mask, AttentionMask::Causal) && self.shape.query_len > 1
    }

    /// The shape of the answer, `[B, H_q, L, D]`.
    pub fn out_shape(&self) -> [usize; 4] {
        [self.shape.batch, self.shape.num_heads, self.shape.query_len, self.shape.head_dim]
    }

    /// The shape in which the answer is wanted, as [`merges_heads`](Self::merges_heads) says.
    pub fn wanted_shape(&self) -> Vec<usize> {
        match self.out_shape() {
            [batch, num_heads, 1, head_dim] if self.merges_heads => vec![batch, num_heads * head_dim],
            shape => shape.to_vec(),
        }
    }

    /// An error that says why a kernel cannot compute this.
    pub fn refuse<T>(&self, message: String) -> Result<T> {
        Err(Error::invalid(OPERATION, message))
    }
}
