//! Day 2.4: online softmax, a tile of queries, heads and masks, threads, splitting the keys.

#[allow(dead_code)] // day 2.1 uses the rest
mod cached_model;
mod largest_allocation;
mod quantized_models;
mod refusals;
mod tiled;
mod tiny_models;

use std::sync::atomic::Ordering;

use grader::{Case, Fixture, Rng, Tolerance, check_close, check_tokens, expect_error, property, strided};
use largest_allocation::LARGEST_ALLOCATION;
use mlx_custom::set_num_threads;
use mlx_rs::ops::indexing::{IntoStrideBy, TryIndexOp};
use mlx_rs::ops::{broadcast_to, ones, select};
use mlx_rs::{Array, Dtype};
use quantized_models::{
    check_generation, check_logits, check_logits_in_chunks, check_logits_with_caches, check_real_logits,
};
use refusals::expect_invalid_argument;
use rstest::rstest;
use tiled::{FirstKeys, Inputs, Sizes, TileByTile, Without, must};
use tiny_llm::flash_attention::{
    Options, Partial, Schedule, Tiling, Variant, available_variants, flash_attention, flash_attention_with,
};
use tiny_llm::{AttentionMask, FullKvCache, KvCache, Result, Stage};

const DAY: &str = "week2_day4";
const F32: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-5 };

// -------------------------------------------------------------------------------- task 1: online softmax

/// Scores `[N]` and values `[N, D]` of a case.
fn keys_of(case: &Case) -> (Vec<f32>, Vec<Vec<f32>>) {
    let values = case.array("values");
    let head_dim = values.shape()[1] as usize;
    let rows = values.as_slice::<f32>().chunks(head_dim).map(<[f32]>::to_vec).collect();
    (case.array("scores").as_slice::<f32>().to_vec(), rows)
}

fn partial_of(scores: &[f32], values: &[Vec<f32>]) -> Partial {
    let mut partial = Partial::new(values[0].len());
    for (&score, value) in scores.iter().zip(values) {
        partial.add(score, value);
    }
    partial
}

fn answer(partial: &Partial) -> Result<Array> {
    let output = partial.output();
    Ok(Array::from_slice(&output, &[output.len() as i32]))
}

#[rstest]
fn task_1_keys_one_at_a_time(#[values("rising", "any_order", "masked_first")] name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("add/{name}"));
    let (scores, values) = keys_of(case);
    case.check(answer(&partial_of(&scores, &values)));
}

#[rstest]
fn task_1_merged_parts(
    #[values("two_parts", "falling", "masked_parts", "many_parts")] name: &str,
    #[values(false, true)] last_part_first: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("merge/{name}"));
    let (scores, values) = keys_of(case);
    let mut parts = Vec::new();
    let mut first = 0;
    for length in case.i32s("lengths") {
        let keys = first..first + length as usize;
        parts.push(partial_of(&scores[keys.clone()], &values[keys.clone()]));
        first = keys.end;
    }
    if last_part_first {
        parts.reverse();
    }
    let mut merged = Partial::new(values[0].len());
    parts.iter().for_each(|part| merged.merge(part));
    case.check(answer(&merged));
}

/// Scores far apart: whatever is exponentiated must not overflow, and the largest score decides.
#[rstest]
#[case::rising(&[-1e4, 0.0, 1e4], &[0.0, 0.0, 1.0])]
#[case::falling(&[1e4, 0.0, -1e4], &[1.0, 0.0, 0.0])]
#[case::far_below_zero(&[-3e38, -1e4, -1e4], &[0.0, 0.5, 0.5])]
#[case::the_smallest_number_of_all(&[f32::MIN, f32::MIN, f32::NEG_INFINITY], &[0.5, 0.5, 0.0])]
fn task_1_scores_far_apart(#[case] scores: &[f32], #[case] weights: &[f32], #[values(1, 2, 3)] first_part: usize) {
    // Values that are the rows of the unit matrix: the answer shows the weights.
    let values: Vec<Vec<f32>> = (0..3).map(|i| (0..3).map(|j| f32::from(u8::from(i == j))).collect()).collect();
    let mut merged = partial_of(&scores[..first_part], &values[..first_part]);
    if first_part < 3 {
        merged.merge(&partial_of(&scores[first_part..], &values[first_part..]));
    }
    check_close(&format!("weights of the scores {scores:?}"), answer(&merged), &Array::from_slice(weights, &[3]), F32);
}

#[test]
fn task_1_max_and_sum_are_what_they_say() {
    let mut partial = partial_of(&[1.0, 3.0], &[vec![1.0], vec![2.0]]);
    partial.merge(&partial_of(&[2.0], &[vec![4.0]]));
    let expected = [3.0, 1.0 + (-1.0_f32).exp() + (-2.0_f32).exp(), 2.0 + 4.0 * (-1.0_f32).exp() + (-2.0_f32).exp()];
    let got = Array::from_slice(&[partial.max, partial.sum, partial.accumulator[0]], &[3]);
    let name = "max, sum and accumulator after the scores 1, 3, 2 with the values 1, 2, 4";
    check_close(name, Ok::<_, String>(got), &Array::from_slice(&expected, &[3]), F32);
}

#[test]
fn task_1_nothing_visible_is_nan_until_something_is() {
    let mut partial = Partial::new(2);
    partial.add(f32::NEG_INFINITY, &[1.0, 2.0]);
    partial.merge(&Partial::new(2));
    assert!(partial.output().iter().all(|x| x.is_nan()), "no key is visible: {partial:?} gives {:?}", partial.output());
    partial.add(-5.0, &[3.0, 4.0]);
    check_close("one visible key", answer(&partial), &Array::from_slice(&[3.0_f32, 4.0], &[2]), F32);
}

#[test]
fn task_1_random_parts() {
    property(20, |rng| {
        let (n, head_dim) = (rng.between(1, 40) as usize, rng.between(1, 5) as usize);
        let mut normal = |scale: f64| (rng.normal() * scale) as f32;
        let scores: Vec<f32> = (0..n).map(|_| normal(6.0)).collect();
        let values: Vec<Vec<f32>> = (0..n).map(|_| (0..head_dim).map(|_| normal(1.0)).collect()).collect();
        let max = scores.iter().copied().fold(f32::MIN, f32::max);
        let weights: Vec<f64> = scores.iter().map(|&score| f64::from(score - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mean = |d: usize| weights.iter().zip(&values).map(|(w, v)| w * f64::from(v[d])).sum::<f64>() / sum;
        let expected = Array::from_iter((0..head_dim).map(|d| mean(d) as f32), &[head_dim as i32]);

        let mut merged = Partial::new(head_dim);
        let mut first = 0;
        while first < n {
            let last = (first + rng.between(1, 9) as usize).min(n);
            merged.merge(&partial_of(&scores[first..last], &values[first..last]));
            first = last;
        }
        check_close(&format!("{n} keys in random parts"), answer(&merged), &expected, F32);
    });
}

// ------------------------------------------------------------------------------------- task 2: query tile

#[rstest]
fn task_2_attend(
    #[values(
        "one_tile",
        "whole_tiles",
        "last_tile_short",
        "rows_see_more_and_more",
        "many_rows",
        "tiles_unseen_by_some"
    )]
    name: &str,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("tile/{name}"));
    let filter = FirstKeys(case.i32s("visible").iter().map(|&n| n as usize).collect());
    let tiles = TileByTile::of(case, case.i32("tile") as usize);
    for variant in available_variants() {
        case.check(Ok::<_, String>(tiles.run(variant, &filter)));
    }
}

/// Rows around the blocks of 6 and 24 and the change of layout, keys around vectors and tiles, D with a tail or without.
#[rstest]
fn task_2_sizes_around_blocks_vectors_and_tiles(#[values(1, 5, 6, 7, 11, 12, 13, 24, 25)] n_rows: usize) {
    let mut rng = Rng::new(n_rows as u64);
    let lengths = [(1, 1), (7, 8), (16, 16), (17, 16), (31, 32), (64, 64), (65, 64), (129, 64)];
    for ((n_keys, tile), head_dim) in pairs(&lengths, &[1, 7, 16, 48, 80]) {
        let tiles = TileByTile::random(&mut rng, [n_rows, n_keys, head_dim, tile]);
        let expected = tiles.expected(|_, _| true);
        for variant in available_variants() {
            let name = format!("{n_rows} rows, {n_keys} keys in tiles of {tile}, D = {head_dim}, {}", variant.name());
            check_close(&name, Ok::<_, String>(tiles.run(variant, &FirstKeys(vec![n_keys; n_rows]))), &expected, F32);
        }
    }
}

/// Each of the first with each of the second.
fn pairs<A: Copy, B: Copy>(first: &[A], second: &[B]) -> impl Iterator<Item = (A, B)> {
    first.iter().flat_map(|&a| second.iter().map(move |&b| (a, b)))
}

/// The filter is told the right row and the right first key, and is asked about visible keys only.
#[rstest]
fn task_2_hidden_keys(#[values(20, 60)] most_rows: i32) {
    property(12, |rng| {
        let sizes = [rng.between(1, most_rows), rng.between(8, 40), rng.between(1, 20), rng.between(1, 12)];
        let tiles = TileByTile::random(rng, sizes.map(|n| n as usize));
        // The first key stays visible.
        let visible: Vec<usize> = (0..tiles.n_rows).map(|_| rng.between(1, tiles.n_keys as i32) as usize).collect();
        // Rows 24 apart have other hidden keys: they may stand at the same place in two blocks.
        let hidden = |row: usize, key: usize| !key.is_multiple_of(7) && (row + key * key).is_multiple_of(5);
        let expected = tiles.expected(|row, key| key < visible[row] && !hidden(row, key));
        for variant in available_variants() {
            let name = format!("{sizes:?} = rows, keys, D, keys of a tile; {}", variant.name());
            let filter = Without(visible.clone(), hidden);
            check_close(&name, Ok::<_, String>(tiles.run(variant, &filter)), &expected, F32);
        }
    });
}

/// Keys that come late and score high, after tiles that were hidden altogether.
#[test]
fn task_2_hidden_tiles_leave_nothing_behind() {
    let mut rng = Rng::new(1);
    let tiles = TileByTile::random(&mut rng, [8, 12, 4, 3]);
    let hidden = |row: usize, key: usize| key < 3 * (row % 4);
    let expected = tiles.expected(|row, key| !hidden(row, key));
    for variant in available_variants() {
        let got = tiles.run(variant, &Without(vec![12; 8], hidden));
        check_close(variant.name(), Ok::<_, String>(got), &expected, F32);
    }
}

#[test]
fn task_2_rows_without_a_visible_key_are_nan() {
    let mut rng = Rng::new(2);
    let tiles = TileByTile::random(&mut rng, [7, 9, 4, 4]);
    for variant in available_variants() {
        let got = tiles.run(variant, &Without(vec![9, 0, 9, 9, 9, 9, 9], |row, _| row == 3));
        let is_nan: Vec<bool> = got.as_slice::<f32>().chunks(4).map(|row| row.iter().all(|x| x.is_nan())).collect();
        check_tokens(
            "rows of NaN, where rows 1 and 3 see nothing",
            &is_nan,
            &[false, true, false, true, false, false, false],
        );
    }
}

// --------------------------------------------------------------------------------- task 3: heads and masks

fn mask(case: &Case) -> AttentionMask {
    match case.str("mask").as_str() {
        "none" => AttentionMask::None,
        "causal" => AttentionMask::Causal,
        _ => AttentionMask::Array(case.array("mask")),
    }
}

/// The case's tiling, by hand: small tiles make small cases interesting.
fn tiling(case: &Case) -> Tiling {
    let size = |name| case.i32(name) as usize;
    Tiling { positions: size("positions"), keys: size("keys"), splits: size("splits") }
}

/// Runs a case with every variant.
fn check_case(name: &str, schedule: Schedule, other_memory_order: bool) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(name);
    for variant in available_variants() {
        let options = Options { variant, schedule, tiling: Some(tiling(case)) };
        let run = || {
            let input = |name| -> Result<Array> {
                let array = case.array(name);
                Ok(if other_memory_order { strided(&array)? } else { array })
            };
            let (query, key, value) = (input("query")?, input("key")?, input("value")?);
            flash_attention_with(&query, &key, &value, case.optional_f32("scale"), &mask(case), options)
        };
        case.check(run());
    }
}

#[rstest]
fn task_3_attention(
    #[values(
        "plain_f32",
        "multi_head_bf16",
        "multi_query_f16",
        "scale_f32",
        "causal_square_f32",
        "causal_with_past_f32",
        "causal_with_past_bf16",
        "causal_one_query_f16",
        "bool_mask_f32",
        "padding_mask_bf16",
        "mask_per_head_f16",
        "additive_mask_f32",
        "additive_mask_bf16",
        "infinite_mask_f32"
    )]
    name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    check_case(&format!("heads_and_masks/{name}"), Schedule::OneThread, other_memory_order);
}

const ONE_THREAD: Options = Options { variant: Variant::PORTABLE, schedule: Schedule::OneThread, tiling: None };

/// On one thread, with each variant.
fn check_on_one_thread(name: &str, inputs: &Inputs, mask: &AttentionMask) {
    for variant in available_variants() {
        inputs.check(name, mask, Options { variant, ..ONE_THREAD });
    }
}

/// Lengths around the sizes of vectors and tiles, with the tiling that the engine uses.
#[rstest]
fn task_3_lengths_around_tiles(
    #[values(1, 31, 32, 33, 127, 128, 129, 255, 256, 1000)] key_len: i32,
    #[values(AttentionMask::None, AttentionMask::Causal)] mask: AttentionMask,
) {
    let mut rng = Rng::new(key_len as u64);
    for query_len in [1, 7, 200].map(|len| key_len.min(len)) {
        let sizes = Sizes { batch: 1, num_heads: 3, num_kv_heads: 1, query_len, key_len, head_dim: 16 };
        check_on_one_thread("lengths", &Inputs::random(&mut rng, sizes, Dtype::Float32), &mask);
    }
}

#[rstest]
fn task_3_head_sizes_and_dtypes(
    #[values(1, 5, 48, 64, 80, 128)] head_dim: i32,
    #[values(Dtype::Float32, Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype,
) {
    let mut rng = Rng::new(head_dim as u64);
    for query_len in [1, 20] {
        let sizes = Sizes { batch: 2, num_heads: 4, num_kv_heads: 2, query_len, key_len: 70, head_dim };
        check_on_one_thread("head sizes", &Inputs::random(&mut rng, sizes, dtype), &AttentionMask::Causal);
    }
}

#[rstest]
#[case::llama(9, 3)]
#[case::qwen(14, 2)]
#[case::multi_query(5, 1)]
#[case::multi_head(4, 4)]
fn task_3_groups(#[case] num_heads: i32, #[case] num_kv_heads: i32) {
    let mut rng = Rng::new(num_heads as u64);
    for query_len in [1, 2, 40] {
        let sizes = Sizes { batch: 2, num_heads, num_kv_heads, query_len, key_len: 75, head_dim: 8 };
        check_on_one_thread("groups", &Inputs::random(&mut rng, sizes, Dtype::Float32), &AttentionMask::Causal);
    }
}

/// Whatever a mask array broadcasts from, and whatever it is made of.
#[rstest]
fn task_3_mask_arrays(
    #[values(&[90], &[20, 90], &[20, 1], &[4, 1, 90], &[2, 1, 1, 90], &[2, 4, 20, 90], &[1, 1, 1, 1])] shape: &[i32],
) {
    let mut rng = Rng::new(shape.len() as u64);
    let sizes = Sizes { batch: 2, num_heads: 4, num_kv_heads: 2, query_len: 20, key_len: 90, head_dim: 8 };
    let inputs = Inputs::random(&mut rng, sizes, Dtype::Float32);
    // Numbers that every dtype holds; every row has a visible key, its first.
    let row = shape[shape.len() - 1];
    let number = |i: i32| if i % row == 0 { 1.0 } else { rng.between(-1, 2) as f32 };
    let numbers = Array::from_iter((0..shape.iter().product()).map(number).collect::<Vec<f32>>(), shape);
    for dtype in [Dtype::Bool, Dtype::Float32, Dtype::Float16, Dtype::Bfloat16, Dtype::Int32] {
        let mask = match dtype {
            Dtype::Bool => must(numbers.gt(Array::from_f32(0.0))),
            _ => must(numbers.as_dtype(dtype)),
        };
        check_on_one_thread(&format!("mask {shape:?} of {dtype:?}"), &inputs, &AttentionMask::Array(mask));
    }
}

/// Heads that lie between the tokens, a cache with room, every second token, the same keys for two rows.
#[rstest]
fn task_3_inputs_in_any_memory_order(
    #[values(1, 30)] query_len: i32,
    #[values(Dtype::Float32, Dtype::Bfloat16)] dtype: Dtype,
) {
    let mut rng = Rng::new(query_len as u64);
    let mut array = |shape: &[i32]| must(rng.array(shape, dtype));
    let tokens_first = must(array(&[2, query_len, 4, 16]).swap_axes(1, 2));
    let with_room = must(array(&[2, 2, 100, 16]).try_index((.., .., ..70)));
    let every_second = must(array(&[2, 2, 140, 16]).try_index((.., .., (..140).stride_by(2))));
    let shared = must(broadcast_to(array(&[1, 1, 70, 16]), &[2, 2, 70, 16]));
    let backwards = must(array(&[2, 2, 70, 32]).try_index((.., .., .., (..).stride_by(-2))));
    let query = array(&[2, 4, query_len, 16]);
    for (name, query, key, value) in [
        ("query [B, L, H, D] with swapped axes", &tokens_first, &with_room, &with_room),
        ("a cache with room behind the keys", &query, &with_room, &every_second),
        ("every second token", &query, &every_second, &shared),
        ("keys broadcast over batch and heads", &query, &shared, &with_room),
        ("D backwards", &tokens_first, &backwards, &backwards),
    ] {
        let inputs = Inputs { query: query.clone(), key: key.clone(), value: value.clone() };
        check_on_one_thread(name, &inputs, &AttentionMask::Causal);
    }
}

/// Row-major answers `[B, H, L, D]` as rows of D numbers.
fn rows(answer: Result<Array>) -> Vec<Vec<f32>> {
    let answer = must(answer);
    let head_dim = answer.dim(-1) as usize;
    answer.as_slice::<f32>().chunks(head_dim).map(<[f32]>::to_vec).collect()
}

const SMALL: Sizes = Sizes { batch: 1, num_heads: 2, num_kv_heads: 1, query_len: 16, key_len: 16, head_dim: 4 };
const SMALL_TILES: Option<Tiling> = Some(Tiling { positions: 4, keys: 4, splits: 1 });

/// NaN in the last tile of keys shows who looked at it: under a causal mask nobody but the last tile of queries.
#[test]
fn task_3_tiles_that_nobody_sees_are_skipped() {
    let mut rng = Rng::new(3);
    let mut inputs = Inputs::random(&mut rng, SMALL, Dtype::Float32);
    let expected = inputs.oracle(&AttentionMask::Causal);
    let spoil = |array: &Array| {
        let n = array.size();
        let spoilt = array.as_slice::<f32>().iter().enumerate().map(|(i, &x)| if i >= n - 4 { f32::NAN } else { x });
        Array::from_iter(spoilt.collect::<Vec<f32>>(), array.shape())
    };
    (inputs.key, inputs.value) = (spoil(&inputs.key), spoil(&inputs.value));
    for variant in available_variants() {
        let options = Options { variant, schedule: Schedule::OneThread, tiling: SMALL_TILES };
        let first = |array: Array| array.try_index((.., .., ..12)).map_err(Into::into);
        let got = inputs.flash(&AttentionMask::Causal, options).and_then(first);
        let name = "the first 12 of 16 causal queries, in tiles of 4, with NaN in key and value 15";
        check_close(name, got, &must(expected.try_index((.., .., ..12))), F32);
    }
}

#[test]
fn task_3_queries_that_see_nothing_are_nan_and_others_are_not() {
    let mut rng = Rng::new(4);
    let inputs = Inputs::random(&mut rng, SMALL, Dtype::Float32);
    // Query 3 sees nothing, query 5 only the very last key.
    let sees = |i: i32, j: i32| i != 3 && (i != 5 || j == 15);
    let allowed = Array::from_iter((0..16).flat_map(|i| (0..16).map(move |j| sees(i, j))), &[16, 16]);
    let added = must(select(&allowed, Array::from_f32(0.0), Array::from_f32(f32::NEG_INFINITY)));
    let last_value = inputs.value.as_slice::<f32>()[60..].to_vec();
    for variant in available_variants() {
        for mask in [&allowed, &added] {
            let options = Options { variant, schedule: Schedule::OneThread, tiling: SMALL_TILES };
            let got = rows(inputs.flash(&AttentionMask::Array(mask.clone()), options));
            let nan_rows: Vec<usize> = (0..32).filter(|&row| got[row].iter().any(|x| x.is_nan())).collect();
            check_tokens("rows (of two heads with 16 queries) with NaN", &nan_rows, &[3, 19]);
            assert!(got[3].iter().all(|x| x.is_nan()), "all of a row that sees nothing is NaN: {:?}", got[3]);
            check_tokens("the only visible value", &got[5], &last_value);
        }
    }
}

/// What plain attention does with numbers that are none: they spoil whoever looks at them.
#[test]
fn task_3_nan_and_infinity_reach_those_who_see_them() {
    let mut rng = Rng::new(5);
    let clean = Inputs::random(&mut rng, SMALL, Dtype::Float32);
    let with = |array: &Array, place: usize, number: f32| {
        let mut numbers = array.as_slice::<f32>().to_vec();
        numbers[place] = number;
        Array::from_slice(&numbers, array.shape())
    };
    for variant in available_variants() {
        let options = Options { variant, schedule: Schedule::OneThread, tiling: SMALL_TILES };
        let nan_rows = |inputs: Inputs| -> Vec<usize> {
            let got = rows(inputs.flash(&AttentionMask::Causal, options));
            (0..32).filter(|&row| got[row].iter().any(|x| x.is_nan())).collect()
        };
        let Inputs { query, key, value } = &clean;
        let (key_of, value_of) = (|| key.clone(), || value.clone());
        let nan_query = Inputs { query: with(query, 4 * 6, f32::NAN), key: key_of(), value: value_of() };
        check_tokens("rows with NaN, from NaN in query 6 of head 0", &nan_rows(nan_query), &[6]);
        for number in [f32::NAN, f32::INFINITY] {
            let spoilt_key = Inputs { query: query.clone(), key: with(key, 4 * 12, number), value: value_of() };
            let got = nan_rows(spoilt_key);
            // An infinite key spoils those whose score becomes +inf; to the others it is invisible.
            let sees = |row: &usize| row % 16 >= 12 && (number.is_nan() || query.as_slice::<f32>()[row * 4] > 0.0);
            let expected: Vec<usize> = (0..32).filter(sees).collect();
            let seen: Vec<usize> = got.iter().copied().filter(|row| row % 16 >= 12).collect();
            check_tokens(&format!("rows with NaN, from {number} in key 12"), &seen, &expected);
            check_tokens("rows before the tile of key 12 with NaN", &got[..got.len() - seen.len().min(got.len())], &[]);
        }
        let infinite_value =
            Inputs { query: query.clone(), key: key_of(), value: with(value, 4 * 15 + 2, f32::INFINITY) };
        let got = rows(infinite_value.flash(&AttentionMask::Causal, options));
        assert!(got[15][2] == f32::INFINITY && got[15][1].is_finite(), "an infinite value in column 2: {:?}", got[15]);
    }
}

/// Scores of several hundred thousand: f16 would overflow, and exp of anything but a difference to the maximum, too.
#[rstest]
fn task_3_large_scores(#[values(Dtype::Float32, Dtype::Float16)] dtype: Dtype) {
    let mut rng = Rng::new(6);
    let sizes = Sizes { query_len: 20, key_len: 40, head_dim: 64, ..SMALL };
    let inputs = Inputs::random(&mut rng, sizes, dtype);
    let large = |array: &Array, by: f32| must(must(array.multiply(Array::from_f32(by))).as_dtype(dtype));
    let inputs = Inputs { query: large(&inputs.query, 2000.0), key: large(&inputs.key, 30.0), value: inputs.value };
    check_on_one_thread("large scores", &inputs, &AttentionMask::Causal);
}

#[test]
fn task_3_random_problems() {
    property(40, |rng| {
        let (n, num_kv_heads) = (rng.between(1, 4), rng.between(1, 3));
        let (query_len, past) = (rng.between(1, 30), rng.between(0, 60));
        let (batch, head_dim, key_len) = (rng.between(1, 3), rng.between(1, 40), query_len + past);
        let sizes = Sizes { batch, num_heads: n * num_kv_heads, num_kv_heads, query_len, key_len, head_dim };
        let dtype = [Dtype::Float32, Dtype::Float16, Dtype::Bfloat16][rng.between(0, 2) as usize];
        let inputs = Inputs::random(rng, sizes, dtype);
        let mask = match rng.between(0, 3) {
            0 => AttentionMask::None,
            1 => AttentionMask::Causal,
            2 => AttentionMask::Array(must(rng.array(&[query_len, key_len], dtype))),
            _ => {
                // Every query sees the first key.
                let mut sees = |i: i32| i % key_len == 0 || rng.uniform() < 0.5;
                let allowed: Vec<bool> = (0..query_len * key_len).map(&mut sees).collect();
                AttentionMask::Array(Array::from_slice(&allowed, &[query_len, key_len]))
            }
        };
        let (positions, keys) = (rng.between(1, 20) as usize, rng.between(1, 90) as usize);
        let tiling = Some(Tiling { positions, keys, splits: 1 });
        for variant in available_variants() {
            inputs.check("any problem", &mask, Options { variant, schedule: Schedule::OneThread, tiling });
        }
    });
}

fn attention_of_shapes(query: &[i32], key: &[i32], value: &[i32], mask: &AttentionMask) -> Result<Array> {
    let ones = |shape: &[i32]| ones::<f32>(shape);
    flash_attention_with(&ones(query)?, &ones(key)?, &ones(value)?, None, mask, ONE_THREAD)
}

/// The right call first: a refusal's test must not be green because everything is refused, or nothing is computed.
fn accepts_fitting_shapes() {
    let result = attention_of_shapes(&[2, 4, 3, 4], &[2, 2, 6, 4], &[2, 2, 6, 4], &AttentionMask::Causal);
    check_close("attention over values that are all 1", result, &must(ones::<f32>(&[2, 4, 3, 4])), F32);
}

#[rstest]
#[case::heads_do_not_divide(&[2, 5, 3, 4], &[2, 2, 6, 4], "5 query heads and 2 key/value heads")]
#[case::more_kv_heads(&[2, 2, 3, 4], &[2, 4, 6, 4], "2 query heads and 4 key/value heads")]
#[case::no_kv_heads(&[2, 4, 3, 4], &[2, 0, 6, 4], "no key/value heads")]
#[case::three_axes(&[4, 3, 4], &[2, 6, 4], "query, key and value without a batch axis")]
#[case::other_batch(&[2, 4, 3, 4], &[1, 2, 6, 4], "two rows of queries and one of keys")]
#[case::other_head_dim(&[2, 4, 3, 4], &[2, 2, 6, 5], "a query with D = 4 and a key with D = 5")]
#[case::no_keys(&[2, 4, 3, 4], &[2, 2, 0, 4], "queries and no keys")]
fn task_3_refuses_shapes_that_do_not_fit(#[case] query: &[i32], #[case] key: &[i32], #[case] what: &str) {
    accepts_fitting_shapes();
    expect_invalid_argument(attention_of_shapes(query, key, key, &AttentionMask::None), what);
}

#[test]
fn task_3_refuses_what_else_does_not_fit() {
    accepts_fitting_shapes();
    let (query, key) = (&[2, 4, 6, 4], &[2, 2, 3, 4]);
    let causal = attention_of_shapes(query, key, key, &AttentionMask::Causal);
    expect_invalid_argument(causal, "a causal mask with 6 queries and 3 keys");
    let value = attention_of_shapes(query, key, &[2, 2, 4, 4], &AttentionMask::None);
    expect_invalid_argument(value, "3 keys and 4 values");
    let mask = AttentionMask::Array(must(ones::<f32>(&[6, 4])));
    expect_error(attention_of_shapes(query, key, key, &mask), "a mask [6, 4] for 6 queries and 3 keys");
    let integers = must(ones::<i32>(&[1, 1, 1, 1]));
    let result = flash_attention(&integers, &integers, &integers, None, &AttentionMask::None);
    expect_invalid_argument(result, "integers");
    let tiling = Some(Tiling { positions: 0, keys: 4, splits: 1 });
    let x = must(ones::<f32>(&[1, 1, 1, 1]));
    let result = flash_attention_with(&x, &x, &x, None, &AttentionMask::None, Options { tiling, ..ONE_THREAD });
    expect_invalid_argument(result, "tiles without queries");
}

#[test]
fn task_3_no_queries_is_an_empty_answer() {
    accepts_fitting_shapes();
    let result = attention_of_shapes(&[2, 4, 0, 4], &[2, 2, 3, 4], &[2, 2, 3, 4], &AttentionMask::Causal);
    check_close("no queries", result, &must(ones::<f32>(&[2, 4, 0, 4])), Tolerance::EXACT);
}

// ---------------------------------------------------------------------------------------- task 4: threads

/// More threads than the machine may have, so that tiles really overtake each other.
fn several_threads(tiling: Option<Tiling>) -> Options {
    set_num_threads(4);
    Options { variant: Variant::best(), schedule: Schedule::Threads, tiling }
}

#[rstest]
fn task_4_attention(
    #[values("four_tiles_f32", "causal_f32", "batch_bf16", "causal_batch_f16")] name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    set_num_threads(4);
    check_case(&format!("threads/{name}"), Schedule::Threads, other_memory_order);
}

/// A tile's answer does not depend on who computes it, so that several threads give bit for bit what one gives.
#[test]
fn task_4_threads_change_nothing() {
    property(10, |rng| {
        let (batch, query_len, past) = (rng.between(1, 2), rng.between(1, 40), rng.between(0, 40));
        let sizes = Sizes { batch, num_heads: 6, num_kv_heads: 2, query_len, key_len: query_len + past, head_dim: 8 };
        let dtype = [Dtype::Float32, Dtype::Float16, Dtype::Bfloat16][rng.between(0, 2) as usize];
        let inputs = Inputs::random(rng, sizes, dtype);
        let tiling = Tiling { positions: rng.between(1, 9) as usize, keys: 16, splits: 1 };
        let options = several_threads(Some(tiling));
        let alone = must(inputs.flash(&AttentionMask::Causal, Options { schedule: Schedule::OneThread, ..options }));
        let name = format!("{sizes:?} {dtype:?} {tiling:?}, compared with one thread");
        check_close(&name, inputs.flash(&AttentionMask::Causal, options), &alone, Tolerance::EXACT);
    });
}

#[test]
fn task_4_the_engines_own_tiling() {
    let mut rng = Rng::new(7);
    let sizes = Sizes { batch: 2, num_heads: 6, num_kv_heads: 2, query_len: 150, key_len: 190, head_dim: 16 };
    let inputs = Inputs::random(&mut rng, sizes, Dtype::Float32);
    inputs.check("a chunk of a prompt", &AttentionMask::Causal, several_threads(None));
    inputs.check("a chunk of a prompt", &AttentionMask::Causal, Options::default());
}

/// One matrix of scores would take 9 MB here.
#[test]
fn task_4_never_holds_all_scores() {
    let mut rng = Rng::new(8);
    let sizes = Sizes { batch: 1, num_heads: 1, num_kv_heads: 1, query_len: 1500, key_len: 1500, head_dim: 8 };
    let inputs = Inputs::random(&mut rng, sizes, Dtype::Float32);
    LARGEST_ALLOCATION.store(0, Ordering::Relaxed);
    inputs.check("a long prompt", &AttentionMask::Causal, several_threads(None));
    let largest = LARGEST_ALLOCATION.load(Ordering::Relaxed);
    assert!(largest < 2 << 20, "a single piece of memory of {largest} bytes: tiles need no more than some 100,000");
}

// ------------------------------------------------------------------------------ task 5: splitting the keys

#[rstest]
fn task_5_attention(
    #[values("two_f32", "remainder_f32", "several_queries_bf16", "one_key_tiles_f16", "masked_split_f32")] name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    set_num_threads(4);
    check_case(&format!("splits/{name}"), Schedule::Threads, other_memory_order);
}

#[rstest]
fn task_5_lengths_and_splits(#[values(1, 31, 32, 33, 127, 128, 129, 255, 256, 1000)] key_len: i32) {
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
fn task_5_decode_with_the_engines_own_tiling(#[values(600, 4096)] key_len: i32, #[values(1, 7)] num_heads: i32) {
    let mut rng = Rng::new(key_len as u64);
    let sizes = Sizes { batch: 1, num_heads, num_kv_heads: 1, query_len: 1, key_len, head_dim: 64 };
    let inputs = Inputs::random(&mut rng, sizes, Dtype::Float32);
    assert!(Tiling::new(&sizes.shape(), 4).splits > 1, "one tile, {key_len} keys: something to split for four threads");
    inputs.check("decode", &AttentionMask::Causal, several_threads(None));
}

#[test]
fn task_5_queries_that_see_nothing_in_any_split() {
    let mut rng = Rng::new(9);
    let inputs = Inputs::random(&mut rng, SMALL, Dtype::Float32);
    // Query 3 sees nothing, query 5 only the very last key.
    let sees = |i: i32, j: i32| i != 3 && (i != 5 || j == 15);
    let mask = Array::from_iter((0..16).flat_map(|i| (0..16).map(move |j| sees(i, j))), &[16, 16]);
    let last_value = inputs.value.as_slice::<f32>()[60..].to_vec();
    let options = several_threads(Some(Tiling { positions: 4, keys: 4, splits: 3 }));
    let got = rows(inputs.flash(&AttentionMask::Array(mask), options));
    let nan_rows: Vec<usize> = (0..32).filter(|&row| got[row].iter().any(|x| x.is_nan())).collect();
    check_tokens("rows (of two heads with 16 queries) with NaN", &nan_rows, &[3, 19]);
    check_tokens("the only visible value", &got[5], &last_value);
}

// -------------------------------------------------------------------------- the model, with days 2.1 and 2.2

/// From here on a layer of a quantized model is one operation, with attention and the cache inside.
#[rstest]
#[case("tiny-qwen2-4bit", "one_token_f32")]
#[case("tiny-qwen2-4bit", "two_rows_f32")]
#[case("tiny-qwen2-mixed", "one_row_f32")]
#[case("tiny-qwen2-mixed", "one_row_f16")]
fn task_5_the_model_without_a_cache(#[case] model: &str, #[case] prompt: &str) {
    check_logits(model, prompt, Stage::Flash);
}

#[rstest]
#[case("tiny-qwen2-4bit", "two_rows_f32", &[9])]
#[case("tiny-qwen2-4bit", "two_rows_f32", &[4, 1, 1, 3])]
#[case("tiny-qwen2-4bit", "two_rows_bf16", &[8, 1])]
#[case("tiny-qwen2-4bit", "one_row_f32", &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1])]
#[case("tiny-qwen2-mixed", "one_row_f32", &[5, 1, 4])]
#[case("tiny-qwen2-mixed", "one_row_f16", &[9, 1])]
fn task_5_the_model_with_a_cache(#[case] model: &str, #[case] prompt: &str, #[case] chunks: &[i32]) {
    check_logits_in_chunks(model, prompt, chunks, Stage::Flash);
}

/// Buffers that grow in the middle, and after every token.
#[rstest]
fn task_5_the_model_with_a_cache_that_grows(#[values(1, 3, 7)] step: usize, #[values(1, 2, 5)] chunk: i32) {
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
fn task_5_the_model_generates_what_transformers_generates(#[case] model: &str, #[case] prompt: &str) {
    check_generation(model, prompt, Stage::Flash);
}

#[test]
fn task_5_the_built_in_model() {
    check_real_logits(Stage::Flash);
}
