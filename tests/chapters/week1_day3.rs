//! Day 1.3: causal mask, grouped-query attention, Qwen2's attention layer.

mod named;
mod refusals;

use grader::{Case, Fixture, Rng, Tolerance, check_close, check_rule, expect_error, property, strided};
use mlx_rs::ops::{concatenate, select};
use mlx_rs::{Array, Dtype};
use named::check_that;
use refusals::expect_invalid_argument;
use rstest::rstest;
use tiny_llm::{
    AttentionMask, Error, KvCache, Linear, Offset, Qwen2Attention, Result, RotaryEmbedding, causal_mask,
    scaled_dot_product_attention, scaled_dot_product_attention_grouped,
};

const DAY: &str = "week1_day3";

// -------------------------------------------------------------------------------- task 1: causal mask

#[rstest]
fn task_1_causal_mask(#[values("square", "two", "longer_keys", "one_more_key", "one_query")] name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("causal_mask/{name}"));
    case.check(causal_mask(case.i32("query_len"), case.i32("key_len")));
}

#[test]
fn task_1_causal_mask_of_any_size() {
    property(12, |rng| {
        let n_query = rng.between(1, 9);
        let n_key = n_query + rng.between(0, 9);
        let allowed = (0..n_query).flat_map(|i| (0..n_key).map(move |j| j <= i + n_key - n_query));
        let expected = Array::from_iter(allowed, &[n_query, n_key]);
        let name = format!("causal mask for {n_query} queries and {n_key} keys");
        check_close(&name, causal_mask(n_query, n_key), &expected, Tolerance::EXACT);
    });
}

#[rstest]
fn task_1_causal_mask_without_queries_is_empty(#[values(3, 0)] n_key: i32) {
    let expected = Array::from_slice::<bool>(&[], &[0, n_key]);
    let case = format!("causal mask for 0 queries and {n_key} keys");
    check_close(&case, causal_mask(0, n_key), &expected, Tolerance::EXACT);
}

#[rstest]
#[case::one_more_query(4, 3)]
#[case::many_more_queries(9, 2)]
#[case::no_keys(1, 0)]
#[case::negative_queries(-1, 3)]
#[case::negative_lengths(-3, -2)]
fn task_1_refuses_lengths_without_a_causal_mask(#[case] n_query: i32, #[case] n_key: i32) {
    // With more queries than keys the first queries would see no key at all, and a softmax over nothing is NaN.
    expect_invalid_argument(causal_mask(n_query, n_key), &format!("{n_query} queries and {n_key} keys"));
}

// ----------------------------------------------------------- task 2: grouped scaled dot-product attention

fn mask(case: &Case) -> AttentionMask {
    match case.str("mask").as_str() {
        "none" => AttentionMask::None,
        "causal" => AttentionMask::Causal,
        _ => AttentionMask::Array(case.array("mask")),
    }
}

fn grouped(case: &Case, other_memory_order: bool) -> Result<Array> {
    let input = |name| in_order(case, name, other_memory_order);
    let (query, key, value) = (input("query")?, input("key")?, input("value")?);
    let scale = case.optional_f32("scale");
    scaled_dot_product_attention_grouped(&query, &key, &value, scale, &mask(case))
}

#[rstest]
fn task_2_grouped_attention(
    #[values(
        "plain_f32",
        "batch_bf16",
        "two_leading_dims_f16",
        "multi_query_f32",
        "multi_query_bf16",
        "multi_head_f16",
        "scale_f32",
        "causal_square_f32",
        "causal_with_past_bf16",
        "causal_with_past_f16",
        "causal_multi_query_f32",
        "causal_one_query_bf16",
        "shared_bool_mask_f32",
        "mask_per_head_f32",
        "mask_per_head_f16",
        "additive_mask_bf16",
        "additive_mask_f32",
        "infinite_mask_per_head_f32",
        "additive_mask_multi_query_f16",
        "float32_mask_f16",
        "large_scores_f16"
    )]
    name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("grouped/{name}"));
    case.check(grouped(case, other_memory_order));
}

#[test]
fn task_2_grouped_attention_with_one_query_head_per_kv_head_is_plain_attention() {
    let fixture = Fixture::load(DAY);
    let case = fixture.case("grouped/multi_head_f16");
    let (query, key, value) = (case.array("query"), case.array("key"), case.array("value"));
    case.check(scaled_dot_product_attention_grouped(&query, &key, &value, None, &AttentionMask::None));
    case.check(scaled_dot_product_attention(&query, &key, &value, None, None));
}

/// A mask read with the wrong axes is mostly refused by MLX, and no array of wrong values says why.
fn grouped_with_mask(name: &str, cause: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("grouped/{name}"));
    let result = grouped(case, false);
    if let Err(error) = &result {
        let shape = case.array("mask").shape().to_vec();
        check_rule(&format!("grouped/{name}"), Err(format!("a mask of shape {shape:?} was refused: {error}")), cause);
    }
    case.check(result);
}

#[rstest]
fn task_2_mask_with_fewer_axes(
    #[values("mask_of_one_axis_f32", "mask_of_one_row_bf16", "mask_of_three_axes_f32")] name: &str,
) {
    let cause = "looks like: the mask's axes are taken for [L, S] or [B, H, L, S]; a mask may have fewer, so touch only a \
                 head axis that is there and let the rest broadcast";
    grouped_with_mask(name, cause);
}

#[rstest]
fn task_2_mask_with_one_head(#[values("one_head_mask_f32", "one_head_mask_f16", "padding_mask_bf16")] name: &str) {
    let cause = "looks like: a mask with one head meets [.., H_kv, n, L, S] as it is, so its batch axis lies on the \
                 key/value heads; it needs one more axis of 1";
    grouped_with_mask(name, cause);
}

#[rstest]
fn task_2_mask_with_two_leading_dims(
    #[values(
        "mask_of_five_axes_f32",
        "mask_of_five_axes_one_head_f16",
        "mask_of_four_axes_two_leading_dims_f32"
    )]
    name: &str,
) {
    let cause = "looks like: the mask's head axis is counted from the front; it is the third from the end, whatever \
                 stands before it";
    grouped_with_mask(name, cause);
}

#[test]
fn task_2_one_query_has_a_mask_too() {
    // Two sequences of 4 keys, padded to 6, and one query each: a decode step of a batch.
    let mut rng = Rng::new(31);
    let mut run = || -> Result<[Array; 3]> {
        let query = rng.array(&[2, 4, 1, 3], Dtype::Float32)?;
        let [key, value, more] = [4, 4, 2].map(|n| rng.array(&[2, 2, n, 3], Dtype::Float32));
        let (key, value, more) = (key?, value?, more?);
        let (all_keys, all_values) = (concatenate(&[&key, &more], 2)?, concatenate(&[&value, &more], 2)?);
        let visible = AttentionMask::Array(Array::from_iter((0..12).map(|i| i % 6 < 4), &[2, 1, 1, 6]));
        let attend = |key, value, mask| scaled_dot_product_attention_grouped(&query, key, value, None, mask);
        Ok([
            attend(&all_keys, &all_values, &visible)?,
            attend(&key, &value, &AttentionMask::None)?,
            attend(&all_keys, &all_values, &AttentionMask::None)?,
        ])
    };
    let [got, expected, unmasked] = run().unwrap_or_else(|error| panic!("it was refused: {error}"));
    mask_is_used("one query over 4 keys and 2 of padding", &got, &expected, &unmasked, true);
}

const MASK_DROPPED: &str =
    "the mask is dropped where there is one query; its keys may be hidden all the same, as padding is";

/// `unmasked` is the answer without the mask; `elsewhere` says whether masks count where there are more queries.
fn mask_is_used(case: &str, got: &Array, expected: &Array, unmasked: &Array, elsewhere: bool) {
    let off = |a: &Array, b: &Array| -> Result<f32> { Ok(a.subtract(b)?.abs()?.max(false)?.item_exact::<f32>()) };
    let off = |a: &Array, b: &Array| off(a, b).unwrap_or_else(|error| panic!("the shapes differ: {error}"));
    let worst = off(got, expected);
    let is_dropped = elsewhere && off(got, unmasked) < 1e-5;
    let seen = || format!("with other hidden keys the answer differs by {worst}");
    check_that(case, worst < 1e-5, seen, is_dropped.then_some(MASK_DROPPED));
}

#[test]
fn task_2_refuses_a_mask_that_does_not_broadcast() {
    accepts_fitting_shapes();
    for (shape, what) in [
        (&[3, 5][..], "a mask [3, 5] for 6 keys"),
        (&[3, 3, 6], "a mask of 3 heads for 4 query heads"),
        (&[2, 3, 6], "a mask of 2 heads for 4 query heads (there are 2 key/value heads, which does not count)"),
    ] {
        let mask = AttentionMask::Array(counting(shape));
        expect_error(grouped_of_shapes(&[2, 4, 3, 4], &[2, 2, 6, 4], &[2, 2, 6, 4], &mask), what);
    }
}

fn grouped_of_shapes(query: &[i32], key: &[i32], value: &[i32], mask: &AttentionMask) -> Result<Array> {
    let (query, key, value) = (counting(query), counting(key), counting(value));
    scaled_dot_product_attention_grouped(&query, &key, &value, None, mask)
}

/// The right call first: a refusal's test must not be green because everything is refused.
fn accepts_fitting_shapes() {
    if let Err(error) = grouped_of_shapes(&[2, 4, 3, 4], &[2, 2, 6, 4], &[2, 2, 6, 4], &AttentionMask::Causal) {
        panic!("query [2, 4, 3, 4] with key and value [2, 2, 6, 4] was refused: {error}");
    }
}

#[rstest]
#[case::heads_do_not_divide(&[2, 5, 3, 4], &[2, 2, 6, 4], "5 query heads and 2 key/value heads")]
#[case::more_kv_heads(&[2, 2, 3, 4], &[2, 4, 6, 4], "2 query heads and 4 key/value heads")]
#[case::no_kv_heads(&[2, 4, 3, 4], &[2, 0, 6, 4], "no key/value heads")]
#[case::two_axes(&[3, 4], &[6, 4], "query, key and value with two axes, so without heads")]
#[case::one_axis(&[4], &[4], "query, key and value with one axis")]
#[case::key_without_batch(&[2, 4, 3, 4], &[2, 6, 4], "a query with four axes and a key with three")]
#[case::query_without_batch(&[4, 3, 4], &[2, 2, 6, 4], "a query with three axes and a key with four")]
fn task_2_refuses_heads_that_do_not_fit(#[case] query: &[i32], #[case] key: &[i32], #[case] what: &str) {
    accepts_fitting_shapes();
    expect_invalid_argument(grouped_of_shapes(query, key, key, &AttentionMask::None), what);
}

#[rstest]
#[case::other_heads(&[2, 1, 6, 4], "2 key heads and 1 value head")]
#[case::other_length(&[2, 2, 5, 4], "6 keys and 5 values")]
#[case::other_head_dim(&[2, 2, 6, 5], "a key with D = 4 and a value with D = 5")]
#[case::other_batch(&[1, 2, 6, 4], "2 sequences of keys and 1 of values")]
#[case::fewer_axes(&[2, 6, 4], "a key with four axes and a value with three")]
fn task_2_refuses_values_unlike_the_keys(#[case] value: &[i32], #[case] what: &str) {
    accepts_fitting_shapes();
    expect_invalid_argument(grouped_of_shapes(&[2, 4, 3, 4], &[2, 2, 6, 4], value, &AttentionMask::None), what);
}

#[test]
fn task_2_refuses_a_causal_mask_with_more_queries_than_keys() {
    accepts_fitting_shapes();
    let result = grouped_of_shapes(&[2, 4, 6, 4], &[2, 2, 3, 4], &[2, 2, 3, 4], &AttentionMask::Causal);
    expect_invalid_argument(result, "a causal mask with 6 queries and 3 keys");
}

#[test]
fn task_2_refuses_another_head_dim() {
    accepts_fitting_shapes();
    let result = grouped_of_shapes(&[2, 4, 3, 4], &[2, 2, 6, 5], &[2, 2, 6, 5], &AttentionMask::None);
    expect_error(result, "a query with D = 4 and a key with D = 5");
}

// ---------------------------------------------------------------------------- task 3: Qwen2 attention

/// A cache that begins with the case's past, appends by concatenation, and remembers what it was handed.
struct TestCache {
    keys: Array,
    values: Array,
    /// The position of the next token, for each row.
    offsets: Vec<i32>,
    per_row: bool,
    handed: Vec<(Array, Array)>,
}

impl TestCache {
    fn new(case: &Case, per_row: bool) -> Self {
        let (keys, values) = (case.array("past_keys"), case.array("past_values"));
        let same = || vec![case.i32("past"); keys.shape()[0] as usize];
        let offsets = if case.has("offsets") { case.i32s("offsets") } else { same() };
        Self { keys, values, offsets, per_row, handed: Vec::new() }
    }
}

impl KvCache for TestCache {
    fn update_and_fetch(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        self.keys = concatenate(&[&self.keys, keys], 2)?;
        self.values = concatenate(&[&self.values, values], 2)?;
        for offset in &mut self.offsets {
            *offset += keys.shape()[2];
        }
        self.handed.push((keys.clone(), values.clone()));
        Ok((self.keys.clone(), self.values.clone()))
    }

    fn offset(&self) -> Offset<'_> {
        if self.per_row { Offset::PerRow(&self.offsets) } else { Offset::Same(self.offsets[0]) }
    }

    fn rewind(&mut self, _n_tokens: usize) -> Result<()> {
        unreachable!("attention never rewinds its cache")
    }

    fn reset(&mut self) {
        unreachable!("attention never resets its cache")
    }
}

/// A cache or a mask that refuses must be heard: the error comes out of `forward`.
struct FullCache;

impl KvCache for FullCache {
    fn update_and_fetch(&mut self, _keys: &Array, _values: &Array) -> Result<(Array, Array)> {
        Err(Error::invalid("FullCache", "no room"))
    }

    fn offset(&self) -> Offset<'_> {
        Offset::Same(0)
    }

    fn rewind(&mut self, _n_tokens: usize) -> Result<()> {
        unreachable!("attention never rewinds its cache")
    }

    fn reset(&mut self) {
        unreachable!("attention never resets its cache")
    }
}

#[test]
fn task_3_passes_on_what_the_cache_or_the_mask_refuses() {
    let fixture = Fixture::load(DAY);
    let case = fixture.case("qwen2_attention/causal_f32"); // x [2, 5, 16]
    let forward = |mask: &AttentionMask, cache: Option<&mut dyn KvCache>| {
        attention(case)?.forward(&case.array("x"), &rope(case)?, mask, cache)
    };
    if let Err(error) = forward(&AttentionMask::Causal, None) {
        panic!("the layer without a cache was refused: {error}");
    }
    let mut full = FullCache;
    expect_error(forward(&AttentionMask::Causal, Some(&mut full)), "a cache without room");
    expect_error(forward(&AttentionMask::Array(counting(&[5, 4])), None), "a mask for 4 keys with 5 of them");
}

fn attention(case: &Case) -> Result<Qwen2Attention> {
    let projection = |name: &str| {
        let weight = case.array(&format!("{name}_weight"));
        Linear::new(weight, case.optional_array(&format!("{name}_bias")))
    };
    Qwen2Attention::new(
        case.i32("num_heads"),
        case.i32("num_kv_heads"),
        case.i32("head_dim"),
        projection("q"),
        projection("k"),
        projection("v"),
        projection("o"),
    )
}

fn rope(case: &Case) -> Result<RotaryEmbedding> {
    // More positions than needed: a layer must take the offset from the cache, not from the table's end.
    RotaryEmbedding::new(case.i32("head_dim"), case.i32("max_positions") + 9, case.f32("base"), false)
}

#[rstest]
fn task_3_qwen2_attention(
    #[values(
        "causal_f32",
        "causal_bf16",
        "wide_heads_f16",
        "multi_query_f32",
        "multi_head_bf16",
        "no_mask_f32",
        "no_bias_f32",
        "padding_mask_f32"
    )]
    name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("qwen2_attention/{name}"));
    let run = || {
        let x = in_order(case, "x", other_memory_order)?;
        attention(case)?.forward(&x, &rope(case)?, &mask(case), None)
    };
    case.check(run());
}

#[rstest]
fn task_3_qwen2_attention_with_a_cache(
    #[values(
        "prefill_after_past_f32",
        "prefill_after_past_bf16",
        "decode_after_past_f16",
        "decode_after_past_f32",
        "mask_after_past_f32"
    )]
    name: &str,
    #[values(false, true)] offsets_per_row: bool,
) {
    with_a_cache(name, offsets_per_row);
}

#[test]
fn task_3_qwen2_attention_with_rows_at_different_positions() {
    with_a_cache("rows_at_different_positions_f32", true);
}

fn with_a_cache(name: &str, offsets_per_row: bool) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("qwen2_attention/{name}"));
    let mut cache = TestCache::new(case, offsets_per_row);
    let run =
        |cache: &mut TestCache| attention(case)?.forward(&case.array("x"), &rope(case)?, &mask(case), Some(cache));
    let result = run(&mut cache);
    // What the cache was handed comes first: a mistake there spoils the result too, and is easier to see there.
    match &cache.handed[..] {
        [(keys, values)] => {
            case.check_named("new_keys", Ok::<_, String>(keys.clone()));
            case.check_named("new_values", Ok::<_, String>(values.clone()));
        }
        [] if result.is_err() => {} // the error is reported below
        calls => {
            let cause = "looks like: the cache is updated never or more than once; each forward updates it once";
            check_rule(&format!("qwen2_attention/{name}"), Err(format!("it was updated {} times", calls.len())), cause);
        }
    }
    case.check(result);
}

/// A cache that answers with keys of 2 and values of 1, whatever it is handed.
struct ConstantCache {
    handed: Option<(Array, Array)>,
}

impl KvCache for ConstantCache {
    fn update_and_fetch(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        self.handed = Some((keys.clone(), values.clone()));
        let full = |array: &Array, x: f32| mlx_rs::ops::broadcast_to(Array::from_f32(x), array.shape());
        Ok((full(keys, 2.0)?, full(values, 1.0)?))
    }

    fn offset(&self) -> Offset<'_> {
        Offset::Same(0)
    }

    fn rewind(&mut self, _n_tokens: usize) -> Result<()> {
        unreachable!("attention never rewinds its cache")
    }

    fn reset(&mut self) {
        unreachable!("attention never resets its cache")
    }
}

#[test]
fn task_3_keys_and_values_keep_their_places() {
    let fixture = Fixture::load(DAY);
    let case = fixture.case("qwen2_attention/decode_after_past_f32"); // one token; at position 0 it is not rotated
    let mut cache = ConstantCache { handed: None };
    let (heads, head_dim) = (case.i32("num_kv_heads"), case.i32("head_dim"));
    let x = case.array("x");
    let mut run = || -> Result<[Array; 4]> {
        let project = |name: &str| -> Result<Array> {
            let bias = case.optional_array(&format!("{name}_bias"));
            let y = Linear::new(case.array(&format!("{name}_weight")), bias).forward(&x)?;
            Ok(y.reshape(&[x.dim(0), heads, 1, head_dim])?)
        };
        let result = attention(case)?.forward(&x, &rope(case)?, &AttentionMask::None, Some(&mut cache))?;
        // The mean of values that are all 1 is 1, whatever their weights.
        let ones = mlx_rs::ops::broadcast_to(Array::from_f32(1.0), &[x.dim(0), 1, case.i32("num_heads") * head_dim])?;
        let of_ones = Linear::new(case.array("o_weight"), None).forward(&ones)?;
        Ok([result, of_ones, project("k")?, project("v")?])
    };
    let [result, of_ones, k, v] = run().unwrap_or_else(|error| panic!("one token with a cache was refused: {error}"));
    let Some((keys, values)) = cache.handed else { panic!("the cache is never updated") };
    let same = |a: &Array, b: &Array| a.all_close(b, 1e-4, 1e-4, false).unwrap_or(false);
    let cause = match (same(&keys, &k), same(&keys, &v), same(&values, &k), same(&values, &v)) {
        (_, true, true, _) => Some("keys and values change places on their way to the cache"),
        (_, true, _, true) => Some("the keys are projected by v_proj instead of k_proj"),
        (true, _, true, _) => Some("the values are projected by k_proj instead of v_proj"),
        _ => None,
    };
    let right = same(&keys, &k) && same(&values, &v);
    check_that("what the cache is handed", right, || "it is not k_proj(x) and v_proj(x)".to_owned(), cause);

    let twice = of_ones.add(&of_ones).unwrap_or_else(|error| panic!("{error}"));
    let cause = same(&result, &twice).then_some("the cache returns keys and values, in this order; they change places");
    let seen = || "the cache returned values that are all 1, and the answer is not o_proj of ones".to_owned();
    check_that("what the cache returns", same(&result, &of_ones), seen, cause);
}

#[test]
fn task_3_one_token_has_a_mask_too() {
    let fixture = Fixture::load(DAY);
    let case = fixture.case("qwen2_attention/decode_after_past_f32"); // 7 tokens in the cache, and one more
    let run = |mask: &AttentionMask, other_past: bool| -> Result<Array> {
        let mut cache = TestCache::new(case, false);
        if other_past {
            let hidden = Array::from_iter((0..7).map(|j| j < 3), &[7, 1]);
            cache.keys = select(&hidden, Array::from_f32(3.0), &cache.keys)?;
            cache.values = select(&hidden, Array::from_f32(-5.0), &cache.values)?;
        }
        attention(case)?.forward(&case.array("x"), &rope(case)?, mask, Some(&mut cache))
    };
    let run = |mask, other_past| run(mask, other_past).unwrap_or_else(|error| panic!("it was refused: {error}"));
    let mask = AttentionMask::Array(Array::from_iter((0..8).map(|j| j >= 3), &[1, 1, 1, 8]));
    let (got, expected) = (run(&mask, false), run(&mask, true));
    mask_is_used(
        "one token, 3 of whose keys are hidden",
        &got,
        &expected,
        &run(&AttentionMask::None, false),
        with_four_tokens(),
    );
}

/// Whether the answer for four tokens depends on their mask.
fn with_four_tokens() -> bool {
    let fixture = Fixture::load(DAY);
    let case = fixture.case("qwen2_attention/no_mask_f32"); // x [2, 4, 12]
    let run = |mask| attention(case)?.forward(&case.array("x"), &rope(case)?, &mask, None);
    let first_key_hidden = AttentionMask::Array(Array::from_iter((0..16).map(|i| i % 4 > 0), &[4, 4]));
    let Ok(hidden) = run(first_key_hidden) else { return false };
    [AttentionMask::None, AttentionMask::Causal].into_iter().all(|mask| {
        let same = run(mask).map(|other| hidden.all_close(&other, 1e-5, 1e-5, false).unwrap_or(true));
        !same.unwrap_or(true)
    })
}

#[test]
fn task_3_uses_the_mask_that_it_is_given() {
    let fixture = Fixture::load(DAY);
    let case = fixture.case("qwen2_attention/no_mask_f32"); // x [2, 4, 12]
    let run = |mask: AttentionMask| {
        let result = attention(case).and_then(|layer| layer.forward(&case.array("x"), &rope(case)?, &mask, None));
        result.unwrap_or_else(|error| panic!("it was refused: {error}"))
    };
    let everything = Array::from_iter((0..16).map(|_| true), &[4, 4]);
    let causal = run(AttentionMask::Causal);
    for (name, mask) in [("no mask", AttentionMask::None), ("a mask of true", AttentionMask::Array(everything))] {
        let got = run(mask);
        let is_causal = causal.all_close(&got, 1e-5, 1e-5, false).unwrap_or(false);
        let seen = if is_causal { Err(format!("{name} gives the answer of a causal mask")) } else { Ok(()) };
        check_rule(
            name,
            seen,
            "the mask is taken for `Causal` whatever it is; hand on the one that `forward` is given",
        );
    }
}

#[test]
fn task_3_refuses_positions_past_the_table() {
    let fixture = Fixture::load(DAY);
    let case = fixture.case("qwen2_attention/prefill_after_past_f32");
    let run = |max_positions: i32| {
        let rope = RotaryEmbedding::new(case.i32("head_dim"), max_positions, 10000.0, false)?;
        let mut cache = TestCache::new(case, false);
        attention(case)?.forward(&case.array("x"), &rope, &mask(case), Some(&mut cache))
    };
    let needed = case.i32("past") + case.array("x").shape()[1];
    if let Err(error) = run(needed) {
        panic!(
            "{needed} positions are enough, and they were refused (is the offset read before the cache is updated?): {error}"
        );
    }
    expect_error(run(needed - 1), "a table that is one position too short for the cached sequence");
}

#[test]
fn task_3_refuses_inputs_that_do_not_fit() {
    let new = |num_heads, num_kv_heads| {
        let projection = |rows| Linear::new(counting(&[rows, 6]), None);
        Qwen2Attention::new(
            num_heads,
            num_kv_heads,
            2,
            projection(8),
            projection(4),
            projection(4),
            Linear::new(counting(&[6, 8]), None),
        )
    };
    let forward = |shape: &[i32]| {
        let rope = RotaryEmbedding::new(2, 8, 10000.0, false)?;
        new(4, 2)?.forward(&counting(shape), &rope, &AttentionMask::Causal, None)
    };
    // The right call first: the test must not be green because everything is refused.
    if let Err(error) = forward(&[3, 5, 6]) {
        panic!("x [3, 5, 6] for 4 heads of 2 was refused: {error}");
    }
    expect_error(forward(&[3, 5, 7]), "x with E = 7 for weights with E = 6");
    expect_invalid_argument(forward(&[5, 6]), "x with two dimensions");
    expect_invalid_argument(forward(&[2, 3, 5, 6]), "x with four dimensions");
    expect_invalid_argument(new(4, 3), "4 heads and 3 key/value heads");
    expect_invalid_argument(new(4, 0), "no key/value heads");
}

fn counting(shape: &[i32]) -> Array {
    let n: i32 = shape.iter().product();
    Array::from_iter((0..n).map(|i| (i % 7) as f32), shape)
}

/// An input of the case, as stored or with the same values in another memory order.
fn in_order(case: &Case, name: &str, other_memory_order: bool) -> Result<Array> {
    let array = case.array(name);
    Ok(if other_memory_order { strided(&array)? } else { array })
}
