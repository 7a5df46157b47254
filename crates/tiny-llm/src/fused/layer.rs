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
        // [task 2.2.10] FusedLayer
        todo!("week 2 day 2 task 10: FusedLayer - see book/src/week2/day2.md")
        // [end]
    }
}
