//! RMSNorm of one row, in place: the first step of an operation.

use mlx_custom::{Constant, OperationError};
use mlx_rs::Dtype;

/// `row / sqrt(mean(row²) + eps) * weight(i)`, with f32 statistics as [`RmsNorm`](crate::RmsNorm).
#[inline]
pub fn rms_norm_row(row: &mut [f32], weight: &[f32], eps: f32) {
    // [task 2.2c.1] rms_norm_row
    // Eight sums side by side: one alone would wait for each addition.
    let mut sums = [0.0f32; 8];
    let chunks = row.as_chunks::<8>();
    for chunk in chunks.0 {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *sum += v * v;
        }
    }
    let sum: f32 = sums.iter().sum::<f32>() + chunks.1.iter().map(|v| v * v).sum::<f32>();
    let inverse_rms = 1.0 / (sum / row.len() as f32 + eps).sqrt();
    for (v, weight) in row.iter_mut().zip(weight) {
        *v *= inverse_rms * weight;
    }
    // [end]
}

/// # Errors
/// When a norm's weight is not `[features]` f32 numbers.
pub fn check_norm(weight: &Constant, features: usize) -> Result<(), OperationError> {
    let weight = weight.tensor_type();
    if weight.shape == [features] && weight.dtype == Dtype::Float32 {
        return Ok(());
    }
    Err(format!("the norm's weight is {:?} of {:?}, not f32 of [{features}]", weight.dtype, weight.shape).into())
}
