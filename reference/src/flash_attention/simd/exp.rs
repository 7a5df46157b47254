//! The exponential function, without a table and without branches.

use std::f32::consts::{LN_2, LOG2_E};

use super::Simd;

/// Below this the result is 0: next to a largest weight of 1, `exp(-87)` = 1.6e-38 is nothing.
const SMALLEST: f32 = -87.0;

/// A number of this size has no bits for a fraction, so adding it rounds; and its last bits are those of 127, so they
/// become the exponent of a power of two.
const ROUND: f32 = 1.5 * (1 << 23) as f32 + 127.0;

/// `(2ʳ - 1) / r` as a polynomial for `|r| <= 1/2`, from r⁵ down to 1. The coefficients minimise the largest relative
/// error of `2ʳ`, which is 2e-9 before they are rounded.
const COEFFICIENTS: [f32; 6] = [1.535_331e-4, 1.339_893_9e-3, 9.618_438e-3, 5.550_332_4e-2, 0.240_226_48, LN_2];

/// `eˣ` for `x <= 0`; 0 below -87, also for `-inf`; NaN for NaN.
///
/// The error is at most 0.7 · 2⁻²³, and relative to the result (1.2 + |x|) · 2⁻²³: small weights, which count
/// little, are less exact. `eˣ = 2ⁿ · 2ʳ`, where n is the integer next to `x / ln 2` and r is what remains.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let (log2_e, round) = (simd.splat(LOG2_E), simd.splat(ROUND));
    let n_and_round = simd.mul_add(x, log2_e, round);
    let r = simd.mul_add(x, log2_e, simd.sub(round, n_and_round));
    let mut polynomial = simd.splat(COEFFICIENTS[0]);
    for &coefficient in &COEFFICIENTS[1..] {
        polynomial = simd.mul_add(polynomial, r, simd.splat(coefficient));
    }
    let power_of_r = simd.mul_add(polynomial, r, simd.splat(1.0));
    let power_of_n = simd.low_bits_as_exponent(n_and_round);
    simd.zero_where_below(simd.mul(power_of_r, power_of_n), x, SMALLEST)
}
