//! The exponential function, without a table and without branches.

use super::Simd;

/// Below this the result is 0, to which `exp` of it (1.6e-38) is as near as a weight beside 1 can be.
const SMALLEST: f32 = -87.0;

/// ln 2 in two parts. The first has nine bits, so its product with an integer of up to 15 bits is exact.
const LN2_HIGH: f32 = 355.0 / 512.0;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `(eʳ - 1 - r) / r²` as a polynomial for `|r| <= ln(2) / 2`, from r⁴ down to 1. The coefficients minimise the largest
/// relative error of `eʳ`, which is 4e-9.
const COEFFICIENTS: [f32; 5] = [0.001_381_454, 0.008_368_745, 0.041_668_39, 0.166_665_21, 0.499_999_94];

/// `eˣ` for `x <= 0`, with a relative error of at most 1.3 · 2⁻²³ down to x = -87. 0 below, also for `-inf`; NaN for NaN.
///
/// `eˣ = 2ⁿ · eʳ`, where n is the integer next to `x / ln 2` and r is what remains.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let n = simd.round(simd.mul(x, simd.splat(std::f32::consts::LOG2_E)));
    let r = simd.mul_add(n, simd.splat(-LN2_HIGH), x);
    let r = simd.mul_add(n, simd.splat(-LN2_LOW), r);
    let mut polynomial = simd.splat(COEFFICIENTS[0]);
    for &coefficient in &COEFFICIENTS[1..] {
        polynomial = simd.mul_add(polynomial, r, simd.splat(coefficient));
    }
    let one = simd.splat(1.0);
    let power = simd.mul_add(simd.mul_add(polynomial, r, one), r, one);
    simd.zero_where_below(simd.times_power_of_two(power, n), x, SMALLEST)
}
