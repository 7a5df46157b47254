//! The Qwen2 model (Yang et al., *Qwen2 Technical Report*, 2024): blocks of attention and MLP on a residual stream.

use checkpoint::Checkpoint;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};

use crate::fused::FusedBlock;
use crate::fused::gpu::GpuBlock;
use crate::quantized::QuantizedEmbedding;
use crate::quantized::matmul::Precision;
use crate::qwen2_quantized;
use crate::{
    AttentionMask, Device, Embedding, Error, FullKvCache, GpuKvCache, KvCache, LanguageModel, Linear, LogitsToKeep,
    Projection, Qwen2Attention, Result, RmsNorm, RotaryEmbedding, Stage, SwiGluMlp,
};

/// One layer: attention and MLP, each reading a normalized copy of the residual stream and adding to it.
#[derive(Debug, Clone)]
pub struct TransformerBlock {
    self_attn: Qwen2Attention,
    mlp: SwiGluMlp,
    input_layernorm: RmsNorm,
    post_attention_layernorm: RmsNorm,
}

impl TransformerBlock {
    /// The parts under the checkpoint's names. Despite its name, `post_attention_layernorm` is applied before the MLP.
    pub fn new(
        self_attn: Qwen2Attention,
        mlp: SwiGluMlp,
        input_layernorm: RmsNorm,
        post_attention_layernorm: RmsNorm,
    ) -> Self {
        Self { self_attn, mlp, input_layernorm, post_attention_layernorm }
    }

    /// `[B, L, E]` to `[B, L, E]`; `rope`, `mask` and `cache` are passed on to [`Qwen2Attention::forward`].
    ///
    /// # Errors
    /// As [`Qwen2Attention::forward`].
    pub fn forward(
        &self,
        x: &Array,
        rope: &RotaryEmbedding,
        mask: &AttentionMask,
        cache: Option<&mut dyn KvCache>,
    ) -> Result<Array> {
        // [task 1.5.2] TransformerBlock::forward
        let attended = self.self_attn.forward(&self.input_layernorm.forward(x)?, rope, mask, cache)?;
        let x = x.add(attended)?;
        let transformed = self.mlp.forward(&self.post_attention_layernorm.forward(&x)?)?;
        Ok(x.add(transformed)?)
        // [end]
    }
}

/// A layer, in one of the forms that compute the same. `TransformerBlock`, [`FusedBlock`] and [`GpuBlock`] convert with `into()`.
#[derive(Debug, Clone)]
pub enum Layer {
    /// Each step an operation of its own.
    Plain(TransformerBlock),
    /// Day 2.2c: neighbouring steps in one operation.
    Fused(FusedBlock),
    /// Day 2.5: neighbouring steps in one kernel.
    Gpu(GpuBlock),
}

impl Layer {
    /// As [`TransformerBlock::forward`].
    ///
    /// # Errors
    /// As [`TransformerBlock::forward`].
    pub fn forward(
        &self,
        x: &Array,
        rope: &RotaryEmbedding,
        mask: &AttentionMask,
        cache: Option<&mut dyn KvCache>,
    ) -> Result<Array> {
        match self {
            Self::Plain(block) => block.forward(x, rope, mask, cache),
            Self::Fused(block) => block.forward(x, rope, mask, cache),
            Self::Gpu(block) => block.forward(x, rope, mask, cache),
        }
    }
}

impl From<TransformerBlock> for Layer {
    fn from(block: TransformerBlock) -> Self {
        Self::Plain(block)
    }
}

impl From<FusedBlock> for Layer {
    fn from(block: FusedBlock) -> Self {
        Self::Fused(block)
    }
}

impl From<GpuBlock> for Layer {
    fn from(block: GpuBlock) -> Self {
        Self::Gpu(block)
    }
}

/// The embedding, whatever its vectors look like. [`Embedding`] and [`QuantizedEmbedding`] convert with `into()`.
#[derive(Debug, Clone)]
pub enum TokenEmbedding {
    Dense(Embedding),
    /// Day 2.2a.
    Quantized(QuantizedEmbedding),
}

impl TokenEmbedding {
    /// The same embedding, computing on `device`. A dense one computes wherever MLX does.
    pub fn on(self, device: Device) -> Self {
        match self {
            Self::Dense(embedding) => Self::Dense(embedding),
            Self::Quantized(embedding) => Self::Quantized(embedding.on(device)),
        }
    }

    /// The same embedding, multiplying as `precision` says where it is the output head.
    pub fn in_precision(self, precision: Precision) -> Self {
        match self {
            Self::Dense(embedding) => Self::Dense(embedding),
            Self::Quantized(embedding) => Self::Quantized(embedding.in_precision(precision)),
        }
    }

    /// As [`Embedding::forward`].
    ///
    /// # Errors
    /// As [`Embedding::forward`] or [`QuantizedEmbedding::forward`].
    pub fn forward(&self, token_ids: &Array) -> Result<Array> {
        match self {
            Self::Dense(embedding) => embedding.forward(token_ids),
            Self::Quantized(embedding) => embedding.forward(token_ids),
        }
    }

    /// As [`Embedding::as_linear`].
    ///
    /// # Errors
    /// As [`Embedding::as_linear`] or [`QuantizedEmbedding::as_linear`].
    pub fn as_linear(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Dense(embedding) => embedding.as_linear(x),
            Self::Quantized(embedding) => embedding.as_linear(x),
        }
    }

    /// Reads all vectors once, where MLX computes. What was loaded moves to an NVIDIA GPU page by page, when it is first touched;
    /// a token's vector touches few pages, and each token would wait for its own.
    ///
    /// # Errors
    /// [`Error::Mlx`] when the arrays cannot be computed.
    pub fn touch(&self) -> Result<()> {
        match self {
            Self::Dense(embedding) => Ok(embedding.weight.max(None)?.eval()?),
            Self::Quantized(embedding) => embedding.weight.touch(),
        }
    }

    fn vocab_size(&self) -> usize {
        match self {
            Self::Dense(embedding) => embedding.weight.dim(0) as usize,
            Self::Quantized(embedding) => embedding.weight.outputs(),
        }
    }
}

impl From<Embedding> for TokenEmbedding {
    fn from(embedding: Embedding) -> Self {
        Self::Dense(embedding)
    }
}

impl From<QuantizedEmbedding> for TokenEmbedding {
    fn from(embedding: QuantizedEmbedding) -> Self {
        Self::Quantized(embedding)
    }
}

/// A Qwen2 language model.
#[derive(Debug, Clone)]
pub struct Qwen2Model {
    pub(crate) embed_tokens: TokenEmbedding,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: RmsNorm,
    /// `None` when the output head is tied to the embedding.
    pub(crate) lm_head: Option<Projection>,
    /// One table for all layers.
    pub(crate) rope: RotaryEmbedding,
    /// Which of the later days' parts are used.
    pub(crate) stage: Stage,
    /// Where the course's own operations run.
    pub(crate) device: Device,
}

impl Qwen2Model {
    /// Reads the weights, converted to `dtype`, which the activations will then have as well. The model is week 1's,
    /// [`Stage::Dense`].
    ///
    /// The checkpoint's configuration decides every size; `tie_word_embeddings` decides whether there is an `lm_head`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when a tensor cannot be read, or `dtype` is not a floating-point type.
    pub fn load(checkpoint: &Checkpoint, dtype: Dtype) -> Result<Self> {
        // [task 1.5.3] Qwen2Model::load
        let config = checkpoint.config();
        let (hidden, vocab) = (config.hidden_size, config.vocab_size);
        let tensor = |name: &str, shape: &[usize]| checkpoint.tensor(name, shape, Some(dtype));
        let norm = |name: &str| -> Result<RmsNorm> {
            Ok(RmsNorm::new(tensor(&format!("{name}.weight"), &[hidden])?, config.rms_norm_eps))
        };

        let embed_tokens = Embedding::new(tensor("model.embed_tokens.weight", &[vocab, hidden])?).into();
        let layers = (0..config.num_hidden_layers)
            .map(|layer_idx| load_block(checkpoint, layer_idx, dtype).map(Layer::from))
            .collect::<Result<Vec<_>>>()?;
        let lm_head = if config.tie_word_embeddings {
            None
        } else {
            Some(Linear::new(tensor("lm_head.weight", &[vocab, hidden])?, None).into())
        };
        let rope = RotaryEmbedding::new(
            config.head_dim as i32,
            config.max_position_embeddings as i32,
            config.rope_theta,
            false,
        )?;
        Ok(Self {
            embed_tokens,
            layers,
            norm: norm("model.norm")?,
            lm_head,
            rope,
            stage: Stage::Dense,
            device: Device::Cpu,
        })
        // [end]
    }

    /// As [`Qwen2Model::load`], with the parts that the course has reached by `stage`.
    ///
    /// # Errors
    /// As [`Qwen2Model::load`].
    pub fn load_stage(checkpoint: &Checkpoint, dtype: Dtype, stage: Stage) -> Result<Self> {
        Self::load_on(Device::Cpu, checkpoint, dtype, stage)
    }

    /// As [`Qwen2Model::load_stage`], for `device`. On the GPU layers are fused and attention is that of day 2.5
    /// at the stage `flash`; before it, they are plain.
    ///
    /// # Errors
    /// As [`Qwen2Model::load`].
    pub fn load_on(device: Device, checkpoint: &Checkpoint, dtype: Dtype, stage: Stage) -> Result<Self> {
        match stage {
            Stage::Dense | Stage::Cached => Ok(Self { stage, device, ..Self::load(checkpoint, dtype)? }),
            Stage::Packed | Stage::Quantized | Stage::Fused | Stage::Flash => {
                qwen2_quantized::load(device, checkpoint, dtype, stage)
            }
        }
    }

    /// The stage that it was loaded for.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Logits for `token_ids` (`[B, L]`): `[B, L, V]`, or fewer positions as `keep` says.
    ///
    /// `cache` has one entry per layer; without it every sequence starts at position 0.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `token_ids` is not `[B, L]`, the cache has not one entry per layer, `keep`
    /// asks for no position or more than there are, or a position is beyond the model's.
    pub fn forward(
        &self,
        token_ids: &Array,
        cache: Option<&mut [Box<dyn KvCache>]>,
        keep: LogitsToKeep,
    ) -> Result<Array> {
        // From day 2.5 on, on a GPU, layers share more than an array.
        if let Some(blocks) = self.gpu_blocks() {
            return self.forward_on_gpu(&blocks, token_ids, cache, keep);
        }
        // [task 1.5.4] Qwen2Model::forward
        let hidden = self.run_layers(token_ids, cache, |_| ())?; // [B, L, E]
        let len = hidden.dim(1);
        // The slice comes before the head: logits that nobody reads are never computed.
        let hidden = match keep {
            LogitsToKeep::All => hidden,
            LogitsToKeep::Last(n) if (1..=len).contains(&n) => hidden.try_index((.., len - n..))?,
            LogitsToKeep::Last(n) => {
                let message = format!("cannot keep the last {n} of {len} positions");
                return Err(Error::invalid("Qwen2Model::forward", message));
            }
        };
        match &self.lm_head {
            Some(lm_head) => lm_head.forward(&hidden),
            None => self.embed_tokens.as_linear(&hidden),
        }
        // [end]
    }

    /// The residual stream along the way, each `[B, L, E]`: the embeddings, the output of every block, and the output
    /// of the final norm. For finding the layer where a model goes wrong.
    ///
    /// # Errors
    /// As [`Qwen2Model::forward`].
    pub fn hidden_states(&self, token_ids: &Array) -> Result<Vec<Array>> {
        // [task 1.5.4] Qwen2Model::hidden_states
        let mut states = Vec::with_capacity(self.layers.len() + 2);
        let normalized = self.run_layers(token_ids, None, |state| states.push(state.clone()))?;
        states.push(normalized);
        Ok(states)
        // [end]
    }

    // [task 1.5.4 helpers] running the layers
    /// Everything but the output head; `observe` sees the embeddings and the output of every block.
    fn run_layers(
        &self,
        token_ids: &Array,
        mut cache: Option<&mut [Box<dyn KvCache>]>,
        mut observe: impl FnMut(&Array),
    ) -> Result<Array> {
        let &[_, len] = token_ids.shape() else {
            let message = format!("token_ids has shape {:?}, not [B, L]", token_ids.shape());
            return Err(Error::invalid("Qwen2Model::forward", message));
        };
        if let Some(cache) = &cache
            && cache.len() != self.layers.len()
        {
            let message = format!("{} caches for {} layers", cache.len(), self.layers.len());
            return Err(Error::invalid("Qwen2Model::forward", message));
        }
        // A single query is the newest token and may attend to everything.
        let mask = if len > 1 { AttentionMask::Causal } else { AttentionMask::None };

        let mut x = self.embed_tokens.forward(token_ids)?; // [B, L, E]
        observe(&x);
        for (layer_idx, layer) in self.layers.iter().enumerate() {
            // `as_mut` at every layer lends each block its own entry.
            let layer_cache = cache.as_mut().map(|cache| cache[layer_idx].as_mut() as &mut dyn KvCache);
            x = layer.forward(&x, &self.rope, &mask, layer_cache)?;
            observe(&x);
        }
        self.norm.forward(&x)
    }
    // [end]
}

// [task 1.5.3 helpers] loading a block
/// Reads the tensors `model.layers.<layer_idx>.*`.
fn load_block(checkpoint: &Checkpoint, layer_idx: usize, dtype: Dtype) -> Result<TransformerBlock> {
    let config = checkpoint.config();
    let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
    let q_size = config.num_attention_heads * config.head_dim;
    let kv_size = config.num_key_value_heads * config.head_dim;
    let prefix = format!("model.layers.{layer_idx}");
    let tensor = |name: &str, shape: &[usize]| checkpoint.tensor(&format!("{prefix}.{name}"), shape, Some(dtype));
    let projection = |name: &str, outputs: usize, inputs: usize| -> Result<Linear> {
        Ok(Linear::new(tensor(&format!("{name}.weight"), &[outputs, inputs])?, None))
    };
    let biased_projection = |name: &str, outputs: usize| -> Result<Linear> {
        let weight = tensor(&format!("self_attn.{name}.weight"), &[outputs, hidden])?;
        Ok(Linear::new(weight, Some(tensor(&format!("self_attn.{name}.bias"), &[outputs])?)))
    };
    let norm = |name: &str| -> Result<RmsNorm> {
        Ok(RmsNorm::new(tensor(&format!("{name}.weight"), &[hidden])?, config.rms_norm_eps))
    };

    let self_attn = Qwen2Attention::new(
        config.num_attention_heads as i32,
        config.num_key_value_heads as i32,
        config.head_dim as i32,
        biased_projection("q_proj", q_size)?,
        biased_projection("k_proj", kv_size)?,
        biased_projection("v_proj", kv_size)?,
        projection("self_attn.o_proj", hidden, q_size)?,
    )?;
    let mlp = SwiGluMlp::new(
        projection("mlp.gate_proj", intermediate, hidden)?,
        projection("mlp.up_proj", intermediate, hidden)?,
        projection("mlp.down_proj", hidden, intermediate)?,
    );
    Ok(TransformerBlock::new(self_attn, mlp, norm("input_layernorm")?, norm("post_attention_layernorm")?))
}
// [end]

impl LanguageModel for Qwen2Model {
    fn forward(&self, token_ids: &Array, cache: Option<&mut [Box<dyn KvCache>]>, keep: LogitsToKeep) -> Result<Array> {
        Qwen2Model::forward(self, token_ids, cache, keep)
    }

    fn max_positions(&self) -> usize {
        self.rope.max_positions() as usize
    }

    fn vocab_size(&self) -> usize {
        self.embed_tokens.vocab_size()
    }

    fn new_cache(&self) -> Option<Vec<Box<dyn KvCache>>> {
        if self.stage < Stage::Cached {
            return None;
        }
        if self.device == Device::Gpu {
            return Some(self.layers.iter().map(|_| Box::new(GpuKvCache::new()) as Box<dyn KvCache>).collect());
        }
        // [task 2.1.4] Qwen2Model::new_cache
        // One for each layer: layers see different keys.
        Some(self.layers.iter().map(|_| Box::new(FullKvCache::new()) as Box<dyn KvCache>).collect())
        // [end]
    }

    fn works_ahead(&self) -> bool {
        self.works_ahead_on_gpu()
    }
}
