//! Many queries on GPUs whose matrix units multiply for four SIMD groups at once and read threadgroup memory themselves.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, Launch, TemplateValue};
use mlx_rs::Array;

use super::kernels::ATTENTION_PREFILL_WIDE;
use super::problem::Problem;
use super::{bits, prefill};
use crate::Result;

/// SIMD groups of a threadgroup, each with 16 queries. Eight share keys and values, which come from the cache of the whole GPU.
pub const SIMD_GROUPS: usize = 8;

/// Keys in a tile. With eight SIMD groups a threadgroup has a processor of the GPU to itself, and room for larger tiles: two of
/// keys, two of values and the queries are 170 KiB at D = 128. Two threadgroups of four take 85 each.
fn keys(simd_groups: usize) -> usize {
    if simd_groups == 8 { 128 } else { 64 }
}

/// Whether the kernel can compute this, on this backend.
///
/// # Errors
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for what [`prefill::check`] refuses, a head size that is
/// neither 64 nor 128, and Metal, where a threadgroup has 32 KiB of memory.
pub fn check(problem: &Problem<'_>, backend: GpuBackend) -> Result<()> {
    prefill::check(problem)?;
    let head_dim = problem.shape.head_dim;
    if ![64, 128].contains(&head_dim) {
        let message = format!("wide tiles take 64 or 128 as head size, not {head_dim}; use KernelChoice::Prefill");
        return problem.refuse(message);
    }
    if backend == GpuBackend::Metal {
        let message = "wide tiles need more than Metal's 32 KiB of threadgroup memory; use KernelChoice::Prefill";
        return problem.refuse(message.to_owned());
    }
    Ok(())
}

/// Runs the kernel.
///
/// # Errors
/// As [`check`], and for a number of SIMD groups that is neither 4 nor 8; [`Error::Mlx`](crate::Error::Mlx) when the
/// kernel does not compile.
pub fn run(problem: &Problem<'_>, backend: GpuBackend, simd_groups: usize) -> Result<Array> {
    check(problem, backend)?;
    if ![4, 8].contains(&simd_groups) {
        return problem.refuse(format!("wide tiles take 4 or 8 SIMD groups, not {simd_groups}"));
    }
    let shape = &problem.shape;
    let dtype = problem.query.dtype();
    let threads = 32 * simd_groups;
    let n_tiles = shape.query_len.div_ceil(16 * simd_groups);
    let launch = Launch {
        template: &[
            ("T", TemplateValue::Dtype(dtype)),
            ("D", TemplateValue::Int(shape.head_dim as i32)),
            ("KEYS", TemplateValue::Int(keys(simd_groups) as i32)),
            ("SIMD_GROUPS", TemplateValue::Int(simd_groups as i32)),
            ("CAUSAL", TemplateValue::Bool(problem.is_causal())),
            ("SCALE_BITS", bits(problem.scale)),
        ],
        outputs: &[TensorType::new(problem.out_shape(), dtype)],
        grid: [shape.num_heads * threads, n_tiles, shape.batch],
        threadgroup: [threads, 1, 1],
        fill: None,
    };
    super::only(ATTENTION_PREFILL_WIDE.launch_on(backend, &[problem.query, problem.key, problem.value], &launch)?)
}
