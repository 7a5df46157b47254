//! Day 2.4: online softmax, a tile of queries, heads and masks, threads, splitting the keys.

#[allow(dead_code)] // day 2.1 uses the rest
mod cached_model;
mod largest_allocation;
#[allow(dead_code)] // days 2.2a to 2.2c use the rest
mod quantized_models;
mod refusals;
#[path = "week2_day4/task_1_online_softmax.rs"]
mod task_1_online_softmax;
#[path = "week2_day4/task_2_query_tile.rs"]
mod task_2_query_tile;
#[path = "week2_day4/task_5_splits_and_the_model.rs"]
mod task_5_splits_and_the_model;
mod tiled;
mod tiny_models;

use grader::{
    Case, Fixture, Guarded, Rng, Tolerance, check_close, check_rule, check_tokens, expect_error, property, strided,
};
use half::{bf16, f16};
use largest_allocation::LARGEST_ALLOCATION;
use mlx_custom::{Strided, set_num_threads};
use mlx_rs::ops::indexing::{IntoStrideBy, TryIndexOp};
use mlx_rs::ops::{broadcast_to, ones, select};
use mlx_rs::{Array, Dtype};
use refusals::expect_invalid_argument;
use rstest::rstest;
use std::sync::atomic::Ordering;
use tiled::{Inputs, Sizes, check_nan_rows, must};
use tiny_llm::flash_attention::operand::Operand;
use tiny_llm::flash_attention::schedule::one_thread;
use tiny_llm::flash_attention::tile_rows::TileRows;
use tiny_llm::flash_attention::{
    Attention, AttentionShape, Mask, Options, Schedule, Tiling, Variant, available_variants, flash_attention,
    flash_attention_with,
};
use tiny_llm::{AttentionMask, Result};

const DAY: &str = "week2_day4";
const F32: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-5 };

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
        "infinite_mask_f32",
        "f32_inside_bf16",
        "f32_inside_f16",
        "large_values_f16"
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
        let got = rows(inputs.flash(&AttentionMask::Causal, options));
        let spoilt = (0..32).find(|row| row % 16 < 12 && got[*row].iter().any(|x| x.is_nan()));
        let holds = spoilt.map_or(Ok(()), |row| Err(format!("query {} does not see it, and is NaN", row % 16)));
        let cause = "looks like: the walk over the keys goes on to the last of all S; it ends with the last key that some row \
                     of the tile sees";
        check_rule("16 causal queries in tiles of 4, with NaN in key and value 15", holds, cause);
        let first = |array: Array| array.try_index((.., .., ..12)).map_err(Into::into);
        let got = inputs.flash(&AttentionMask::Causal, options).and_then(first);
        let name = "the first 12 of 16 causal queries, in tiles of 4, with NaN in key and value 15";
        check_close(name, got, &must(expected.try_index((.., .., ..12))), F32);
    }
}

/// Keys that no row of a tile of queries sees, in memory that must not be touched.
#[test]
fn task_3_tiles_that_no_row_sees_are_not_loaded() {
    let shape = SMALL.shape();
    let (tiling, shapes) = (Tiling { positions: 4, keys: 4, splits: 1 }, [[1, 2, 16, 4], [1, 1, 16, 4]]);
    let strides = shapes.map(|shape| row_major(&shape));
    let mut rng = Rng::new(17);
    let mut random = |n: usize| (0..n).map(|_| rng.normal() as f32).collect::<Vec<f32>>();
    let query = random(2 * 16 * 4);
    for rows in TileRows::all(&shape, &tiling) {
        let seen = rows.first_position + rows.n_positions;
        let [key, value] = [(); 2].map(|()| Guarded::with_rest(&random(seen * 4), (16 - seen) * 4));
        for variant in available_variants() {
            let attention = Attention {
                shape,
                query: Operand::F32(must(Strided::new(&query, &shapes[0], &strides[0]))),
                key: Operand::F32(must(Strided::new(&key, &shapes[1], &strides[1]))),
                value: Operand::F32(must(Strided::new(&value, &shapes[1], &strides[1]))),
                scale: 0.5,
                mask: Mask::Causal,
                tiling,
                variant,
            };
            attention.attend(rows, 0..16);
            let holds = key.untouched("keys").and(value.untouched("values"));
            let cause = "looks like: the walk over the keys goes on to the last of all S; it ends with the last key that some row \
                         of the tile sees";
            let name = format!("{}: causal queries {} to {} of 16", variant.name(), rows.first_position, seen - 1);
            check_rule(&format!("{name}, in tiles of 4, and memory that ends with key {}", seen - 1), holds, cause);
        }
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
            check_nan_rows("two heads with 16 queries", &got, &[3, 19]);
            check_tokens("the only visible value", &got[5], &last_value);
        }
    }
}

/// Hidden by a bool mask, whatever its score would have been: so large that nothing else would have any weight, or no number.
#[test]
fn task_3_a_hidden_key_may_score_anything() {
    let mut rng = Rng::new(15);
    let inputs = Inputs::random(&mut rng, SMALL, Dtype::Float32);
    let mask = AttentionMask::Array(Array::from_iter((0..16 * 16).map(|at| at % 16 != 7), &[16, 16]));
    let expected = rows(Ok(inputs.oracle(&mask)));
    for number in [1e12, f32::INFINITY, f32::NAN] {
        let keys = inputs.key.as_slice::<f32>().iter().enumerate();
        let keys: Vec<f32> = keys.map(|(at, &x)| if at / 4 == 7 { number } else { x }).collect();
        let key = Array::from_slice(&keys, inputs.key.shape());
        let spoilt = Inputs { query: inputs.query.clone(), key, value: inputs.value.clone() };
        for variant in available_variants() {
            let options = Options { variant, schedule: Schedule::OneThread, tiling: SMALL_TILES };
            let got = rows(spoilt.flash(&mask, options));
            let is_near = |(got, expected): (&f32, &f32)| (got - expected).abs() < 1e-4;
            let wrong = (0..32).find(|&row| !got[row].iter().zip(&expected[row]).all(&is_near));
            let holds =
                wrong.map_or(Ok(()), |row| Err(format!("row {row} is {:?}, not {:?}", got[row], expected[row])));
            let cause = "looks like: something is added to a hidden key's score, or it is made low; it becomes -inf, whatever it was";
            check_rule(&format!("{}: a hidden key of numbers {number}", variant.name()), holds, cause);
        }
    }
}

#[rstest]
fn task_3_the_answer_has_the_dtype_of_the_query(
    #[values(Dtype::Float32, Dtype::Float16, Dtype::Bfloat16)] query: Dtype,
    #[values(Dtype::Float32, Dtype::Float16, Dtype::Bfloat16)] keys: Dtype,
) {
    let sizes = Sizes { key_len: 21, head_dim: 8, ..SMALL };
    let inputs = Inputs::random(&mut Rng::new(16), sizes, keys);
    let inputs = Inputs { query: must(inputs.query.as_dtype(query)), ..inputs };
    check_on_one_thread("mixed dtypes", &inputs, &AttentionMask::Causal);
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

/// Numbers that end where memory ends.
enum GuardedFloats {
    F32(Guarded<f32>),
    F16(Guarded<f16>),
    Bf16(Guarded<bf16>),
}

impl GuardedFloats {
    fn random(rng: &mut Rng, n: usize, dtype: Dtype) -> Self {
        let numbers: Vec<f32> = (0..n).map(|_| rng.normal() as f32).collect();
        match dtype {
            Dtype::Float16 => Self::F16(Guarded::new(&numbers.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>())),
            Dtype::Bfloat16 => {
                Self::Bf16(Guarded::new(&numbers.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>()))
            }
            _ => Self::F32(Guarded::new(&numbers)),
        }
    }

    fn operand<'a>(&'a self, shape: &'a [usize; 4], strides: &'a [isize; 4]) -> Operand<'a> {
        match self {
            Self::F32(numbers) => Operand::F32(must(Strided::new(numbers, shape, strides))),
            Self::F16(numbers) => Operand::F16(must(Strided::new(numbers, shape, strides))),
            Self::Bf16(numbers) => Operand::Bf16(must(Strided::new(numbers, shape, strides))),
        }
    }

    fn array(&self, shape: &[usize; 4]) -> Array {
        let shape = shape.map(|n| n as i32);
        match self {
            Self::F32(numbers) => Array::from_slice(numbers, &shape),
            Self::F16(numbers) => Array::from_slice(numbers, &shape),
            Self::Bf16(numbers) => Array::from_slice(numbers, &shape),
        }
    }

    fn expect_untouched(&self, what: &str) {
        match self {
            Self::F32(numbers) => numbers.expect_untouched(what),
            Self::F16(numbers) => numbers.expect_untouched(what),
            Self::Bf16(numbers) => numbers.expect_untouched(what),
        }
    }
}

fn row_major(shape: &[usize; 4]) -> [isize; 4] {
    let [_, heads, rows, columns] = shape.map(|n| n as isize);
    [heads * rows * columns, rows * columns, columns, 1]
}

/// Inputs, masks and answers that end at the end of a page: nothing behind them may be read or written.
#[rstest]
fn task_3_touches_nothing_behind_its_arrays(
    #[values(Dtype::Float32, Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype,
    #[values(5, 16, 24)] head_dim: usize,
    #[values(0, 1, 2)] mask_kind: usize,
) {
    for (query_len, key_len) in [(1, 1), (1, 33), (3, 17), (19, 70)] {
        let shape = AttentionShape { batch: 1, num_heads: 2, num_kv_heads: 1, query_len, key_len, head_dim };
        let shapes = [[1, 2, query_len, head_dim], [1, 1, key_len, head_dim], [1, 2, query_len, key_len]];
        let strides = shapes.map(|shape| row_major(&shape));
        let mut rng = Rng::new(key_len as u64);
        let mut random = |which: usize| GuardedFloats::random(&mut rng, shapes[which].iter().product(), dtype);
        let (query, key, value, added) = (random(0), random(1), random(1), random(2));
        let allowed = Guarded::new(
            &(0..2 * query_len * key_len).map(|at| u8::from(at % 3 != 1 || key_len == 1)).collect::<Vec<_>>(),
        );
        let mask = match mask_kind {
            0 => Mask::None,
            1 => Mask::Allowed(must(Strided::new(&allowed, &shapes[2], &strides[2]))),
            _ => Mask::Additive(added.operand(&shapes[2], &strides[2])),
        };
        let mask_array = match mask_kind {
            0 => AttentionMask::None,
            1 => {
                let allowed: Vec<bool> = allowed.iter().map(|&x| x == 1).collect();
                AttentionMask::Array(Array::from_slice(&allowed, &shapes[2].map(|n| n as i32)))
            }
            _ => AttentionMask::Array(added.array(&shapes[2])),
        };
        let inputs =
            Inputs { query: query.array(&shapes[0]), key: key.array(&shapes[1]), value: value.array(&shapes[1]) };
        let expected = rows(Ok(must(inputs.oracle(&mask_array).as_dtype(Dtype::Float32))));
        for variant in available_variants() {
            let attention = Attention {
                shape,
                query: query.operand(&shapes[0], &strides[0]),
                key: key.operand(&shapes[1], &strides[1]),
                value: value.operand(&shapes[1], &strides[1]),
                scale: 1.0 / (head_dim as f32).sqrt(),
                mask,
                tiling: Tiling { positions: 4, keys: 16, splits: 1 },
                variant,
            };
            let mut out = Guarded::new(&vec![f32::NAN; 2 * query_len * head_dim]);
            one_thread(&attention, &mut out);
            let name =
                format!("{} with {query_len} queries, {key_len} keys, D = {head_dim}, {dtype:?}", variant.name());
            for (row, expected) in expected.iter().enumerate() {
                let got = &out[row * head_dim..][..head_dim];
                let is_near = got
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| (a - b).abs() < 0.02 + 0.02 * b.abs() || a.is_nan() && b.is_nan());
                assert!(is_near, "{name}, row {row}: {got:?}, not {expected:?}");
            }
            for (numbers, what) in [(&query, "query"), (&key, "key"), (&value, "value"), (&added, "mask")] {
                numbers.expect_untouched(&format!("{name}: {what}"));
            }
            allowed.expect_untouched(&format!("{name}: mask"));
            out.expect_untouched(&format!("{name}: answer"));
        }
    }
}

/// A part of the keys on its own: NaN in all others shows who was looked at.
#[test]
fn task_3_takes_only_the_keys_that_it_is_given() {
    let (query, mut keys) = (vec![0.5_f32; 8], vec![f32::NAN; 12 * 4]);
    keys[4 * 4..9 * 4].fill(0.25);
    let shapes = [[1, 2, 1, 4], [1, 1, 12, 4]];
    let strides = shapes.map(|shape| row_major(&shape));
    let shape = AttentionShape { batch: 1, num_heads: 2, num_kv_heads: 1, query_len: 1, key_len: 12, head_dim: 4 };
    let tiling = Tiling { positions: 1, keys: 3, splits: 1 };
    for variant in available_variants() {
        let key = Operand::F32(must(Strided::new(&keys, &shapes[1], &strides[1])));
        let attention = Attention {
            shape,
            query: Operand::F32(must(Strided::new(&query, &shapes[0], &strides[0]))),
            key,
            value: key,
            scale: 1.0,
            mask: Mask::None,
            tiling,
            variant,
        };
        let rows = TileRows { batch: 0, kv_head: 0, group: 2, first_position: 0, n_positions: 1 };
        let partial = attention.attend(rows, 4..9).partial(1);
        let is_right = (partial.sum - 5.0).abs() < 1e-4 && (partial.max - 0.5).abs() < 1e-4;
        let holds = if is_right { Ok(()) } else { Err(format!("five equal scores of 0.5 give {partial:?}")) };
        let cause = "looks like: TileKernel::run goes through other keys than those of its field `keys`; splits hand it a part of them";
        check_rule(&format!("{}: keys 4 to 8 of 12, in tiles of 3", variant.name()), holds, cause);
    }
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
