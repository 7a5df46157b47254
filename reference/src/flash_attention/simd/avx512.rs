//! AVX-512: 16 lanes, 32 registers. Intel servers from Skylake (2017), AMD from Zen 4 (2022) on.

use std::arch::x86_64::*;

use super::{Kernel, Simd};

/// Proof that this machine has the instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx512(());

impl Avx512 {
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f")).then_some(Self(()))
    }

    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f")]
        fn compiled_for_avx512<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` proves that the machine has the instructions.
        unsafe { compiled_for_avx512(self, kernel) }
    }
}

impl Simd for Avx512 {
    type Vector = __m512;

    const LANES: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load_at(self, from: *const f32) -> Self::Vector {
        // SAFETY: the caller's, and `self`.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store_at(self, x: Self::Vector, to: *mut f32) {
        // SAFETY: the caller's, and `self`.
        unsafe { _mm512_storeu_ps(to, x) }
    }

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn low_bits_as_exponent(self, x: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(x))) }
    }

    #[inline(always)]
    fn zero_where_below(self, x: Self::Vector, control: Self::Vector, bound: f32) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe {
            _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask::<_CMP_LT_OQ>(control, _mm512_set1_ps(bound)), _mm512_setzero_ps())
        }
    }

    #[inline(always)]
    fn prefetch(self, numbers: &[f32]) {
        super::avx2::prefetch(numbers);
    }

    #[inline(always)]
    fn sum_of_lanes(self, x: Self::Vector) -> f32 {
        // SAFETY: `self` proves that the machine has the instructions.
        unsafe { _mm512_reduce_add_ps(x) }
    }

    #[inline(always)]
    fn max_of_lanes(self, x: Self::Vector) -> f32 {
        // SAFETY: `self` proves that the machine has the instructions.
        unsafe { _mm512_reduce_max_ps(x) }
    }
}
