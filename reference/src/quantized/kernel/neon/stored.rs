//! Scales or biases as f32, from the type in which they are stored.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// A type of stored scales.
pub(super) trait Stored: Copy {
    /// Writes `from` to `to`, which is as long.
    fn widen(from: &[Self], to: &mut [f32]);
}

impl Stored for f32 {
    fn widen(from: &[Self], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}

impl Stored for f16 {
    fn widen(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
}

impl Stored for bf16 {
    fn widen(from: &[Self], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.to_f32();
        }
    }
}
