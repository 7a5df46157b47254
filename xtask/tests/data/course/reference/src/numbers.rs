//! Day 1.1.

/// Twice `x`.
pub fn double(x: f32) -> f32 {
    // [task 1.1.1] double
    times(2.0, x)
    // [end]
}

// [task 1.1.1 helpers] double
fn times(factor: f32, x: f32) -> f32 {
    factor * x
}
// [end]

/// The sum of twice every value.
pub fn doubled_sum(values: &[f32]) -> f32 {
    // [task 1.1.2] doubled_sum
    values.iter().map(|x| double(*x)).sum()
    // [end]
}
