//! Vectors in plain Rust. The compiler turns the loops into whatever the oldest machine of the target has.

use std::array::from_fn;

use super::Simd;

/// Any machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Portable;

const LANES: usize = 8;

impl Simd for Portable {
    type Vector = [f32; LANES];

    const LANES: usize = LANES;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Vector {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn load_at(self, from: *const f32) -> Self::Vector {
        // SAFETY: the caller's.
        unsafe { from.cast::<Self::Vector>().read() }
    }

    #[inline(always)]
    unsafe fn store_at(self, x: Self::Vector, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<Self::Vector>().write(x) }
    }

    #[inline(always)]
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        // Not `f32::mul_add`: without an instruction for it that is a slow function.
        from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn low_bits_as_exponent(self, x: Self::Vector) -> Self::Vector {
        from_fn(|i| f32::from_bits(x[i].to_bits() << 23))
    }

    #[inline(always)]
    fn zero_where_below(self, x: Self::Vector, control: Self::Vector, bound: f32) -> Self::Vector {
        from_fn(|i| if control[i] < bound { 0.0 } else { x[i] })
    }

    #[inline(always)]
    fn sum_of_lanes(self, x: Self::Vector) -> f32 {
        x.iter().sum()
    }

    #[inline(always)]
    fn max_of_lanes(self, x: Self::Vector) -> f32 {
        x.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }
}
