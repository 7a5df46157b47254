//! Few tokens on the matrix units: as [`matvec`](super::matvec), and up to 8 tokens cost no more than one.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuKernel, Launch, TemplateValue};
use mlx_rs::{Array, Dtype};

use crate::quantized::gpu::operands::{Operands, single};
use crate::{Error, Result};

/// The weights become tiles in registers; a threadgroup's SIMD groups share the way along K.
pub static MATVEC_TILES: GpuKernel = GpuKernel {
    name: "quantized_matvec_tiles",
    inputs: &["x", "packed", "scales", "biases", "bias"],
    outputs: &["out"],
    header: concat!(include_str!("../../kernels/quantized.metal"), include_str!("../../kernels/matvec_tiles.metal")),
    body: include_str!("../../kernels/quantized_matvec_tiles.metal"),
    strided: false,
};

/// The columns of a tile that are computed.
const TOKENS_OF_A_TILE: usize = 8;

/// Whether the kernel multiplies such a matrix with activations of this type: 4 bits, and numbers of 16.
pub fn is_possible(bits: usize, dtype: Dtype) -> bool {
    bits == 4 && matches!(dtype, Dtype::Float16 | Dtype::Bfloat16)
}

/// How many SIMD groups of two row tiles an H200 runs at a time: 132 multiprocessors, each with registers for 24.
const SIMD_GROUPS_AT_ONCE: usize = 132 * 24;

/// Threadgroups run in waves of `at_once`, and the last wave may be small. Which part of the GPU that leaves idle, on average.
fn idle_share(threadgroups: usize, at_once: usize) -> f64 {
    let waves = threadgroups.div_ceil(at_once).max(1);
    1.0 - threadgroups as f64 / (waves * at_once) as f64
}

/// How the work is cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MatvecTilesShape {
    /// A threadgroup computes so many times 16 outputs.
    pub row_tiles: usize,
    /// Groups of a row that a SIMD group takes at a time, 1 or 2: a row has a multiple of them.
    pub run: usize,
    /// SIMD groups of a threadgroup: so many runs of a row are under way at once.
    pub simd_groups: usize,
}

impl MatvecTilesShape {
    /// For a matrix of `outputs` rows of `groups` groups, as measured on an H200.
    pub fn choose(outputs: usize, groups: usize) -> Self {
        let run = if groups.is_multiple_of(2) { 2 } else { 1 };
        let runs = groups / run;
        // Many outputs give every multiprocessor several threadgroups. Few have to be helped by sharing K among more SIMD groups.
        if outputs >= 8192 {
            // Four are the fastest by themselves, by a few percent; eight where they leave less of the last wave empty.
            let lost = |simd_groups| idle_share(outputs.div_ceil(32), SIMD_GROUPS_AT_ONCE / simd_groups);
            let simd_groups = if lost(8) + 0.1 < lost(4) { 8 } else { 4 };
            Self { row_tiles: 2, run, simd_groups: runs.clamp(1, simd_groups) }
        } else {
            let most = if runs >= 24 { 16 } else { 8 };
            Self { row_tiles: 1, run, simd_groups: runs.clamp(1, most) }
        }
    }

    /// The same for [`swiglu`], which takes tiles by twos.
    fn for_pairs(self) -> Self {
        Self { row_tiles: self.row_tiles.next_multiple_of(2), ..self }
    }
}

/// `x Wᵀ + b`: `[M, N]`, cut up as [`MatvecTilesShape::choose`] says.
///
/// # Errors
/// As [`matvec_tiles_in`].
pub fn matvec_tiles(operands: &Operands<'_>) -> Result<Array> {
    matvec_tiles_in(MatvecTilesShape::choose(operands.outputs(), operands.groups()), operands)
}

/// `silu(x Wgᵀ) * (x Wuᵀ)` in one kernel, where the rows of the matrix are those of `Wg` and behind them those of `Wu`: `[M, N / 2]`.
/// Both products are rounded to `x`'s dtype first.
///
/// # Errors
/// As [`matvec_tiles_in`], and [`Error::InvalidArgument`] when the number of rows is odd.
pub fn swiglu(operands: &Operands<'_>) -> Result<Array> {
    if !operands.outputs().is_multiple_of(2) {
        let message = format!("{} rows are not gate and up, equally many", operands.outputs());
        return Err(Error::invalid("matvec_tiles::swiglu", message));
    }
    launch(MatvecTilesShape::choose(operands.outputs(), operands.groups()).for_pairs(), operands, true)
}

/// [`matvec_tiles`], cut up as `shape` says.
///
/// # Errors
/// [`Error::InvalidArgument`] when the kernel can't multiply this (see [`is_possible`]), rows have no multiple of
/// `shape.run` groups, or `x` or the weights are more than 2^32 numbers or words; [`Error::Mlx`] when it can't run.
pub fn matvec_tiles_in(shape: MatvecTilesShape, operands: &Operands<'_>) -> Result<Array> {
    launch(shape, operands, false)
}

fn launch(shape: MatvecTilesShape, operands: &Operands<'_>, is_gated: bool) -> Result<Array> {
    let (bits, dtype) = (operands.matrix.bits, operands.dtype());
    let groups = operands.groups();
    if !is_possible(bits, dtype) || !groups.is_multiple_of(shape.run.max(1)) {
        let message =
            format!("{bits} bits, {dtype:?} and {groups} groups a row; it takes 4 bits, f16 or bf16, and {shape:?}");
        return Err(Error::invalid("matvec_tiles", message));
    }
    // The kernel finds its numbers by offsets of 32 bits, which cost it fewer registers. For so few tokens that is enough.
    let most = operands.inputs() * operands.tokens.max(operands.outputs() / 8);
    if u32::try_from(most).is_err() {
        let (tokens, inputs, outputs) = (operands.tokens, operands.inputs(), operands.outputs());
        let message =
            format!("{tokens} tokens of {inputs} numbers for {outputs} outputs are too many; use GpuMatmul::Tiled");
        return Err(Error::invalid("matvec_tiles", message));
    }
    let int = |number: usize| TemplateValue::Int(number as i32);
    let tokens = if operands.tokens == 1 { 1 } else { TOKENS_OF_A_TILE };
    let template = operands.template(&[
        ("TOKENS", int(tokens)),
        ("ROW_TILES", int(shape.row_tiles)),
        ("RUN", int(shape.run)),
        ("SIMD_GROUPS", int(shape.simd_groups)),
        ("GATED", TemplateValue::Bool(is_gated)),
    ]);
    let rows_of_output = if is_gated { 2 } else { 1 };
    let outputs = operands.outputs() / rows_of_output;
    let threads = 32 * shape.simd_groups;
    let launch = Launch {
        template: &template,
        outputs: &[TensorType { shape: vec![operands.tokens, outputs], dtype }],
        // Threadgroups of the same outputs are neighbours, so that their weights come from memory once.
        grid: [operands.tokens.div_ceil(tokens) * threads, outputs.div_ceil(16 * shape.row_tiles / rows_of_output), 1],
        threadgroup: [threads, 1, 1],
        fill: None,
    };
    single("matvec_tiles", MATVEC_TILES.launch_on(operands.backend, &operands.arrays(), &launch)?)
}
