//! AVX2 with FMA: 8 lanes, 16 registers. Intel from Haswell (2013), AMD from Zen (2017) on.

use std::arch::x86_64::*;

use super::{Kernel, Simd};

/// Proof that this machine has the instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx2(());

impl Avx2 {
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn compiled_for_avx2<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` proves that the machine has the instructions.
        unsafe { compiled_for_avx2(self, kernel) }
    }
}

impl Simd for Avx2 {
    type Vector = __m256;

    const LANES: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load_at(self, from: *const f32) -> Self::Vector {
        // SAFETY: the caller's, and `self`.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store_at(self, x: Self::Vector, to: *mut f32) {
        // SAFETY: the caller's, and `self`.
        unsafe { _mm256_storeu_ps(to, x) }
    }

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn low_bits_as_exponent(self, x: Self::Vector) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(x))) }
    }

    #[inline(always)]
    fn zero_where_below(self, x: Self::Vector, control: Self::Vector, bound: f32) -> Self::Vector {
        // SAFETY: `self` proves that the machine has the instruction.
        unsafe { _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(control, _mm256_set1_ps(bound)), x) }
    }

    #[inline(always)]
    fn sum_of_lanes(self, x: Self::Vector) -> f32 {
        // SAFETY: `self` proves that the machine has the instructions.
        unsafe {
            let quarters = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let halves = _mm_add_ps(quarters, _mm_movehl_ps(quarters, quarters));
            _mm_cvtss_f32(_mm_add_ss(halves, _mm_movehdup_ps(halves)))
        }
    }

    #[inline(always)]
    fn prefetch(self, numbers: &[f32]) {
        prefetch(numbers);
    }

    #[inline(always)]
    fn sums_of_lanes<const N: usize>(self, x: [Self::Vector; N]) -> [f32; N] {
        let mut sums = [0.0; N];
        for (sums, x) in sums.chunks_mut(4).zip(x.chunks(4)) {
            let &[a, b, c, d] = x else {
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = self.sum_of_lanes(*x);
                }
                continue;
            };
            // SAFETY: `self` proves that the machine has the instructions, and four sums can be written.
            unsafe {
                // Transposing halves, then quarters, puts sums of the same vector above each other: 11 instructions for
                // 4.
                let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                let low = _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd);
                let high = _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd);
                let halves = _mm256_add_ps(low, high);
                let all = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
                _mm_storeu_ps(sums.as_mut_ptr(), all);
            }
        }
        sums
    }

    #[inline(always)]
    fn max_of_lanes(self, x: Self::Vector) -> f32 {
        // SAFETY: `self` proves that the machine has the instructions.
        unsafe {
            let quarters = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let halves = _mm_max_ps(quarters, _mm_movehl_ps(quarters, quarters));
            _mm_cvtss_f32(_mm_max_ss(halves, _mm_movehdup_ps(halves)))
        }
    }
}

/// Every x86-64 processor has this instruction, and it may name any address.
#[inline(always)]
pub(super) fn prefetch(numbers: &[f32]) {
    for line in numbers.chunks(64 / size_of::<f32>()) {
        // SAFETY: it reads nothing that the program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
}
