//! Which kernel multiplies, by shape.

use mlx_custom::gpu::GpuBackend;
use mlx_rs::{Array, Dtype};

use crate::Result;
use crate::quantized::QuantizedMatrix;
use crate::quantized::gpu::matvec::matvec;
use crate::quantized::gpu::matvec_tiles::{is_possible, matvec_tiles, swiglu};
use crate::quantized::gpu::operands::Operands;
use crate::quantized::gpu::plain::plain;
use crate::quantized::gpu::tiled::{dequantized, tiled};

/// The ways to multiply on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GpuMatmul {
    /// [`plain`](crate::quantized::gpu::plain): one thread an output.
    Plain,
    /// [`matvec`](crate::quantized::gpu::matvec): few tokens.
    Matvec,
    /// [`matvec_tiles`](crate::quantized::gpu::matvec_tiles): few tokens, 4 bits and activations of 16.
    MatvecTiles,
    /// [`tiled`](crate::quantized::gpu::tiled): many tokens.
    Tiled,
    /// Dequantize once, then MLX's own multiplication: very many tokens.
    Dequantized,
}

impl GpuMatmul {
    pub const ALL: [Self; 5] = [Self::Plain, Self::Matvec, Self::MatvecTiles, Self::Tiled, Self::Dequantized];

    /// The fastest way for `tokens` rows of `dtype` and weights of `bits`, by the measurements in the book.
    pub fn choose(tokens: usize, dtype: Dtype, bits: usize) -> Self {
        // [task 2.3.5] GpuMatmul::choose
        match tokens {
            0..=MATVEC_TILES_UP_TO if is_possible(bits, dtype) => Self::MatvecTiles,
            0..=MATVEC_UP_TO => Self::Matvec,
            // Matrix units have no f32; the tiled kernel multiplies it without them.
            ..DEQUANTIZED_FROM if dtype != Dtype::Float32 => Self::Tiled,
            _ => Self::Dequantized,
        }
        // [end]
    }
}

/// Up to so many tokens reading the weights costs more than multiplying them without matrix units.
pub const MATVEC_UP_TO: usize = 8;

/// The same for [`GpuMatmul::MatvecTiles`], which reads the weights again for every 8 tokens. Reckoned from the times of 8 tokens, not
/// measured.
pub const MATVEC_TILES_UP_TO: usize = 32;

/// From so many tokens on a detour through dequantized weights pays.
pub const DEQUANTIZED_FROM: usize = 64;

/// `x Wᵀ + b` with a quantized `W`: `[.., K]` to `[.., N]`, in `x`'s dtype, summed in f32.
///
/// `bias` is `[N]`. `x` must not be a view that begins in the middle of a row: kernels load 16 bytes at once.
///
/// # Errors
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) when shapes or dtypes do not fit;
/// [`Error::Mlx`](crate::Error::Mlx) when the kernel cannot run here.
pub fn quantized_matmul_gpu(x: &Array, matrix: &QuantizedMatrix, bias: Option<&Array>) -> Result<Array> {
    let tokens = x.shape().split_last().map_or(0, |(_, leading)| leading.iter().product::<i32>() as usize);
    quantized_matmul_gpu_with(GpuMatmul::choose(tokens, x.dtype(), matrix.bits), x, matrix, bias)
}

/// `silu(x Wgᵀ) * (x Wuᵀ)`: `[.., K]` to `[.., N / 2]`, in `x`'s dtype. The rows of `matrix` are those of `Wg`, then those of `Wu`. `None`
/// where no kernel does both: for many tokens, for f32, and for other weights than of 4 bits.
///
/// # Errors
/// As [`quantized_matmul_gpu`], and [`Error::InvalidArgument`](crate::Error::InvalidArgument) when the number of rows is odd.
pub fn quantized_swiglu_gpu(backend: GpuBackend, x: &Array, matrix: &QuantizedMatrix) -> Result<Option<Array>> {
    let operands = Operands::new(backend, x, matrix, None)?;
    if GpuMatmul::choose(operands.tokens, x.dtype(), matrix.bits) != GpuMatmul::MatvecTiles || operands.tokens == 0 {
        return Ok(None);
    }
    operands.with_leading_axes(swiglu(&operands)?).map(Some)
}

/// [`quantized_matmul_gpu`] by the kernel of your choice.
///
/// # Errors
/// As [`quantized_matmul_gpu`].
pub fn quantized_matmul_gpu_with(
    kind: GpuMatmul,
    x: &Array,
    matrix: &QuantizedMatrix,
    bias: Option<&Array>,
) -> Result<Array> {
    quantized_matmul_gpu_on(GpuBackend::current()?, kind, x, matrix, bias)
}

/// [`quantized_matmul_gpu_with`] on a backend of your choice.
///
/// # Errors
/// As [`quantized_matmul_gpu`], and when this machine lacks the backend.
pub fn quantized_matmul_gpu_on(
    backend: GpuBackend,
    kind: GpuMatmul,
    x: &Array,
    matrix: &QuantizedMatrix,
    bias: Option<&Array>,
) -> Result<Array> {
    let operands = Operands::new(backend, x, matrix, bias)?;
    if operands.tokens == 0 || operands.outputs() == 0 {
        // A grid has at least one thread.
        let nothing = mlx_rs::ops::zeros_dtype(&[operands.tokens as i32, operands.outputs() as i32], operands.dtype())?;
        return operands.with_leading_axes(nothing);
    }
    let output = match kind {
        GpuMatmul::Plain => plain(&operands)?,
        GpuMatmul::Matvec => matvec(&operands)?,
        GpuMatmul::MatvecTiles => matvec_tiles(&operands)?,
        GpuMatmul::Tiled => tiled(&operands)?,
        GpuMatmul::Dequantized => dequantized(&operands)?,
    };
    operands.with_leading_axes(output)
}
