//! Task 5: splitting the keys, and the model.

use grader::{Rng, check_tokens};
use mlx_custom::set_num_threads;
use mlx_rs::{Array, Dtype};
use rstest::rstest;
use tiny_llm::flash_attention::{Schedule, Tiling};
use tiny_llm::{AttentionMask, FullKvCache, KvCache, Stage};

use crate::quantized_models::{
    check_generation, check_logits, check_logits_in_chunks, check_logits_with_caches, check_real_logits,
};
use crate::tiled::{Inputs, Sizes, check_nan_rows, must};
use crate::{SMALL, check_case, rows, several_threads};

#[rstest]
fn attention(
    #[values("two_f32", "remainder_f32", "several_queries_bf16", "one_key_tiles_f16", "masked_split_f32")] name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    set_num_threads(4);
    check_case(&format!("splits/{name}"), Schedule::Threads, other_memory_order);
}

#[rstest]
fn lengths_and_splits(#[values(1, 31, 32, 33, 127, 128, 129, 255, 256, 1000)] key_len: i32) {
    let mut rng = Rng::new(key_len as u64);
    for query_len in [1, 4].map(|len| key_len.min(len)) {
        let sizes = Sizes { batch: 2, num_heads: 6, num_kv_heads: 2, query_len, key_len, head_dim: 16 };
        let inputs = Inputs::random(&mut rng, sizes, Dtype::Float32);
        // With 7 splits of 31 keys in tiles of 16, most splits are empty.
        for splits in [2, 3, 7] {
            let tiling = Tiling { positions: 3, keys: 16, splits };
            inputs.check("decode", &AttentionMask::Causal, several_threads(Some(tiling)));
        }
    }
}

#[rstest]
fn decode_with_the_engines_own_tiling(#[values(600, 4096)] key_len: i32, #[values(1, 7)] num_heads: i32) {
    let mut rng = Rng::new(key_len as u64);
    let sizes = Sizes { batch: 1, num_heads, num_kv_heads: 1, query_len: 1, key_len, head_dim: 64 };
    let inputs = Inputs::random(&mut rng, sizes, Dtype::Float32);
    assert!(Tiling::new(&sizes.shape(), 4).splits > 1, "one tile, {key_len} keys: something to split for four threads");
    inputs.check("decode", &AttentionMask::Causal, several_threads(None));
}

#[test]
fn queries_that_see_nothing_in_any_split() {
    let mut rng = Rng::new(9);
    let inputs = Inputs::random(&mut rng, SMALL, Dtype::Float32);
    // Query 3 sees nothing, query 5 only the very last key.
    let sees = |i: i32, j: i32| i != 3 && (i != 5 || j == 15);
    let mask = Array::from_iter((0..16).flat_map(|i| (0..16).map(move |j| sees(i, j))), &[16, 16]);
    let last_value = inputs.value.as_slice::<f32>()[60..].to_vec();
    let options = several_threads(Some(Tiling { positions: 4, keys: 4, splits: 3 }));
    let got = rows(inputs.flash(&AttentionMask::Array(mask), options));
    check_nan_rows("two heads with 16 queries, keys in three splits", &got, &[3, 19]);
    check_tokens("the only visible value", &got[5], &last_value);
}

// -------------------------------------------------------------------------- the model, with days 2.1 and 2.2

/// From here on a layer of a quantized model is one operation, with attention and the cache inside.
#[rstest]
#[case("tiny-qwen2-4bit", "one_token_f32")]
#[case("tiny-qwen2-4bit", "two_rows_f32")]
#[case("tiny-qwen2-mixed", "one_row_f32")]
#[case("tiny-qwen2-mixed", "one_row_f16")]
fn the_model_without_a_cache(#[case] model: &str, #[case] prompt: &str) {
    check_logits(model, prompt, Stage::Flash);
}

#[rstest]
#[case("tiny-qwen2-4bit", "two_rows_f32", &[9])]
#[case("tiny-qwen2-4bit", "two_rows_f32", &[4, 1, 1, 3])]
#[case("tiny-qwen2-4bit", "two_rows_bf16", &[8, 1])]
#[case("tiny-qwen2-4bit", "one_row_f32", &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1])]
#[case("tiny-qwen2-mixed", "one_row_f32", &[5, 1, 4])]
#[case("tiny-qwen2-mixed", "one_row_f16", &[9, 1])]
fn the_model_with_a_cache(#[case] model: &str, #[case] prompt: &str, #[case] chunks: &[i32]) {
    check_logits_in_chunks(model, prompt, chunks, Stage::Flash);
}

/// Buffers that grow in the middle, and after every token.
#[rstest]
fn the_model_with_a_cache_that_grows(#[values(1, 3, 7)] step: usize, #[values(1, 2, 5)] chunk: i32) {
    let new_cache = || Box::new(must(FullKvCache::with_step(step))) as Box<dyn KvCache>;
    let mut chunks = vec![chunk; 9 / chunk as usize];
    chunks.push(9 - chunks.iter().sum::<i32>());
    chunks.retain(|len| *len > 0);
    let mut caches = [new_cache(), new_cache()];
    check_logits_with_caches("tiny-qwen2-4bit", "two_rows_f32", &chunks, &mut caches, Stage::Flash);
    assert!(
        caches.iter().all(|cache| cache.offset() == tiny_llm::Offset::Same(9)),
        "the caches' offsets behind 9 tokens"
    );
}

#[rstest]
#[case("tiny-qwen2-4bit", "five_tokens")]
#[case("tiny-qwen2-mixed", "seven_tokens")]
fn the_model_generates_what_transformers_generates(#[case] model: &str, #[case] prompt: &str) {
    check_generation(model, prompt, Stage::Flash);
}

#[test]
fn the_built_in_model() {
    check_real_logits(Stage::Flash);
}
