//! The one comparison: an entry passes if `|got - expected| <= atol + rtol * |expected|`.
//!
//! It fails unless that is shown to hold, so an unexpected NaN fails: `error > allowed` would let it through.

use crate::values::Values;

/// How far an answer may be from the expected value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Allowed anywhere.
    pub atol: f64,
    /// Allowed for each unit of the expected value.
    pub rtol: f64,
}

impl Tolerance {
    /// No difference at all: for bool and integer answers.
    pub const EXACT: Self = Self { atol: 0.0, rtol: 0.0 };

    /// The largest error that passes at an entry with this expected value.
    pub fn allowed(self, expected: f64) -> f64 {
        self.atol + self.rtol * expected.abs()
    }

    /// Whether `got` may stand where `expected` does. Infinities must be equal. NaN passes where
    /// NaN is expected (a softmax over nothing has no answer), and nowhere else.
    pub fn accepts(self, got: f64, expected: f64) -> bool {
        let finite = got.is_finite() && expected.is_finite();
        got == expected
            || (got.is_nan() && expected.is_nan())
            || (finite && (got - expected).abs() <= self.allowed(expected))
    }

    /// The error in units of what is allowed: 0 is exact, up to 1 passes, infinity where only one of
    /// the two is NaN or infinite. Two NaNs count as equal.
    pub fn part_used(self, got: f64, expected: f64) -> f64 {
        if got == expected || (got.is_nan() && expected.is_nan()) {
            return 0.0;
        }
        if !got.is_finite() || !expected.is_finite() {
            return f64::INFINITY;
        }
        (got - expected).abs() / self.allowed(expected)
    }
}

/// What comparing two arrays of the same shape found.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Positions (row-major) of the entries outside the tolerance.
    pub mismatches: Vec<usize>,
    /// Positions of NaN in the answer where none was expected.
    pub nans: Vec<usize>,
    /// Positions of infinities in the answer where none was expected.
    pub infinities: Vec<usize>,
    /// The largest finite error and its position.
    pub max_error: f64,
    pub max_error_at: usize,
    /// The largest part of the tolerance that any entry used; more than 1 fails.
    pub part_used: f64,
}

impl Comparison {
    /// Compares two arrays of the same shape.
    pub fn new(got: &Values, expected: &Values, tolerance: Tolerance) -> Self {
        let mut found = Self {
            mismatches: Vec::new(),
            nans: Vec::new(),
            infinities: Vec::new(),
            max_error: 0.0,
            max_error_at: 0,
            part_used: 0.0,
        };
        for (at, (&got, &expected)) in got.data.iter().zip(&expected.data).enumerate() {
            if !tolerance.accepts(got, expected) {
                found.mismatches.push(at);
            }
            if got.is_nan() && !expected.is_nan() {
                found.nans.push(at);
            }
            if got.is_infinite() && got != expected {
                found.infinities.push(at);
            }
            found.part_used = found.part_used.max(tolerance.part_used(got, expected));
            let error = (got - expected).abs();
            if error.is_finite() && error > found.max_error {
                found.max_error = error;
                found.max_error_at = at;
            }
        }
        found
    }

    pub fn passes(&self) -> bool {
        self.mismatches.is_empty()
    }

    /// The part of the tolerance that is left, between 0 and 1.
    pub fn headroom(&self) -> f64 {
        (1.0 - self.part_used).clamp(0.0, 1.0)
    }
}

/// The largest part of the tolerance that any entry uses, or infinity if the shapes differ.
pub fn distance(got: &[f64], other: &[f64], tolerance: Tolerance) -> f64 {
    if got.len() != other.len() {
        return f64::INFINITY;
    }
    let parts = got.iter().zip(other).map(|(&a, &b)| tolerance.part_used(a, b));
    parts.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlx_rs::Dtype;

    const HALF: Tolerance = Tolerance { atol: 0.5, rtol: 0.25 };

    fn values(data: &[f64]) -> Values {
        Values { dtype: Dtype::Float32, shape: vec![data.len()], data: data.to_vec() }
    }

    #[test]
    fn the_tolerance_has_an_absolute_and_a_relative_part() {
        assert!(HALF.accepts(5.5, 4.0));
        assert!(!HALF.accepts(5.51, 4.0));
        assert!(HALF.accepts(-0.5, 0.0));
        assert_eq!(HALF.part_used(4.75, 4.0), 0.5);
        assert!(Tolerance::EXACT.accepts(3.0, 3.0));
        assert!(!Tolerance::EXACT.accepts(3.0, 4.0));
    }

    #[test]
    fn unexpected_nan_and_infinities_never_pass() {
        let wide = Tolerance { atol: 1e300, rtol: 1e300 };
        for got in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(!wide.accepts(got, 1.0));
        }
        assert!(!wide.accepts(1.0, f64::INFINITY));
        assert!(wide.accepts(f64::NAN, f64::NAN));
        assert!(!wide.accepts(0.0, f64::NAN));
        assert!(!wide.accepts(f64::INFINITY, f64::NAN));
        assert!(wide.accepts(f64::NEG_INFINITY, f64::NEG_INFINITY));
        assert!(!wide.accepts(f64::INFINITY, f64::NEG_INFINITY));
    }

    #[test]
    fn a_comparison_finds_the_first_and_the_largest_error() {
        let expected = values(&[1.0, 2.0, 3.0, f64::NEG_INFINITY, 5.0]);
        let tolerance = Tolerance { atol: 0.25, rtol: 0.0 };
        let found = Comparison::new(&values(&[1.125, 4.0, f64::NAN, f64::NEG_INFINITY, 9.0]), &expected, tolerance);
        assert_eq!(found.mismatches, [1, 2, 4]);
        assert_eq!(found.nans, [2]);
        assert!(found.infinities.is_empty());
        assert_eq!((found.max_error, found.max_error_at), (4.0, 4));
        assert_eq!(found.headroom(), 0.0);

        let close = Comparison::new(&values(&[1.125, 2.0, 3.0, f64::NEG_INFINITY, 5.0]), &expected, tolerance);
        assert!(close.passes());
        assert_eq!(close.headroom(), 0.5);
    }
}
