//! A transformer block for a GPU.

use mlx_custom::gpu::GpuBackend;
use mlx_rs::Array;

use super::{add_rms_norm_gpu, rms_norm_gpu, rope_qk_gpu, swiglu_gpu};
use crate::flash_attention::gpu::flash_attention_gpu;
use crate::{AttentionMask, Error, KvCache, Offset, Projection, Result, RmsNorm, RotaryEmbedding};

/// [`TransformerBlock`](crate::TransformerBlock) with a kernel for each group of small steps: beside the projections, the
/// cache and attention it is four kernels and an addition.
#[derive(Debug, Clone)]
pub struct GpuBlock {
    pub input_layernorm: RmsNorm,
    /// `[H_q * D, E]`, `[H_kv * D, E]`, `[H_kv * D, E]`, all without biases
    pub qkv: [Projection; 3],
    /// `[H_q * D]`, `[H_kv * D]`, `[H_kv * D]`
    pub biases: Option<[Array; 3]>,
    /// `[E, H_q * D]`
    pub o_proj: Projection,
    pub post_attention_layernorm: RmsNorm,
    /// `[I, E]`
    pub gate_proj: Projection,
    /// `[I, E]`
    pub up_proj: Projection,
    /// `[E, I]`
    pub down_proj: Projection,
    pub head_dim: usize,
}

impl GpuBlock {
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
        let &[batch, len, _] = x.shape() else {
            return Err(Error::invalid("GpuBlock::forward", format!("x has shape {:?}, not [B, L, E]", x.shape())));
        };
        let backend = GpuBackend::current()?;
        let offset = cache.as_ref().map_or(Offset::Same(0), |cache| cache.offset());
        let normalized = rms_norm_gpu(x, &self.input_layernorm, backend)?;
        let [q, k, v] = &self.qkv;
        let projected = [q.forward(&normalized)?, k.forward(&normalized)?, v.forward(&normalized)?];
        let biases = self.biases.as_ref().map(|biases| biases.each_ref());
        let [query, key, value] = rope_qk_gpu(projected.each_ref(), biases, self.head_dim, rope, offset, backend)?;
        let (key, value) = match cache {
            Some(cache) => cache.update_and_fetch(&key, &value)?, // [B, H_kv, S, D]
            None => (key, value),
        };
        let attended = flash_attention_gpu(&query, &key, &value, None, mask)?; // [B, H_q, L, D]
        let merged = attended.swap_axes(1, 2)?.reshape(&[batch, len, query.dim(1) * query.dim(3)])?;
        let (x, normalized) =
            add_rms_norm_gpu(x, &self.o_proj.forward(&merged)?, &self.post_attention_layernorm, backend)?;
        let hidden = swiglu_gpu(&self.gate_proj.forward(&normalized)?, &self.up_proj.forward(&normalized)?, backend)?;
        Ok(x.add(self.down_proj.forward(&hidden)?)?)
    }
}
