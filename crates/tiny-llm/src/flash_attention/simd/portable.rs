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
    fn round(self, x: Self::Vector) -> Self::Vector {
        // Numbers of this size have no bits left for a fraction.
        const SHIFT: f32 = 1.5 * (1 << 23) as f32;
        from_fn(|i| (x[i] + SHIFT) - SHIFT)
    }

    #[inline(always)]
    fn times_power_of_two(self, x: Self::Vector, n: Self::Vector) -> Self::Vector {
        // An f32's exponent stands above 23 bits of fraction, with 127 added to it.
        from_fn(|i| x[i] * f32::from_bits(((n[i] as i32 + 127) << 23) as u32))
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
