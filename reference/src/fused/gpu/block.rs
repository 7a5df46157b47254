//! A transformer block for a GPU.

use mlx_custom::gpu::GpuBackend;
use mlx_rs::Array;

use super::{Heads, JoinedProjection, Positions, ResidualStream, rope_qk_gpu};
use crate::flash_attention::gpu::flash_attention_gpu_merged;
use crate::kv_cache::split_keys_and_values;
use crate::{AttentionMask, Error, KvCache, Offset, Projection, Result, RmsNorm, RotaryEmbedding};

/// [`TransformerBlock`](crate::TransformerBlock) with a kernel for each group of small steps. What it costs a GPU to make
/// one token is mostly the number of kernels: here four products, attention, three small ones and the append to the cache. (Weights of
/// 4 bits and activations of 16; with others SwiGLU is one more.)
#[derive(Debug, Clone)]
pub struct GpuBlock {
    pub input_layernorm: RmsNorm,
    /// `[(H_q + 2 * H_kv) * D, E]`: query, key and value, without biases
    pub qkv: JoinedProjection,
    /// `[(H_q + 2 * H_kv) * D]`
    pub qkv_bias: Option<Array>,
    pub heads: Heads,
    /// `[E, H_q * D]`
    pub o_proj: Projection,
    pub post_attention_layernorm: RmsNorm,
    /// `[2 * I, E]`: gate and up
    pub gate_up: JoinedProjection,
    /// `[E, I]`
    pub down_proj: Projection,
}

/// What the layers of a forward pass share.
#[derive(Debug)]
pub struct GpuPass<'a> {
    pub positions: Positions<'a>,
    pub mask: &'a AttentionMask,
    pub backend: GpuBackend,
}

impl GpuBlock {
    /// As [`TransformerBlock::forward`](crate::TransformerBlock::forward): `[B, L, E]` to `[B, L, E]`. A whole model has
    /// [`run`](Self::run), with fewer kernels between layers.
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
        let &[batch, len, features] = x.shape() else {
            return Err(Error::invalid("GpuBlock::forward", format!("x has shape {:?}, not [B, L, E]", x.shape())));
        };
        let offset = cache.as_ref().map_or(Offset::Same(0), |cache| cache.offset());
        let positions = Positions::new(rope, offset, batch as usize, len as usize)?;
        let pass = GpuPass { positions, mask, backend: GpuBackend::current()? };
        let stream = ResidualStream::new(x.reshape(&[batch * len, features])?);
        Ok(self.run(stream, &pass, cache)?.total()?.reshape(x.shape())?)
    }

    /// The layer as a part of a forward pass, from one `[B * L, E]` to the next. Arrays with one row for each token go
    /// through products without being reshaped: a reshape moves nothing, and still is a node of MLX's graph.
    ///
    /// # Errors
    /// As [`GpuBlock::forward`].
    pub fn run(
        &self,
        stream: ResidualStream,
        pass: &GpuPass<'_>,
        cache: Option<&mut dyn KvCache>,
    ) -> Result<ResidualStream> {
        let GpuPass { positions, mask, backend } = pass;
        let (x, normalized) = stream.normalize(&self.input_layernorm, *backend)?;
        let projected = self.qkv.forward(&normalized)?; // [B * L, (H_q + 2 * H_kv) * D]
        let [query, keys_and_values] =
            rope_qk_gpu(&projected, self.qkv_bias.as_ref(), self.heads, positions, *backend)?;
        let (key, value) = match cache {
            Some(cache) => cache.update_and_fetch_joined(&keys_and_values)?, // [B, H_kv, S, D]
            None => split_keys_and_values(&keys_and_values)?,
        };
        let attended = flash_attention_gpu_merged(&query, &key, &value, mask)?; // [B * L, H_q * D]
        let attended = self.o_proj.forward(&attended)?;
        let (x, normalized) =
            ResidualStream::with_pending(x, attended).normalize(&self.post_attention_layernorm, *backend)?;
        let hidden = self.gate_up.forward_swiglu(&normalized, *backend)?;
        Ok(ResidualStream::with_pending(x, self.down_proj.forward(&hidden)?))
    }
}
