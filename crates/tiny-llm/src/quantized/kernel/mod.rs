//! Kernels that multiply activations by a quantized matrix: one algorithm, one file for each instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod choice;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use crate::quantized::activations::{self, Activations};
use crate::quantized::view::MatrixView;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use choice::{KERNEL_NAMES, KERNEL_VARIABLE, chosen_kernel};
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use portable::Portable;

/// Rows of a matrix that [`Kernel::multiply`] treats together; work is best split at multiples of it.
pub const ROW_BLOCK: usize = 16;

/// A way to multiply.
pub trait Kernel: Sync {
    /// The instruction set, as `cargo xtask chat` and `cargo xtask bench` print it.
    fn name(&self) -> &'static str;

    /// `tile[m, r] = Σ_k w[rows.start + r, k] * x[tokens.start + m, k]`, in f32.
    ///
    /// `tile` is `[tokens.len(), rows.len()]`. Matrix and activations have the same groups and bits.
    fn multiply(
        &self,
        matrix: &MatrixView<'_>,
        x: &Activations,
        tokens: Range<usize>,
        rows: Range<usize>,
        tile: &mut [f32],
    );

    /// [`quantize_row`](crate::quantized::activations::quantize_row), compiled for the kernel's instruction set.
    fn quantize_row(
        &self,
        x: &[f32],
        group_size: usize,
        planes: usize,
        integers: &mut [i16],
        scales: &mut [f32],
        sums: &mut [f32],
    ) {
        activations::quantize_row(x, group_size, planes, integers, scales, sums);
    }
}

impl fmt::Debug for dyn Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The kernels that this processor can run, the fastest first. The last one is always [`Portable`]. [`chosen_kernel`] says which one
/// multiplies.
pub fn available_kernels() -> &'static [&'static dyn Kernel] {
    static AVAILABLE: OnceLock<Vec<&'static dyn Kernel>> = OnceLock::new();
    AVAILABLE.get_or_init(|| {
        let mut kernels: Vec<&'static dyn Kernel> = Vec::new();
        #[cfg(target_arch = "x86_64")]
        if Avx512::is_available() {
            kernels.push(&Avx512);
        }
        #[cfg(target_arch = "x86_64")]
        if Avx2::is_available() {
            kernels.push(&Avx2);
        }
        #[cfg(target_arch = "aarch64")]
        kernels.push(&Neon);
        kernels.push(&Portable);
        kernels
    })
}

/// What every kernel may rely on; a caller that breaks it has a bug, which shows here and not as wrong numbers.
fn check_arguments(matrix: &MatrixView<'_>, x: &Activations, tokens: &Range<usize>, rows: &Range<usize>, tile: &[f32]) {
    if let Err(problem) = matrix.check() {
        panic!("{problem}");
    }
    assert_eq!(x.integers.len(), x.tokens * x.chunks * x.chunk());
    assert_eq!((x.scales.len(), x.sums.len()), (x.tokens * x.groups, x.tokens * x.groups));
    assert_eq!(x.chunks, matrix.inputs.div_ceil(x.chunk()));
    assert!(rows.end <= matrix.outputs && tokens.end <= x.tokens, "rows or tokens out of range");
    assert_eq!((x.group_size, x.bits, x.groups), (matrix.group_size, matrix.bits, matrix.groups()));
    assert_eq!(tile.len(), tokens.len() * rows.len());
}
