//! Many tokens: every weight is used often, so the kernel is about multiplying.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch, TemplateValue};
use mlx_rs::{Array, Dtype};

use crate::Result;
use crate::quantized::gpu::dequantize::dequantize_gpu;
use crate::quantized::gpu::operands::{Operands, single};

/// A threadgroup computes a tile of outputs with matrix units.
pub static TILED: GpuKernel = GpuKernel {
    name: "quantized_matmul_tiled",
    inputs: &["x", "packed", "scales", "biases", "bias"],
    outputs: &["out"],
    header: concat!(
        include_str!("../../kernels/quantized.metal"),
        include_str!("../../kernels/one_plus_fraction.metal")
    ),
    body: include_str!("../../kernels/quantized_matmul_tiled.metal"),
    strided: false,
};

/// How the work is cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TileShape {
    /// Tokens of a threadgroup: a multiple of 16 * `simd_m`.
    pub m: usize,
    /// Outputs of a threadgroup: a multiple of 16 * `simd_n`.
    pub n: usize,
    /// Weights along K of one step: 16 or 32.
    pub k: usize,
    /// SIMD groups along the tokens.
    pub simd_m: usize,
    /// SIMD groups along the outputs.
    pub simd_n: usize,
    /// Threadgroups that share K. Their sums are added up by a second operation.
    pub splits: usize,
}

/// With fewer threadgroups than this, some of a large GPU's multiprocessors have nothing to do.
const ENOUGH_THREADGROUPS: usize = 256;

/// Fewer steps of K than this are not worth a threadgroup.
const MIN_STEPS: usize = 16;

impl TileShape {
    /// For these operands.
    pub fn choose(operands: &Operands<'_>) -> Self {
        let tokens = operands.tokens;
        // Two large tiles of two steps are 40 KiB: too much for Apple's 32 KiB of threadgroup memory.
        let has_room = operands.backend == GpuBackend::Cuda;
        let whole = match operands.dtype() {
            Dtype::Float32 => Self { m: 32, n: 64, k: 16, simd_m: 1, simd_n: 4, splits: 1 },
            _ if tokens <= 16 => Self { m: 16, n: 64, k: 32, simd_m: 1, simd_n: 4, splits: 1 },
            _ if tokens <= 32 => Self { m: 32, n: 64, k: 32, simd_m: 1, simd_n: 4, splits: 1 },
            _ if tokens > 64 && has_room => Self { m: 128, n: 128, k: 32, simd_m: 2, simd_n: 4, splits: 1 },
            _ => Self { m: 64, n: 64, k: 32, simd_m: 2, simd_n: 2, splits: 1 },
        };
        let threadgroups = tokens.div_ceil(whole.m) * operands.outputs().div_ceil(whole.n);
        let most = (operands.inputs() / whole.k / MIN_STEPS).max(1);
        Self { splits: (ENOUGH_THREADGROUPS / threadgroups).clamp(1, most), ..whole }
    }
}

/// `x Wᵀ + b`: `[M, N]`, cut up as [`TileShape::choose`] says.
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) when the kernel cannot run.
pub fn tiled(operands: &Operands<'_>) -> Result<Array> {
    tiled_in(TileShape::choose(operands), operands)
}

/// [`tiled`], cut up as `shape` says.
///
/// # Errors
/// As [`tiled`].
pub fn tiled_in(shape: TileShape, operands: &Operands<'_>) -> Result<Array> {
    let int = |number: usize| TemplateValue::Int(number as i32);
    // Parts of a sum stay f32.
    let dtype = if shape.splits == 1 { operands.dtype() } else { Dtype::Float32 };
    let template = operands.template(&[
        ("O", TemplateValue::Dtype(dtype)),
        ("SPLITS", int(shape.splits)),
        ("TILE_M", int(shape.m)),
        ("TILE_N", int(shape.n)),
        ("TILE_K", int(shape.k)),
        ("SIMD_M", int(shape.simd_m)),
        ("SIMD_N", int(shape.simd_n)),
    ]);
    let threads = 32 * shape.simd_m * shape.simd_n;
    let tiles = [operands.tokens.div_ceil(shape.m), operands.outputs().div_ceil(shape.n)];
    let launch = Launch {
        template: &template,
        outputs: &[TensorType { shape: vec![shape.splits, operands.tokens, operands.outputs()], dtype }],
        grid: [tiles[0] * threads, tiles[1], shape.splits],
        threadgroup: [threads, 1, 1],
        fill: None,
    };
    let parts = single("tiled", TILED.launch_on(operands.backend, &operands.arrays(), &launch)?)?; // [splits, M, N]
    if shape.splits == 1 {
        return Ok(parts.reshape(&[operands.tokens as i32, operands.outputs() as i32])?);
    }
    Ok(parts.sum_axis(0, false)?.as_dtype(operands.dtype())?)
}

/// `x Wᵀ + b`: `[M, N]`, by dequantizing the whole matrix once and multiplying with MLX. It writes and reads `N * K` numbers
/// more than [`tiled`]; with enough tokens that is little beside what the faster multiplication saves.
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) when the kernel or the multiplication cannot run.
pub fn dequantized(operands: &Operands<'_>) -> Result<Array> {
    // [task 2.3.4] dequantized
    let weights = dequantize_gpu(operands.backend, operands.matrix, operands.dtype())?; // [N, K]
    let product = operands.x.matmul(weights.transpose()?)?;
    Ok(match operands.bias {
        Some(bias) => product.add(bias.as_dtype(operands.dtype())?)?,
        None => product,
    })
    // [end]
}
