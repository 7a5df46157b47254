//! Day 2.5: attention on the GPU: one SIMD group for each query, decode, splits, tiles, the model.
//!
//! Every test runs on all backends of the machine: the emulator always, a real GPU where there is one.

#[allow(dead_code)] // day 2.1 uses the rest
mod cached_model;
mod gpu_attention;
mod gpu_model;
#[allow(dead_code)] // day 2.2 uses the rest
mod quantized_models;
mod refusals;
mod scripted;
#[allow(dead_code)] // day 2.4 uses the rest
mod tiled;
mod tiny_models;
mod works_ahead;

use gpu_attention::{Memory, check_case, check_inputs, check_inputs_on, in_cache};
use gpu_model::{
    address, check_against_plain_layers, check_block, check_cache, check_gated_products, check_generation,
    check_joined_projections, check_logits, check_model_refuses, check_norm, check_rope, check_swiglu,
};
use grader::{Fixture, Rng, check_close, check_tokens, expect_error, property};
use mlx_custom::gpu::{GpuBackend, check_metal};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::ops::{full, ones};
use mlx_rs::{Array, Dtype};
use refusals::expect_invalid_argument;
use rstest::rstest;
use tiled::{Inputs, Sizes, must};
use tiny_llm::flash_attention::gpu::decode::{LONGEST_QUERY, check as decode_check, choose_splits};
use tiny_llm::flash_attention::gpu::kernels::{
    ATTENTION_DECODE, ATTENTION_DECODE_MERGE, ATTENTION_PLAIN, ATTENTION_PREFILL, ATTENTION_PREFILL_WIDE,
};
use tiny_llm::flash_attention::gpu::prefill::check as prefill_check;
use tiny_llm::flash_attention::gpu::prefill_wide::check as wide_check;
use tiny_llm::flash_attention::gpu::problem::Problem;
use tiny_llm::flash_attention::gpu::{
    KernelChoice, Tiles, choose_kernel, flash_attention_gpu, flash_attention_gpu_with,
};
use tiny_llm::fused::gpu::norm::RMS_NORM;
use tiny_llm::fused::gpu::rope::ROPE_QK;
use tiny_llm::fused::gpu::swiglu::SWIGLU;
use tiny_llm::fused::gpu::{Heads, Positions, add_rms_norm_gpu, rms_norm_gpu, rope_qk_gpu, swiglu_gpu};
use tiny_llm::{AttentionBackend, AttentionMask, GpuKvCache, KvCache, Offset, Result, RmsNorm, RotaryEmbedding};

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
        "infinite_mask_f32"
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
            // Every row sees its first key.
            let row = shape[shape.len() - 1];
            let number = |i: i32| if i % row == 0 { 1.0 } else { rng.between(-1, 2) as f32 };
            let numbers = Array::from_iter((0..shape.iter().product()).map(number).collect::<Vec<f32>>(), shape);
            let mask = match dtype {
                Dtype::Bool => must(numbers.gt(Array::from_f32(0.0))),
                dtype => must(numbers.as_dtype(dtype)),
            };
            check_inputs(&inputs, &AttentionMask::Array(mask), KernelChoice::Plain);
        }
    }
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
        let is_nan: Vec<bool> = got.as_slice::<f32>().chunks(8).map(|row| row.iter().all(|x| x.is_nan())).collect();
        check_tokens("rows of NaN, where row 1 sees nothing", &is_nan, &[false, true, false]);
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
    for inputs in large_scores() {
        check_inputs(&inputs, &AttentionMask::Causal, choice);
    }
}

#[test]
fn task_1_large_scores() {
    check_large_scores(KernelChoice::Plain);
}

// ------------------------------------------------------------------------------------- task 2: decode

#[rstest]
fn task_2_attention(
    #[values("group_of_7_bf16", "multi_head_f32", "multi_query_f16", "several_queries_bf16", "scale_f16")] name: &str,
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

// ------------------------------------------------------------------------------------- task 3: splits

#[rstest]
fn task_3_attention(
    #[values("two_f32", "five_bf16", "several_queries_f16")] name: &str,
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
    #[values("one_tile_bf16", "short_last_tile_f16", "causal_square_bf16", "causal_with_past_f16")] name: &str,
    #[values(Memory::RowMajor, Memory::OtherOrder, Memory::PartOfCache)] memory: Memory,
) {
    let fixture = Fixture::load(DAY);
    check_case(fixture.case(&format!("tiles/{name}")), SMALL_TILES, memory);
}

/// Around tiles of queries (32) and of keys (32): one threadgroup and several, full and not.
#[rstest]
fn task_4_lengths_around_tiles(
    #[values(1, 15, 16, 17, 31, 32, 33, 63, 64, 65)] query_len: i32,
    #[values(0, 1, 31, 33, 64)] past: i32,
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

/// Compares the kernel on wide tiles, given, with MLX, on every backend that has room for it. CUDA must choose it.
#[track_caller]
fn check_wide(inputs: &Inputs, mask: &AttentionMask, simd_groups: usize) {
    let chosen = choose_kernel(&problem_of(inputs, mask), GpuBackend::Cuda);
    let is_prefill = inputs.query.dim(2) > LONGEST_QUERY as i32;
    assert_eq!(chosen == WIDE, is_prefill, "CUDA chooses {chosen:?} for a query {:?}", inputs.query.shape());
    let choice = KernelChoice::PrefillWide { simd_groups };
    let backends = GpuBackend::available().into_iter().filter(|&backend| backend != GpuBackend::Metal);
    check_inputs_on(backends, inputs, mask, choice);
}

/// Around tiles of 64 queries and of 64 keys, and of 128: one threadgroup and several, full and not.
#[rstest]
fn task_5_wide_tiles(
    #[values(1, 63, 64, 65, 128, 130)] query_len: i32,
    #[values(0, 1, 63, 70)] past: i32,
    #[values(64, 128)] head_dim: i32,
) {
    let mut rng = Rng::new(query_len as u64);
    let sizes = sizes([1, 1], query_len, query_len + past, head_dim);
    let inputs = in_cache(Inputs::random(&mut rng, sizes, Dtype::Bfloat16));
    for mask in [AttentionMask::Causal, AttentionMask::None] {
        check_wide(&inputs, &mask, 4);
        check_wide(&inputs, &mask, 8);
    }
}

#[rstest]
fn task_5_wide_tiles_of_groups_and_batches(#[values(4, 8)] simd_groups: usize, #[values(64, 128)] head_dim: i32) {
    let mut rng = Rng::new(21);
    let sizes = Sizes { batch: 2, ..sizes([6, 2], 150, 200, head_dim) };
    let inputs = Inputs::random(&mut rng, sizes, Dtype::Float16);
    check_wide(&inputs, &AttentionMask::Causal, simd_groups);
}

/// Rows that can't be copied 16 bytes at a time.
#[rstest]
fn task_5_wide_tiles_in_another_order(#[values(64, 128)] head_dim: i32) {
    let mut rng = Rng::new(22);
    let Inputs { query, key, value } = Inputs::random(&mut rng, sizes([2, 1], 70, 140, head_dim), Dtype::Bfloat16);
    let lay = |array: &Array| must(Memory::OtherOrder.lay(array));
    let inputs = Inputs { query: lay(&query), key: lay(&key), value: lay(&value) };
    check_wide(&inputs, &AttentionMask::Causal, 4);
    check_wide(&Inputs { query, key, value: lay(&value) }, &AttentionMask::None, 8);
}

#[test]
fn task_5_wide_tiles_large_scores() {
    for inputs in large_scores() {
        check_wide(&inputs, &AttentionMask::Causal, 8);
    }
}

/// A query of NaN has an answer of NaN, and a key of NaN makes one for whoever sees it; nobody else notices.
#[test]
fn task_5_wide_tiles_nan_stays() {
    let mut rng = Rng::new(23);
    let inputs = Inputs::random(&mut rng, sizes([1, 1], 100, 100, 64), Dtype::Bfloat16);
    assert_eq!(choose_kernel(&problem_of(&inputs, &AttentionMask::Causal), GpuBackend::Cuda), WIDE);
    let with_nan = |array: &Array, row: i32| {
        let rows = Array::from_iter((0..100).map(|i| if i == row { f32::NAN } else { 0.0 }), &[1, 1, 100, 1]);
        must(must(array.add(&rows)).as_dtype(Dtype::Bfloat16))
    };
    let (query, key) = (with_nan(&inputs.query, 3), with_nan(&inputs.key, 90));
    let is_nan: Vec<bool> = (0..100).map(|i| i == 3 || i >= 90).collect();
    for backend in GpuBackend::available().into_iter().filter(|&backend| backend != GpuBackend::Metal) {
        let mask = AttentionMask::Causal;
        let got = must(flash_attention_gpu_with(&query, &key, &inputs.value, None, &mask, backend, WIDE));
        let got = must(got.as_dtype(Dtype::Float32));
        let rows: Vec<bool> = got.as_slice::<f32>().chunks(64).map(|row| row.iter().all(|x| x.is_nan())).collect();
        check_tokens("rows of NaN: query 3, and who sees key 90", &rows, &is_nan);
    }
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

// ------------------------------------------------------------------------ task 5: the model's other parts

#[rstest]
fn task_5_the_cache(
    #[values(1, 3, 8)] step: usize,
    #[values(&[5, 1, 1, 1], &[1, 1, 1, 1, 1], &[3, 3, 3])] chunks: &[i32],
    #[values(Dtype::Float32, Dtype::Bfloat16)] dtype: Dtype,
    #[values(true, false)] joined: bool,
) {
    check_cache(step, chunks, dtype, joined);
}

/// New tokens go into the memory that holds the old ones; only a buffer that grows is copied.
#[test]
fn task_5_the_cache_appends_in_place() {
    let mut rng = Rng::new(9);
    let mut cache = must(GpuKvCache::with_step(64));
    let mut append = |len: i32| {
        let [keys, values] = [(); 2].map(|()| must(rng.array(&[1, 1, len, 16], Dtype::Float32)));
        let (keys, values) = must(cache.update_and_fetch(&keys, &values));
        ([address(&keys), address(&values)], cache.bytes_copied())
    };
    let token = 2 * 16 * 4;
    let (buffers, bytes) = append(60);
    assert_eq!(bytes, 60 * token, "60 tokens are written");
    for n_more in 1..=4 {
        let (again, bytes) = append(1);
        assert_eq!(again, buffers, "the buffers' addresses after {n_more} more tokens, which have room");
        assert_eq!(bytes, (60 + n_more) * token, "each token is written once");
    }
    let (larger, bytes) = append(1);
    assert_eq!(bytes, (65 + 64) * token, "the 64 stored tokens are copied to a larger buffer, once");
    assert_eq!(append(1).0, larger, "and then that one is used in place");
}

/// What somebody still sees does not change under their hands.
#[test]
fn task_5_what_was_fetched_stays() {
    let mut rng = Rng::new(10);
    let mut cache = must(GpuKvCache::with_step(64));
    let mut tokens = |len: i32| must(rng.array(&[1, 2, len, 8], Dtype::Float32));
    let (first, second) = (tokens(5), tokens(1));
    let (fetched, _) = must(cache.update_and_fetch(&first, &first));
    must(fetched.eval());
    must(cache.rewind(1));
    let (longer, _) = must(cache.update_and_fetch(&second, &second));
    must(longer.eval());
    check_close("keys that were fetched before", Ok::<_, String>(fetched), &first, grader::Tolerance::EXACT);
}

#[test]
fn task_5_the_cache_forgets() {
    let mut cache = must(GpuKvCache::with_step(4));
    let mut rng = Rng::new(13);
    let [first, second, third] = [5, 1, 2].map(|len| must(rng.array(&[1, 2, len, 8], Dtype::Float32)));
    must(cache.update_and_fetch(&first, &first));
    must(cache.rewind(3));
    expect_invalid_argument(cache.rewind(3), "forgetting three of two tokens");
    let (keys, _) = must(cache.update_and_fetch(&second, &second));
    let expected = must(mlx_rs::ops::concatenate(&[&must(first.try_index((.., .., ..2))), &second], 2));
    check_close("two old tokens and a new one", Ok::<_, String>(keys), &expected, grader::Tolerance::EXACT);
    cache.reset();
    assert_eq!((cache.offset(), cache.capacity(), cache.bytes_copied()), (Offset::Same(0), 0, 0), "as new");
    let (keys, _) = must(cache.update_and_fetch(&third, &third));
    check_close("the tokens since the reset", Ok::<_, String>(keys), &third, grader::Tolerance::EXACT);
    assert_eq!(cache.capacity(), 4, "the step is still 4 tokens");
    expect_invalid_argument(GpuKvCache::with_step(0), "steps of no tokens");
}

#[test]
fn task_5_the_cache_refuses_what_does_not_continue() {
    let mut cache = GpuKvCache::new();
    let tokens = |shape: &[i32]| must(ones::<f32>(shape));
    let (keys, wider) = (tokens(&[1, 2, 3, 8]), tokens(&[1, 2, 3, 16]));
    expect_invalid_argument(cache.update_and_fetch(&keys, &wider), "keys with D = 8 and values with D = 16");
    must(cache.update_and_fetch(&keys, &keys));
    expect_invalid_argument(cache.update_and_fetch(&wider, &wider), "D = 16 behind D = 8");
    let three_axes = tokens(&[2, 3, 8]);
    expect_invalid_argument(cache.update_and_fetch(&three_axes, &three_axes), "three axes");
    expect_invalid_argument(cache.update_and_fetch_joined(&keys), "one head of keys and one of values behind two");
    expect_invalid_argument(cache.update_and_fetch_joined(&tokens(&[1, 3, 1, 8])), "three heads in all");
    assert_eq!(cache.offset(), Offset::Same(3), "a refusal changes nothing");
}

#[rstest]
fn task_5_norm(
    #[values("rows_f32", "small_f32", "rows_bf16", "residual_f32", "residual_bf16", "residual_f16")] name: &str,
) {
    check_norm(name);
}

#[rstest]
fn task_5_rope(#[values("with_bias_f32", "one_token_bf16", "no_bias_f16", "offset_of_each_row_f32")] name: &str) {
    check_rope(name);
}

#[rstest]
fn task_5_swiglu(#[values("rows_f32", "rows_bf16", "rows_f16")] name: &str) {
    check_swiglu(name);
}

#[rstest]
fn task_5_rows_around_threads(
    #[values(1, 31, 32, 33, 255, 256, 257, 600)] features: i32,
    #[values(Dtype::Float32, Dtype::Bfloat16)] dtype: Dtype,
) {
    check_against_plain_layers(features, dtype);
}

#[test]
fn task_5_fused_kernels_refuse_what_does_not_fit() {
    let x = must(ones::<f32>(&[2, 64]));
    let short = must(ones::<f32>(&[2, 32]));
    let norm = RmsNorm::new(must(ones::<f32>(&[64])), 1e-6);
    for backend in GpuBackend::available() {
        must(rms_norm_gpu(&x, &norm, backend));
        expect_invalid_argument(rms_norm_gpu(&short, &norm, backend), "rows of 32 and a weight of 64");
        expect_invalid_argument(add_rms_norm_gpu(&x, &short, &norm, backend), "a residual of another shape");
        let odd = must(ones::<f32>(&[2, 33]));
        expect_invalid_argument(swiglu_gpu(&odd, backend), "rows of 33: gate and up of other lengths");
        let rope = must(RotaryEmbedding::new(16, 8, 10000.0, false));
        let at = |offset| Positions::new(&rope, offset, 1, 4);
        let positions = must(at(Offset::Same(4)));
        expect_invalid_argument(at(Offset::Same(5)), "token 8 in a table of 8 positions");
        expect_invalid_argument(at(Offset::Same(-1)), "a negative position");
        expect_invalid_argument(at(Offset::PerRow(&[1, 2])), "two positions for one row");
        let projected = must(ones::<f32>(&[4, 64]));
        let heads = Heads { query: 2, key_value: 1, dim: 16 };
        let with = |heads, bias: Option<&Array>| rope_qk_gpu(&projected, bias, heads, &positions, backend);
        must(with(heads, None));
        expect_invalid_argument(with(Heads { query: 4, key_value: 2, dim: 8 }, None), "heads of 8 and a table for 16");
        expect_invalid_argument(with(Heads { query: 1, ..heads }, None), "three heads of 16 and rows of 64");
        expect_invalid_argument(with(heads, Some(&must(ones::<f32>(&[63])))), "a bias of another length");
        expect_invalid_argument(with(heads, Some(&must(ones::<half::f16>(&[64])))), "a bias of another dtype");
        let short_rows = rope_qk_gpu(&must(ones::<f32>(&[3, 64])), None, heads, &positions, backend);
        expect_invalid_argument(short_rows, "three rows for four tokens");
    }
}

#[test]
fn task_5_projections_side_by_side() {
    check_joined_projections();
}

#[rstest]
fn task_5_gate_and_up_in_one_kernel(
    #[values(16, 24, 100)] intermediate: i32,
    #[values(Dtype::Float32, Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype,
) {
    check_gated_products(intermediate, dtype);
}

/// Everything of this task in one layer: prompt, decode, two tokens at a time.
#[rstest]
fn task_5_a_layer(#[values(&[5, 1, 1, 2], &[1, 12])] chunks: &[i32], #[values(true, false)] with_biases: bool) {
    check_block(chunks, with_biases);
}

/// With day 2.3's products; plain layers on the CPU, dequantized, are the yardstick of these fixtures.
#[rstest]
#[case("tiny-qwen2-4bit", "two_rows_f32", &[4, 1, 1, 3])]
#[case("tiny-qwen2-4bit", "two_rows_bf16", &[8, 1])]
#[case("tiny-qwen2-mixed", "one_row_f16", &[9, 1])]
fn task_5_the_model(#[case] model: &str, #[case] prompt: &str, #[case] chunks: &[i32]) {
    check_logits(model, prompt, chunks);
}

#[rstest]
#[case("tiny-qwen2-4bit", "five_tokens")]
#[case("tiny-qwen2-mixed", "seven_tokens")]
fn task_5_the_model_generates_what_transformers_generates(#[case] model: &str, #[case] prompt: &str) {
    check_generation(model, prompt);
}

/// As without working ahead: the tokens, the callback, the reason for stopping.
#[rstest]
#[case("tiny-qwen2-4bit", Dtype::Float32)]
#[case("tiny-qwen2-4bit", Dtype::Bfloat16)]
fn task_5_the_model_works_ahead(#[case] model: &str, #[case] dtype: Dtype) {
    works_ahead::check_ends(model, dtype);
}

/// Of a model that the tests script.
#[test]
fn task_5_errors_of_a_model_that_works_ahead() {
    works_ahead::check_errors();
}

#[test]
fn task_5_the_order_of_working_ahead() {
    works_ahead::check_order();
}

#[test]
fn task_5_the_model_refuses_what_does_not_fit() {
    check_model_refuses();
}

/// What the emulator and CUDA would let pass, and Apple's compiler would not.
#[test]
fn task_5_kernels_keep_to_metal() {
    let attention = [&ATTENTION_PLAIN, &ATTENTION_DECODE, &ATTENTION_DECODE_MERGE];
    let prefill = [&ATTENTION_PREFILL, &ATTENTION_PREFILL_WIDE];
    for kernel in attention.into_iter().chain(prefill).chain([&RMS_NORM, &ROPE_QK, &SWIGLU]) {
        if let Some((_, stub)) = kernel.body.split_once("todo!(\"") {
            panic!("not yet implemented: {}", stub.split('"').next().unwrap_or_default());
        }
        let findings = check_metal(kernel, &["T", "O", "M"]);
        assert!(findings.is_empty(), "{} is no Metal: {findings:?}", kernel.name);
    }
}
