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
        let tables = Tables { cos, sin, half: cos.len() / n_positions };
        let (kernel, n_tokens) = (chosen_kernel()?, x.len() / matrices[0].inputs);
        let activations = quantize_tokens(kernel, &matrices[0], n_tokens, |token, row| {
            for (to, from) in row.iter_mut().zip(&x[token * matrices[0].inputs..]) {
                *to = from.to_f32();
            }
            rms_norm_row(row, norm_weight, self.eps);
        });
        // Seen as rows of one head and one token: [B * H * L, D].
        let outs = outs.map(|out| Output::new(out, self.head_dim));
        for_each_tile(n_tokens, matrices.iter().map(|matrix| matrix.outputs).sum(), |tokens, rows, tile| {
            // A tile may reach from one matrix into the next.
            let mut first = 0;
            for (matrix, ((out, bias), heads)) in matrices.iter().zip(outs.iter().zip(&biases).zip(self.heads)) {
                let own = rows.start.max(first) - first..rows.end.min(first + matrix.outputs).saturating_sub(first);
                first += matrix.outputs;
                if own.is_empty() {
                    continue;
                }
                tile.resize(tokens.len() * own.len(), 0.0);
                kernel.multiply(matrix, &activations, tokens.clone(), own.clone(), tile);
                for (token, sums) in tokens.clone().zip(tile.chunks_exact(own.len())) {
                    let (batch, position) = (token / len, token % len);
                    for (row, sum) in own.clone().zip(sums) {
                        let (head, d) = (row / self.head_dim, row % self.head_dim);
                        let bias = bias.as_ref().map_or(0.0, |bias| bias.get(row));
                        // SAFETY: one number of this tile's own part.
                        let to = unsafe { out.part((batch * heads + head) * len + position, d..d + 1) };
                        to[0] = T::from_f32(sum + bias);
                    }
                }
            }
        });
        for (out, heads) in outs.iter().zip(self.heads).take(2) {
            let n_rows = n_tokens * heads;
            parallel_for(n_rows.div_ceil(ROWS_TO_ROTATE), |block| {
                for row in block * ROWS_TO_ROTATE..n_rows.min((block + 1) * ROWS_TO_ROTATE) {
                    let (batch, position) = (row / len / heads, row % len);
                    // SAFETY: each row is rotated once.
                    let head = unsafe { out.part(row, 0..self.head_dim) };
                    tables.rotate(head, starts[batch] + position);
                }
            });
        }
        Ok(())
        // [end]
    }
}

// [task 2.2c.4 helpers] rotating a head
/// Heads that a thread rotates before it looks for more.
const ROWS_TO_ROTATE: usize = 64;

/// The tables of a [`RotaryEmbedding`], `[max_positions, half]`.
struct Tables<'a> {
    cos: &'a [f32],
    sin: &'a [f32],
    half: usize,
}

impl Tables<'_> {
    /// Rotates the pairs (`i`, `i + half`) of one head.
    fn rotate<T: Float>(&self, head: &mut [T], position: usize) {
        let (first, second) = head[..2 * self.half].split_at_mut(self.half);
        let table = position * self.half..(position + 1) * self.half;
        let angles = self.cos[table.clone()].iter().zip(&self.sin[table]);
        for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(angles) {
            let (x, y) = (a.to_f32(), b.to_f32());
            *a = T::from_f32(x * cos - y * sin);
            *b = T::from_f32(y * cos + x * sin);
        }
    }
}
// [end]
