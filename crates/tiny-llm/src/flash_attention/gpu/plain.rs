//! One SIMD group for each query.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, Launch, TemplateValue};
use mlx_rs::{Array, Dtype, ops};

use super::bits;
use super::kernels::ATTENTION_PLAIN;
use super::problem::Problem;
use crate::{AttentionMask, Result};

/// Threads of a threadgroup: its SIMD groups have nothing to do with each other.
const THREADS: usize = 128;

/// Runs the kernel.
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) when the mask does not broadcast, or the kernel does not compile.
pub fn run(problem: &Problem<'_>, backend: GpuBackend) -> Result<Array> {
    let shape = &problem.shape;
    let scores = [shape.batch, shape.num_heads, shape.query_len, shape.key_len].map(|n| n as i32);
    let (kind, mask) = match problem.mask {
        // The kernel wants an array, and does not look at it.
        AttentionMask::None => (0, problem.query.clone()),
        AttentionMask::Causal => (1, problem.query.clone()),
        // A broadcast array is a view with strides of 0: nothing is repeated in memory.
        AttentionMask::Array(mask) if mask.dtype() == Dtype::Bool => {
            (2, ops::broadcast_to(&mask.view_dtype(Dtype::Uint8)?, &scores)?)
        }
        AttentionMask::Array(mask) => (3, ops::broadcast_to(&as_float(mask)?, &scores)?),
    };
    let out_shape = problem.out_shape();
    let n_queries = out_shape[..3].iter().product::<usize>();
    let launch = Launch {
        template: &[
            ("T", TemplateValue::Dtype(problem.query.dtype())),
            ("M", TemplateValue::Dtype(mask.dtype())),
            ("D", TemplateValue::Int(shape.head_dim as i32)),
            ("MASK", TemplateValue::Int(kind)),
            ("SCALE_BITS", bits(problem.scale)),
        ],
        outputs: &[TensorType::new(out_shape, problem.query.dtype())],
        grid: [(32 * n_queries).next_multiple_of(THREADS), 1, 1],
        threadgroup: [THREADS, 1, 1],
        fill: None,
    };
    let inputs = [problem.query, problem.key, problem.value, &mask];
    let outputs = ATTENTION_PLAIN.launch_on(backend, &inputs, &launch)?;
    super::only(outputs)
}

/// An additive mask in a dtype that the kernel adds.
fn as_float(mask: &Array) -> Result<Array> {
    Ok(match mask.dtype() {
        Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16 => mask.clone(),
        _ => mask.as_dtype(Dtype::Float32)?,
    })
}
