//! Day 1.3: causal mask, grouped-query attention, Qwen2's attention layer.

mod refusals;

use grader::{Case, Fixture, Tolerance, check_close, check_rule, expect_error, property, strided};
use mlx_rs::Array;
use mlx_rs::ops::concatenate;
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
        "padding_mask_one_query_f32",
        "additive_mask_one_query_bf16",
        "float32_mask_f16",
        "large_scores_f16"
    )]
    name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("grouped/{name}"));
    let result = grouped(case, other_memory_order);
    if name.starts_with("causal_with_past") {
        let plain = grouped(fixture.case("grouped/plain_f32"), false);
        causal_mask_has_s_keys(name, plain.is_ok(), &result);
    }
    case.check(result);
}

/// With a cache, a mask for the new tokens alone doesn't even broadcast, and MLX's words don't say what is wrong.
fn causal_mask_has_s_keys(name: &str, works_without_a_mask: bool, result: &Result<Array>) {
    if let Err(error) = result
        && works_without_a_mask
        && error.to_string().contains("broadcast")
    {
        let cause = "looks like: the causal mask is made for L keys; S counts all keys, those from the cache too";
        check_rule(name, Err(error.to_string()), cause);
    }
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
    if let Err(error) = &result
        && grouped(fixture.case("grouped/plain_f32"), false).is_ok()
    {
        let shape = case.array("mask").shape().to_vec();
        let (n_query, n_key) = (case.array("query").dim(-2), case.array("key").dim(-2));
        let axis_of_one = shape.len() >= 2 && shape[shape.len() - 2..] != [n_query, n_key];
        let cause = if axis_of_one && error.to_string().contains("reshape") {
            "looks like: the mask is reshaped with the L and S of query and key; its own may be 1, so keep its sizes"
        } else {
            cause
        };
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
fn task_2_refuses_a_mask_that_does_not_broadcast() {
    accepts_fitting_shapes();
    for (shape, what) in [
        (&[3, 5][..], "a mask [3, 5] for 6 keys"),
        (&[3, 3, 6], "a mask of 3 heads for 4 query heads"),
        (&[2, 3, 6], "a mask of 2 heads, as many as key/value heads, for 4 query heads"),
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
        "mask_after_past_f32",
        "padding_after_past_one_token_f32"
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
    if case.str("mask") == "causal" {
        let case = fixture.case("qwen2_attention/no_mask_f32");
        let plain = attention(case).and_then(|layer| layer.forward(&case.array("x"), &rope(case)?, &mask(case), None));
        causal_mask_has_s_keys(name, plain.is_ok(), &result);
    }
    case.check(result);
}

#[test]
fn task_3_every_projection_adds_its_own_bias() {
    let linear = |rows: i32, columns: i32, bias: Option<Array>| Linear::new(counting(&[rows, columns]), bias);
    let forward = |bias: Option<Array>| {
        let (q, k, v) = (linear(8, 6, None), linear(4, 6, None), linear(4, 6, None));
        let layer = Qwen2Attention::new(4, 2, 2, q, k, v, linear(6, 8, bias))?;
        let rope = RotaryEmbedding::new(2, 8, 10000.0, false)?;
        layer.forward(&counting(&[1, 3, 6]), &rope, &AttentionMask::Causal, None)
    };
    let run = || -> Result<(Array, Array)> {
        let bias = counting(&[6]) + 64.0;
        Ok((forward(None)? + &bias, forward(Some(bias))?))
    };
    let (expected, got) = run().unwrap_or_else(|error| panic!("forward returned an error: {error}"));
    let holds =
        if all_close(&got, &expected) { Ok(()) } else { Err("a bias on o_proj is not in the result".to_owned()) };
    let cause = "looks like: the bias of o_proj is left out; call each projection's `forward`, which adds its own";
    check_rule("qwen2_attention/bias_of_o_proj", holds, cause);
}

fn all_close(got: &Array, expected: &Array) -> bool {
    matches!(got.all_close(expected, 1e-2, 1e-2, None), Ok(true))
}

#[test]
fn task_3_a_float_mask_keeps_its_dtype() {
    let fixture = Fixture::load(DAY);
    let case = fixture.case("qwen2_attention/wide_heads_f16");
    let x = case.array("x");
    let (batch, len) = (x.dim(0), x.dim(1));
    let forward = |mask: &AttentionMask| attention(case)?.forward(&x, &rope(case)?, mask, None);
    // The same for all keys of a row, so it changes nothing; but in float16 it is minus infinity.
    let mask = Array::full::<f32>(&[batch, 1, len, len], Array::from_f32(-70000.0));
    let run =
        || -> Result<(Array, Array)> { Ok((forward(&AttentionMask::None)?, forward(&AttentionMask::Array(mask?))?)) };
    let (expected, got) = run().unwrap_or_else(|error| panic!("forward returned an error: {error}"));
    let holds = if all_close(&got, &expected) {
        Ok(())
    } else {
        Err("a mask of -70,000 for every key changes the result".to_owned())
    };
    let cause = "looks like: the mask is converted to x's dtype; float16 ends at 65504, so hand it on as it is";
    check_rule("qwen2_attention/float_mask_f16", holds, cause);
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
        panic!("forward without a cache returned an error: {error}");
    }
    let mut full = FullCache;
    expect_error(forward(&AttentionMask::Causal, Some(&mut full)), "a cache without room");
    expect_error(forward(&AttentionMask::Array(counting(&[5, 4])), None), "a mask for 4 keys with 5 of them");
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
