//! Task 5: wide tiles, which are given, and where they are chosen.

use grader::{Rng, check_tokens};
use mlx_custom::gpu::GpuBackend;
use mlx_rs::{Array, Dtype};
use rstest::rstest;
use tiny_llm::AttentionMask;
use tiny_llm::flash_attention::gpu::decode::LONGEST_QUERY;
use tiny_llm::flash_attention::gpu::{KernelChoice, choose_kernel, flash_attention_gpu_with};

use crate::gpu_attention::{Memory, check_inputs_on, in_cache};
use crate::tiled::{Inputs, Sizes, must};
use crate::{WIDE, large_scores, problem_of, sizes};

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
fn every_length(
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
fn of_groups_and_batches(#[values(4, 8)] simd_groups: usize, #[values(64, 128)] head_dim: i32) {
    let mut rng = Rng::new(21);
    let sizes = Sizes { batch: 2, ..sizes([6, 2], 150, 200, head_dim) };
    let inputs = Inputs::random(&mut rng, sizes, Dtype::Float16);
    check_wide(&inputs, &AttentionMask::Causal, simd_groups);
}

/// Rows that can't be copied 16 bytes at a time.
#[rstest]
fn in_another_order(#[values(64, 128)] head_dim: i32) {
    let mut rng = Rng::new(22);
    let Inputs { query, key, value } = Inputs::random(&mut rng, sizes([2, 1], 70, 140, head_dim), Dtype::Bfloat16);
    let lay = |array: &Array| must(Memory::OtherOrder.lay(array));
    let inputs = Inputs { query: lay(&query), key: lay(&key), value: lay(&value) };
    check_wide(&inputs, &AttentionMask::Causal, 4);
    check_wide(&Inputs { query, key, value: lay(&value) }, &AttentionMask::None, 8);
}

#[test]
fn scores_too_large_for_exp() {
    for inputs in large_scores() {
        check_wide(&inputs, &AttentionMask::Causal, 8);
    }
}

/// A query of NaN has an answer of NaN, and a key of NaN makes one for whoever sees it; nobody else notices.
#[test]
fn nan_stays() {
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
