//! Many queries: a threadgroup takes a tile of queries over the keys, a tile at a time, on the matrix units.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, Launch, TemplateValue};
use mlx_rs::{Array, Dtype};

use super::bits;
use super::kernels::ATTENTION_PREFILL;
use super::problem::Problem;
use crate::{AttentionMask, Result};

/// Rows of a matrix tile.
const TILE: usize = 16;

/// How a threadgroup cuts the problem up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiles {
    pub simd_groups: usize,
    /// Each SIMD group takes so many times 16 queries.
    pub row_tiles: usize,
    /// Keys in a tile, a multiple of 16.
    pub keys: usize,
}

impl Tiles {
    /// Tiles that suit the GPU: queries, keys and values have to fit into its threadgroup memory.
    pub fn new(backend: GpuBackend) -> Self {
        match backend {
            // 68 KiB at D = 128. With two row tiles every key that is read is used twice.
            GpuBackend::Cuda => Self { simd_groups: 4, row_tiles: 2, keys: 64 },
            // 25.5 KiB at D = 128, of 32 KiB.
            GpuBackend::Metal | GpuBackend::Emulator => Self { simd_groups: 4, row_tiles: 1, keys: 16 },
        }
    }

    /// Queries of a threadgroup.
    pub fn rows(self) -> usize {
        self.simd_groups * self.row_tiles * TILE
    }
}

/// Whether the kernel can compute this.
///
/// # Errors
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a mask that is an array, f32 inputs, a head size that is
/// not a multiple of 16 up to 128, and a scale that is not positive.
pub fn check(problem: &Problem<'_>) -> Result<()> {
    let (head_dim, dtype) = (problem.shape.head_dim, problem.query.dtype());
    let why = if matches!(problem.mask, AttentionMask::Array(_)) {
        "no mask array".to_owned()
    } else if dtype == Dtype::Float32 {
        "Float16 and Bfloat16, not Float32: matrix units round f32 to fewer digits".to_owned()
    } else if !head_dim.is_multiple_of(16) || !(16..=128).contains(&head_dim) {
        format!("a multiple of 16 up to 128 as head size, not {head_dim}")
    } else if problem.scale <= 0.0 {
        format!("a positive scale, not {}", problem.scale)
    } else {
        return Ok(());
    };
    problem.refuse(format!("the prefill kernel takes {why}; use KernelChoice::Plain"))
}

/// Runs the kernel.
///
/// # Errors
/// As [`check`], and when `tiles` holds nothing or keys that are no multiple of 16;
/// [`Error::Mlx`](crate::Error::Mlx) when the kernel does not compile.
pub fn run(problem: &Problem<'_>, backend: GpuBackend, tiles: Tiles) -> Result<Array> {
    check(problem)?;
    let fits = (1..=16).contains(&tiles.simd_groups) && (1..=4).contains(&tiles.row_tiles) && tiles.keys > 0;
    if !fits || !tiles.keys.is_multiple_of(TILE) {
        let message = format!("{tiles:?}: 1 to 16 SIMD groups, 1 to 4 row tiles, and a multiple of {TILE} keys");
        return problem.refuse(message);
    }
    let shape = &problem.shape;
    let dtype = problem.query.dtype();
    let threads = 32 * tiles.simd_groups;
    let n_tiles = shape.query_len.div_ceil(tiles.rows());
    let launch = Launch {
        template: &[
            ("T", TemplateValue::Dtype(dtype)),
            ("D", TemplateValue::Int(shape.head_dim as i32)),
            ("KEYS", TemplateValue::Int(tiles.keys as i32)),
            ("SIMD_GROUPS", TemplateValue::Int(tiles.simd_groups as i32)),
            ("ROW_TILES", TemplateValue::Int(tiles.row_tiles as i32)),
            ("CAUSAL", TemplateValue::Bool(problem.is_causal())),
            ("SCALE_BITS", bits(problem.scale)),
        ],
        outputs: &[TensorType::new(problem.out_shape(), dtype)],
        grid: [shape.num_heads * threads, n_tiles, shape.batch],
        threadgroup: [threads, 1, 1],
        fill: None,
    };
    super::only(ATTENTION_PREFILL.launch_on(backend, &[problem.query, problem.key, problem.value], &launch)?)
}
