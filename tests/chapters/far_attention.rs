//! Attention for the last rows of a batch so large that places in memory pass 2^32.

use grader::Rng;
use mlx_custom::TensorType;
use mlx_custom::gpu::{Launch, TemplateValue};
use mlx_rs::{Array, Dtype};
use tiny_llm::flash_attention::gpu::kernels::{
    ATTENTION_DECODE, ATTENTION_DECODE_MERGE, ATTENTION_PLAIN, ATTENTION_PREFILL,
};

use crate::far_indices::{Far, check_far};
use crate::sizes;
use crate::tiled::{Inputs, must};

/// 32 query heads share 32 keys of 64 elements: this many batch rows of each array are 2^32 elements, of the mask half as many.
pub fn check_far_plain() {
    const FIRST_ROW: u32 = 1 << 21;
    let mut rng = Rng::new(40);
    let Inputs { query, key, value } = Inputs::random(&mut rng, sizes([32, 1], 1, 32, 64), Dtype::Float16);
    let mask = must(rng.array(&[1, 32, 1, 32], Dtype::Float16));
    let launch = Launch {
        template: &[
            ("T", TemplateValue::Dtype(Dtype::Float16)),
            ("M", TemplateValue::Dtype(Dtype::Float16)),
            ("D", TemplateValue::Int(64)),
            ("MASK", TemplateValue::Int(3)),
            ("SCALE_BITS", bits(0.125)),
        ],
        outputs: &[TensorType::new([1, 32, 1, 64], Dtype::Float16)],
        grid: [32 * 32, 1, 1],
        threadgroup: [128, 1, 1],
        fill: None,
    };
    let rows = u64::from(FIRST_ROW) + 1;
    let far = Far {
        what: &format!("batch row {FIRST_ROW}, 32 heads, D = 64"),
        wrong_and_right: ["row * D + d", "long(row) * D + d"],
        arrays: &[("query", 1 << 32), ("key", 1 << 32), ("value", 1 << 32), ("mask", 1 << 31), ("out", 1 << 32)],
        positions: &[
            ("thread_position_in_grid", [FIRST_ROW * 32 * 32, 0, 0]),
            ("threadgroup_position_in_grid", [FIRST_ROW * 32 * 32 / 128, 0, 0]),
        ],
        integers: &[
            ("query_shape", &[rows, 32, 1, 64]),
            ("key_shape", &[rows, 1, 32, 64]),
            ("value_shape", &[rows, 1, 32, 64]),
            ("mask_shape", &[rows, 32, 1, 32]),
        ],
    };
    check_far(&far, &ATTENTION_PLAIN, &[&query, &key, &value, &mask], &launch);
}

/// So many batch rows that even their statistics, two numbers for each query and split, are 2^32.
pub fn check_far_decode() {
    const FIRST_ROW: u32 = 1 << 29; // of two query heads in two splits
    let mut rng = Rng::new(41);
    let Inputs { query, key, value } = Inputs::random(&mut rng, sizes([2, 1], 1, 4, 4), Dtype::Float32);
    let launch = Launch {
        template: &[
            ("T", TemplateValue::Dtype(Dtype::Float32)),
            // The host takes f32 here. With half as many bytes, a place that wraps leads into no other array.
            ("O", TemplateValue::Dtype(Dtype::Float16)),
            ("D", TemplateValue::Int(4)),
            ("ROWS", TemplateValue::Int(2)),
            ("SIMD_GROUPS", TemplateValue::Int(1)),
            ("CAUSAL", TemplateValue::Bool(false)),
            ("IS_WHOLE", TemplateValue::Bool(false)),
            ("SCALE_BITS", bits(0.5)),
        ],
        outputs: &[TensorType::new([1, 2, 1, 2, 4], Dtype::Float16), TensorType::new([1, 2, 1, 2, 2], Dtype::Float32)],
        grid: [2 * 32, 1, 1],
        threadgroup: [32, 1, 1],
        fill: None,
    };
    let (first, rows) = (u64::from(FIRST_ROW), u64::from(FIRST_ROW) + 1);
    let far = Far {
        what: &format!("batch row {FIRST_ROW}, two heads, two splits, D = 4"),
        wrong_and_right: ["(batch * num_heads + head) * D", "(long(batch) * num_heads + head) * D"],
        arrays: &[
            ("query", first * 2 * 4),
            ("key", first * 4 * 4),
            ("value", first * 4 * 4),
            ("out", first * 2 * 2 * 4),
            ("statistics", first * 2 * 2 * 2),
        ],
        positions: &[
            ("threadgroup_position_in_grid", [0, 0, FIRST_ROW]),
            ("thread_position_in_grid", [0, 0, FIRST_ROW]),
        ],
        integers: &[
            ("query_shape", &[rows, 2, 1, 4]),
            ("key_shape", &[rows, 1, 4, 4]),
            ("value_shape", &[rows, 1, 4, 4]),
        ],
    };
    check_far(&far, &ATTENTION_DECODE, &[&query, &key, &value], &launch);
}

/// So many queries in two splits that their answers and statistics are 2^32 numbers each.
pub fn check_far_merge() {
    const FIRST_QUERY: u32 = 1 << 30;
    let mut rng = Rng::new(42);
    let partial = must(rng.array(&[1, 2, 1, 2, 4], Dtype::Float32));
    // A maximum and a sum, which is positive.
    let statistics = Array::from_slice(&[0.5_f32, 1.5, -0.25, 2.0, 1.0, 1.25, 0.75, 3.0], &[1, 2, 1, 2, 2]);
    let launch = Launch {
        template: &[
            ("O", TemplateValue::Dtype(Dtype::Float16)),
            ("D", TemplateValue::Int(4)),
            ("SIMD_GROUPS", TemplateValue::Int(2)),
        ],
        outputs: &[TensorType::new([1, 2, 1, 4], Dtype::Float16)],
        grid: [2 * 64, 1, 1],
        threadgroup: [64, 1, 1],
        fill: None,
    };
    let first = u64::from(FIRST_QUERY);
    let far = Far {
        what: &format!("the queries from {FIRST_QUERY} on, two splits, D = 4"),
        wrong_and_right: ["row * D + d", "long(row) * D + d"],
        arrays: &[("partial", first * 2 * 4), ("statistics", first * 2 * 2), ("out", first * 4)],
        positions: &[("threadgroup_position_in_grid", [FIRST_QUERY, 0, 0])],
        integers: &[
            ("partial_shape", &[first / 2 + 1, 2, 1, 2, 4]),
            ("statistics_shape", &[first / 2 + 1, 2, 1, 2, 2]),
        ],
    };
    check_far(&far, &ATTENTION_DECODE_MERGE, &[&partial, &statistics], &launch);
}

/// A batch row is one tile of queries and one of keys.
pub fn check_far_prefill() {
    const FIRST_ROW: u32 = 1 << 24; // of 16 x 16 numbers
    let mut rng = Rng::new(43);
    let Inputs { query, key, value } = Inputs::random(&mut rng, sizes([1, 1], 16, 16, 16), Dtype::Float16);
    let launch = Launch {
        template: &[
            ("T", TemplateValue::Dtype(Dtype::Float16)),
            ("D", TemplateValue::Int(16)),
            ("KEYS", TemplateValue::Int(16)),
            ("SIMD_GROUPS", TemplateValue::Int(1)),
            ("ROW_TILES", TemplateValue::Int(1)),
            ("CAUSAL", TemplateValue::Bool(true)),
            ("SCALE_BITS", bits(0.25)),
        ],
        outputs: &[TensorType::new([1, 1, 16, 16], Dtype::Float16)],
        grid: [32, 1, 1],
        threadgroup: [32, 1, 1],
        fill: None,
    };
    let shape = &[u64::from(FIRST_ROW) + 1, 1, 16, 16];
    let far = Far {
        what: &format!("batch row {FIRST_ROW}, 16 queries, D = 16"),
        wrong_and_right: ["(batch * H_q + head) * D", "(long(batch) * H_q + head) * D"],
        arrays: &["query", "key", "value", "out"].map(|name| (name, 1 << 32)),
        positions: &[
            ("threadgroup_position_in_grid", [0, 0, FIRST_ROW]),
            ("thread_position_in_grid", [0, 0, FIRST_ROW]),
        ],
        integers: &[("query_shape", shape), ("key_shape", shape), ("value_shape", shape)],
    };
    check_far(&far, &ATTENTION_PREFILL, &[&query, &key, &value], &launch);
}

fn bits(number: f32) -> TemplateValue {
    TemplateValue::Int(number.to_bits() as i32)
}
