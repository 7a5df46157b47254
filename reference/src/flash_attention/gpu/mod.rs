//! FlashAttention-2 on a GPU: kernels in Metal, which of them a problem takes, and how many threads.
//!
//! | module | what |
//! |---|---|
//! | [`kernels`] | the sources, `kernels/*.metal` |
//! | [`problem`] | inputs that belong together |
//! | [`plain`] | one SIMD group for each query: every mask, every head size |
//! | [`decode`] | few queries: the heads of a group share keys, the keys are split |
//! | [`prefill`] | many queries: tiles on the matrix units |
//! | [`prefill_wide`] | the same on wide tiles, for NVIDIA's GPUs |

pub mod decode;
pub mod kernels;
pub mod plain;
pub mod prefill;
pub mod prefill_wide;
pub mod problem;

use mlx_custom::gpu::GpuBackend;
use mlx_rs::{Array, Dtype, ops};

use crate::{AttentionMask, Error, Result};
pub use prefill::Tiles;
use problem::Problem;

/// Which kernel computes attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelChoice {
    /// One SIMD group for each query.
    Plain,
    /// A threadgroup for some rows of a key/value head and one of so many splits of the keys.
    Decode { splits: usize },
    /// A threadgroup for a tile of queries.
    Prefill { tiles: Tiles },
    /// The same on wide tiles: 4 or 8 SIMD groups, 16 queries each.
    PrefillWide { simd_groups: usize },
}

/// The same function as [`scaled_dot_product_attention_grouped`](crate::scaled_dot_product_attention_grouped), on the GPU
/// (or in the emulator, where there is none).
///
/// - `query`: `[B, H_q, L, D]`
/// - `key`, `value`: `[B, H_kv, S, D]`; parts of a larger cache are read where they lie
/// - `scale`: `None` means `1 / sqrt(D)`
///
/// Inputs are f32, f16 or bf16, all of one type, in any memory order. Scores, weights and sums are f32; the result has
/// `query`'s shape and dtype. A query that may see no key at all gets NaN, as on the plain path.
///
/// # Errors
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) when an input has not four axes or is of another dtype, the
/// dtypes differ, `key` and `query` differ in B or D, `value` and `key` differ in shape, `H_kv` is 0 or does not divide
/// `H_q`, there are queries but no keys, or the mask is causal and L > S. [`Error::Mlx`](crate::Error::Mlx) when a mask
/// does not broadcast to `[B, H_q, L, S]`.
pub fn flash_attention_gpu(
    query: &Array,
    key: &Array,
    value: &Array,
    scale: Option<f32>,
    mask: &AttentionMask,
) -> Result<Array> {
    let problem = Problem::new(query, key, value, scale, mask)?;
    let backend = GpuBackend::current()?;
    run(&problem, backend, choose_kernel(&problem, backend))
}

/// [`flash_attention_gpu`] with the heads of a token side by side, as the next product takes them: `[B * L, H_q * D]`.
///
/// # Errors
/// As [`flash_attention_gpu`].
pub fn flash_attention_gpu_merged(query: &Array, key: &Array, value: &Array, mask: &AttentionMask) -> Result<Array> {
    let backend = GpuBackend::current()?;
    let problem = Problem { merges_heads: true, ..Problem::new(query, key, value, None, mask)? };
    let attended = run(&problem, backend, choose_kernel(&problem, backend))?;
    if attended.ndim() == 2 {
        return Ok(attended);
    }
    let [batch, num_heads, len, head_dim] = problem.out_shape().map(|n| n as i32);
    Ok(attended.swap_axes(1, 2)?.reshape(&[batch * len, num_heads * head_dim])?)
}

/// [`flash_attention_gpu`], with a say in where and how: for tests and measurements.
///
/// # Errors
/// As [`flash_attention_gpu`], and [`Error::InvalidArgument`](crate::Error::InvalidArgument) when `choice` cannot compute
/// this problem.
pub fn flash_attention_gpu_with(
    query: &Array,
    key: &Array,
    value: &Array,
    scale: Option<f32>,
    mask: &AttentionMask,
    backend: GpuBackend,
    choice: KernelChoice,
) -> Result<Array> {
    run(&Problem::new(query, key, value, scale, mask)?, backend, choice)
}

/// The kernel that computes this problem fastest, as measured.
pub fn choose_kernel(problem: &Problem<'_>, backend: GpuBackend) -> KernelChoice {
    // [task 2.5.5] choose_kernel
    if matches!(problem.mask, AttentionMask::Array(_)) {
        return KernelChoice::Plain;
    }
    let is_prefill = problem.shape.query_len > decode::LONGEST_QUERY && prefill::check(problem).is_ok();
    if is_prefill && backend == GpuBackend::Cuda && prefill_wide::check(problem, backend).is_ok() {
        KernelChoice::PrefillWide { simd_groups: prefill_wide::SIMD_GROUPS }
    } else if is_prefill {
        KernelChoice::Prefill { tiles: Tiles::new(backend) }
    } else if decode::check(problem).is_ok() {
        KernelChoice::Decode { splits: decode::choose_splits(&problem.shape, backend) }
    } else {
        KernelChoice::Plain
    }
    // [end]
}

fn run(problem: &Problem<'_>, backend: GpuBackend, choice: KernelChoice) -> Result<Array> {
    if problem.query.size() == 0 {
        return Ok(ops::zeros_dtype(problem.query.shape(), problem.query.dtype())?);
    }
    match choice {
        KernelChoice::Plain => plain::run(problem, backend),
        KernelChoice::Decode { splits } => decode::run(problem, backend, splits),
        KernelChoice::Prefill { tiles } => prefill::run(problem, backend, tiles),
        KernelChoice::PrefillWide { simd_groups } => prefill_wide::run(problem, backend, simd_groups),
    }
}

/// A scale as a constant of a kernel: the bits of the float. A new scale compiles the kernel anew.
fn bits(scale: f32) -> mlx_custom::gpu::TemplateValue {
    mlx_custom::gpu::TemplateValue::Int(scale.to_bits() as i32)
}

/// The bytes of a number.
fn size_of(dtype: Dtype) -> usize {
    if dtype == Dtype::Float32 { 4 } else { 2 }
}

/// The output of a kernel that has one.
fn only(outputs: Vec<Array>) -> Result<Array> {
    let [output] = take(outputs)?;
    Ok(output)
}

/// The `N` outputs of a kernel that has as many.
fn take<const N: usize>(outputs: Vec<Array>) -> Result<[Array; N]> {
    let n = outputs.len();
    outputs.try_into().map_err(|_| Error::invalid("flash_attention_gpu", format!("a kernel gave {n} outputs, not {N}")))
}
