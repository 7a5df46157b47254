//! Up to sixteen scales or biases as f32, from the type in which they are stored.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::super::avx2::stored::Stored;

/// A type of stored scales, sixteen at a time.
pub(super) trait Stored16: Stored {
    /// The numbers whose bit in `mask` is set, zeros for the others.
    ///
    /// # Safety
    /// Those numbers can be read behind `from`; the processor has AVX-512 F, BW and VL.
    unsafe fn load16(mask: __mmask16, from: *const Self) -> __m512;
}

impl Stored16 for f32 {
    #[inline(always)]
    unsafe fn load16(mask: __mmask16, from: *const Self) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_maskz_loadu_ps(mask, from) }
    }
}

impl Stored16 for f16 {
    #[inline(always)]
    unsafe fn load16(mask: __mmask16, from: *const Self) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, from.cast())) }
    }
}

impl Stored16 for bf16 {
    #[inline(always)]
    unsafe fn load16(mask: __mmask16, from: *const Self) -> __m512 {
        // SAFETY: the caller's promise. bf16 is the upper half of an f32.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
}
