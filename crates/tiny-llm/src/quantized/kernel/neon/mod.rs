//! NEON: every aarch64 processor, Apple's among them.

mod matmul;
mod matvec;
mod panel;
mod stored;

use std::ops::Range;

use half::{bf16, f16};

use super::{Kernel, check_arguments};
use crate::quantized::activations::Activations;
use crate::quantized::view::{Floats, MatrixView};
use stored::Stored;

/// 128-bit integer multiply-add: eight products in two instructions.
#[derive(Debug, Clone, Copy)]
pub struct Neon;

/// Below this many tokens, weights are unpacked again for each; from here on, once into a panel for all of them.
const PANEL_PAYS_FROM: usize = 4;

impl Kernel for Neon {
    fn name(&self) -> &'static str {
        "neon"
    }

    fn multiply(
        &self,
        matrix: &MatrixView<'_>,
        x: &Activations,
        tokens: Range<usize>,
        rows: Range<usize>,
        tile: &mut [f32],
    ) {
        check_arguments(matrix, x, &tokens, &rows, tile);
        let job = Job { matrix, x, tokens, rows };
        match (matrix.scales, matrix.biases) {
            (Floats::F16(scales), Floats::F16(biases)) => job.run::<f16>(scales, biases, tile),
            (Floats::Bf16(scales), Floats::Bf16(biases)) => job.run::<bf16>(scales, biases, tile),
            (Floats::F32(scales), Floats::F32(biases)) => job.run::<f32>(scales, biases, tile),
            _ => super::Portable.multiply(matrix, x, job.tokens, job.rows, tile),
        }
    }
}

/// One call of [`Kernel::multiply`].
struct Job<'a> {
    matrix: &'a MatrixView<'a>,
    x: &'a Activations,
    tokens: Range<usize>,
    rows: Range<usize>,
}

impl Job<'_> {
    fn run<S: Stored>(&self, scales: &[S], biases: &[S], tile: &mut [f32]) {
        // The number of planes becomes a constant: the inner loops have no branches.
        match (self.tokens.len() < PANEL_PAYS_FROM, self.matrix.bits) {
            (true, 4) => matvec::run::<S, 4>(self, scales, biases, tile),
            (true, _) => matvec::run::<S, 2>(self, scales, biases, tile),
            (false, 4) => matmul::run::<S, 4>(self, scales, biases, tile),
            (false, _) => matmul::run::<S, 2>(self, scales, biases, tile),
        }
    }
}
