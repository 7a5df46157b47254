//! Few tokens: every weight is read once and used a few times, so the kernel is about reading.

use mlx_custom::gpu::{GpuKernel, Launch, TemplateValue};
use mlx_rs::Array;

use crate::Result;
use crate::quantized::gpu::operands::{Operands, single};

/// A threadgroup computes a few outputs; its SIMD groups share the way along K.
pub static MATVEC: GpuKernel = GpuKernel {
    name: "quantized_matvec",
    inputs: &["x", "packed", "scales", "biases", "bias"],
    outputs: &["out"],
    header: concat!(
        include_str!("../../kernels/quantized.metal"),
        include_str!("../../kernels/one_plus_fraction.metal")
    ),
    body: include_str!("../../kernels/quantized_matvec.metal"),
    strided: false,
};

/// The most tokens that a threadgroup multiplies at once; more run as several threadgroups.
pub const MAX_TOKENS: usize = 8;

/// How the work is cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MatvecShape {
    /// Tokens of a threadgroup, at most [`MAX_TOKENS`]. Each costs registers in every lane.
    pub tokens: usize,
    /// Outputs of a threadgroup: so many rows of weights meet the same part of `x`.
    pub rows: usize,
    /// SIMD groups of a threadgroup: so many stretches of K are under way at once.
    pub simd_groups: usize,
}

impl MatvecShape {
    /// For `tokens` rows of x and a matrix of `outputs` x `inputs`.
    pub fn choose(tokens: usize, outputs: usize, inputs: usize) -> Self {
        let _ = outputs;
        // Registers hold tokens * rows sums, so more tokens leave room for fewer rows.
        let tokens = tokens.clamp(1, MAX_TOKENS);
        let rows = if tokens <= 2 { 4 } else { 2 };
        let simd_groups = if inputs >= 8192 { 8 } else { 4 };
        Self { tokens, rows, simd_groups }
    }

    /// Threadgroups for `tokens` rows of x and `outputs` outputs.
    fn threadgroups(self, tokens: usize, outputs: usize) -> usize {
        tokens.div_ceil(self.tokens) * outputs.div_ceil(self.rows)
    }
}

/// `x Wᵀ + b`: `[M, N]`, cut up as [`MatvecShape::choose`] says.
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) when the kernel cannot run.
pub fn matvec(operands: &Operands<'_>) -> Result<Array> {
    let shape = MatvecShape::choose(operands.tokens, operands.outputs(), operands.inputs());
    matvec_in(shape, operands)
}

/// [`matvec`], cut up as `shape` says.
///
/// # Errors
/// As [`matvec`].
pub fn matvec_in(shape: MatvecShape, operands: &Operands<'_>) -> Result<Array> {
    let int = |number: usize| TemplateValue::Int(number as i32);
    let template = operands.template(&[
        ("TOKENS", int(shape.tokens)),
        ("ROWS", int(shape.rows)),
        ("SIMD_GROUPS", int(shape.simd_groups)),
    ]);
    let threads = 32 * shape.simd_groups;
    let launch = Launch {
        template: &template,
        outputs: &[operands.output()],
        grid: [shape.threadgroups(operands.tokens, operands.outputs()) * threads, 1, 1],
        threadgroup: [threads, 1, 1],
        fill: None,
    };
    single("matvec", MATVEC.launch_on(operands.backend, &operands.arrays(), &launch)?)
}
