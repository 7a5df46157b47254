//! Eight scales or biases as f32, from the type in which they are stored.

use std::arch::x86_64::*;

use half::{bf16, f16};

/// A type of stored scales.
pub(in super::super) trait Stored: Copy {
    /// # Safety
    /// Eight numbers can be read at `from`; the processor has AVX2 and F16C.
    unsafe fn load8(from: *const Self) -> __m256;

    fn widen(self) -> f32;
}

impl Stored for f32 {
    #[inline(always)]
    unsafe fn load8(from: *const Self) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(from) }
    }

    fn widen(self) -> f32 {
        self
    }
}

impl Stored for f16 {
    #[inline(always)]
    unsafe fn load8(from: *const Self) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    fn widen(self) -> f32 {
        self.to_f32()
    }
}

impl Stored for bf16 {
    #[inline(always)]
    unsafe fn load8(from: *const Self) -> __m256 {
        // SAFETY: the caller's promise. bf16 is the upper half of an f32.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }

    fn widen(self) -> f32 {
        self.to_f32()
    }
}
