//! What `real_smollm2.safetensors` says about the built-in model's logits.

use grader::Case;
use mlx_rs::Array;
use mlx_rs::ops::indexing::{TryIndexOp, argmax_axis};

/// Checks logits `[L, V]` for the case's text: some columns, the last position, and the best tokens.
#[track_caller]
pub fn check_logits(case: &Case, logits: &Array) {
    let ints = |name: &str| {
        let values = case.i32s(name);
        Array::from_slice(&values, &[values.len() as i32])
    };
    case.check_named("columns", logits.take_axis(ints("columns"), 1));
    case.check(logits.try_index(-1));
    // Only where the best token is far ahead of the second.
    case.check_named("argmax", argmax_axis(logits, 1, false).and_then(|best| best.take_axis(ints("clear"), 0)));
}
