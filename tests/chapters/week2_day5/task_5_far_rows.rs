//! Task 5: rows so far behind in their arrays that places pass 2^32.

use grader::Rng;
use mlx_custom::TensorType;
use mlx_custom::gpu::{Launch, TemplateValue};
use mlx_rs::{Array, Dtype};
use tiny_llm::fused::gpu::norm::RMS_NORM;
use tiny_llm::fused::gpu::rope::ROPE_QK;
use tiny_llm::fused::gpu::swiglu::SWIGLU;

use crate::far_indices::{Far, check_far};
use crate::tiled::must;

const T: (&str, TemplateValue) = ("T", TemplateValue::Dtype(Dtype::Float16));

fn array(rng: &mut Rng, shape: &[i32]) -> Array {
    must(rng.array(shape, Dtype::Float16))
}

/// The first of the rows of 64 numbers that are computed.
const FIRST_ROW: u32 = 1 << 26;
const FAR_ROWS: &[(&str, [u32; 3])] =
    &[("threadgroup_position_in_grid", [FIRST_ROW, 0, 0]), ("thread_position_in_grid", [FIRST_ROW * 32, 0, 0])];

#[test]
fn norm_of_very_many_rows() {
    let mut rng = Rng::new(50);
    let [x, residual, weight] = [&[2, 64][..], &[2, 64], &[64]].map(|shape| array(&mut rng, shape));
    let rows = TensorType::new([2, 64], Dtype::Float16);
    let launch = Launch {
        template: &[
            T,
            ("HAS_RESIDUAL", TemplateValue::Bool(true)),
            ("SIMD_GROUPS", TemplateValue::Int(1)),
            ("NUMBERS", TemplateValue::Int(2)),
            ("EPS_BITS", TemplateValue::Int(1e-6_f32.to_bits() as i32)),
        ],
        outputs: &[rows.clone(), rows],
        grid: [2 * 32, 1, 1],
        threadgroup: [32, 1, 1],
        fill: None,
    };
    let shape = &[u64::from(FIRST_ROW) + 2, 64];
    let far = Far {
        what: &format!("the rows from {FIRST_ROW} on, of 64 numbers"),
        wrong_and_right: ["row * size + i", "long(row) * size + i"],
        arrays: &["x", "residual", "normalized", "sum"].map(|name| (name, u64::from(FIRST_ROW) * 64)),
        positions: FAR_ROWS,
        integers: &[("x_shape", shape), ("residual_shape", shape)],
    };
    check_far(&far, &RMS_NORM, &[&x, &residual, &weight], &launch);
}

#[test]
fn swiglu_of_very_many_rows() {
    let gate_up = array(&mut Rng::new(51), &[2, 2 * 64]);
    let launch = Launch {
        template: &[T],
        outputs: &[TensorType::new([2, 64], Dtype::Float16)],
        grid: [2 * 32, 1, 1],
        threadgroup: [32, 1, 1],
        fill: None,
    };
    let first = u64::from(FIRST_ROW);
    let far = Far {
        what: &format!("the rows from {FIRST_ROW} on, of 64 numbers of gate and of up"),
        wrong_and_right: ["row * size + i", "long(row) * size + i"],
        arrays: &[("gate_up", first * 2 * 64), ("out", first * 64)],
        positions: FAR_ROWS,
        integers: &[("gate_up_shape", &[first + 2, 2 * 64])],
    };
    check_far(&far, &SWIGLU, &[&gate_up], &launch);
}

/// Two tokens, of which each has two heads of queries, one of keys and one of values.
#[test]
fn rope_of_very_many_rows() {
    const FAR_BATCH: u32 = 1 << 25;
    const FAR_POSITION: u64 = 1 << 28; // in tables of 16 angles
    let mut rng = Rng::new(52);
    let [projected, bias] = [&[2, 128][..], &[128]].map(|shape| array(&mut rng, shape));
    let [cosines, sines] = [(); 2].map(|()| must(rng.array(&[3, 16], Dtype::Float32)));
    let offsets = Array::from_slice(&[1_i32], &[1]);
    let launch = Launch {
        template: &[
            T,
            ("D", TemplateValue::Int(32)),
            ("QUERY_HEADS", TemplateValue::Int(2)),
            ("KEY_VALUE_HEADS", TemplateValue::Int(1)),
            ("HAS_BIAS", TemplateValue::Bool(true)),
        ],
        outputs: &[(); 2].map(|()| TensorType::new([1, 2, 2, 32], Dtype::Float16)),
        grid: [2 * 32, 4, 1],
        threadgroup: [32, 1, 1],
        fill: None,
    };
    let first = u64::from(FAR_BATCH);
    let far = Far {
        what: &format!("batch row {FAR_BATCH}, two tokens of four heads of 32, at position {FAR_POSITION}"),
        wrong_and_right: ["(batch * query_len + token) * D", "(long(batch) * query_len + token) * D"],
        arrays: &[
            ("projected", first * 2 * 128),
            ("rotated_query", first * 2 * 64),
            ("keys_and_values", first * 2 * 64),
            ("cosines", FAR_POSITION * 16),
            ("sines", FAR_POSITION * 16),
        ],
        positions: &[
            ("threadgroup_position_in_grid", [0, 0, FAR_BATCH]),
            ("thread_position_in_grid", [0, 0, FAR_BATCH]),
        ],
        integers: &[
            ("projected_shape", &[(first + 1) * 2, 128]),
            ("cosines_shape", &[FAR_POSITION + 3, 16]),
            ("sines_shape", &[FAR_POSITION + 3, 16]),
            ("offsets", &[FAR_POSITION + 1]),
        ],
    };
    check_far(&far, &ROPE_QK, &[&projected, &bias, &cosines, &sines, &offsets], &launch);
}
