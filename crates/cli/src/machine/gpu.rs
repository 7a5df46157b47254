//! The two rates of a GPU, through MLX's own operations.

use std::time::Instant;

use anyhow::Result;
use mlx_rs::{Array, Dtype, ops, transforms};

/// Numbers of an array that is copied: 512 MB, far more than any cache.
const COPIED: i32 = 128 << 20;
/// Rows and columns of the matrices that are multiplied.
const MULTIPLIED: i32 = 8192;
/// Of so many repetitions the fastest counts: a GPU takes a moment to reach its clock.
const REPETITIONS: usize = 10;

/// Bytes a second, reading and writing, of a copy.
pub fn bandwidth() -> Result<f64> {
    let numbers = ops::ones_dtype(&[COPIED], Dtype::Float32)?;
    let one = Array::from_f32(1.0);
    let seconds = fastest(|| Ok(numbers.add(&one)?))?;
    Ok(2.0 * 4.0 * f64::from(COPIED) / seconds)
}

/// Operations a second of a product of bf16 matrices.
pub fn peak_flops() -> Result<f64> {
    let side = MULTIPLIED;
    // Not zeros: a GPU multiplies them with less power, and faster.
    let normal = || Ok::<_, anyhow::Error>(mlx_rs::random::normal::<f32>(&[side, side], None, None, None)?);
    let [left, right] = [normal()?.as_dtype(Dtype::Bfloat16)?, normal()?.as_dtype(Dtype::Bfloat16)?];
    transforms::eval([&left, &right])?;
    let seconds = fastest(|| Ok(left.matmul(&right)?))?;
    Ok(2.0 * f64::from(side).powi(3) / seconds)
}

fn fastest(mut work: impl FnMut() -> Result<Array>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..REPETITIONS {
        // Several in one evaluation, so that its start does not count.
        let results = (0..4).map(|_| work()).collect::<Result<Vec<_>>>()?;
        let start = Instant::now();
        transforms::eval(&results)?;
        best = best.min(start.elapsed().as_secs_f64() / results.len() as f64);
    }
    Ok(best)
}
