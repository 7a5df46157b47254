//! Finds the probable cause of a wrong answer.

use std::collections::BTreeMap;

use mlx_rs::Dtype;

use crate::compare::{Tolerance, distance};
use crate::layout;
use crate::values::Values;

/// A stored wrong answer is recognised up to this many tolerances, because a mistake often magnifies
/// rounding. The generator keeps wrong answers at least this far from the right one and each other.
const RECOGNISED_WITHIN: f64 = 4.0;

/// A pattern explains an answer that is at most this many tolerances away from it ...
const EXPLAINED_WITHIN: f64 = 2.0;
/// ... and at least this many away from the right one. A smaller error fits a factor of 1 and a difference of 0.
const FAR_FROM_RIGHT: f64 = 8.0;
/// Fewer entries of a size that matters fit a pattern by chance.
const ENTRIES_FOR_A_PATTERN: usize = 4;

/// What a wrong answer tells about its cause. The runner reads it, and weighs all failures of a task together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagnosis {
    /// The known mistakes that give this answer, the nearest first: a comparison with stored answers.
    pub known: Vec<String>,
    /// The known mistakes whose answers are stored for this output, whether or not they give this one.
    pub stored: Vec<String>,
    /// A pattern that any array can show.
    pub guess: Option<Guess>,
    /// What was seen and needs no guessing: an error's text, a wrong dtype. It stands in the message already.
    pub observed: Option<String>,
}

/// A pattern in an answer. It may be there by chance, so it is shown as a guess.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// The pattern's name; its sentence may differ from case to case ("times 2", "times 3").
    pub pattern: &'static str,
    pub sentence: String,
}

impl Diagnosis {
    /// A mistake that the test itself can tell, because nothing else breaks this rule.
    pub fn mistake(cause: &str) -> Self {
        let known = vec![cause.strip_prefix("looks like: ").unwrap_or(cause).to_owned()];
        Self { stored: known.clone(), known, ..Self::default() }
    }

    /// Something that was seen.
    pub fn observed(text: impl Into<String>) -> Self {
        Self { observed: Some(text.into()), ..Self::default() }
    }

    /// The one sentence to show where there is room for one.
    pub fn cause(&self) -> Option<String> {
        let guess = || self.guess.as_ref().map(|guess| format!("perhaps: {}", guess.sentence));
        self.known.first().cloned().or_else(guess).or_else(|| self.observed.clone())
    }

    /// The lines that end a message; what was observed stands above them.
    pub fn lines(&self) -> String {
        match (&self.known[..], &self.guess) {
            ([], None) => String::new(),
            ([], Some(guess)) => format!("\nperhaps: {}", guess.sentence),
            (known, _) => format!("\nprobable cause: {}", known.join("\n            or: ")),
        }
    }
}

/// What the difference between `got` and `expected` tells.
///
/// `wrong` are the case's known wrong answers and `sentences` what they mean. A known wrong answer goes
/// before the general patterns, which are tried from the most to the least specific.
pub fn diagnose(
    got: &Values,
    expected: &Values,
    tolerance: Tolerance,
    wrong: &BTreeMap<String, Values>,
    sentences: &BTreeMap<String, String>,
) -> Diagnosis {
    let sentence = |variant: &String| sentences.get(variant).unwrap_or(variant).clone();
    let mut diagnosis = Diagnosis { stored: wrong.keys().map(sentence).collect(), ..Diagnosis::default() };
    if got.shape == expected.shape {
        diagnosis.known = variants_like(got, expected, tolerance, wrong).into_iter().map(sentence).collect();
    }
    if !diagnosis.known.is_empty() {
        return diagnosis;
    }
    diagnosis.guess = plain_value(got, expected, tolerance)
        .or_else(|| layout::rearrangement(got, expected, tolerance))
        .or_else(|| if got.shape == expected.shape { arithmetic(got, expected, tolerance) } else { None });
    if got.len() > 1 && got.data.iter().all(|x| x.is_nan()) {
        // No advice: this is also what an output is that nothing has written.
        diagnosis.observed = Some("every entry is NaN".to_owned());
    }
    diagnosis
}

/// The known wrong answers that `got` equals, the nearest first.
fn variants_like<'a>(
    got: &Values,
    expected: &Values,
    tolerance: Tolerance,
    wrong: &'a BTreeMap<String, Values>,
) -> Vec<&'a String> {
    // An answer that is a little wrong lies near the right one, and must not be taken for a mistake farther away.
    let from_right = distance(&got.data, &expected.data, tolerance);
    let near = |distance: &f64| *distance <= RECOGNISED_WITHIN && *distance <= from_right / 2.0;
    let distances = wrong.iter().map(|(variant, values)| (distance(&got.data, &values.data, tolerance), variant));
    let mut alike: Vec<_> = distances.filter(|(distance, _)| near(distance)).collect();
    alike.sort_by(|a, b| a.0.total_cmp(&b.0));
    alike.into_iter().map(|(_, variant)| variant).collect()
}

/// How many entries are too large to be taken for zero.
fn n_significant(values: &[f64], tolerance: Tolerance) -> usize {
    values.iter().filter(|x| x.abs() > RECOGNISED_WITHIN * tolerance.allowed(**x)).count()
}

/// All zeros, all the same.
fn plain_value(got: &Values, expected: &Values, tolerance: Tolerance) -> Option<Guess> {
    let first = *got.data.first()?;
    let all = |test: &dyn Fn(f64) -> bool| got.data.iter().all(|&x| test(x));
    let enough = got.len() > 1 && got.shape == expected.shape;
    if enough && all(&|x| x == 0.0) && n_significant(&expected.data, tolerance) > 1 {
        let sentence = "every entry is zero: is the result returned, and not an array that was only created?";
        return Some(Guess { pattern: "zeros", sentence: sentence.to_owned() });
    }
    let varies = expected.data.iter().filter(|&&x| !tolerance.accepts(x, expected.data[0])).count() > 1;
    if enough && varies && all(&|x| x == first) {
        return Some(Guess {
            pattern: "constant",
            sentence: format!("every entry is the same number, {}", number(first)),
        });
    }
    None
}

/// A constant factor, a constant difference, 16 bits in float32.
fn arithmetic(got: &Values, expected: &Values, tolerance: Tolerance) -> Option<Guess> {
    if got.dtype == Dtype::Bool {
        return inverted(got, expected);
    }
    let finite = got.data.iter().chain(&expected.data).all(|x| x.is_finite());
    if !finite || !expected.dtype.is_float() || n_significant(&expected.data, tolerance) < ENTRIES_FOR_A_PATTERN {
        return None;
    }
    let from_right = distance(&got.data, &expected.data, tolerance);
    // Least squares: the factor f that brings f * expected nearest to got.
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let factor = dot(&got.data, &expected.data) / dot(&expected.data, &expected.data);
    let scaled: Vec<f64> = expected.data.iter().map(|x| x * factor).collect();
    let scaled_tolerance = Tolerance { atol: tolerance.atol * factor.abs().max(1.0), rtol: tolerance.rtol };
    let explains = |other: &[f64], tolerance| {
        from_right >= FAR_FROM_RIGHT && distance(&got.data, other, tolerance) <= EXPLAINED_WITHIN
    };
    // A factor near 0 fits every answer of numbers near 0.
    if factor.is_finite() && factor.abs() > 1e-3 && explains(&scaled, scaled_tolerance) {
        return Some(if (factor + 1.0).abs() < 1e-3 {
            let sentence = "the sign is wrong, every entry is the negative of the expected one".to_owned();
            Guess { pattern: "sign", sentence }
        } else {
            Guess { pattern: "factor", sentence: format!("every entry is the expected one times {}", number(factor)) }
        });
    }
    let n = got.len() as f64;
    let shift = got.data.iter().zip(&expected.data).map(|(x, y)| x - y).sum::<f64>() / n;
    let shifted: Vec<f64> = expected.data.iter().map(|x| x + shift).collect();
    if explains(&shifted, tolerance) {
        let sentence = format!("every entry is the expected one plus {}", number(shift));
        return Some(Guess { pattern: "difference", sentence });
    }
    sixteen_bits(got, expected)
}

/// Nearly right float32 values that are all numbers of one 16-bit dtype, though the right ones are not.
///
/// A small error alone says nothing about where it comes from.
fn sixteen_bits(got: &Values, expected: &Values) -> Option<Guess> {
    let scale = expected.data.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
    let error = got.data.iter().zip(&expected.data).fold(0.0_f64, |largest, (x, y)| largest.max((x - y).abs()));
    if got.dtype != Dtype::Float32 || expected.dtype != Dtype::Float32 || error > scale / 32.0 {
        return None;
    }
    let bf16 = |x: f64| f64::from(half::bf16::from_f64(x)) == x;
    let f16 = |x: f64| f64::from(half::f16::from_f64(x)) == x;
    for (name, holds) in [("bf16", &bf16 as &dyn Fn(f64) -> bool), ("f16", &f16)] {
        let in_got = got.data.iter().all(|&x| holds(x));
        let n_in_expected = expected.data.iter().filter(|&&x| holds(x)).count();
        if in_got && 2 * n_in_expected < expected.len() {
            let sentence =
                format!("every entry is a {name} number: a conversion to {name} on the way to a float32 result");
            return Some(Guess { pattern: "sixteen bits", sentence });
        }
    }
    None
}

fn inverted(got: &Values, expected: &Values) -> Option<Guess> {
    let opposite = got.data.iter().zip(&expected.data).all(|(x, y)| x != y);
    let enough = got.len() >= ENTRIES_FOR_A_PATTERN && expected.data.iter().any(|x| *x != expected.data[0]);
    (opposite && enough).then(|| Guess { pattern: "inverted", sentence: "true and false are exchanged".to_owned() })
}

/// A number with about six significant digits, short where it can be.
pub fn number(x: f64) -> String {
    let size = x.abs();
    if x == 0.0 || !x.is_finite() || x == x.trunc() && size < 1e6 {
        return format!("{x}");
    }
    if !(1e-4..1e6).contains(&size) {
        return format!("{x:.5e}");
    }
    let digits = (5 - size.log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{x:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
