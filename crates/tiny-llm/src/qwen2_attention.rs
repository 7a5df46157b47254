//! The attention layer of Qwen2 (Yang et al., *Qwen2 Technical Report*, 2024): grouped heads, rotary positions, and a
//! bias on the query, key and value projections.

use mlx_rs::Array;

use crate::grouped_attention::AttentionMask;
use crate::rope::{Offset, RotaryEmbedding};
use crate::{AttentionBackend, Error, KvCache, Projection, Result};

/// Attention over one sequence per row, with the checkpoint's names for its projections.
#[derive(Debug, Clone)]
pub struct Qwen2Attention {
    num_heads: i32,
    num_kv_heads: i32,
    head_dim: i32,
    q_proj: Projection,
    k_proj: Projection,
    v_proj: Projection,
    o_proj: Projection,
    backend: AttentionBackend,
}

impl Qwen2Attention {
    /// - `q_proj`: `[H_q * D, E]` with a bias `[H_q * D]`
    /// - `k_proj`, `v_proj`: `[H_kv * D, E]` with a bias `[H_kv * D]`
    /// - `o_proj`: `[E, H_q * D]`, no bias
    ///
    /// D is `head_dim`, which need not be `E / H_q`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `num_kv_heads` does not divide `num_heads`.
    pub fn new(
        num_heads: i32,
        num_kv_heads: i32,
        head_dim: i32,
        q_proj: impl Into<Projection>,
        k_proj: impl Into<Projection>,
        v_proj: impl Into<Projection>,
        o_proj: impl Into<Projection>,
    ) -> Result<Self> {
        if num_kv_heads < 1 || num_heads % num_kv_heads != 0 {
            let message = format!("{num_heads} query heads cannot share {num_kv_heads} key-value heads evenly");
            return Err(Error::invalid("Qwen2Attention::new", message));
        }
        Ok(Self {
            num_heads,
            num_kv_heads,
            head_dim,
            q_proj: q_proj.into(),
            k_proj: k_proj.into(),
            v_proj: v_proj.into(),
            o_proj: o_proj.into(),
            backend: AttentionBackend::default(),
        })
    }

    /// The same layer with another implementation of attention.
    pub fn with_backend(self, backend: AttentionBackend) -> Self {
        Self { backend, ..self }
    }

    /// - `x`: `[B, L, E]`
    /// - `rope`: rotates queries and keys, starting at the cache's offset, or at 0 without a cache
    /// - `cache`: receives the rotated keys and the values of these L tokens, and supplies all S of them
    ///
    /// Returns `[B, L, E]`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `x` is not `[B, L, E]`; any error when a position is beyond `rope`'s table, or the
    /// cache or a mask refuses.
    pub fn forward(
        &self,
        x: &Array,
        rope: &RotaryEmbedding,
        mask: &AttentionMask,
        cache: Option<&mut dyn KvCache>,
    ) -> Result<Array> {
        // [task 1.3.3] Qwen2Attention::forward
        todo!("week 1 day 3 task 3: Qwen2Attention::forward - see book/src/week1/day3.md")
        // [end]
    }
}
