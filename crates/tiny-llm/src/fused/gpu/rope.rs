//! Biases, heads and rotary positions of query, key and value in one kernel.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch, TemplateValue};
use mlx_rs::Array;

use super::take;
use crate::{Error, Offset, Result, RotaryEmbedding};

/// The kernel.
pub static ROPE_QK: GpuKernel = GpuKernel {
    name: "rope_qk",
    inputs: &["projected", "bias", "cosines", "sines", "offsets"],
    outputs: &["rotated_query", "keys_and_values"],
    header: "",
    body: include_str!("../../kernels/rope_qk.metal"),
    strided: false,
};

/// The heads of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// H_q
    pub query: usize,
    /// H_kv
    pub key_value: usize,
    /// D
    pub dim: usize,
}

impl Heads {
    /// `(H_q + 2 * H_kv) * D`: what a token's queries, keys and values are together.
    pub fn projected_size(self) -> usize {
        (self.query + 2 * self.key_value) * self.dim
    }
}

/// Where the tokens of a forward pass are. All layers share it, so that the array comes from the host once for each pass.
#[derive(Debug)]
pub struct Positions<'a> {
    rope: &'a RotaryEmbedding,
    /// B
    batch: usize,
    /// L
    len: usize,
    /// `[1]` or `[B]`, i32: the position of each row's first token
    first: Array,
}

impl<'a> Positions<'a> {
    /// `len` tokens in each of `batch` rows, the first at `offset`; `rope` has the angles.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for positions beyond the table of `rope`, and when there is not one offset for each row.
    pub fn new(rope: &'a RotaryEmbedding, offset: Offset<'_>, batch: usize, len: usize) -> Result<Self> {
        let first = match offset {
            Offset::Same(offset) => vec![offset],
            Offset::PerRow(offsets) => offsets.to_vec(),
        };
        let is_known = |start: &i32| *start >= 0 && *start as usize + len <= rope.max_positions() as usize;
        if !(first.len() == 1 || first.len() == batch) || !first.iter().all(is_known) {
            let max = rope.max_positions();
            let message = format!(
                "{len} tokens from {first:?} on are not one start for each of {batch} rows, within {max} positions"
            );
            return Err(Error::invalid("Positions::new", message));
        }
        Ok(Self { rope, batch, len, first: Array::from_slice(&first, &[first.len() as i32]) })
    }

    /// B
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// L
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.batch * self.len == 0
    }
}

/// What attention takes from what the projection gives.
///
/// - `projected`: `[.., (H_q + 2 * H_kv) * D]` with `B * L` rows, without biases: of each token its queries, keys, values
/// - `bias`: `[(H_q + 2 * H_kv) * D]`, added first
/// - `positions`: rotate query and key, all D numbers of a head, the first half with the second
///
/// Returns the query, `[B, H_q, L, D]`, and key and value side by side, `[B, 2 * H_kv, L, D]`, as
/// [`KvCache::update_and_fetch_joined`](crate::KvCache::update_and_fetch_joined) takes them.
///
/// # Errors
/// [`Error::InvalidArgument`] when an array is not of these shapes, there are no tokens, the dtypes differ, or the rotary
/// embedding rotates adjacent pairs or only a part of a head.
pub fn rope_qk_gpu(
    projected: &Array,
    bias: Option<&Array>,
    heads: Heads,
    positions: &Positions<'_>,
    backend: GpuBackend,
) -> Result<[Array; 2]> {
    let refuse = |message: String| Err(Error::invalid("rope_qk_gpu", message));
    let Positions { rope, batch, len, first } = positions;
    let size = heads.projected_size();
    let is_projection = projected.shape().last() == Some(&(size as i32)) && projected.size() == batch * len * size;
    if !is_projection || projected.size() == 0 {
        let shape = projected.shape();
        return refuse(format!("projected has shape {shape:?}, not [{batch} * {len}, {size}] for {heads:?}"));
    }
    let dtype = projected.dtype();
    if let Some(bias) = bias
        && (bias.shape() != [size as i32] || bias.dtype() != dtype)
    {
        let (shape, bias_dtype) = (bias.shape(), bias.dtype());
        return refuse(format!("the bias is {bias_dtype:?} of shape {shape:?}, not {dtype:?} of shape [{size}]"));
    }
    if rope.is_traditional() || rope.cos().dim(1) as usize * 2 != heads.dim {
        return refuse(format!("the rotary embedding is not of halves of {} numbers", heads.dim));
    }
    let shape = |heads_of_array| TensorType::new([*batch, heads_of_array, *len, heads.dim], dtype);
    let threads = (heads.dim / 2).next_multiple_of(32);
    let int = |number: usize| TemplateValue::Int(number as i32);
    let launch = Launch {
        template: &[
            ("T", TemplateValue::Dtype(dtype)),
            ("D", int(heads.dim)),
            ("QUERY_HEADS", int(heads.query)),
            ("KEY_VALUE_HEADS", int(heads.key_value)),
            ("HAS_BIAS", TemplateValue::Bool(bias.is_some())),
        ],
        outputs: &[shape(heads.query), shape(2 * heads.key_value)],
        grid: [len * threads, heads.query + 2 * heads.key_value, *batch],
        threadgroup: [threads, 1, 1],
        fill: None,
    };
    let inputs = [projected, bias.unwrap_or(projected), rope.cos(), rope.sin(), first];
    take("rope_qk", ROPE_QK.launch_on(backend, &inputs, &launch)?)
}
