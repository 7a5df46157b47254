//! Vectors of f32, and the instruction sets that have them.
//!
//! A kernel is written once, with the operations of [`Simd`], and compiled once for each [`Variant`]; which of these
//! the machine can run is found out at run time. For that to work, everything between [`Kernel::run`] and an operation
//! must be inlined (`#[inline(always)]`): a function that stays by itself is compiled for the oldest machine, and each
//! operation in it becomes a call. The answer is right in any case.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod exp;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod products;
#[cfg(test)]
mod tests;
mod variant;

pub use exp::exp;
pub use products::{Matrix, MatrixMut, Size, add_product, dot_products, product};
pub use variant::{Variant, available_variants};

/// Operations on vectors of f32.
///
/// A value of a type that implements this is the proof that the machine has the instructions, and so the operations are
/// safe to call.
pub trait Simd: Copy {
    /// `LANES` numbers.
    type Vector: Copy;

    /// How many numbers a vector holds.
    const LANES: usize;

    /// The same number in all lanes.
    fn splat(self, x: f32) -> Self::Vector;

    /// # Safety
    /// `LANES` numbers can be read at `from`, which need not be aligned to a vector.
    unsafe fn load_at(self, from: *const f32) -> Self::Vector;

    /// # Safety
    /// `LANES` numbers can be written at `to`, which need not be aligned to a vector.
    unsafe fn store_at(self, x: Self::Vector, to: *mut f32);

    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `a * b + c`, rounded once if the machine can do that.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// The larger of each two lanes. If one is NaN, either may be the result.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// The numbers whose sign and exponent are the last nine bits of `x`: for `1.5 * 2²³ + 127 + n` that is 2ⁿ.
    fn low_bits_as_exponent(self, x: Self::Vector) -> Self::Vector;

    /// `x`, with 0 in the lanes where `control < bound`.
    fn zero_where_below(self, x: Self::Vector, control: Self::Vector, bound: f32) -> Self::Vector;

    fn sum_of_lanes(self, x: Self::Vector) -> f32;

    /// The sum of the lanes of each vector.
    #[inline(always)]
    fn sums_of_lanes<const N: usize>(self, x: [Self::Vector; N]) -> [f32; N] {
        x.map(|x| self.sum_of_lanes(x))
    }

    /// The largest lane. If there is NaN, any lane may be the result.
    fn max_of_lanes(self, x: Self::Vector) -> f32;

    /// Asks for numbers that are needed soon, so that they are on their way from memory. Some machines don't.
    #[inline(always)]
    fn prefetch(self, numbers: &[f32]) {
        let _ = numbers;
    }

    /// The first `LANES` numbers of a slice.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::Vector {
        let from = &from[..Self::LANES];
        // SAFETY: the slice has LANES numbers.
        unsafe { self.load_at(from.as_ptr()) }
    }

    /// Writes the first `LANES` numbers of a slice.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    fn store(self, x: Self::Vector, to: &mut [f32]) {
        let to = &mut to[..Self::LANES];
        // SAFETY: the slice has LANES numbers.
        unsafe { self.store_at(x, to.as_mut_ptr()) }
    }
}

/// A computation that is compiled for each instruction set.
pub trait Kernel {
    type Output;

    /// To be marked `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}
