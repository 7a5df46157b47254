//! NEON: 4 lanes, 32 registers. Every 64-bit Arm processor, Apple's among them.

use std::arch::aarch64::*;

use super::{Kernel, Simd};

/// Proof that this machine has the instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Neon(());

impl Neon {
    pub fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        fn compiled_for_neon<K: Kernel>(simd: Neon, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` proves that the machine has the instructions.
        unsafe { compiled_for_neon(self, kernel) }
    }
}

impl Simd for Neon {
    type Vector = float32x4_t;

    const LANES: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { vdupq_n_f32(x) }
    }

    #[inline(always)]
    unsafe fn load_at(self, from: *const f32) -> Self::Vector {
        // SAFETY: the caller's, and `self`.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store_at(self, x: Self::Vector, to: *mut f32) {
        // SAFETY: the caller's, and `self`.
        unsafe { vst1q_f32(to, x) }
    }

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { vsubq_f32(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { vmaxq_f32(a, b) }
    }

    #[inline(always)]
    fn low_bits_as_exponent(self, x: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<23>(vreinterpretq_u32_f32(x))) }
    }

    #[inline(always)]
    fn zero_where_below(self, x: Self::Vector, control: Self::Vector, bound: f32) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instructions.
        unsafe { vbslq_f32(vcltq_f32(control, vdupq_n_f32(bound)), vdupq_n_f32(0.0), x) }
    }

    #[inline(always)]
    fn sum_of_lanes(self, x: Self::Vector) -> f32 {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { vaddvq_f32(x) }
    }

    #[inline(always)]
    fn max_of_lanes(self, x: Self::Vector) -> f32 {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { vmaxvq_f32(x) }
    }
}
