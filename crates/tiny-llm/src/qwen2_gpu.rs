//! A forward pass of a model whose layers are all [`GpuBlock`]s.
//!
//! What one token costs on a GPU is the number of kernels that are started, so what layers have in common is made once,
//! and no kernel stands between them.

use mlx_custom::gpu::GpuBackend;
use mlx_rs::Array;

use crate::fused::gpu::{GpuBlock, GpuPass, Positions, ResidualStream};
use crate::{AttentionMask, Device, Error, KvCache, Layer, LogitsToKeep, Offset, Qwen2Model, Result};

impl Qwen2Model {
    /// The layers, if they are all for the GPU.
    pub(crate) fn gpu_blocks(&self) -> Option<Vec<&GpuBlock>> {
        if self.device != Device::Gpu {
            return None;
        }
        let blocks = self.layers.iter().map(|layer| match layer {
            Layer::Gpu(block) => Some(block),
            _ => None,
        });
        blocks.collect()
    }

    /// Whether all layers run on a real GPU: the emulator computes where the CPU would build the next step. `TINY_LLM_AHEAD=0`
    /// turns it off, to measure what it brings.
    pub(crate) fn works_ahead_on_gpu(&self) -> bool {
        // A backend that can't be read is an error where a kernel is started.
        std::env::var_os("TINY_LLM_AHEAD").is_none_or(|value| value != "0")
            && self.gpu_blocks().is_some()
            && GpuBackend::current().is_ok_and(|backend| backend != GpuBackend::Emulator)
    }

    /// As [`Qwen2Model::forward`], with these layers.
    pub(crate) fn forward_on_gpu(
        &self,
        blocks: &[&GpuBlock],
        token_ids: &Array,
        mut cache: Option<&mut [Box<dyn KvCache>]>,
        keep: LogitsToKeep,
    ) -> Result<Array> {
        let refuse = |message: String| Err(Error::invalid("Qwen2Model::forward", message));
        let &[batch, len] = token_ids.shape() else {
            return refuse(format!("token_ids has shape {:?}, not [B, L]", token_ids.shape()));
        };
        let n_kept = match keep {
            LogitsToKeep::All => len,
            LogitsToKeep::Last(n) if (1..=len).contains(&n) => n,
            LogitsToKeep::Last(n) => return refuse(format!("cannot keep the last {n} of {len} positions")),
        };
        let offset = match cache.as_deref() {
            Some(cache) if cache.len() != blocks.len() => {
                return refuse(format!("{} caches for {} layers", cache.len(), blocks.len()));
            }
            Some([first, others @ ..]) => {
                let offset = first.offset();
                if others.iter().any(|cache| cache.offset() != offset) {
                    return refuse("the layers' caches hold different numbers of tokens".to_owned());
                }
                offset
            }
            _ => Offset::Same(0),
        };
        let positions = Positions::new(&self.rope, offset, batch as usize, len as usize)?;
        // A single query is the newest token and may attend to everything.
        let mask = if len > 1 { AttentionMask::Causal } else { AttentionMask::None };
        let pass = GpuPass { positions, mask: &mask, backend: GpuBackend::current()? };

        let embedded = self.embed_tokens.forward(&token_ids.reshape(&[batch * len])?)?; // [B * L, E]
        let mut stream = ResidualStream::new(embedded);
        for (layer_idx, block) in blocks.iter().enumerate() {
            let layer_cache = cache.as_mut().map(|cache| cache[layer_idx].as_mut() as &mut dyn KvCache);
            stream = block.run(stream, &pass, layer_cache)?;
        }
        let (_, normalized) = stream.last(n_kept as usize, len as usize)?.normalize(&self.norm, pass.backend)?;
        let logits = match &self.lm_head {
            Some(lm_head) => lm_head.forward(&normalized)?,
            None => self.embed_tokens.as_linear(&normalized)?,
        };
        Ok(logits.reshape(&[batch, n_kept, logits.dim(1)])?)
    }
}
