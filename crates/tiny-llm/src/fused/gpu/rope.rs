//! Biases, heads and rotary positions of query, key and value in one kernel.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch, TemplateValue};
use mlx_rs::{Array, Dtype};

use super::take;
use crate::{Error, Offset, Result, RotaryEmbedding};

/// The kernel.
pub static ROPE_QK: GpuKernel = GpuKernel {
    name: "rope_qk",
    inputs: &["query", "key", "value", "query_bias", "key_bias", "value_bias", "cosines", "sines", "offsets"],
    outputs: &["rotated_query", "rotated_key", "moved_value"],
    header: "",
    body: include_str!("../../kernels/rope_qk.metal"),
    strided: false,
};

/// The biases of the query, key and value projections: `[H_q * D]`, `[H_kv * D]`, `[H_kv * D]`.
pub type ProjectionBiases<'a> = [&'a Array; 3];

/// What attention takes from what the projections give.
///
/// - `projected`: query `[B, L, H_q * D]`, key and value `[B, L, H_kv * D]`, without biases
/// - `biases`: added first
/// - `rope`: rotates query and key, all D numbers of a head, the first half with the second
/// - `offset`: the position of the first token
///
/// Returns query `[B, H_q, L, D]`, key and value `[B, H_kv, L, D]`.
///
/// # Errors
/// [`Error::InvalidArgument`] when an array is not of these shapes or the dtypes differ, `rope` rotates adjacent pairs or
/// only a part of a head, and for positions beyond its table.
pub fn rope_qk_gpu(
    projected: [&Array; 3],
    biases: Option<ProjectionBiases<'_>>,
    head_dim: usize,
    rope: &RotaryEmbedding,
    offset: Offset<'_>,
    backend: GpuBackend,
) -> Result<[Array; 3]> {
    let refuse = |message: String| Err(Error::invalid("rope_qk_gpu", message));
    let [query, key, value] = projected;
    let &[batch, len, query_size] = query.shape() else {
        return refuse(format!("the query has shape {:?}, not [B, L, H_q * D]", query.shape()));
    };
    let kv_size = key.shape().last().copied().unwrap_or(0);
    let fits = key.shape() == [batch, len, kv_size]
        && value.shape() == key.shape()
        && head_dim > 0
        && [query_size, kv_size].iter().all(|size| *size > 0 && size % head_dim as i32 == 0)
        && biases.is_none_or(|biases| {
            biases.iter().zip([query_size, kv_size, kv_size]).all(|(bias, size)| bias.shape() == [size])
        });
    if !fits {
        let shapes = projected.map(Array::shape);
        return refuse(format!(
            "{shapes:?} are not projections to heads of {head_dim} numbers, or the biases don't fit"
        ));
    }
    let dtype = query.dtype();
    let mut arrays = projected.iter().chain(biases.iter().flatten());
    if arrays.any(|array| array.dtype() != dtype) {
        return refuse(format!("projections and biases are not all {dtype:?}"));
    }
    if rope.is_traditional() || rope.cos().dim(1) as usize * 2 != head_dim {
        return refuse(format!("the rotary embedding is not of halves of {head_dim} numbers"));
    }
    let offsets = offsets(rope, offset, batch, len)?;
    let (batch, len) = (batch as usize, len as usize);
    let heads = |size: i32| size as usize / head_dim;
    let (num_heads, num_kv_heads) = (heads(query_size), heads(kv_size));
    let shape = |heads| TensorType::new([batch, heads, len, head_dim], dtype);
    let threads = (head_dim / 2).next_multiple_of(32);
    let launch = Launch {
        template: &[
            ("T", TemplateValue::Dtype(dtype)),
            ("D", TemplateValue::Int(head_dim as i32)),
            ("HAS_BIAS", TemplateValue::Bool(biases.is_some())),
        ],
        outputs: &[shape(num_heads), shape(num_kv_heads), shape(num_kv_heads)],
        grid: [threads, num_heads + 2 * num_kv_heads, batch * len],
        threadgroup: [threads, 1, 1],
        fill: None,
    };
    let [query_bias, key_bias, value_bias] = biases.unwrap_or(projected);
    let inputs = [query, key, value, query_bias, key_bias, value_bias, rope.cos(), rope.sin(), &offsets];
    take("rope_qk", ROPE_QK.launch_on(backend, &inputs, &launch)?)
}

/// The position of the first token, one for all rows or one for each.
fn offsets(rope: &RotaryEmbedding, offset: Offset<'_>, batch: i32, len: i32) -> Result<Array> {
    let offsets = match offset {
        Offset::Same(offset) => vec![offset],
        Offset::PerRow(offsets) => offsets.to_vec(),
    };
    let is_known = |start: &i32| *start >= 0 && start + len <= rope.max_positions();
    if !(offsets.len() == 1 || offsets.len() as i32 == batch) || !offsets.iter().all(is_known) {
        let (max, message) = (rope.max_positions(), "are not one for each row, within the table of");
        return Err(Error::invalid(
            "rope_qk_gpu",
            format!("{len} tokens from {offsets:?} on {message} {max} positions"),
        ));
    }
    Ok(Array::from_slice(&offsets, &[offsets.len() as i32]).as_dtype(Dtype::Int32)?)
}
