//! Day 1.3: causal mask, grouped-query attention, Qwen2's attention layer.

use grader::{Case, Fixture, Tolerance, check_close, expect_error, property, strided};
use mlx_rs::Array;
use mlx_rs::ops::concatenate;
use rstest::rstest;
use tiny_llm::{
    AttentionMask, KvCache, Linear, Offset, Qwen2Attention, Result, RotaryEmbedding, causal_mask,
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

#[rstest]
#[case::one_more_query(4, 3)]
#[case::many_more_queries(9, 2)]
#[case::no_keys(1, 0)]
fn task_1_causal_mask_refuses_more_queries_than_keys(#[case] n_query: i32, #[case] n_key: i32) {
    // The first queries would see no key at all, and a softmax over nothing is NaN.
    expect_error(causal_mask(n_query, n_key), &format!("{n_query} queries and {n_key} keys"));
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
        "padding_mask_bf16",
        "mask_per_head_f32",
        "mask_per_head_f16",
        "additive_mask_bf16",
        "additive_mask_f32",
        "infinite_mask_per_head_f32",
        "additive_mask_multi_query_f16",
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

#[rstest]
#[case::heads_do_not_divide(&[2, 5, 3, 4], &[2, 2, 6, 4], AttentionMask::None, "5 query heads and 2 key/value heads")]
#[case::more_kv_heads(&[2, 2, 3, 4], &[2, 4, 6, 4], AttentionMask::None, "2 query heads and 4 key/value heads")]
#[case::more_queries_than_keys(&[2, 4, 6, 4], &[2, 2, 3, 4], AttentionMask::Causal, "a causal mask with 6 queries and 3 keys")]
#[case::other_head_dim(&[2, 4, 3, 4], &[2, 2, 6, 5], AttentionMask::None, "a query with D = 4 and a key with D = 5")]
fn task_2_grouped_attention_refuses(
    #[case] query: &[i32],
    #[case] key: &[i32],
    #[case] mask: AttentionMask,
    #[case] what: &str,
) {
    let run = |query, key, mask| {
        let (query, key) = (counting(query), counting(key));
        scaled_dot_product_attention_grouped(&query, &key, &key, None, mask)
    };
    // The right call first: the test must not be green because everything is refused.
    if let Err(error) = run(&[2, 4, 3, 4], &[2, 2, 6, 4], &AttentionMask::Causal) {
        panic!("query [2, 4, 3, 4] with key [2, 2, 6, 4] was refused: {error}");
    }
    expect_error(run(query, key, &mask), what);
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
        let offsets = vec![case.i32("past"); keys.shape()[0] as usize];
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
    #[values("prefill_after_past_f32", "prefill_after_past_bf16", "decode_after_past_f16", "decode_after_past_f32")]
    name: &str,
    #[values(false, true)] offsets_per_row: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("qwen2_attention/{name}"));
    let mut cache = TestCache::new(case, offsets_per_row);
    let run =
        |cache: &mut TestCache| attention(case)?.forward(&case.array("x"), &rope(case)?, &mask(case), Some(cache));
    case.check(run(&mut cache));
    match &cache.handed[..] {
        [(keys, _)] => case.check_named("new_keys", Ok::<_, String>(keys.clone())),
        calls => panic!("the cache was updated {} times; once per forward is right", calls.len()),
    }
}

#[test]
fn task_3_qwen2_attention_refuses_positions_past_the_table() {
    let fixture = Fixture::load(DAY);
    let case = fixture.case("qwen2_attention/prefill_after_past_f32");
    let run = |max_positions: i32| {
        let rope = RotaryEmbedding::new(case.i32("head_dim"), max_positions, 10000.0, false)?;
        let mut cache = TestCache::new(case, false);
        attention(case)?.forward(&case.array("x"), &rope, &mask(case), Some(&mut cache))
    };
    let needed = case.i32("past") + case.array("x").shape()[1];
    if let Err(error) = run(needed) {
        panic!("{needed} positions are enough, and they were refused: {error}");
    }
    expect_error(run(needed - 1), "a table that is one position too short for the cached sequence");
}

#[test]
fn task_3_qwen2_attention_refuses_inputs_that_do_not_fit() {
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
    expect_error(forward(&[5, 6]), "x with two dimensions");
    expect_error(forward(&[2, 3, 5, 6]), "x with four dimensions");
    expect_error(new(4, 3), "4 heads and 3 key/value heads");
    expect_error(new(4, 0), "no key/value heads");
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
