//! RMSNorm, the query, key and value projections, and the rotary embedding, in one operation.

use half::{bf16, f16};
use mlx_custom::{Constant, CpuOperation, OperationError, Tensor, TensorMut, TensorType, apply_n, parallel_for};
use mlx_rs::{Array, Dtype};

use crate::fused::rms_norm::{check_norm, rms_norm_row};
use crate::quantized::QuantizedMatrix;
use crate::quantized::kernel::chosen_kernel;
use crate::quantized::matmul::{check_bias, projected};
use crate::quantized::matrix::{ConstantMatrix, floats};
use crate::quantized::tiles::{Float, Output, for_each_tile, quantize_tokens};
use crate::{Error, Offset, Result, RotaryEmbedding};

/// The projections of one attention layer.
#[derive(Debug, Clone)]
pub struct QkvWeights {
    /// Query `[H_q * D, E]`, key and value `[H_kv * D, E]`, with the same group size and bits.
    pub matrices: [QuantizedMatrix; 3],
    /// `[H_q * D]`, `[H_kv * D]`, `[H_kv * D]`
    pub biases: Option<[Constant; 3]>,
    /// H_q
    pub num_heads: usize,
    /// H_kv
    pub num_kv_heads: usize,
    /// D
    pub head_dim: usize,
}

/// Rotated queries `[B, H_q, L, D]`, rotated keys and values (both `[B, H_kv, L, D]`) of `rms_norm(x)`.
///
/// - `x`: `[B, L, E]`
/// - `norm_weight`: `[E]`, f32
/// - `offset`: the position of the first token of each row
///
/// # Errors
/// [`Error::InvalidArgument`] when a position is outside `rope`'s table or `rope` rotates adjacent pairs;
/// [`Error::Mlx`] when shapes or formats do not fit.
pub fn norm_qkv_rope(
    x: &Array,
    norm_weight: &Constant,
    eps: f32,
    weights: &QkvWeights,
    rope: &RotaryEmbedding,
    offset: Offset<'_>,
) -> Result<[Array; 3]> {
    let &[batch, len, _] = x.shape() else {
        return Err(Error::invalid("norm_qkv_rope", format!("x has shape {:?}, not [B, L, E]", x.shape())));
    };
    if rope.is_traditional() {
        return Err(Error::invalid("norm_qkv_rope", "rotates halves of a head, and this table is for adjacent pairs"));
    }
    let starts = start_positions(rope, offset, batch, len)?;
    Ok(apply_n(
        NormQkvRope { parameters: weights.parameters(norm_weight, eps)?, starts },
        &[x, rope.cos(), rope.sin()],
    )?)
}

/// The position of the first token of each row, `[B]`.
pub(super) fn start_positions(rope: &RotaryEmbedding, offset: Offset<'_>, batch: i32, len: i32) -> Result<Vec<usize>> {
    let starts = match offset {
        Offset::Same(start) => vec![start; batch as usize],
        Offset::PerRow(starts) => starts.to_vec(),
    };
    if starts.len() != batch as usize {
        let message = format!("{} offsets for a batch of {batch} rows", starts.len());
        return Err(Error::invalid("norm_qkv_rope", message));
    }
    let last = i64::from(rope.max_positions()) - i64::from(len);
    let outside = starts.iter().find(|&&start| start < 0 || i64::from(start) > last);
    match outside {
        None => Ok(starts.into_iter().map(|start| start as usize).collect()),
        Some(start) => {
            let (end, positions) = (i64::from(*start) + i64::from(len), rope.max_positions());
            let message = format!("positions {start} to {end} are outside the table of {positions} positions");
            Err(Error::invalid("norm_qkv_rope", message))
        }
    }
}

/// What the operation knows besides its inputs.
pub(super) struct QkvParameters {
    /// `[E]`
    norm_weight: Constant,
    eps: f32,
    /// Query, key, value.
    matrices: [ConstantMatrix; 3],
    biases: Option<[Constant; 3]>,
    /// Heads of query, key, value.
    pub heads: [usize; 3],
    pub head_dim: usize,
}

impl QkvWeights {
    pub(super) fn parameters(&self, norm_weight: &Constant, eps: f32) -> Result<QkvParameters> {
        let [q, k, v] = &self.matrices;
        Ok(QkvParameters {
            norm_weight: norm_weight.clone(),
            eps,
            matrices: [q.constant()?, k.constant()?, v.constant()?],
            biases: self.biases.clone(),
            heads: [self.num_heads, self.num_kv_heads, self.num_kv_heads],
            head_dim: self.head_dim,
        })
    }
}

/// Inputs: x `[B, L, E]`, cos and sin `[max_positions, dims / 2]`.
struct NormQkvRope {
    parameters: QkvParameters,
    /// The position of the first token of each row, `[B]`.
    starts: Vec<usize>,
}

impl CpuOperation for NormQkvRope {
    fn name(&self) -> &'static str {
        "norm_qkv_rope"
    }

    fn outputs(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
        let [x, _, _] = inputs else { return Err("takes x and two tables".into()) };
        Ok(self.parameters.outputs(x)?.into())
    }

    fn run(&self, inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), OperationError> {
        match inputs[0].dtype() {
            Dtype::Float32 => self.run_in::<f32>(inputs, outputs),
            Dtype::Float16 => self.run_in::<f16>(inputs, outputs),
            _ => self.run_in::<bf16>(inputs, outputs),
        }
    }
}

impl NormQkvRope {
    fn run_in<T: Float>(&self, inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), OperationError> {
        let [q, k, v] = outputs else { return Err("there are three outputs".into()) };
        let outs = [q.as_mut_slice::<T>()?, k.as_mut_slice::<T>()?, v.as_mut_slice::<T>()?];
        let angles = Angles::of(&inputs[1], &inputs[2])?;
        self.parameters.run(inputs[0].as_slice::<T>()?, inputs[0].shape()[1], &self.starts, angles, outs)
    }
}

/// The tables of a [`RotaryEmbedding`], as inputs of an operation.
#[derive(Clone, Copy)]
pub(super) struct Angles<'a> {
    cos: &'a [f32],
    sin: &'a [f32],
    n_positions: usize,
}

impl<'a> Angles<'a> {
    /// Both `[max_positions, dims / 2]`.
    pub fn of(cos: &Tensor<'a>, sin: &Tensor<'a>) -> Result<Self, OperationError> {
        Ok(Self { cos: cos.as_slice()?, sin: sin.as_slice()?, n_positions: cos.shape()[0] })
    }
}

impl QkvParameters {
    /// What query, key and value will be, for `x` of `[B, L, E]`.
    pub fn outputs(&self, x: &TensorType) -> Result<[TensorType; 3], OperationError> {
        let &[batch, len, features] = x.shape.as_slice() else { return Err("x is not [B, L, E]".into()) };
        check_norm(&self.norm_weight, features)?;
        for (i, (matrix, heads)) in self.matrices.iter().zip(self.heads).enumerate() {
            projected(x, matrix)?;
            check_bias(self.biases.as_ref().map(|biases| &biases[i]), matrix.outputs())?;
            if matrix.outputs() != heads * self.head_dim || matrix.format() != self.matrices[0].format() {
                return Err("query, key and value weights have other shapes than the heads, or other formats".into());
            }
        }
        Ok(self.heads.map(|heads| TensorType { shape: vec![batch, heads, len, self.head_dim], dtype: x.dtype }))
    }

    /// The step that [`norm_qkv_rope`] is: `x` is `[B, L, E]`, `outs` are `[B, H, L, D]`, `starts` is `[B]`.
    pub fn run<T: Float>(
        &self,
        x: &[T],
        len: usize,
        starts: &[usize],
        Angles { cos, sin, n_positions }: Angles<'_>,
        outs: [&mut [T]; 3],
    ) -> Result<(), OperationError> {
        let norm_weight = self.norm_weight.tensor();
        let norm_weight = norm_weight.as_slice::<f32>()?;
        let [q, k, v] = &self.matrices;
        let matrices = [q.view()?, k.view()?, v.view()?];
        let biases = self.biases.as_ref().map(|biases| biases.each_ref().map(Constant::tensor));
        let biases = match &biases {
            Some([q, k, v]) => [Some(floats(q)?), Some(floats(k)?), Some(floats(v)?)],
            None => [None; 3],
        };
        // [task 2.2c.4] norm_qkv_rope
        todo!("week 2 day 2c task 4: norm_qkv_rope - see book/src/week2/day2c.md")
        // [end]
    }
}

// [task 2.2c.4 helpers] rotating a head
// [end]
