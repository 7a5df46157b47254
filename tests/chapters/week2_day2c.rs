//! Day 2.2c: each fused operation against f64 and against the plain layers that it replaces, and the model of them.

#[allow(dead_code)] // day 2.1 uses the rest
mod cached_model;
#[allow(dead_code)] // days 2.2a and 2.2b use the rest
mod quantized_matrices;
#[allow(dead_code)] // day 2.4 uses the rest
mod quantized_models;
mod refusals;
#[path = "week2_day2c/task_1_rms_norm.rs"]
mod task_1_rms_norm;
#[path = "week2_day2c/task_2_swiglu.rs"]
mod task_2_swiglu;
#[path = "week2_day2c/task_3_linear_add.rs"]
mod task_3_linear_add;
#[path = "week2_day2c/task_4_norm_qkv_rope.rs"]
mod task_4_norm_qkv_rope;
#[path = "week2_day2c/task_5_the_block.rs"]
mod task_5_the_block;
mod tiny_models;

use grader::Tolerance;
use mlx_custom::Constant;
use mlx_rs::{Array, Dtype};
use std::fmt::Display;

const DAY: &str = "week2_day2c";
const FLOATS: [Dtype; 3] = [Dtype::Float32, Dtype::Float16, Dtype::Bfloat16];

/// The plain layers round the same activations; what differs is the order of f32 sums, and with it now and then a
/// neighbouring 16-bit integer.
const ROUNDING: Tolerance = Tolerance { atol: 2e-3, rtol: 1e-4 };

fn constant(array: &Array) -> Constant {
    must(Constant::new(array))
}

#[track_caller]
fn must<T, E: Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
