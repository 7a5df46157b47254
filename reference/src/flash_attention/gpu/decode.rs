//! Few queries: the heads of a group share the keys, and several threadgroups share out the keys of a head.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, Launch, TemplateValue};
use mlx_rs::{Array, Dtype};

use super::kernels::{ATTENTION_DECODE, ATTENTION_DECODE_MERGE};
use super::problem::Problem;
use super::{bits, size_of};
use crate::flash_attention::shape::AttentionShape;
use crate::{AttentionMask, Result};

/// More queries than this are worth tiles.
pub const LONGEST_QUERY: usize = 8;

/// Rows of a threadgroup at most: each lane keeps part of the query and of the accumulator of all of them in registers.
const MOST_ROWS: usize = 8;
/// And at most so many numbers: the accumulators of all SIMD groups take 16 KiB of threadgroup memory.
const MOST_NUMBERS: usize = 1024;
/// SIMD groups of a threadgroup.
const SIMD_GROUPS: usize = 4;
/// SIMD groups of a threadgroup that merges.
const MERGE_SIMD_GROUPS: usize = 8;
/// For a shorter split, merging would count.
const FEWEST_KEYS_OF_A_SPLIT: usize = 64;

/// Whether the kernel can compute this.
///
/// # Errors
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a mask that is an array, and for a head size that is
/// not 1, 2, 4, .. 32 times 16 bytes.
pub fn check(problem: &Problem<'_>) -> Result<()> {
    if matches!(problem.mask, AttentionMask::Array(_)) {
        return problem.refuse("the decode kernel takes no mask array; use KernelChoice::Plain".to_owned());
    }
    let (head_dim, wide) = (problem.shape.head_dim, 16 / size_of(problem.query.dtype()));
    let lanes = head_dim / wide;
    if !head_dim.is_multiple_of(wide) || !lanes.is_power_of_two() || lanes > 32 {
        let message = format!("the decode kernel takes 1, 2, 4, .. 32 times {wide} as head size, not {head_dim}");
        return problem.refuse(message);
    }
    Ok(())
}

/// How many rows a threadgroup takes.
fn rows_of_threadgroup(shape: &AttentionShape) -> usize {
    (shape.group() * shape.query_len).min(MOST_ROWS).min((MOST_NUMBERS / shape.head_dim.max(1)).max(1)).max(1)
}

/// Into how many parts the keys are split, so that every core of the GPU has something to do.
pub fn choose_splits(shape: &AttentionShape, backend: GpuBackend) -> usize {
    // [task 2.5.3] choose_splits
    let rows = shape.group() * shape.query_len;
    let threadgroups = shape.batch * shape.num_kv_heads * rows.div_ceil(rows_of_threadgroup(shape));
    let wanted = threadgroups_at_once(backend) / threadgroups.max(1);
    wanted.min(shape.key_len / FEWEST_KEYS_OF_A_SPLIT).max(1)
    // [end]
}

/// How many threadgroups of this kernel run at a time.
fn threadgroups_at_once(backend: GpuBackend) -> usize {
    match backend {
        // 132 multiprocessors of an H100 or H200, each with registers for two.
        GpuBackend::Cuda => 264,
        // Up to 40 cores (M3 Max), each with two or three.
        GpuBackend::Metal => 96,
        // Enough to have some splits.
        GpuBackend::Emulator => 8,
    }
}

/// Runs the kernel, and the one that merges if there are several splits.
///
/// # Errors
/// As [`check`], and when `splits` is 0; [`Error::Mlx`](crate::Error::Mlx) when a kernel does not compile.
pub fn run(problem: &Problem<'_>, backend: GpuBackend, splits: usize) -> Result<Array> {
    check(problem)?;
    if splits == 0 {
        return problem.refuse("the keys cannot be cut into 0 splits".to_owned());
    }
    let shape = &problem.shape;
    let (is_whole, dtype) = (splits == 1, problem.query.dtype());
    let out_dtype = if is_whole { dtype } else { Dtype::Float32 };
    let all_rows = shape.group() * shape.query_len;
    let rows = rows_of_threadgroup(shape);
    let [batch, num_heads, query_len, head_dim] = problem.out_shape();
    let out_shape = if is_whole { problem.wanted_shape() } else { vec![batch, num_heads, query_len, splits, head_dim] };
    let launch = Launch {
        template: &[
            ("T", TemplateValue::Dtype(dtype)),
            ("O", TemplateValue::Dtype(out_dtype)),
            ("D", TemplateValue::Int(head_dim as i32)),
            ("ROWS", TemplateValue::Int(rows as i32)),
            ("SIMD_GROUPS", TemplateValue::Int(SIMD_GROUPS as i32)),
            ("CAUSAL", TemplateValue::Bool(problem.is_causal())),
            ("IS_WHOLE", TemplateValue::Bool(is_whole)),
            ("SCALE_BITS", bits(problem.scale)),
        ],
        outputs: &[
            TensorType::new(out_shape, out_dtype),
            TensorType::new([batch, num_heads, query_len, splits, 2], Dtype::Float32),
        ],
        grid: [splits * 32 * SIMD_GROUPS, shape.num_kv_heads * all_rows.div_ceil(rows), batch],
        threadgroup: [32 * SIMD_GROUPS, 1, 1],
        fill: None,
    };
    let outputs = ATTENTION_DECODE.launch_on(backend, &[problem.query, problem.key, problem.value], &launch)?;
    let [out, statistics] = super::take(outputs)?;
    if is_whole { Ok(out) } else { merge(problem, backend, &out, &statistics) }
}

/// The answer from what the splits found.
fn merge(problem: &Problem<'_>, backend: GpuBackend, partial: &Array, statistics: &Array) -> Result<Array> {
    let out_shape = problem.out_shape();
    let threads = 32 * MERGE_SIMD_GROUPS;
    let launch = Launch {
        template: &[
            ("O", TemplateValue::Dtype(problem.query.dtype())),
            ("D", TemplateValue::Int(out_shape[3] as i32)),
            ("SIMD_GROUPS", TemplateValue::Int(MERGE_SIMD_GROUPS as i32)),
        ],
        outputs: &[TensorType::new(problem.wanted_shape(), problem.query.dtype())],
        grid: [out_shape[..3].iter().product::<usize>() * threads, 1, 1],
        threadgroup: [threads, 1, 1],
        fill: None,
    };
    super::only(ATTENTION_DECODE_MERGE.launch_on(backend, &[partial, statistics], &launch)?)
}
