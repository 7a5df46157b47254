//! RMSNorm of one row, in place: the first step of an operation.

use mlx_custom::{Constant, OperationError};
use mlx_rs::Dtype;

/// `row / sqrt(mean(row²) + eps) * weight(i)`, with f32 statistics as [`RmsNorm`](crate::RmsNorm).
#[inline]
pub fn rms_norm_row(row: &mut [f32], weight: &[f32], eps: f32) {
    // [task 2.2c.1] rms_norm_row
    todo!("week 2 day 2c task 1: rms_norm_row - see book/src/week2/day2c.md")
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
