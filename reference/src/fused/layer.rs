//! A whole layer as one operation: for a cache that keeps its tokens in one buffer.
//!
//! Between two operations MLX walks its graph, finds buffers and queues a task. For one token of a small model that
//! takes longer than the arithmetic, so the steps of a layer follow each other inside one operation, with nothing but
//! the residual stream and the cache outside.

use half::{bf16, f16};
use mlx_custom::{Constant, CpuOperation, OperationError, Strided, Tensor, TensorMut, TensorType, apply_n};
use mlx_rs::{Array, Dtype};

use crate::flash_attention::operand::Operand;
use crate::flash_attention::operation::{FlashAttention, Options};
use crate::flash_attention::output::OutputElement;
use crate::flash_attention::{AttentionShape, Mask};
use crate::fused::FusedBlock;
use crate::fused::linear_add::add_projection;
use crate::fused::qkv::{Angles, QkvParameters, start_positions};
use crate::fused::rms_norm::check_norm;
use crate::fused::swiglu::gate_up;
use crate::kv_append::{KvAppend, KvBuffers};
use crate::quantized::matmul::projected;
use crate::quantized::matrix::ConstantMatrix;
use crate::quantized::tiles::Float;
use crate::{AttentionMask, Error, FullKvCache, KvCache, Result, RotaryEmbedding};

/// A type of activations that attention reads and writes.
trait Activation: Float + OutputElement {
    fn operand(view: Strided<'_, Self>) -> Operand<'_>;
}

impl Activation for f32 {
    fn operand(view: Strided<'_, Self>) -> Operand<'_> {
        Operand::F32(view)
    }
}

impl Activation for f16 {
    fn operand(view: Strided<'_, Self>) -> Operand<'_> {
        Operand::F16(view)
    }
}

impl Activation for bf16 {
    fn operand(view: Strided<'_, Self>) -> Operand<'_> {
        Operand::Bf16(view)
    }
}

impl FusedBlock {
    /// [`FusedBlock::forward`] as one operation, or `None` if it takes several: the mask is an array.
    ///
    /// # Errors
    /// As [`FusedBlock::forward`].
    pub(super) fn forward_as_one(
        &self,
        x: &Array,
        rope: &RotaryEmbedding,
        mask: &AttentionMask,
        cache: &mut FullKvCache,
    ) -> Result<Option<Array>> {
        if matches!(mask, AttentionMask::Array(_)) || rope.is_traditional() {
            return Ok(None);
        }
        let &[batch, len, _] = x.shape() else {
            return Err(Error::invalid("FusedBlock::forward", format!("x has shape {:?}, not [B, L, E]", x.shape())));
        };
        let starts = start_positions(rope, cache.offset(), batch, len)?;
        let output = cache.append_within(len as usize, |append, stored| {
            let layer = FusedLayer {
                qkv: self.qkv.parameters(&self.input_layernorm, self.rms_norm_eps)?,
                starts,
                append,
                is_causal: matches!(mask, AttentionMask::Causal),
                o_proj: self.o_proj.constant()?,
                norm_weight: self.post_attention_layernorm.clone(),
                eps: self.rms_norm_eps,
                gate_proj: self.gate_proj.constant()?,
                up_proj: self.up_proj.constant()?,
                down_proj: self.down_proj.constant()?,
            };
            let mut inputs = vec![x, rope.cos(), rope.sin()];
            inputs.extend(stored.iter().flat_map(|stored| [&stored.keys, &stored.values]));
            let [output, keys, values] = apply_n(layer, &inputs)?;
            Ok((KvBuffers { keys, values }, output))
        })?;
        Ok(Some(output))
    }
}

/// - inputs: x `[B, L, E]`, cos and sin `[max_positions, dims / 2]`, and what is stored: keys and values
///   `[B, H_kv, stored_capacity, D]`
/// - outputs: `[B, L, E]`, keys and values `[B, H_kv, capacity, D]`
struct FusedLayer {
    qkv: QkvParameters,
    /// The position of the first token of each row, `[B]`.
    starts: Vec<usize>,
    append: KvAppend,
    is_causal: bool,
    o_proj: ConstantMatrix,
    /// Of the norm before the MLP, `[E]`.
    norm_weight: Constant,
    eps: f32,
    gate_proj: ConstantMatrix,
    up_proj: ConstantMatrix,
    down_proj: ConstantMatrix,
}

impl CpuOperation for FusedLayer {
    fn name(&self) -> &'static str {
        "fused_layer"
    }

    fn outputs(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
        let (x, stored) = match inputs {
            [x, _, _, stored @ ..] if matches!(stored.len(), 0 | 2) => (x, stored),
            _ => return Err("takes x, two tables and perhaps keys and values".into()),
        };
        let [query, key, value] = self.qkv.outputs(x)?;
        let features = self.o_proj.outputs();
        check_norm(&self.norm_weight, features)?;
        let attended = TensorType { shape: vec![query.shape[1] * query.shape[3]], dtype: x.dtype };
        let hidden = projected(x, &self.gate_proj)?;
        let fits = projected(&attended, &self.o_proj)?.shape == x.shape[2..]
            && projected(x, &self.up_proj)? == hidden
            && projected(&hidden, &self.down_proj)? == *x
            && self.gate_proj.format() == self.up_proj.format();
        if !fits {
            return Err("the projections don't lead back to x's shape, or gate and up have different formats".into());
        }
        let mut appended = self.append.outputs(&[&[key, value], stored].concat())?;
        appended.insert(0, x.clone());
        Ok(appended)
    }

    fn reuses(&self) -> &[(usize, usize)] {
        if self.append.keeps_capacity() { &[(0, 0), (3, 1), (4, 2)] } else { &[(0, 0)] }
    }

    fn run(&self, inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), OperationError> {
        match outputs[0].dtype() {
            Dtype::Float32 => self.run_in::<f32>(inputs, outputs),
            Dtype::Float16 => self.run_in::<f16>(inputs, outputs),
            _ => self.run_in::<bf16>(inputs, outputs),
        }
    }
}

impl FusedLayer {
    fn run_in<T: Activation>(
        &self,
        inputs: &[Tensor<'_>],
        outputs: &mut [TensorMut<'_>],
    ) -> Result<(), OperationError> {
        let [output, keys, values] = outputs else { return Err("there are three outputs".into()) };
        let &[batch, len, _] = inputs[0].shape() else { return Err("x is not [B, L, E]".into()) };
        // The residual stream stays in the output from here on.
        let held = output.holds_input();
        let x = output.as_mut_slice::<T>()?;
        if !held {
            x.copy_from_slice(inputs[0].as_slice()?);
        }
        let ([num_heads, num_kv_heads, _], head_dim) = (self.qkv.heads, self.qkv.head_dim);
        let n_tokens = batch * len;
        let zeros = |n: usize| vec![<T as Float>::from_f32(0.0); n];
        let mut query = zeros(n_tokens * num_heads * head_dim);
        let [mut key, mut value]: [Vec<T>; 2] = [(); 2].map(|()| zeros(n_tokens * num_kv_heads * head_dim));
        let angles = Angles::of(&inputs[1], &inputs[2])?;
        self.qkv.run(x, len, &self.starts, angles, [&mut query, &mut key, &mut value])?;

        let new_shape = [batch, num_kv_heads, len, head_dim];
        for (i, (new, buffer)) in [(key, &mut *keys), (value, &mut *values)].into_iter().enumerate() {
            let stored = inputs.get(3 + i).filter(|_| !buffer.holds_input()).map(Tensor::as_slice).transpose()?;
            let n_moved = self.append.write_heads::<T>(&new, new_shape, stored, buffer.as_mut_slice()?)?;
            self.append.count_bytes(n_moved * size_of::<T>());
        }

        let (key_len, capacity) = (self.append.len() + len, self.append.capacity());
        let shape = AttentionShape { batch, num_heads, num_kv_heads, query_len: len, key_len, head_dim };
        let strides =
            |heads: usize, len: usize| [heads * len * head_dim, len * head_dim, head_dim, 1].map(|n| n as isize);
        let (query_shape, query_strides) = ([batch, num_heads, len, head_dim], strides(num_heads, len));
        let (kv_shape, kv_strides) = ([batch, num_kv_heads, key_len, head_dim], strides(num_kv_heads, capacity));
        let operands = [
            T::operand(Strided::new(&query, &query_shape, &query_strides)?),
            T::operand(Strided::new(keys.as_mut_slice()?, &kv_shape, &kv_strides)?),
            T::operand(Strided::new(values.as_mut_slice()?, &kv_shape, &kv_strides)?),
        ];
        let scale = 1.0 / (head_dim as f32).sqrt();
        let attention = FlashAttention { shape, scale, is_causal: self.is_causal, options: Options::default() };
        let mut attended = zeros(query.len());
        attention.attend(operands, if self.is_causal { Mask::Causal } else { Mask::None }, &mut attended);
        add_projection(&Strided::new(&attended, &query_shape, &query_strides)?, &self.o_proj.view()?, x)?;

        let norm_weight = self.norm_weight.tensor();
        let mut hidden = zeros(n_tokens * self.gate_proj.outputs());
        let gate_and_up = [&self.gate_proj.view()?, &self.up_proj.view()?];
        gate_up(x, norm_weight.as_slice()?, self.eps, gate_and_up, &mut hidden)?;
        let hidden_shape = [batch, len, hidden.len() / n_tokens.max(1)];
        let hidden_strides = [len * hidden_shape[2], hidden_shape[2], 1].map(|n| n as isize);
        add_projection(&Strided::new(&hidden, &hidden_shape, &hidden_strides)?, &self.down_proj.view()?, x)
    }
}
