//! Finds the probable cause of a wrong answer.

use std::collections::BTreeMap;

use mlx_rs::Dtype;

use crate::compare::{Tolerance, distance};
use crate::layout;
use crate::values::Values;

/// A stored wrong answer is recognised up to this many tolerances, because a mistake often magnifies
/// rounding. The generator keeps wrong answers at least this far from the right one and each other.
const RECOGNISED_WITHIN: f64 = 4.0;

/// The probable cause of the difference between `got` and `expected`, as a sentence.
///
/// `wrong` are the case's known wrong answers and `sentences` what they mean. A known wrong answer goes
/// before the general patterns, which are tried from the most to the least specific.
pub fn probable_cause(
    got: &Values,
    expected: &Values,
    tolerance: Tolerance,
    wrong: &BTreeMap<String, Values>,
    sentences: &BTreeMap<String, String>,
) -> Option<String> {
    if got.shape == expected.shape
        && let Some(variant) = nearest_variant(got, tolerance, wrong)
    {
        return Some(sentences.get(variant).map_or_else(|| variant.to_owned(), String::clone));
    }
    plain_value(got, expected, tolerance)
        .or_else(|| layout::rearrangement(got, expected, tolerance))
        .or_else(|| if got.shape == expected.shape { arithmetic(got, expected, tolerance) } else { None })
}

/// The known wrong answer that `got` equals.
fn nearest_variant<'a>(got: &Values, tolerance: Tolerance, wrong: &'a BTreeMap<String, Values>) -> Option<&'a str> {
    let distances = wrong.iter().map(|(variant, values)| (distance(&got.data, &values.data, tolerance), variant));
    let (nearest, variant) = distances.min_by(|a, b| a.0.total_cmp(&b.0))?;
    (nearest <= RECOGNISED_WITHIN).then_some(variant.as_str())
}

/// All zeros, all NaN, all the same.
fn plain_value(got: &Values, expected: &Values, tolerance: Tolerance) -> Option<String> {
    let first = *got.data.first()?;
    let all = |test: &dyn Fn(f64) -> bool| got.data.iter().all(|&x| test(x));
    let expected_varies = expected.data.iter().any(|&x| !tolerance.accepts(x, expected.data[0]));
    if all(&|x| x == 0.0) {
        return Some("every entry is zero: is the result returned, and not an array that was only created?".to_owned());
    }
    if all(&f64::is_nan) {
        return Some("every entry is NaN: look for 0/0, inf - inf, or an exp that overflows".to_owned());
    }
    if got.len() > 1 && expected_varies && all(&|x| x == first) {
        return Some(format!("every entry is the same number, {}", number(first)));
    }
    None
}

/// A constant factor, a constant difference, low precision.
fn arithmetic(got: &Values, expected: &Values, tolerance: Tolerance) -> Option<String> {
    if got.dtype == Dtype::Bool {
        return inverted(got, expected);
    }
    if got.len() < 3 || got.data.iter().chain(&expected.data).any(|x| !x.is_finite()) {
        return None;
    }
    // Least squares: the factor f that brings f * expected nearest to got.
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let factor = dot(&got.data, &expected.data) / dot(&expected.data, &expected.data);
    let scaled: Vec<f64> = expected.data.iter().map(|x| x * factor).collect();
    let scaled_tolerance = Tolerance { atol: tolerance.atol * factor.abs().max(1.0), rtol: tolerance.rtol };
    if factor.is_finite() && distance(&got.data, &scaled, scaled_tolerance) <= RECOGNISED_WITHIN {
        return Some(if (factor + 1.0).abs() < 1e-3 {
            "looks like: the sign is wrong, every entry is the negative of the expected one".to_owned()
        } else {
            format!("looks like: every entry is the expected one times {}", number(factor))
        });
    }
    let n = got.len() as f64;
    let shift = got.data.iter().zip(&expected.data).map(|(x, y)| x - y).sum::<f64>() / n;
    let shifted: Vec<f64> = expected.data.iter().map(|x| x + shift).collect();
    if distance(&got.data, &shifted, tolerance) <= RECOGNISED_WITHIN {
        return Some(format!("looks like: every entry is the expected one plus {}", number(shift)));
    }
    let scale = expected.data.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
    let error = got.data.iter().zip(&expected.data).fold(0.0_f64, |largest, (x, y)| largest.max((x - y).abs()));
    (expected.dtype.is_float() && error <= scale / 64.0).then(|| {
        "the values are nearly right: is a step computed in a 16-bit dtype that belongs in float32?".to_owned()
    })
}

fn inverted(got: &Values, expected: &Values) -> Option<String> {
    let opposite = got.data.iter().zip(&expected.data).all(|(x, y)| x != y);
    opposite.then(|| "looks like: true and false are exchanged".to_owned())
}

/// A number with about six significant digits, short where it can be.
pub fn number(x: f64) -> String {
    let size = x.abs();
    if x == 0.0 || !x.is_finite() || x == x.trunc() && size < 1e6 {
        return format!("{x}");
    }
    if !(1e-4..1e6).contains(&size) {
        return format!("{x:.4e}");
    }
    let digits = (5 - size.log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{x:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
