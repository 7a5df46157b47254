//! Loading the model from day 2.2a on: matrices that the checkpoint stores quantized stay so.

use std::cell::RefCell;

use checkpoint::Checkpoint;
use mlx_custom::gpu::GpuBackend;
use mlx_custom::{Constant, use_huge_pages};
use mlx_rs::{Array, Dtype, ops};

use crate::fused::gpu::{GpuBlock, Heads, JoinedProjection};
use crate::fused::{FusedBlock, QkvWeights};
use crate::quantized::kernel::chosen_kernel;
use crate::quantized::matmul::Precision;
use crate::quantized::matrix::ConstantMatrix;
use crate::quantized::{QuantizedEmbedding, QuantizedLinear, QuantizedMatrix};
use crate::qwen2::{Layer, TokenEmbedding};
use crate::{
    AttentionBackend, Device, Embedding, Error, Linear, Projection, Qwen2Attention, Qwen2Model, Result, RmsNorm,
    RotaryEmbedding, Stage, SwiGluMlp, TransformerBlock,
};

/// The model at `stage` for `device`; the stage is [`Stage::Packed`] or a later one.
///
/// A matrix that the checkpoint doesn't have in quantized form is dense, of `dtype`; a layer with such a matrix is
/// not fused. `dtype` is that of the activations in any case.
///
/// # Errors
/// As [`Qwen2Model::load`]; [`Error::InvalidArgument`] when the variable of [`chosen_kernel`] names a kernel that isn't there.
pub fn load(device: Device, checkpoint: &Checkpoint, dtype: Dtype, stage: Stage) -> Result<Qwen2Model> {
    let config = checkpoint.config();
    if device == Device::Cpu && stage > Stage::Packed {
        // Said now, and not when the first product is computed.
        chosen_kernel().map_err(|problem| Error::invalid("Qwen2Model::load_stage", problem))?;
    }
    let weights = Weights { device, checkpoint, dtype, stage, matrices: RefCell::default() };
    let (hidden, vocab) = (config.hidden_size, config.vocab_size);
    let rope =
        RotaryEmbedding::new(config.head_dim as i32, config.max_position_embeddings as i32, config.rope_theta, false)?;
    let model = Qwen2Model {
        embed_tokens: weights.embedding("model.embed_tokens.weight", [vocab, hidden])?,
        layers: (0..config.num_hidden_layers).map(|layer_idx| weights.layer(layer_idx)).collect::<Result<Vec<_>>>()?,
        norm: weights.norm("model.norm.weight")?,
        lm_head: match config.tie_word_embeddings {
            true => None,
            false => Some(weights.projection("lm_head.weight", [vocab, hidden], None)?),
        },
        rope,
        stage,
        device,
    };
    // All at once, since neighbours share large pages.
    use_huge_pages(weights.matrices.borrow().iter().flat_map(ConstantMatrix::constants));
    Ok(model)
}

/// What loading a part needs to know.
struct Weights<'a> {
    device: Device,
    checkpoint: &'a Checkpoint,
    dtype: Dtype,
    stage: Stage,
    /// The quantized matrices so far.
    matrices: RefCell<Vec<ConstantMatrix>>,
}

impl Weights<'_> {
    fn layer(&self, layer_idx: usize) -> Result<Layer> {
        if self.device == Device::Cpu
            && self.stage >= Stage::Fused
            && let Some(block) = self.fused_block(layer_idx)?
        {
            return Ok(block.into());
        }
        if self.device == Device::Gpu && self.stage >= Stage::Flash {
            return self.gpu_block(layer_idx).map(Layer::from);
        }
        self.block(layer_idx).map(Layer::from)
    }

    fn attention(&self) -> AttentionBackend {
        match (self.stage >= Stage::Flash, self.device) {
            (false, _) => AttentionBackend::Plain,
            (true, Device::Cpu) => AttentionBackend::Flash,
            (true, Device::Gpu) => AttentionBackend::FlashGpu,
        }
    }

    /// How the CPU multiplies by quantized matrices.
    fn precision(&self) -> Precision {
        if self.stage == Stage::Packed { Precision::Float32 } else { Precision::Int16 }
    }

    /// A matrix in its quantized form, or `None` if the checkpoint doesn't have it so. `Checkpoint::open` has compared its shape
    /// with the configuration's.
    fn matrix(&self, name: &str) -> Result<Option<QuantizedMatrix>> {
        let Some(tensor) = self.checkpoint.quantized(name)? else { return Ok(None) };
        let matrix = QuantizedMatrix::try_from(tensor)?;
        if self.device == Device::Cpu {
            self.matrices.borrow_mut().push(matrix.constant()?);
        }
        Ok(Some(matrix))
    }

    fn tensor(&self, name: &str, shape: &[usize], dtype: Dtype) -> Result<Array> {
        Ok(self.checkpoint.tensor(name, shape, Some(dtype))?)
    }

    /// The bias of q, k or v, unless the model has none.
    fn bias(&self, name: &str, outputs: usize) -> Result<Option<Array>> {
        let config = self.checkpoint.config();
        config.attention_bias.then(|| self.tensor(name, &[outputs], self.dtype)).transpose()
    }

    fn norm(&self, name: &str) -> Result<RmsNorm> {
        let config = self.checkpoint.config();
        Ok(RmsNorm::new(self.tensor(name, &[config.hidden_size], self.dtype)?, config.rms_norm_eps))
    }

    fn embedding(&self, name: &str, shape: [usize; 2]) -> Result<TokenEmbedding> {
        let embedding = self.stored_embedding(name, shape)?.on(self.device).in_precision(self.precision());
        if self.device == Device::Gpu && GpuBackend::current()? != GpuBackend::Emulator {
            embedding.touch()?;
        }
        Ok(embedding)
    }

    fn stored_embedding(&self, name: &str, shape: [usize; 2]) -> Result<TokenEmbedding> {
        // [task 2.2a.5] load an embedding
        Ok(match self.matrix(name)? {
            Some(matrix) => QuantizedEmbedding::new(matrix, self.dtype).into(),
            None => Embedding::new(self.tensor(name, &shape, self.dtype)?).into(),
        })
        // [end]
    }

    fn projection(&self, name: &str, shape: [usize; 2], bias: Option<Array>) -> Result<Projection> {
        Ok(self.stored_projection(name, shape, bias)?.on(self.device).in_precision(self.precision()))
    }

    fn stored_projection(&self, name: &str, shape: [usize; 2], bias: Option<Array>) -> Result<Projection> {
        // [task 2.2a.5] load a projection
        Ok(match self.matrix(name)? {
            Some(matrix) => QuantizedLinear::new(matrix, bias).into(),
            None => Linear::new(self.tensor(name, &shape, self.dtype)?, bias).into(),
        })
        // [end]
    }

    /// A plain block, each of whose projections is quantized if the checkpoint has it so.
    fn block(&self, layer_idx: usize) -> Result<TransformerBlock> {
        let config = self.checkpoint.config();
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        let (heads, kv_heads, head_dim) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
        let prefix = format!("model.layers.{layer_idx}");
        let biased = |name: &str, outputs: usize| {
            let bias = self.bias(&format!("{prefix}.self_attn.{name}.bias"), outputs)?;
            self.projection(&format!("{prefix}.self_attn.{name}.weight"), [outputs, hidden], bias)
        };
        let plain = |name: &str, outputs: usize, inputs: usize| {
            self.projection(&format!("{prefix}.{name}.weight"), [outputs, inputs], None)
        };
        let self_attn = Qwen2Attention::new(
            heads as i32,
            kv_heads as i32,
            head_dim as i32,
            biased("q_proj", heads * head_dim)?,
            biased("k_proj", kv_heads * head_dim)?,
            biased("v_proj", kv_heads * head_dim)?,
            plain("self_attn.o_proj", hidden, heads * head_dim)?,
        )?;
        let mlp = SwiGluMlp::new(
            plain("mlp.gate_proj", intermediate, hidden)?,
            plain("mlp.up_proj", intermediate, hidden)?,
            plain("mlp.down_proj", hidden, intermediate)?,
        );
        Ok(TransformerBlock::new(
            self_attn.with_backend(self.attention()),
            mlp,
            self.norm(&format!("{prefix}.input_layernorm.weight"))?,
            self.norm(&format!("{prefix}.post_attention_layernorm.weight"))?,
        ))
    }

    /// A block of kernels for the GPU; its biases are apart from the projections.
    fn gpu_block(&self, layer_idx: usize) -> Result<GpuBlock> {
        let config = self.checkpoint.config();
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        let heads =
            Heads { query: config.num_attention_heads, key_value: config.num_key_value_heads, dim: config.head_dim };
        let (q_size, kv_size) = (heads.query * heads.dim, heads.key_value * heads.dim);
        let prefix = format!("model.layers.{layer_idx}");
        let projection = |name: &str, outputs: usize, inputs: usize| {
            self.projection(&format!("{prefix}.{name}.weight"), [outputs, inputs], None)
        };
        let bias = |name: &str, outputs: usize| self.bias(&format!("{prefix}.self_attn.{name}.bias"), outputs);
        let qkv_bias = match (bias("q_proj", q_size)?, bias("k_proj", kv_size)?, bias("v_proj", kv_size)?) {
            (Some(q), Some(k), Some(v)) => {
                let joined = ops::concatenate(&[q, k, v], 0)?;
                joined.eval()?;
                Some(joined)
            }
            _ => None,
        };
        Ok(GpuBlock {
            input_layernorm: self.norm(&format!("{prefix}.input_layernorm.weight"))?,
            qkv: JoinedProjection::new(vec![
                projection("self_attn.q_proj", q_size, hidden)?,
                projection("self_attn.k_proj", kv_size, hidden)?,
                projection("self_attn.v_proj", kv_size, hidden)?,
            ])?,
            qkv_bias,
            heads,
            o_proj: projection("self_attn.o_proj", hidden, q_size)?,
            post_attention_layernorm: self.norm(&format!("{prefix}.post_attention_layernorm.weight"))?,
            gate_up: JoinedProjection::new(vec![
                projection("mlp.gate_proj", intermediate, hidden)?,
                projection("mlp.up_proj", intermediate, hidden)?,
            ])?,
            down_proj: projection("mlp.down_proj", hidden, intermediate)?,
        })
    }

    /// A fused block, or `None` unless the checkpoint has all its matrices quantized, in formats that fit together.
    fn fused_block(&self, layer_idx: usize) -> Result<Option<FusedBlock>> {
        let config = self.checkpoint.config();
        let prefix = format!("model.layers.{layer_idx}");
        let matrix = |name: &str| self.matrix(&format!("{prefix}.{name}.weight"));
        let (Some(q), Some(k), Some(v), Some(o_proj), Some(gate_proj), Some(up_proj), Some(down_proj)) = (
            matrix("self_attn.q_proj")?,
            matrix("self_attn.k_proj")?,
            matrix("self_attn.v_proj")?,
            matrix("self_attn.o_proj")?,
            matrix("mlp.gate_proj")?,
            matrix("mlp.up_proj")?,
            matrix("mlp.down_proj")?,
        ) else {
            return Ok(None);
        };
        let (num_heads, num_kv_heads, head_dim) =
            (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
        let format = |matrix: &QuantizedMatrix| (matrix.group_size, matrix.bits);
        if format(&q) != format(&k) || format(&k) != format(&v) || format(&gate_proj) != format(&up_proj) {
            return Ok(None);
        }
        let bias = |name: &str, heads: usize| self.bias(&format!("{prefix}.self_attn.{name}.bias"), heads * head_dim);
        let biases = match (bias("q_proj", num_heads)?, bias("k_proj", num_kv_heads)?, bias("v_proj", num_kv_heads)?) {
            (Some(q), Some(k), Some(v)) => Some([Constant::new(&q)?, Constant::new(&k)?, Constant::new(&v)?]),
            _ => None,
        };
        let norm = |name: &str| -> Result<Constant> {
            let name = format!("{prefix}.{name}.weight");
            Ok(Constant::new(&self.tensor(&name, &[config.hidden_size], Dtype::Float32)?)?)
        };
        Ok(Some(FusedBlock {
            input_layernorm: norm("input_layernorm")?,
            qkv: QkvWeights { matrices: [q, k, v], biases, num_heads, num_kv_heads, head_dim },
            o_proj,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            gate_proj,
            up_proj,
            down_proj,
            rms_norm_eps: config.rms_norm_eps,
            attention: self.attention(),
        }))
    }
}
