//! Task 5: what a model on the GPU has beside attention, and the model.

use grader::{Rng, check_close};
use mlx_custom::gpu::{GpuBackend, check_metal};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::ops::ones;
use mlx_rs::{Array, Dtype};
use rstest::rstest;
use tiny_llm::flash_attention::gpu::kernels::{
    ATTENTION_DECODE, ATTENTION_DECODE_MERGE, ATTENTION_PLAIN, ATTENTION_PREFILL, ATTENTION_PREFILL_WIDE,
};
use tiny_llm::fused::gpu::norm::RMS_NORM;
use tiny_llm::fused::gpu::rope::ROPE_QK;
use tiny_llm::fused::gpu::swiglu::SWIGLU;
use tiny_llm::fused::gpu::{Heads, Positions, add_rms_norm_gpu, rms_norm_gpu, rope_qk_gpu, swiglu_gpu};
use tiny_llm::{GpuKvCache, KvCache, Offset, RmsNorm, RotaryEmbedding};

use crate::gpu_model::{
    address, check_against_plain_layers, check_block, check_cache, check_gated_products, check_generation,
    check_joined_projections, check_logits, check_model_refuses, check_norm, check_rope, check_swiglu,
};
use crate::refusals::expect_invalid_argument;
use crate::tiled::must;
use crate::works_ahead;

#[rstest]
fn the_cache(
    #[values(1, 3, 8)] step: usize,
    #[values(&[5, 1, 1, 1], &[1, 1, 1, 1, 1], &[3, 3, 3])] chunks: &[i32],
    #[values(Dtype::Float32, Dtype::Bfloat16)] dtype: Dtype,
    #[values(true, false)] joined: bool,
) {
    check_cache(step, chunks, dtype, joined);
}

/// New tokens go into the memory that holds the old ones; only a buffer that grows is copied.
#[test]
fn the_cache_appends_in_place() {
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
fn what_was_fetched_stays() {
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
fn the_cache_forgets() {
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
fn the_cache_refuses_what_does_not_continue() {
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
fn norm(
    #[values(
        "rows_f32",
        "small_f32",
        "rows_bf16",
        "residual_f32",
        "residual_bf16",
        "residual_f16",
        "large_f16",
        "residual_large_f16"
    )]
    name: &str,
) {
    check_norm(name);
}

#[rstest]
fn rope(#[values("with_bias_f32", "one_token_bf16", "no_bias_f16", "offset_of_each_row_f32")] name: &str) {
    check_rope(name);
}

#[rstest]
fn swiglu(#[values("rows_f32", "rows_bf16", "rows_f16", "small_f16")] name: &str) {
    check_swiglu(name);
}

#[rstest]
fn rows_around_threads(
    #[values(1, 31, 32, 33, 255, 256, 257, 600)] features: i32,
    #[values(Dtype::Float32, Dtype::Bfloat16)] dtype: Dtype,
) {
    check_against_plain_layers(features, dtype);
}

#[test]
fn fused_kernels_refuse_what_does_not_fit() {
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
fn projections_side_by_side() {
    check_joined_projections();
}

#[rstest]
fn gate_and_up_in_one_kernel(
    #[values(16, 24, 100)] intermediate: i32,
    #[values(Dtype::Float32, Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype,
) {
    check_gated_products(intermediate, dtype);
}

/// Everything of this task in one layer: prompt, decode, two tokens at a time.
#[rstest]
fn a_layer(#[values(&[5, 1, 1, 2], &[1, 12])] chunks: &[i32], #[values(true, false)] with_biases: bool) {
    check_block(chunks, with_biases);
}

/// With day 2.3's products; plain layers on the CPU, dequantized, are the yardstick of these fixtures.
#[rstest]
#[case("tiny-qwen2-4bit", "two_rows_f32", &[4, 1, 1, 3])]
#[case("tiny-qwen2-4bit", "two_rows_bf16", &[8, 1])]
#[case("tiny-qwen2-mixed", "one_row_f16", &[9, 1])]
fn the_model(#[case] model: &str, #[case] prompt: &str, #[case] chunks: &[i32]) {
    check_logits(model, prompt, chunks);
}

#[rstest]
#[case("tiny-qwen2-4bit", "five_tokens")]
#[case("tiny-qwen2-mixed", "seven_tokens")]
fn the_model_generates_what_transformers_generates(#[case] model: &str, #[case] prompt: &str) {
    check_generation(model, prompt);
}

/// As without working ahead: the tokens, the callback, the reason for stopping.
#[rstest]
#[case("tiny-qwen2-4bit", Dtype::Float32)]
#[case("tiny-qwen2-4bit", Dtype::Bfloat16)]
fn the_model_works_ahead(#[case] model: &str, #[case] dtype: Dtype) {
    works_ahead::check_ends(model, dtype);
}

/// Of a model that the tests script.
#[test]
fn errors_of_a_model_that_works_ahead() {
    works_ahead::check_errors();
}

#[test]
fn the_order_of_working_ahead() {
    works_ahead::check_order();
}

#[test]
fn the_model_refuses_what_does_not_fit() {
    check_model_refuses();
}

/// What the emulator and CUDA would let pass, and Apple's compiler would not.
#[test]
fn kernels_keep_to_metal() {
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
