//! A transformer block of four operations besides attention and the cache.

use mlx_custom::Constant;
use mlx_rs::Array;

use crate::fused::{QkvWeights, linear_add, norm_qkv_rope, norm_swiglu};
use crate::quantized::QuantizedMatrix;
use crate::{AttentionBackend, AttentionMask, KvCache, Offset, Result, RotaryEmbedding};

/// [`TransformerBlock`](crate::TransformerBlock) with quantized weights and fused operations.
#[derive(Debug, Clone)]
pub struct FusedBlock {
    /// `[E]`, f32
    pub input_layernorm: Constant,
    pub qkv: QkvWeights,
    /// `[E, H_q * D]`
    pub o_proj: QuantizedMatrix,
    /// `[E]`, f32
    pub post_attention_layernorm: Constant,
    /// `[I, E]`
    pub gate_proj: QuantizedMatrix,
    /// `[I, E]`
    pub up_proj: QuantizedMatrix,
    /// `[E, I]`
    pub down_proj: QuantizedMatrix,
    pub rms_norm_eps: f32,
    pub attention: AttentionBackend,
}

impl FusedBlock {
    /// As [`TransformerBlock::forward`](crate::TransformerBlock::forward): `[B, L, E]` to `[B, L, E]`.
    ///
    /// # Errors
    /// As [`TransformerBlock::forward`](crate::TransformerBlock::forward).
    pub fn forward(
        &self,
        x: &Array,
        rope: &RotaryEmbedding,
        mask: &AttentionMask,
        cache: Option<&mut dyn KvCache>,
    ) -> Result<Array> {
        // From day 2.4 on, with the usual cache, all of it is one operation.
        let mut cache = cache;
        if self.attention == AttentionBackend::Flash
            && let Some(full) = cache.as_mut().and_then(|cache| cache.as_full())
            && let Some(output) = self.forward_as_one(x, rope, mask, full)?
        {
            return Ok(output);
        }
        // [task 2.2c.5] FusedBlock::forward
        let offset = cache.as_ref().map_or(Offset::Same(0), |cache| cache.offset());
        let eps = self.rms_norm_eps;
        let [query, key, value] = norm_qkv_rope(x, &self.input_layernorm, eps, &self.qkv, rope, offset)?;
        let (key, value) = match cache {
            Some(cache) => cache.update_and_fetch(&key, &value)?, // [B, H_kv, S, D]
            None => (key, value),
        };
        let attended = self.attention.attend(&query, &key, &value, mask)?; // [B, H_q, L, D]
        let x = linear_add(&attended, x, &self.o_proj)?;
        let hidden = norm_swiglu(&x, &self.post_attention_layernorm, eps, &self.gate_proj, &self.up_proj)?;
        linear_add(&hidden, &x, &self.down_proj)
        // [end]
    }
}
