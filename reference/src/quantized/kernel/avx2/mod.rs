//! AVX2 and FMA: x86-64 since 2013 (Haswell) and 2017 (Zen).

mod matmul;
mod matvec;
pub(super) mod panel;
pub(super) mod stored;

use std::ops::Range;

use half::{bf16, f16};

use super::{Kernel, check_arguments};
use crate::quantized::activations::{self, Activations};
use crate::quantized::view::{Floats, MatrixView};
use stored::Stored;

/// 256-bit integer multiply-add: sixteen products an instruction.
#[derive(Debug, Clone, Copy)]
pub struct Avx2;

impl Avx2 {
    /// Whether this processor has what the kernel uses.
    pub fn is_available() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
    }
}

/// Below this many tokens, weights are unpacked again for each; from here on, once into a panel for all of them.
const PANEL_PAYS_FROM: usize = 4;

impl Kernel for Avx2 {
    fn name(&self) -> &'static str {
        "avx2"
    }

    fn multiply(
        &self,
        matrix: &MatrixView<'_>,
        x: &Activations,
        tokens: Range<usize>,
        rows: Range<usize>,
        tile: &mut [f32],
    ) {
        assert!(Self::is_available(), "this processor has no AVX2");
        check_arguments(matrix, x, &tokens, &rows, tile);
        let job = Job { matrix, x, tokens, rows };
        match (matrix.scales, matrix.biases) {
            // SAFETY: the assertion above; `check_arguments` and the type of `MatrixView` vouch for the lengths.
            (Floats::F16(scales), Floats::F16(biases)) => unsafe { job.run::<f16>(scales, biases, tile) },
            (Floats::Bf16(scales), Floats::Bf16(biases)) => unsafe { job.run::<bf16>(scales, biases, tile) },
            (Floats::F32(scales), Floats::F32(biases)) => unsafe { job.run::<f32>(scales, biases, tile) },
            _ => super::Portable.multiply(matrix, x, job.tokens, job.rows, tile),
        }
    }

    fn quantize_row(
        &self,
        x: &[f32],
        group_size: usize,
        planes: usize,
        integers: &mut [i16],
        scales: &mut [f32],
        sums: &mut [f32],
    ) {
        #[target_feature(enable = "avx2,fma")]
        fn with_avx2(
            x: &[f32],
            group_size: usize,
            planes: usize,
            integers: &mut [i16],
            scales: &mut [f32],
            sums: &mut [f32],
        ) {
            activations::quantize_row(x, group_size, planes, integers, scales, sums);
        }
        assert!(Self::is_available(), "this processor has no AVX2");
        // SAFETY: the assertion above.
        unsafe { with_avx2(x, group_size, planes, integers, scales, sums) }
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
    /// # Safety
    /// The processor has AVX2, FMA and F16C; matrix and activations have the lengths that their sizes say.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn run<S: Stored>(&self, scales: &[S], biases: &[S], tile: &mut [f32]) {
        // Bits and the question whether a group is half a chunk become constants: the inner loops have no branches.
        let few = self.tokens.len() < PANEL_PAYS_FROM;
        // SAFETY: this function's own contract.
        unsafe {
            match (self.matrix.bits, self.matrix.group_size) {
                (4, 32) if few => matvec::run::<S, 4, true>(self, scales, biases, tile),
                (4, _) if few => matvec::run::<S, 4, false>(self, scales, biases, tile),
                (8, _) if few => matvec::run::<S, 2, false>(self, scales, biases, tile),
                (4, 32) => matmul::run::<S, 4, true>(self, scales, biases, tile),
                (4, _) => matmul::run::<S, 4, false>(self, scales, biases, tile),
                _ => matmul::run::<S, 2, false>(self, scales, biases, tile),
            }
        }
    }
}
