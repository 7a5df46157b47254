//! Day 2.5: attention on the GPU: one SIMD group for each query, decode, splits, tiles, the model.
//!
//! Every test runs on all backends of the machine: the emulator always, a real GPU where there is one.

#[allow(dead_code)] // day 2.1 uses the rest
mod cached_model;
mod far_attention;
mod far_indices;
mod gpu_attention;
mod gpu_model;
#[allow(dead_code)] // days 2.2a to 2.2c use the rest
mod quantized_models;
mod refusals;
mod scripted;
#[path = "week2_day5/task_5_far_rows.rs"]
mod task_5_far_rows;
#[path = "week2_day5/task_5_the_model.rs"]
mod task_5_the_model;
#[path = "week2_day5/task_5_wide_tiles.rs"]
mod task_5_wide_tiles;
#[allow(dead_code)] // day 2.4 uses the rest
mod tiled;
mod tiny_models;
mod works_ahead;

use far_attention::{check_far_decode, check_far_merge, check_far_plain, check_far_prefill};
use gpu_attention::{Memory, check_broadcast_mask, check_case, check_inputs, in_cache};
use grader::{Fixture, Rng, check_close, check_rule, expect_error, property};
use mlx_custom::gpu::GpuBackend;
use mlx_rs::ops::{full, ones};
use mlx_rs::{Array, Dtype};
use refusals::expect_invalid_argument;
use rstest::rstest;
use tiled::{Inputs, Sizes, check_nan_rows, must};
use tiny_llm::flash_attention::gpu::decode::{check as decode_check, choose_splits};
use tiny_llm::flash_attention::gpu::prefill::check as prefill_check;
use tiny_llm::flash_attention::gpu::prefill_wide::check as wide_check;
use tiny_llm::flash_attention::gpu::problem::Problem;
use tiny_llm::flash_attention::gpu::{
    KernelChoice, Tiles, choose_kernel, flash_attention_gpu, flash_attention_gpu_with,
};
use tiny_llm::{AttentionBackend, AttentionMask, Result};

const DAY: &str = "week2_day5";
const WHOLE: KernelChoice = KernelChoice::Decode { splits: 1 };
const WIDE: KernelChoice = KernelChoice::PrefillWide { simd_groups: 8 };
const SMALL_TILES: KernelChoice = KernelChoice::Prefill { tiles: Tiles { simd_groups: 2, row_tiles: 1, keys: 32 } };

fn sizes(heads: [i32; 2], query_len: i32, key_len: i32, head_dim: i32) -> Sizes {
    Sizes { batch: 1, num_heads: heads[0], num_kv_heads: heads[1], query_len, key_len, head_dim }
}

// --------------------------------------------------------------- task 1: one SIMD group for each query

#[rstest]
fn task_1_attention(
    #[values(
        "one_query_f32",
        "groups_bf16",
        "batch_f16",
        "scale_f32",
        "causal_square_f32",
        "causal_with_past_f16",
        "bool_mask_f32",
        "padding_mask_bf16",
        "mask_per_head_f16",
        "additive_mask_f32",
        "infinite_mask_f32",
        "f32_inside_bf16",
        "f32_inside_f16",
        "large_values_f16"
    )]
    name: &str,
    #[values(Memory::RowMajor, Memory::OtherOrder, Memory::PartOfCache)] memory: Memory,
) {
    let fixture = Fixture::load(DAY);
    check_case(fixture.case(&format!("plain/{name}")), KernelChoice::Plain, memory);
}

/// Fewer numbers than lanes, as many, more.
#[rstest]
fn task_1_head_sizes(#[values(1, 31, 32, 33, 64, 80, 128)] head_dim: i32) {
    let mut rng = Rng::new(head_dim as u64);
    let inputs = Inputs::random(&mut rng, sizes([2, 1], 3, 20, head_dim), Dtype::Float32);
    check_inputs(&inputs, &AttentionMask::Causal, KernelChoice::Plain);
}

/// A threadgroup holds several queries, and the last one is not full.
#[rstest]
fn task_1_number_of_queries(#[values(1, 3, 4, 5, 9)] query_len: i32) {
    let mut rng = Rng::new(query_len as u64);
    let inputs = Inputs::random(&mut rng, sizes([1, 1], query_len, 9, 16), Dtype::Float32);
    check_inputs(&inputs, &AttentionMask::Causal, KernelChoice::Plain);
}

#[test]
fn task_1_masks_broadcast() {
    let mut rng = Rng::new(1);
    let inputs = Inputs::random(&mut rng, Sizes { batch: 2, ..sizes([4, 2], 5, 9, 16) }, Dtype::Float32);
    for shape in [&[9][..], &[5, 9], &[5, 1], &[4, 1, 9], &[2, 1, 1, 9], &[1, 1, 1, 1]] {
        for dtype in [Dtype::Bool, Dtype::Float32, Dtype::Bfloat16] {
            // Every row sees its first key. Numbers that every dtype holds.
            let row = shape[shape.len() - 1];
            let is_bool = dtype == Dtype::Bool;
            let number = |i: i32| if is_bool && i % row == 0 { 1.0 } else { rng.between(-1, 2) as f32 };
            let numbers = Array::from_iter((0..shape.iter().product()).map(number).collect::<Vec<f32>>(), shape);
            let mask = match dtype {
                Dtype::Bool => must(numbers.gt(Array::from_f32(0.0))),
                dtype => must(numbers.as_dtype(dtype)),
            };
            check_broadcast_mask(&inputs, &mask);
        }
    }
}

/// Masks in another dtype than the inputs', and in one that is no float.
#[rstest]
fn task_1_masks_of_other_dtypes(
    #[values(Dtype::Float32, Dtype::Float16)] inputs: Dtype,
    #[values(Dtype::Float32, Dtype::Float16, Dtype::Bfloat16, Dtype::Int32)] mask: Dtype,
) {
    let mut rng = Rng::new(9);
    let inputs = Inputs::random(&mut rng, sizes([2, 1], 3, 9, 16), inputs);
    let numbers = Array::from_iter((0..27).map(|_| rng.between(-2, 2)).collect::<Vec<i32>>(), &[3, 9]);
    check_inputs(&inputs, &AttentionMask::Array(must(numbers.as_dtype(mask))), KernelChoice::Plain);
}

/// Hidden by a bool mask, whatever its score would have been: so large that nothing else would have any weight, or no number.
#[test]
fn task_1_a_hidden_key_may_score_anything() {
    let mut rng = Rng::new(10);
    let inputs = Inputs::random(&mut rng, sizes([2, 1], 3, 9, 16), Dtype::Float32);
    let mask = AttentionMask::Array(Array::from_iter((0..27).map(|at| at % 9 != 5), &[3, 9]));
    let expected = inputs.oracle(&mask);
    for number in [1e12, f32::INFINITY, f32::NAN] {
        let keys = inputs.key.as_slice::<f32>().iter().enumerate();
        let keys: Vec<f32> = keys.map(|(at, &x)| if at / 16 == 5 { number } else { x }).collect();
        let key = Array::from_slice(&keys, inputs.key.shape());
        for backend in GpuBackend::available() {
            let got = must(flash_attention_gpu_with(
                &inputs.query,
                &key,
                &inputs.value,
                None,
                &mask,
                backend,
                KernelChoice::Plain,
            ));
            must(got.eval());
            let is_near = |(got, expected): (&f32, &f32)| (got - expected).abs() < 1e-4;
            let wrong = got.as_slice::<f32>().iter().zip(expected.as_slice::<f32>()).position(|pair| !is_near(pair));
            let holds = wrong.map_or(Ok(()), |at| Err(format!("query {} is not what its visible keys give", at / 16)));
            let cause = "looks like: something is added to a hidden key's score, or it is made low; skip the key, or give it -inf";
            check_rule(&format!("{backend:?}: a hidden key of numbers {number}"), holds, cause);
        }
    }
}

#[test]
fn task_1_a_far_batch_row() {
    check_far_plain();
}

#[test]
fn task_1_a_query_that_sees_nothing_is_nan() {
    let mut rng = Rng::new(2);
    let inputs = Inputs::random(&mut rng, sizes([1, 1], 3, 4, 8), Dtype::Float32);
    let mask = Array::from_slice(&(0..12).map(|i| i / 4 != 1).collect::<Vec<bool>>(), &[3, 4]);
    for backend in GpuBackend::available() {
        let mask = AttentionMask::Array(mask.clone());
        let Inputs { query, key, value } = &inputs;
        let got = must(flash_attention_gpu_with(query, key, value, None, &mask, backend, KernelChoice::Plain));
        must(got.eval());
        let rows: Vec<Vec<f32>> = got.as_slice::<f32>().chunks(8).map(<[f32]>::to_vec).collect();
        check_nan_rows(&format!("three queries on {backend:?}"), &rows, &[1]);
    }
}

/// Scores of several hundred thousand: exp of anything but a difference to the maximum would overflow.
fn large_scores() -> [Inputs; 2] {
    let mut rng = Rng::new(6);
    let inputs = Inputs::random(&mut rng, sizes([2, 1], 4, 40, 64), Dtype::Float16);
    let large = |array: &Array, by: f32| must(must(array.multiply(Array::from_f32(by))).as_dtype(Dtype::Float16));
    let [query, key] = [large(&inputs.query, 2000.0), large(&inputs.key, 30.0)];
    // All scores far below 0, too: a maximum that begins at 0 would leave no weight at all.
    let [below, against] = [must(query.abs()), must(must(key.abs()).negative())];
    [(query, key), (below, against)].map(|(query, key)| Inputs { query, key, value: inputs.value.clone() })
}

#[track_caller]
fn check_large_scores(choice: KernelChoice) {
    let [spread, below] = large_scores();
    check_inputs(&spread, &AttentionMask::Causal, choice);
    for backend in GpuBackend::available() {
        let Inputs { query, key, value } = &below;
        let got = must(flash_attention_gpu_with(query, key, value, None, &AttentionMask::Causal, backend, choice));
        let got = must(got.as_dtype(Dtype::Float32));
        must(got.eval());
        let has_numbers =
            got.as_slice::<f32>().iter().all(|x| !x.is_nan()) && got.as_slice::<f32>().iter().any(|x| *x != 0.0);
        let holds = if has_numbers { Ok(()) } else { Err("no weight is left: the answers are NaN or 0".to_owned()) };
        let cause = "looks like: a maximum begins at 0; it begins at LOWEST, or scores that are all far below 0 leave no weight";
        check_rule(&format!("{choice:?} on {backend:?}: scores that are all below -100,000"), holds, cause);
    }
    check_inputs(&below, &AttentionMask::Causal, choice);
}

#[test]
fn task_1_large_scores() {
    check_large_scores(KernelChoice::Plain);
}

// ------------------------------------------------------------------------------------- task 2: decode

#[rstest]
fn task_2_attention(
    #[values(
        "group_of_7_bf16",
        "multi_head_f32",
        "multi_query_f16",
        "several_queries_bf16",
        "scale_f16",
        "f32_inside_bf16",
        "large_values_f16"
    )]
    name: &str,
    #[values(Memory::RowMajor, Memory::OtherOrder, Memory::PartOfCache)] memory: Memory,
) {
    let fixture = Fixture::load(DAY);
    check_case(fixture.case(&format!("decode/{name}")), WHOLE, memory);
}

/// Around the keys that a lane, a SIMD group and a threadgroup take at once.
#[rstest]
fn task_2_number_of_keys(
    #[values(1, 3, 4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 1000)] key_len: i32,
) {
    let mut rng = Rng::new(key_len as u64);
    for dtype in [Dtype::Bfloat16, Dtype::Float32] {
        let inputs = in_cache(Inputs::random(&mut rng, sizes([2, 1], 1, key_len, 64), dtype));
        check_inputs(&inputs, &AttentionMask::Causal, WHOLE);
    }
}

/// From one lane for a key to all 32.
#[rstest]
#[case(Dtype::Float16, 8)]
#[case(Dtype::Bfloat16, 16)]
#[case(Dtype::Float16, 64)]
#[case(Dtype::Bfloat16, 128)]
#[case(Dtype::Float16, 256)]
#[case(Dtype::Float32, 4)]
#[case(Dtype::Float32, 128)]
fn task_2_head_sizes(#[case] dtype: Dtype, #[case] head_dim: i32) {
    let mut rng = Rng::new(head_dim as u64);
    let inputs = Inputs::random(&mut rng, Sizes { batch: 2, ..sizes([4, 2], 1, 75, head_dim) }, dtype);
    check_inputs(&inputs, &AttentionMask::Causal, WHOLE);
}

/// 1, 2, 7, 8 heads that share keys, and more rows than a threadgroup holds.
#[rstest]
fn task_2_groups_and_queries(
    #[values([3, 3], [4, 2], [7, 1], [8, 1], [9, 1])] heads: [i32; 2],
    #[values(1, 2, 5, 8)] query_len: i32,
) {
    let mut rng = Rng::new(heads[0] as u64);
    let inputs = Inputs::random(&mut rng, sizes(heads, query_len, 40, 16), Dtype::Bfloat16);
    check_inputs(&inputs, &AttentionMask::Causal, WHOLE);
}

#[test]
fn task_2_without_a_mask_every_query_sees_every_key() {
    let mut rng = Rng::new(3);
    // More queries than keys: that is no error without a mask.
    let inputs = Inputs::random(&mut rng, sizes([2, 1], 7, 5, 64), Dtype::Float16);
    check_inputs(&inputs, &AttentionMask::None, WHOLE);
}

#[test]
fn task_2_large_scores() {
    check_large_scores(WHOLE);
}

#[test]
fn task_2_a_far_batch_row() {
    check_far_decode();
}

// ------------------------------------------------------------------------------------- task 3: splits

#[rstest]
fn task_3_attention(
    #[values("two_f32", "five_bf16", "several_queries_f16", "f32_inside_bf16", "large_values_f16")] name: &str,
    #[values(Memory::RowMajor, Memory::PartOfCache)] memory: Memory,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("splits/{name}"));
    check_case(case, KernelChoice::Decode { splits: case.i32("splits") as usize }, memory);
}

/// With 7 splits of 5 keys most are empty; with 40 the merging SIMD groups have several each.
#[rstest]
fn task_3_keys_and_splits(#[values(1, 5, 64, 65, 257)] key_len: i32, #[values(2, 7, 40)] splits: usize) {
    let mut rng = Rng::new(key_len as u64);
    for query_len in [1, 3].map(|len| key_len.min(len)) {
        let inputs = Inputs::random(&mut rng, sizes([4, 2], query_len, key_len, 64), Dtype::Bfloat16);
        check_inputs(&inputs, &AttentionMask::Causal, KernelChoice::Decode { splits });
    }
}

#[test]
fn task_3_batches_and_head_sizes() {
    let mut rng = Rng::new(4);
    for (dtype, head_dim) in [(Dtype::Float32, 128), (Dtype::Float16, 16)] {
        let inputs = Inputs::random(&mut rng, Sizes { batch: 3, ..sizes([7, 1], 1, 50, head_dim) }, dtype);
        check_inputs(&inputs, &AttentionMask::None, KernelChoice::Decode { splits: 3 });
    }
}

#[test]
fn task_3_large_scores() {
    check_large_scores(KernelChoice::Decode { splits: 3 });
}

#[test]
fn task_3_merging_very_many_queries() {
    check_far_merge();
}

#[test]
fn task_3_choose_splits() {
    for backend in [GpuBackend::Cuda, GpuBackend::Metal, GpuBackend::Emulator] {
        let at = |batch, heads, query_len, key_len| {
            choose_splits(&Sizes { batch, ..sizes(heads, query_len, key_len, 128) }.shape(), backend)
        };
        assert_eq!(at(1, [28, 4], 1, 50), 1, "{backend:?}: 50 keys are too few to split");
        assert!(at(1, [8, 1], 1, 100_000) > 4, "{backend:?}: one key/value head and many keys: splits for every core");
        assert!(
            at(1, [8, 1], 1, 256) <= 4,
            "{backend:?}: at least 64 keys in a split, or merging counts: 256 keys make at most 4"
        );
        assert_eq!(at(1000, [28, 4], 1, 5000), 1, "{backend:?}: a large batch fills the GPU without splits");
        let (one, several) = (at(1, [28, 4], 1, 100_000), at(2, [28, 4], 1, 100_000));
        assert!(several <= one, "{backend:?}: twice the rows need no more splits, {several} and {one}");
    }
}

// -------------------------------------------------------------------------------------- task 4: tiles

#[rstest]
fn task_4_attention(
    #[values(
        "one_tile_bf16",
        "short_last_tile_f16",
        "causal_square_bf16",
        "causal_with_past_f16",
        "one_hidden_f16",
        "one_hidden_below_f16",
        "large_values_f16"
    )]
    name: &str,
    #[values(Memory::RowMajor, Memory::OtherOrder, Memory::PartOfCache)] memory: Memory,
) {
    let fixture = Fixture::load(DAY);
    check_case(fixture.case(&format!("tiles/{name}")), SMALL_TILES, memory);
}

/// Around tiles of queries (32) and of keys (32): one threadgroup and several, full and not.
#[rstest]
fn task_4_lengths_around_tiles(
    #[values(1, 15, 16, 17, 31, 32, 33, 63, 64, 65)] query_len: i32,
    #[values(0, 1, 14, 30, 31, 33, 64)] past: i32,
) {
    let mut rng = Rng::new(query_len as u64);
    let inputs = in_cache(Inputs::random(&mut rng, sizes([1, 1], query_len, query_len + past, 64), Dtype::Bfloat16));
    for mask in [AttentionMask::Causal, AttentionMask::None] {
        check_inputs(&inputs, &mask, SMALL_TILES);
    }
}

/// Tiles as the GPUs get them.
#[rstest]
#[case(Tiles::new(GpuBackend::Cuda), 128)]
#[case(Tiles::new(GpuBackend::Metal), 128)]
#[case(Tiles::new(GpuBackend::Cuda), 64)]
#[case(Tiles { simd_groups: 1, row_tiles: 2, keys: 16 }, 80)]
fn task_4_tiles_of_the_gpus(#[case] tiles: Tiles, #[case] head_dim: i32) {
    let mut rng = Rng::new(head_dim as u64);
    for (query_len, key_len) in [(130, 150), (70, 70)] {
        let inputs = Inputs::random(&mut rng, sizes([2, 1], query_len, key_len, head_dim), Dtype::Bfloat16);
        check_inputs(&inputs, &AttentionMask::Causal, KernelChoice::Prefill { tiles });
    }
}

#[rstest]
fn task_4_groups_and_batches(#[values([2, 2], [4, 2], [7, 1])] heads: [i32; 2]) {
    let mut rng = Rng::new(heads[0] as u64);
    let inputs = Inputs::random(&mut rng, Sizes { batch: 2, ..sizes(heads, 20, 50, 16) }, Dtype::Float16);
    check_inputs(&inputs, &AttentionMask::Causal, SMALL_TILES);
}

#[test]
fn task_4_large_scores() {
    check_large_scores(SMALL_TILES);
}

#[test]
fn task_4_a_far_batch_row() {
    check_far_prefill();
}

// -------------------------------------------------------------------------------------- what a kernel refuses

fn problem_of<'a>(inputs: &'a Inputs, mask: &'a AttentionMask) -> Problem<'a> {
    must(Problem::new(&inputs.query, &inputs.key, &inputs.value, None, mask))
}

#[test]
fn task_5_every_problem_has_a_kernel() {
    let mut rng = Rng::new(5);
    let masks = [AttentionMask::None, AttentionMask::Causal, AttentionMask::Array(must(ones::<f32>(&[9, 9])))];
    for (dtype, head_dim) in [(Dtype::Float32, 64), (Dtype::Bfloat16, 64), (Dtype::Float16, 80), (Dtype::Float16, 7)] {
        let inputs = Inputs::random(&mut rng, sizes([2, 1], 9, 9, head_dim), dtype);
        for mask in &masks {
            let [query, key, value] = [&inputs.query, &inputs.key, &inputs.value];
            let got = flash_attention_gpu(query, key, value, None, mask);
            let name = format!("{dtype:?}, D = {head_dim}, {mask:?}");
            check_close(&name, got, &inputs.oracle(mask), gpu_attention::tolerance(dtype));
            let through_backend = AttentionBackend::FlashGpu.attend(query, key, value, mask);
            check_close(&name, through_backend, &inputs.oracle(mask), gpu_attention::tolerance(dtype));
        }
    }
}

#[test]
fn task_5_choose_kernel() {
    let mut rng = Rng::new(5);
    let mut choice = |query_len, head_dim, dtype, mask: &AttentionMask| {
        let inputs = Inputs::random(&mut rng, sizes([2, 1], query_len, 200, head_dim), dtype);
        [GpuBackend::Emulator, GpuBackend::Cuda].map(|backend| choose_kernel(&problem_of(&inputs, mask), backend))
    };
    let (causal, bf16) = (AttentionMask::Causal, Dtype::Bfloat16);
    for choice in choice(1, 64, bf16, &causal) {
        assert!(matches!(choice, KernelChoice::Decode { splits: 2.. }), "one query, 200 keys: {choice:?}");
    }
    let [emulator, cuda] = choice(100, 64, bf16, &causal);
    assert!(matches!(emulator, KernelChoice::Prefill { .. }), "100 queries, not on CUDA: {emulator:?}");
    assert_eq!(cuda, WIDE, "100 queries on CUDA");
    for choice in choice(100, 80, bf16, &causal) {
        assert!(matches!(choice, KernelChoice::Prefill { .. }), "100 queries, D = 80: {choice:?}");
    }
    for choice in choice(100, 64, Dtype::Float32, &causal) {
        assert!(matches!(choice, KernelChoice::Decode { .. }), "100 queries of f32: {choice:?}");
    }
    assert_eq!(choice(1, 40, bf16, &causal), [KernelChoice::Plain; 2], "a head size that is no power of two");
    let mask = AttentionMask::Array(must(ones::<f32>(&[100, 200])));
    assert_eq!(choice(100, 64, bf16, &mask), [KernelChoice::Plain; 2], "a mask array");
}

fn attention_of_shapes(query: &[i32], key: &[i32], value: &[i32], mask: &AttentionMask) -> Result<Array> {
    let ones = |shape: &[i32]| ones::<f32>(shape);
    flash_attention_gpu(&ones(query)?, &ones(key)?, &ones(value)?, None, mask)
}

/// The right call first: a refusal's test must not be green because everything is refused, or nothing is computed.
fn accepts_fitting_shapes() {
    let result = attention_of_shapes(&[2, 4, 3, 4], &[2, 2, 6, 4], &[2, 2, 6, 4], &AttentionMask::Causal);
    let expected = must(ones::<f32>(&[2, 4, 3, 4]));
    check_close("attention over values that are all 1", result, &expected, gpu_attention::tolerance(Dtype::Float32));
}

#[rstest]
#[case::heads_do_not_divide(&[2, 5, 3, 4], &[2, 2, 6, 4], "5 query heads and 2 key/value heads")]
#[case::no_kv_heads(&[2, 4, 3, 4], &[2, 0, 6, 4], "no key/value heads")]
#[case::three_axes(&[4, 3, 4], &[2, 6, 4], "query, key and value without a batch axis")]
#[case::other_batch(&[2, 4, 3, 4], &[1, 2, 6, 4], "two rows of queries and one of keys")]
#[case::other_head_dim(&[2, 4, 3, 4], &[2, 2, 6, 5], "a query with D = 4 and a key with D = 5")]
#[case::no_keys(&[2, 4, 3, 4], &[2, 2, 0, 4], "queries and no keys")]
fn task_5_refuses_shapes_that_do_not_fit(#[case] query: &[i32], #[case] key: &[i32], #[case] what: &str) {
    accepts_fitting_shapes();
    expect_invalid_argument(attention_of_shapes(query, key, key, &AttentionMask::None), what);
}

#[test]
fn task_5_refuses_what_else_does_not_fit() {
    accepts_fitting_shapes();
    let (query, key) = (&[2, 4, 6, 4], &[2, 2, 3, 4]);
    let causal = attention_of_shapes(query, key, key, &AttentionMask::Causal);
    expect_invalid_argument(causal, "a causal mask with 6 queries and 3 keys");
    let value = attention_of_shapes(query, key, &[2, 2, 4, 4], &AttentionMask::None);
    expect_invalid_argument(value, "3 keys and 4 values");
    let mask = AttentionMask::Array(must(ones::<f32>(&[6, 4])));
    expect_error(attention_of_shapes(query, key, key, &mask), "a mask [6, 4] for 6 queries and 3 keys");
    let (f32s, f16s) = (must(ones::<f32>(&[1, 1, 1, 8])), must(ones::<half::f16>(&[1, 1, 1, 8])));
    let integers = must(ones::<i32>(&[1, 1, 1, 8]));
    let none = AttentionMask::None;
    expect_invalid_argument(flash_attention_gpu(&integers, &integers, &integers, None, &none), "integers");
    expect_invalid_argument(flash_attention_gpu(&f32s, &f16s, &f16s, None, &none), "an f32 query and f16 keys");
}

/// Each kernel by name, with what it cannot compute.
#[test]
fn task_5_kernels_refuse_what_they_cannot_compute() {
    accepts_fitting_shapes();
    let mut rng = Rng::new(7);
    let mut inputs = |head_dim, dtype| Inputs::random(&mut rng, sizes([2, 1], 4, 4, head_dim), dtype);
    let (odd, full, half) = (inputs(24, Dtype::Float16), inputs(64, Dtype::Float32), inputs(64, Dtype::Float16));
    let array = AttentionMask::Array(must(full_mask()));
    let none = AttentionMask::None;
    expect_invalid_argument(decode_check(&problem_of(&odd, &none)), "decode with D = 24, three lanes for a key");
    expect_invalid_argument(decode_check(&problem_of(&half, &array)), "decode with a mask array");
    expect_invalid_argument(prefill_check(&problem_of(&odd, &none)), "tiles with D = 24");
    expect_invalid_argument(prefill_check(&problem_of(&full, &none)), "tiles of f32");
    expect_invalid_argument(prefill_check(&problem_of(&half, &array)), "tiles with a mask array");
    let between = inputs(80, Dtype::Float16);
    expect_invalid_argument(wide_check(&problem_of(&between, &none), GpuBackend::Cuda), "wide tiles with D = 80");
    expect_invalid_argument(wide_check(&problem_of(&full, &none), GpuBackend::Cuda), "wide tiles of f32");
    expect_invalid_argument(wide_check(&problem_of(&half, &array), GpuBackend::Cuda), "wide tiles with a mask array");
    expect_invalid_argument(wide_check(&problem_of(&half, &none), GpuBackend::Metal), "wide tiles on Metal");
    let [query, key, value] = [&half.query, &half.key, &half.value];
    let tiles = |simd_groups, row_tiles, keys| KernelChoice::Prefill { tiles: Tiles { simd_groups, row_tiles, keys } };
    for backend in GpuBackend::available() {
        let run = |scale, choice| flash_attention_gpu_with(query, key, value, scale, &none, backend, choice);
        expect_invalid_argument(run(None, KernelChoice::Decode { splits: 0 }), "0 splits");
        expect_invalid_argument(run(Some(-1.0), SMALL_TILES), "tiles with a negative scale");
        expect_invalid_argument(run(None, tiles(0, 1, 16)), "tiles without SIMD groups");
        expect_invalid_argument(run(None, tiles(1, 0, 16)), "tiles without queries");
        expect_invalid_argument(run(None, tiles(1, 1, 24)), "tiles of 24 keys");
        let wide = KernelChoice::PrefillWide { simd_groups: 6 };
        expect_invalid_argument(run(None, wide), "wide tiles with 6 SIMD groups");
    }
}

fn full_mask() -> Result<Array> {
    Ok(full::<f32>(&[4, 4], Array::from_f32(0.0))?)
}

/// A negative scale turns the order of the scores around.
#[test]
fn task_5_negative_scale() {
    let mut rng = Rng::new(8);
    let inputs = Inputs::random(&mut rng, sizes([2, 1], 20, 20, 64), Dtype::Bfloat16);
    let [query, key, value] = [&inputs.query, &inputs.key, &inputs.value];
    let negated = must(query.negative());
    let got = flash_attention_gpu(query, key, value, Some(-0.125), &AttentionMask::Causal);
    let expected = Inputs { query: negated, key: key.clone(), value: value.clone() }.oracle(&AttentionMask::Causal);
    check_close("a scale of -1/8", got, &expected, gpu_attention::tolerance(Dtype::Bfloat16));
}

#[test]
fn task_5_no_queries_is_an_empty_answer() {
    accepts_fitting_shapes();
    let result = attention_of_shapes(&[2, 4, 0, 4], &[2, 2, 3, 4], &[2, 2, 3, 4], &AttentionMask::Causal);
    check_close("no queries", result, &must(ones::<f32>(&[2, 4, 0, 4])), grader::Tolerance::EXACT);
}

#[test]
fn task_5_random_problems() {
    property(12, |rng| {
        let (n, num_kv_heads) = (rng.between(1, 8), rng.between(1, 3));
        let (query_len, past) = (rng.between(1, 40), rng.between(0, 90));
        let head_dim = [16, 24, 64, 80, 128][rng.between(0, 4) as usize];
        let heads = [n * num_kv_heads, num_kv_heads];
        let sizes = Sizes { batch: rng.between(1, 2), ..sizes(heads, query_len, query_len + past, head_dim) };
        let dtype = [Dtype::Float32, Dtype::Float16, Dtype::Bfloat16][rng.between(0, 2) as usize];
        let inputs = in_cache(Inputs::random(rng, sizes, dtype));
        let [query, key, value] = [&inputs.query, &inputs.key, &inputs.value];
        let got = flash_attention_gpu(query, key, value, None, &AttentionMask::Causal);
        let expected = inputs.oracle(&AttentionMask::Causal);
        check_close(&format!("{sizes:?} {dtype:?}"), got, &expected, gpu_attention::tolerance(dtype));
    });
}
