//! Day 2.1: appending in place, the full cache, rewinding, the model with a cache.

mod cache_calls;
mod cached_model;
mod concatenating_cache;
mod named;
mod real_logits;
mod refusals;
mod tiny_models;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cache_calls::{
    append, check_both, check_filled, check_pair, chunks_of, feed, must, numbers, place_of, random, stored_buffers,
    tokens, two_kinds,
};
use cached_model::{answer, counting_caches, forward_in_chunks, load, new_cache, real_model};
use concatenating_cache::ConcatenatingCache;
use grader::{Fixture, Tolerance, check_close, property};
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};
use named::{check_equal, check_that, without_panic};
use real_logits::check_logits;
use refusals::expect_invalid_argument;
use rstest::rstest;
use tiny_llm::{
    Error, FullKvCache, KvAppend, KvBuffers, KvCache, LanguageModel, LogitsToKeep, Offset, Stage, StopReason,
};

const DAY: &str = "week2_day1";

// ---------------------------------------------------------------------------- task 1: append in place

/// Somebody else may still look at the stored buffers: then they must not change, and are copied.
#[rstest]
fn task_1_append(
    #[values(
        "first_f32",
        "first_bf16",
        "behind_f32",
        "behind_f16",
        "one_token_bf16",
        "last_place_f32",
        "over_forgotten_f32",
        "grown_f32",
        "grown_f16",
        "grown_bf16"
    )]
    name: &str,
    #[values(false, true)] somebody_looks: bool,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("append/{name}"));
    let stored = stored_buffers(case);
    let seen = stored.as_ref().filter(|_| somebody_looks).map(|buffers| (buffers.keys.clone(), buffers.values.clone()));
    check_filled(case, append(case, stored, other_memory_order));
    if let Some((keys, values)) = seen {
        let unchanged = "the stored buffers, which somebody else still holds: an append must not change them";
        check_both(unchanged, Ok((keys, values)), (&case.array("stored_keys"), &case.array("stored_values")));
    }
}

/// Memory that nobody else looks at is written in place: the result lies where the stored tokens lay.
#[rstest]
#[case::room(4, 8, 8, true, 2)]
#[case::over_forgotten_tokens(0, 8, 8, true, 2)]
#[case::full(6, 8, 8, true, 2)]
#[case::somebody_looks(4, 8, 8, false, 6)]
#[case::grown(4, 8, 16, true, 6)]
#[case::shrunk(4, 8, 6, true, 6)]
fn task_1_moves_no_more_than_it_must(
    #[case] len: usize,
    #[case] was: i32,
    #[case] capacity: usize,
    #[case] alone: bool,
    #[case] n_moved: u64,
    #[values(Dtype::Float32, Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype,
    #[values((1, 1), (2, 3))] (batch, kv_heads): (i32, i32),
) {
    let head_dim = 4;
    let tokens = |n: i32, from: i32| numbers(&[batch, kv_heads, n, head_dim], from, dtype);
    let stored = KvBuffers { keys: tokens(was, 0), values: tokens(was, 1000) };
    must([&stored.keys, &stored.values].into_iter().try_for_each(|array| Ok(array.eval()?)));
    let place = place_of(&stored.keys);
    let somebody = (!alone).then(|| (stored.keys.clone(), stored.values.clone()));

    let bytes_copied = Arc::<AtomicU64>::default();
    let operation = KvAppend::new(len, capacity, Arc::clone(&bytes_copied));
    let buffers = must(operation.apply(Some(&stored), &tokens(2, 5000), &tokens(2, 6000)));
    drop(stored);
    must(buffers.keys.eval().and_then(|()| buffers.values.eval()).map_err(Error::from));
    if alone && was as usize == capacity {
        let what =
            "the memory of the stored buffers, which nobody else holds, must be taken over (what does `reuses` say?)";
        let cause =
            "looks like: `reuses` names no pair, so every append copies; output 0 may take over input 2, and 1 input 3";
        check_that(what, place_of(&buffers.keys) == place, || "it lies elsewhere".to_owned(), Some(cause));
    }
    let element = if dtype == Dtype::Float32 { 4 } else { 2 };
    let of_token = 2 * (batch * kv_heads * head_dim) as u64 * element;
    let heads = (batch * kv_heads) as u64;
    let twice = "looks like: keys and values are counted in each call; `write` is called once for each of the two";
    let bytes = match element {
        4 => "looks like: bytes are returned; return elements, `run` makes bytes of them",
        // In 16 bits both mistakes give the same number.
        _ => "looks like: bytes are returned for elements, or keys and values are counted in each call",
    };
    check_equal(
        &format!(
            "bytes_copied for 2 new tokens behind {len} stored ones, B = {batch}, H_kv = {kv_heads}, D = {head_dim}"
        ),
        &bytes_copied.load(Ordering::Relaxed),
        &(n_moved * of_token),
        &[
            (0, "looks like: nothing is counted; return how many elements were moved"),
            (n_moved * of_token * element, bytes),
            (n_moved * of_token * 2, twice),
            (
                n_moved * of_token / heads,
                "looks like: the elements of one head are counted; all heads of all rows move",
            ),
            (
                n_moved * of_token / (head_dim as u64),
                "looks like: tokens are counted; return elements, D for each token and head",
            ),
            (2 * of_token, "looks like: stored tokens that were copied are not counted"),
            ((2 + len as u64) * of_token, "looks like: stored tokens are counted although they stayed where they were"),
            (
                (was as u64 + 2) * of_token,
                "looks like: the whole stored buffer is copied and counted; `len` tokens of it are",
            ),
        ],
    );
    drop(somebody);
}

// --------------------------------------------------------------------------- task 2: update and fetch

#[rstest]
fn task_2_update_and_fetch(
    #[values("within_f32", "within_bf16", "growth_f32", "growth_f16", "growth_bf16", "long_prefill_f32")] name: &str,
    #[values(false, true)] every_step_is_evaluated: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("update/{name}"));
    let (keys, values) = (case.array("keys"), case.array("values"));
    let mut cache = must(FullKvCache::with_step(case.i32("step") as usize));
    let mut fetched = Ok((keys.clone(), values.clone()));
    let mut len = 0;
    for n_new in case.i32s("chunks") {
        fetched = cache.update_and_fetch(&tokens(&keys, len, len + n_new), &tokens(&values, len, len + n_new));
        len += n_new;
        let Ok((keys, _)) = &fetched else { break };
        let case = format!("the tokens that come back after {len} were appended, {n_new} in the last call");
        check_equal(
            &case,
            &keys.dim(2),
            &len,
            &[
                (n_new, "looks like: the new tokens alone come back; attention needs all of them"),
                (cache.capacity() as i32, "looks like: the whole buffer comes back; only its filled part may be seen"),
            ],
        );
        let cause = "looks like: the length is that of the last call alone";
        let wrong = [(Offset::Same(n_new), cause), (Offset::Same(0), "looks like: the length is not raised")];
        check_equal(
            &format!("the position of the next token after {len}"),
            &cache.offset(),
            &Offset::Same(len),
            &wrong,
        );
        if every_step_is_evaluated {
            must(keys.eval().map_err(Error::from));
        }
    }
    check_pair(case, fetched);
}

/// The capacity is a multiple of the step, and no larger than it must be.
#[rstest]
#[case(&[1], 256)]
#[case(&[255], 256)]
#[case(&[256], 256)]
#[case(&[257], 512)]
#[case(&[255, 1], 256)]
#[case(&[255, 1, 1], 512)]
#[case(&[256, 256], 512)]
#[case(&[100, 500], 768)]
#[case(&[1000], 1024)]
fn task_2_grows_in_steps(#[case] chunks: &[i32], #[case] capacity: usize) {
    let mut cache = FullKvCache::new();
    assert_eq!(cache.capacity(), 0, "capacity of a new cache: it allocates nothing");
    assert_eq!(cache.offset(), Offset::Same(0), "offset of a new cache");
    let len: i32 = chunks.iter().sum();
    let (keys, values) = two_kinds(&[1, 2, len, 2], Dtype::Float32);
    let fetched = feed(&mut cache, &keys, &values, chunks);
    let context = format!("after chunks of {chunks:?} tokens");
    let cause = if cache.capacity() == 0 {
        "looks like: the buffers are not kept"
    } else if !cache.capacity().is_multiple_of(256) {
        "looks like: the capacity is what just fits; it is a multiple of the step"
    } else if len as usize == capacity {
        "looks like: it grows a step too early; a buffer may be full"
    } else {
        "looks like: the capacity is larger than it has to be; it is the smallest multiple of the step that S fits into"
    };
    let message = || format!("got {}, expected {capacity}", cache.capacity());
    check_that(&format!("the capacity {context}"), cache.capacity() == capacity, message, Some(cause));
    check_both(&context, fetched, (&keys, &values));
}

/// Copying everything at each token would move 512 * 513 / 2 = 131,328 tokens.
#[test]
fn task_2_copies_no_more_than_the_growth() {
    let mut cache = FullKvCache::new();
    let (keys, values) = two_kinds(&[1, 1, 512, 8], Dtype::Float32);
    let of_token = 2 * 8 * 4;
    let (mut place, mut capacity) = (0, 0);
    for len in 0..512 {
        let fetched = must(cache.update_and_fetch(&tokens(&keys, len, len + 1), &tokens(&values, len, len + 1)));
        must(fetched.0.eval().map_err(Error::from));
        let new_place = place_of(&fetched.0);
        let has_grown = len == 0 || len == 256;
        let cause = if cache.capacity() == capacity {
            "looks like: the old buffers are still held (a clone, a field) or not passed on, so an append copies"
        } else {
            "looks like: it grows at a token that fits; the capacity is the smallest multiple of the step for S"
        };
        check_that(
            &format!("where token {len}, which fits, was written"),
            has_grown || new_place == place,
            || "its buffer lies elsewhere than before: everything was copied".to_owned(),
            Some(cause),
        );
        capacity = cache.capacity();
        place = new_place;
        // Growth at token 256 moves the 256 tokens before it.
        let moved = (len + 1 + if len < 256 { 0 } else { 256 }) as u64;
        assert_eq!(cache.bytes_copied() / of_token, moved, "tokens moved after {} were appended one by one", len + 1);
    }
}

/// What was fetched stays as it was, whatever is appended later: attention may not have run yet.
#[test]
fn task_2_fetched_arrays_do_not_change() {
    let (keys, values) = two_kinds(&[2, 2, 9, 4], Dtype::Float32);
    let mut cache = must(FullKvCache::with_step(4));
    let mut held = Vec::new();
    for len in 0..9 {
        held.push(must(cache.update_and_fetch(&tokens(&keys, len, len + 1), &tokens(&values, len, len + 1))));
    }
    for (at, fetched) in held.into_iter().enumerate() {
        let len = at as i32 + 1;
        let expected = (&tokens(&keys, 0, len), &tokens(&values, 0, len));
        check_both(&format!("what was fetched after {len} tokens, looked at after 9"), Ok(fetched), expected);
    }
}

#[test]
fn task_2_refuses_what_does_not_continue() {
    let mut cache = must(FullKvCache::with_step(4));
    let of_shape = |shape: &[i32]| numbers(shape, 0, Dtype::Float32);
    let refuse = |cache: &mut FullKvCache, keys: &[i32], values: &[i32], what: &str| {
        let Offset::Same(before) = cache.offset() else { panic!("a full cache has one offset") };
        expect_invalid_argument(cache.update_and_fetch(&of_shape(keys), &of_shape(values)), what);
        check_that(
            &format!("the offset after a refused call ({what})"),
            cache.offset() == Offset::Same(before),
            || format!("it was {before} and is {:?}", cache.offset()),
            Some("looks like: a refused call changes the length; change `self` after the last thing that can fail"),
        );
    };
    refuse(&mut cache, &[2, 3, 4], &[2, 3, 4], "keys and values of three axes");
    refuse(&mut cache, &[1, 2, 3, 4], &[1, 2, 2, 4], "3 keys and 2 values");
    refuse(&mut cache, &[1, 2, 3, 4], &[1, 2, 3, 5], "keys with D = 4 and values with D = 5");
    refuse(&mut cache, &[1, 2, 0, 4], &[1, 2, 0, 4], "no tokens");
    refuse(&mut cache, &[0, 2, 3, 4], &[0, 2, 3, 4], "no rows");
    refuse(&mut cache, &[1, 0, 3, 4], &[1, 0, 3, 4], "no heads");
    refuse(&mut cache, &[1, 2, 3, 0], &[1, 2, 3, 0], "no components");
    refuse(&mut cache, &[1, 2, 3], &[1, 2, 3, 4], "keys of three axes");
    refuse(&mut cache, &[1, 1, 2, 3, 4], &[1, 1, 2, 3, 4], "keys and values of five axes");
    let ids = Array::from_slice(&[1_i32, 2, 3, 4], &[1, 1, 1, 4]);
    expect_invalid_argument(cache.update_and_fetch(&ids, &ids), "keys that are integers");
    expect_invalid_argument(FullKvCache::with_step(0), "a step of 0 tokens");

    let (keys, values) = two_kinds(&[2, 2, 3, 4], Dtype::Float32);
    must(cache.update_and_fetch(&tokens(&keys, 0, 2), &tokens(&values, 0, 2)));
    refuse(&mut cache, &[1, 2, 1, 4], &[1, 2, 1, 4], "one row behind two");
    refuse(&mut cache, &[2, 3, 1, 4], &[2, 3, 1, 4], "3 heads behind 2");
    refuse(&mut cache, &[2, 2, 1, 5], &[2, 2, 1, 5], "D = 5 behind D = 4");
    let half = |array: &Array| must(array.as_dtype(Dtype::Float16).map_err(Error::from));
    let (half_keys, half_values) = (half(&tokens(&keys, 2, 3)), half(&tokens(&values, 2, 3)));
    expect_invalid_argument(cache.update_and_fetch(&half_keys, &half_values), "f16 behind f32");
    expect_invalid_argument(cache.update_and_fetch(&tokens(&keys, 2, 3), &half_values), "f32 keys and f16 values");

    assert_eq!(cache.offset(), Offset::Same(2), "the offset after refusals: a refused call changes nothing");
    let fetched = cache.update_and_fetch(&tokens(&keys, 2, 3), &tokens(&values, 2, 3));
    check_both("the first good call after refusals", fetched, (&keys, &values));
}

/// MLX counts an axis in 31 bits. A capacity beyond that is an error of the operation, and changes nothing either.
#[rstest]
fn task_2_refuses_a_capacity_beyond_31_bits(#[values(1 << 31, (1 << 32) + 4, 1 << 40)] step: usize) {
    let (keys, values) = two_kinds(&[1, 2, 3, 4], Dtype::Float32);
    let mut cache = must(FullKvCache::with_step(step));
    let case = format!("3 tokens in a cache that grows by {step}");
    let cause = "looks like: a capacity is computed in 32 bits";
    let fetched = without_panic(&case, |_| Some(cause.to_owned()), || cache.update_and_fetch(&keys, &values));
    let message = || "it was accepted".to_owned();
    check_that(&case, fetched.is_err(), message, Some(cause));
    check_equal(
        &format!("offset and capacity after the refusal of {case}"),
        &(cache.offset(), cache.capacity()),
        &(Offset::Same(0), 0),
        &[(
            (Offset::Same(3), 0),
            "looks like: a refused call changes the length; change `self` after the last thing \
         that can fail",
        )],
    );
}

// -------------------------------------------------------------------------- task 3: rewind and reset

#[rstest]
fn task_3_rewind(
    #[values("one_f32", "several_f32", "all_f16", "then_growth_f32", "over_a_step_bf16")] name: &str,
    #[values(1, 3, 100)] chunk: i32,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("rewind/{name}"));
    let mut cache = must(FullKvCache::with_step(case.i32("step") as usize));
    let feed = |cache: &mut FullKvCache, prefix: &str| {
        let (keys, values) = (case.array(&format!("{prefix}keys")), case.array(&format!("{prefix}values")));
        feed(cache, &keys, &values, &chunks_of(keys.dim(2), chunk))
    };
    must(feed(&mut cache, ""));
    let fetched = match cache.rewind(case.i32("rewind") as usize) {
        Ok(()) => feed(&mut cache, "more_"),
        Err(error) => Err(error),
    };
    check_pair(case, fetched);
}

#[test]
fn task_3_rewind_copies_nothing() {
    let (keys, values) = two_kinds(&[1, 1, 6, 4], Dtype::Float32);
    let mut cache = must(FullKvCache::with_step(4));
    must(feed(&mut cache, &keys, &values, &[6]).and_then(|(keys, _)| Ok(keys.eval()?)));
    let before = (cache.bytes_copied(), cache.capacity());
    for (n_tokens, left) in [(0, 6), (1, 5), (4, 1), (1, 0), (0, 0)] {
        must(cache.rewind(n_tokens));
        check_equal(
            &format!("the offset after the newest {n_tokens} were forgotten"),
            &cache.offset(),
            &Offset::Same(left),
            &[
                (Offset::Same(n_tokens as i32), "looks like: n_tokens are kept; they are forgotten"),
                (
                    Offset::Same(left + n_tokens as i32),
                    "looks like: the length is not changed, or one token too few is forgotten",
                ),
                (Offset::Same(left + 1), "looks like: one token too few is forgotten"),
            ],
        );
    }
    let after = (cache.bytes_copied(), cache.capacity());
    let cause = if after.1 == before.1 {
        "looks like: a rewind copies what stays"
    } else {
        "looks like: a rewind shrinks the buffers"
    };
    check_equal("(bytes copied, capacity) before and after rewinding", &after, &before, &[(after, cause)]);
    must(feed(&mut cache, &keys, &values, &[1]).and_then(|(keys, _)| Ok(keys.eval()?)));
    let after = (before.0 + 2 * 4 * 4, before.1);
    assert_eq!((cache.bytes_copied(), cache.capacity()), after, "(bytes copied, capacity) after one token more");
}

#[test]
fn task_3_refuses_to_rewind_more_than_is_stored() {
    let (keys, values) = two_kinds(&[1, 2, 5, 4], Dtype::Float32);
    let mut cache = FullKvCache::new();
    must(cache.rewind(0));
    expect_invalid_argument(cache.rewind(1), "rewinding an empty cache by one token");
    must(cache.update_and_fetch(&tokens(&keys, 0, 4), &tokens(&values, 0, 4)));
    expect_invalid_argument(cache.rewind(5), "rewinding 4 tokens by 5");
    expect_invalid_argument(cache.rewind(usize::MAX), "rewinding 4 tokens by usize::MAX");
    assert_eq!(cache.offset(), Offset::Same(4), "the offset after a refused rewind: nothing has changed");
    let fetched = cache.update_and_fetch(&tokens(&keys, 4, 5), &tokens(&values, 4, 5));
    check_both("the first append after refused rewinds", fetched, (&keys, &values));
}

/// What attention was given before the rewind may be computed after it.
#[test]
fn task_3_fetched_arrays_outlive_a_rewind() {
    let (keys, values) = two_kinds(&[1, 2, 8, 4], Dtype::Float32);
    let mut cache = must(FullKvCache::with_step(8));
    let fetched = cache.update_and_fetch(&tokens(&keys, 0, 6), &tokens(&values, 0, 6));
    must(cache.rewind(3));
    let later = must(cache.update_and_fetch(&tokens(&keys, 6, 8), &tokens(&values, 6, 8)));
    must(later.0.eval().and_then(|()| later.1.eval()).map_err(Error::from));
    let expected = (&tokens(&keys, 0, 6), &tokens(&values, 0, 6));
    check_both("what was fetched before a rewind, looked at after the next append", fetched, expected);
}

#[test]
fn task_3_reset_makes_it_new() {
    let mut cache = must(FullKvCache::with_step(4));
    let (keys, values) = two_kinds(&[2, 2, 6, 4], Dtype::Float32);
    must(feed(&mut cache, &keys, &values, &[5, 1]).and_then(|(keys, _)| Ok(keys.eval()?)));
    cache.reset();
    assert_eq!(cache.offset(), Offset::Same(0), "the offset after a reset");
    let is_empty = cache.capacity() == 0;
    let cause =
        "looks like: a reset keeps the buffers; the memory is given back, and the next sequence may have other shapes";
    check_that("the capacity after a reset", is_empty, || format!("got {}, expected 0", cache.capacity()), Some(cause));
    let is_zero = cache.bytes_copied() == 0;
    let cause = "looks like: a reset goes on counting; the counter starts at 0";
    check_that("the bytes counted after a reset", is_zero, || format!("got {}", cache.bytes_copied()), Some(cause));
    expect_invalid_argument(cache.rewind(1), "rewinding after a reset");
    // Another batch, other heads, another dtype; the step stays.
    let (keys, values) = two_kinds(&[1, 3, 5, 2], Dtype::Bfloat16);
    let fetched = feed(&mut cache, &keys, &values, &[2, 3]);
    let cause = "looks like: a reset forgets the step that `with_step` was given";
    check_equal("the capacity for 5 tokens in steps of 4, after a reset", &cache.capacity(), &8, &[(256, cause)]);
    check_both("a new sequence after a reset", fetched, (&keys, &values));
    assert_eq!(cache.bytes_copied(), 2 * (5 + 2) * 3 * 2 * 2, "bytes moved for 2 tokens, and 3 more with growth");
}

/// Whatever is done in whatever order, the cache holds what a concatenation would.
#[test]
fn task_3_any_order_of_calls() {
    property(60, |rng| {
        let shape = [rng.between(1, 2), rng.between(1, 3), rng.between(1, 5)]; // B, H_kv, D
        let mut cache = must(FullKvCache::with_step(rng.between(1, 9) as usize));
        let mut plain = ConcatenatingCache::default();
        let mut history = Vec::new();
        for _ in 0..12 {
            let stored = match plain.offset() {
                Offset::Same(len) => len,
                Offset::PerRow(_) => unreachable!("a concatenating cache has one offset"),
            };
            match rng.between(0, 9) {
                0 => {
                    history.push("reset".to_owned());
                    cache.reset();
                    plain.reset();
                }
                1..=3 if stored > 0 => {
                    let n_tokens = rng.between(0, stored) as usize;
                    history.push(format!("rewind {n_tokens}"));
                    must(cache.rewind(n_tokens));
                    must(plain.rewind(n_tokens));
                }
                _ => {
                    let n_new = rng.between(1, 7);
                    history.push(format!("append {n_new}"));
                    let (keys, values) = (random(rng, shape, n_new), random(rng, shape, n_new));
                    let (expected_keys, expected_values) = must(plain.update_and_fetch(&keys, &values));
                    let fetched = cache.update_and_fetch(&keys, &values);
                    check_both(&format!("after {history:?}"), fetched, (&expected_keys, &expected_values));
                }
            }
            assert_eq!(cache.offset(), plain.offset(), "offset after {history:?}");
        }
    });
}

// --------------------------------------------------------------------- task 4: the model with a cache

#[rstest]
fn task_4_one_cache_for_each_layer(#[values("tiny-qwen2-tied", "tiny-llama")] name: &str) {
    let dense = must(load(name, Dtype::Float32, Stage::Dense));
    assert!(dense.new_cache().is_none(), "a model of week 1's stage has no cache");
    let model = must(load(name, Dtype::Float32, Stage::Cached));
    let mut caches = new_cache(&model);
    let cause = "looks like: one cache for the whole model; each layer has its own";
    check_equal("caches for a model of 2 layers", &caches.len(), &2, &[(1, cause)]);
    assert!(caches.iter().all(|cache| cache.offset() == Offset::Same(0)), "a new cache begins at position 0");
    let (keys, values) = two_kinds(&[1, 2, 3, 16], Dtype::Float32);
    must(caches[0].update_and_fetch(&keys, &values));
    assert_eq!(caches[1].offset(), Offset::Same(0), "the offset of layer 1's cache after layer 0's was written");
    assert_eq!(new_cache(&model)[0].offset(), Offset::Same(0), "every call makes new caches");
}

/// However the tokens are cut into calls, the logits are those of the whole sequence.
#[rstest]
#[case("tiny-qwen2-tied", "prefill_and_decode_f32")]
#[case("tiny-qwen2-tied", "chunks_f32")]
#[case("tiny-qwen2-tied", "prefill_and_decode_bf16")]
#[case("tiny-qwen2-untied", "token_by_token_f32")]
#[case("tiny-qwen2-untied", "chunks_f16")]
#[case("tiny-qwen2-bf16", "uneven_f32")]
#[case("tiny-qwen2-bf16", "uneven_bf16")]
#[case("tiny-llama", "two_chunks_f32")]
fn task_4_logits(#[case] model: &str, #[case] name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("logits/{model}/{name}"));
    let run = || {
        let model = load(model, case.dtype(), Stage::Cached)?;
        forward_in_chunks(&model, &mut new_cache(&model), &case.array("ids"), &case.i32s("chunks"))
    };
    case.check(run());
}

/// Token for token what transformers generates with its cache.
#[rstest]
#[case("tiny-qwen2-tied", "one_token")]
#[case("tiny-qwen2-tied", "five_tokens")]
#[case("tiny-qwen2-untied", "seven_tokens")]
#[case("tiny-qwen2-bf16", "thirteen_tokens")]
#[case("tiny-llama", "seven_tokens")]
fn task_4_generates_what_transformers_generates(#[case] model: &str, #[case] prompt: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("greedy/{model}/{prompt}"));
    let (prompt, max_tokens) = (case.array("prompt"), case.i32("max_tokens") as usize);
    let model = must(load(model, Dtype::Float32, Stage::Cached));
    let generation = answer(&model, prompt.as_slice::<u32>(), max_tokens);
    let stop_reason = generation.as_ref().ok().map(|generation| generation.stop_reason.clone());
    case.check(generation.map(|generation| Array::from_slice(&generation.tokens, &[generation.tokens.len() as i32])));
    assert_eq!(stop_reason, Some(StopReason::MaxTokens));
}

/// Prefill in pieces of any size, with caches that grow in the middle of a piece.
#[rstest]
fn task_4_chunked_prefill(
    #[values(1, 2, 3, 5, 8, 13, 39, 40)] chunk: i32,
    #[values("tiny-qwen2-untied", "tiny-llama")] name: &str,
) {
    let model = must(load(name, Dtype::Float32, Stage::Cached));
    let ids = Array::from_iter((0..80).map(|i| (i * i + 7 * i) as u32 % 96), &[2, 40]);
    let whole = must(model.forward(&ids, None, LogitsToKeep::All));
    let small_steps = || Box::new(must(FullKvCache::with_step(7))) as Box<dyn KvCache>;
    let mut caches = [small_steps(), small_steps()];
    let logits = forward_in_chunks(&model, &mut caches, &ids, &chunks_of(40, chunk));
    check_close(&format!("{name}, 40 tokens in calls of {chunk}"), logits, &whole, ROUNDING);
}

/// A path that was tried and given up leaves no trace: speculative decoding lives on this.
#[rstest]
fn task_4_rewind_and_go_another_way(#[values(1, 2, 6)] n_tried: i32, #[values(1, 4)] n_more: i32) {
    let model = must(load("tiny-qwen2-tied", Dtype::Float32, Stage::Cached));
    let ids = |from: i32, n: i32| Array::from_iter((from..from + n).map(|i| (i * 31 + 5) as u32 % 96), &[1, n]);
    let (prompt, tried, more) = (ids(0, 9), ids(40, n_tried), ids(70, n_more));
    let straight = || {
        let mut cache = new_cache(&model);
        model.forward(&prompt, Some(&mut cache), LogitsToKeep::Last(1))?;
        model.forward(&more, Some(&mut cache), LogitsToKeep::All)
    };
    let with_a_detour = || {
        let mut cache = new_cache(&model);
        model.forward(&prompt, Some(&mut cache), LogitsToKeep::Last(1))?;
        model.forward(&tried, Some(&mut cache), LogitsToKeep::All)?.eval()?;
        cache.iter_mut().try_for_each(|cache| cache.rewind(n_tried as usize))?;
        model.forward(&more, Some(&mut cache), LogitsToKeep::All)
    };
    let what = format!("{n_more} tokens after {n_tried} others were tried and rewound");
    check_close(&what, with_a_detour(), &must(straight()), ROUNDING);
}

/// In the model, too, nothing holds on to what it fetched: each decode step writes one token in place.
#[test]
fn task_4_decoding_copies_only_new_tokens() {
    let model = must(load("tiny-qwen2-tied", Dtype::Float32, Stage::Cached));
    let (mut cache, bytes_copied) = counting_caches(2);
    let mut call = |tokens: &[u32]| {
        let ids = Array::from_slice(tokens, &[1, tokens.len() as i32]);
        must(model.forward(&ids, Some(&mut cache), LogitsToKeep::Last(1)).and_then(|logits| Ok(logits.eval()?)));
    };
    call(&[11, 42, 0, 90, 23]);
    for token in 0..20 {
        call(&[token]);
    }
    drop(cache);
    let of_token = 2 * 2 * 2 * 16 * 4; // layers, keys and values, heads, D, f32
    let moved = bytes_copied.get() / of_token;
    let cause = (moved > 25)
        .then_some("looks like: the old buffers, or views of them, are still held when the next token is appended");
    let message = || format!("got {moved}, expected 25");
    check_that("tokens moved for a prompt of 5 tokens and 20 more, one by one", moved == 25, message, cause);
}

/// Two generations of one model do not see each other's tokens.
#[test]
fn task_4_generations_are_independent() {
    let model = must(load("tiny-qwen2-untied", Dtype::Float32, Stage::Cached));
    let tokens = |prompt: &[u32]| must(answer(&model, prompt, 12)).tokens;
    let first = tokens(&[11, 42, 5]);
    assert_ne!(tokens(&[64, 3, 3, 17]), first, "two prompts that have different answers");
    assert_eq!(tokens(&[11, 42, 5]), first, "the first prompt once more");
}

/// The built-in model itself, in calls of several sizes, against transformers in f32; the first run downloads it.
#[test]
fn task_4_real_smollm2_logits() {
    let model = must(real_model());
    let fixture = Fixture::load("real_smollm2");
    for (name, chunk) in [("code", 1), ("chat", 17), ("paragraph", 32)] {
        let case = fixture.case(&format!("logits/{name}"));
        let ids = case.array("ids");
        let len = ids.dim(0);
        let row = must(ids.reshape(&[1, len]).map_err(Error::from));
        let logits = must(forward_in_chunks(&model, &mut new_cache(&model), &row, &chunks_of(len, chunk)));
        let logits = must(logits.try_index(0).map_err(Error::from)); // [L, V]
        check_logits(case, &logits);
    }
}

/// Its caches have the default step, and here they grow while it decodes.
#[test]
fn task_4_real_smollm2_decodes_over_the_step_boundary() {
    let model = must(real_model());
    let ids = Array::from_iter((0..262).map(|i| (i * i * 37 + 11 * i + 3) as u32 % 49152), &[1, 262]);
    let run = || {
        let (mut cache, mut logits) = (new_cache(&model), Vec::new());
        model.forward(&ids.try_index((.., ..252))?, Some(&mut cache), LogitsToKeep::Last(1))?;
        for at in 252..262 {
            let step = model.forward(&ids.try_index((.., at..at + 1))?, Some(&mut cache), LogitsToKeep::Last(1))?;
            step.eval()?;
            logits.push(step);
        }
        Ok::<_, Error>(concatenate(&logits, 1)?)
    };
    let whole = must(model.forward(&ids, None, LogitsToKeep::Last(10)));
    check_close("10 tokens behind 252, one by one", run(), &whole, Tolerance { atol: 2e-3, rtol: 0.0 });
}

/// Two orders of the same sums in f32: the tiny models' logits are near 10.
const ROUNDING: Tolerance = Tolerance { atol: 1e-4, rtol: 0.0 };
