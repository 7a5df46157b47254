//! AVX-512 with VNNI: Intel servers from Ice Lake (2021), AMD from Zen 4 (2022) on.
//!
//! This kernel is given. It is the AVX2 kernel once more with registers twice as wide and three instructions that AVX2
//! doesn't have: `vpdpwssd` multiplies pairs of 16-bit integers *and* adds them to 32-bit sums; `vpsrlvw` shifts each
//! 16-bit lane by a number of its own; loads and stores under a mask leave out what isn't there.
//!
//! AVX-512 also has products of bf16 pairs (`avx512_bf16`). They don't help here: `vdpbf16ps` makes as many products
//! as `vpdpwssd`, and bf16 holds a weight's 4 or 8 bits but only 8 of an activation's 16.

mod matmul;
mod matvec;
mod stored;

use std::ops::Range;

use half::{bf16, f16};

use super::{Avx2, Kernel, check_arguments};
use crate::quantized::activations::Activations;
use crate::quantized::view::{Floats, MatrixView};
use stored::Stored16;

/// 512-bit integer multiply-add: thirty-two products an instruction, and the addition with them.
#[derive(Debug, Clone, Copy)]
pub struct Avx512;

impl Avx512 {
    /// Whether this processor has what the kernel uses. The panel's weights are unpacked by AVX2's own code.
    pub fn is_available() -> bool {
        Avx2::is_available()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
    }
}

/// Below this many tokens, weights are unpacked again for each; from here on, once into panels for all of them.
const PANEL_PAYS_FROM: usize = 4;

impl Kernel for Avx512 {
    fn name(&self) -> &'static str {
        "avx512"
    }

    fn multiply(
        &self,
        matrix: &MatrixView<'_>,
        x: &Activations,
        tokens: Range<usize>,
        rows: Range<usize>,
        tile: &mut [f32],
    ) {
        assert!(Self::is_available(), "this processor has no AVX-512 with VNNI");
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
        // Too little work for wider registers to matter.
        Avx2.quantize_row(x, group_size, planes, integers, scales, sums);
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
    /// [`Avx512::is_available`]; matrix and activations have the lengths that their sizes say.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn run<S: Stored16>(&self, scales: &[S], biases: &[S], tile: &mut [f32]) {
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
