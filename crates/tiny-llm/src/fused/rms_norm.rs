//! RMSNorm of one row, in place: the first step of an operation.

/// `row / sqrt(mean(row²) + eps) * weight(i)`, with f32 statistics as [`RmsNorm`](crate::RmsNorm).
#[inline]
pub fn rms_norm_row(row: &mut [f32], weight: &[f32], eps: f32) {
    // [task 2.2.10] rms_norm_row
    todo!("week 2 day 2 task 10: rms_norm_row - see book/src/week2/day2.md")
    // [end]
}
