//! Day 1.7: greedy, the logit filters, seeded sampling.

mod distributions;
mod named;
mod refusals;
mod scripted;

use std::ops::ControlFlow;

use distributions::{flat, misfit, probabilities, random_rows, rows, values};
use grader::{Case, Fixture, check_tokens, property};
use mlx_rs::{Array, Dtype};
use named::{check_equal, check_that, without_panic};
use refusals::expect_invalid_argument;
use rstest::rstest;
use scripted::{HistoryRecorder, ScriptedModel};
use tiny_llm::{
    GenerateOptions, LogitFilter, MinP, RepetitionPenalty, Result, Sampler, SamplerOptions, Temperature, TopK, TopP,
    generate, greedy, sample_from_uniform,
};

const DAY: &str = "week1_day7";
const NEG_INF: f32 = f32::NEG_INFINITY;

// ------------------------------------------------------------------------------------- task 1: greedy

#[rstest]
fn task_1_greedy(
    #[values("two_rows", "square", "ties", "minus_infinity", "single_row", "f16", "bf16_tie")] name: &str,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("greedy/{name}"));
    case.check(greedy(&case.array("logits")).map(|tokens| as_array(&tokens)));
}

/// The same numbers, laid out in memory column by column.
#[rstest]
fn task_1_greedy_in_another_memory_order(#[values("two_rows", "square", "ties")] name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("greedy/{name}"));
    let logits = grader::strided(&case.array("logits")).map_err(Into::into);
    case.check(logits.and_then(|logits| greedy(&logits)).map(|tokens| as_array(&tokens)));
}

/// 16 bits don't count a vocabulary: Qwen2's has 151,936 tokens.
#[test]
fn task_1_greedy_finds_tokens_above_65535() {
    let (vocab, best) = (70_000, [69_999, 65_536, 1]);
    let logits = best.iter().flat_map(|&best| (0..vocab).map(move |token| if token == best { 2.0_f32 } else { 0.5 }));
    let tokens = must(greedy(&Array::from_iter(logits, &[3, vocab])));
    check_equal(
        &format!("the most likely of {vocab} tokens"),
        &tokens,
        &vec![69_999, 65_536, 1],
        &[(vec![4463, 0, 1], "looks like: token ids were cut to 16 bits")],
    );
}

#[test]
fn task_1_greedy_refuses_what_has_no_most_likely_token() {
    // First what must work, so that an empty solution does not pass.
    check_tokens("greedy", &must(greedy(&rows(&[&[1.0, 3.0, 2.0]]))), &[1]);
    expect_invalid_argument(greedy(&rows(&[&[0.0, 1.0], &[f32::NAN, 1.0]])), "logits with NaN");
    let half = must(rows(&[&[f32::NAN, 1.0]]).as_dtype(Dtype::Bfloat16).map_err(Into::into));
    expect_invalid_argument(greedy(&half), "bf16 logits with NaN");
    expect_invalid_argument(greedy(&Array::from_slice(&[0.0_f32, 1.0], &[2])), "logits [2] without a batch axis");
    expect_invalid_argument(greedy(&Array::from_slice(&[0.0_f32, 1.0], &[1, 1, 2])), "logits [1, 1, 2]");
}

// ---------------------------------------------------------------------- task 2: temperature and top-k

#[rstest]
fn task_2_temperature(#[values("cold", "warm", "one", "excluded_stay_excluded", "bf16", "f16")] name: &str) {
    check_filter(&format!("temperature/{name}"), |case| Box::new(Temperature(case.f32("temperature"))));
}

#[rstest]
fn task_2_temperature_refuses(#[values(0.0, -0.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY)] temperature: f32) {
    must(apply(&Temperature(0.5), &rows(&[&[0.0, 1.0]])));
    expect_invalid_argument(
        apply(&Temperature(temperature), &rows(&[&[0.0, 1.0]])),
        &format!("temperature {temperature}"),
    );
}

#[rstest]
fn task_2_top_k(
    #[values(
        "one_of_two_rows",
        "two_of_four",
        "three_of_many",
        "single_row",
        "all",
        "more_than_all",
        "ties",
        "excluded_stay_excluded",
        "negative",
        "f16",
        "bf16_ties"
    )]
    name: &str,
) {
    check_filter(&format!("top_k/{name}"), |case| Box::new(TopK(case.i32("k") as usize)));
}

#[test]
fn task_2_top_k_refuses_zero() {
    must(apply(&TopK(1), &rows(&[&[0.0, 1.0]])));
    expect_invalid_argument(apply(&TopK(0), &rows(&[&[0.0, 1.0]])), "top-k with k = 0, which leaves nothing");
}

/// "All of them" is a large number, and a k is no i32.
#[rstest]
fn task_2_top_k_of_a_large_k_keeps_all(
    #[values(3, 4, 1 << 31, (1 << 31) + 1, (1 << 32) + 1, usize::MAX - 1, usize::MAX)] k: usize,
) {
    let logits = rows(&[&[2.0, 1.0, 3.0], &[0.5, 0.5, 0.5]]);
    let case = format!("top-k with k = {k} of 3 tokens");
    let cause = if apply(&TopK(4), &logits).is_err() {
        "looks like: a k above V is refused; with k = V or more all stay"
    } else {
        "looks like: k is cut to 32 bits, or to a signed number; with k = V or more all stay"
    };
    let filtered = without_panic(&case, |_| Some(cause.to_owned()), || apply(&TopK(k), &logits));
    let got = filtered.map(|filtered| values(&filtered)).map_err(|error| error.to_string());
    check_that(
        &case,
        got == Ok(values(&logits)),
        || format!("got {got:?}, expected all logits as they are"),
        Some(cause),
    );
}

/// Exactly k stay, whatever the ties, and they are the largest ones.
#[test]
fn task_2_top_k_keeps_exactly_k() {
    property(60, |rng| {
        let (logits, k) = (random_rows(rng, true, false), rng.between(1, 12) as usize);
        let vocab = logits.dim(1) as usize;
        let filtered = values(&must(apply(&TopK(k), &logits)));
        for (row, kept) in values(&logits).chunks(vocab).zip(filtered.chunks(vocab)) {
            let n_kept = kept.iter().filter(|&&x| x > NEG_INF).count();
            assert_eq!(n_kept, k.min(vocab), "tokens kept by top-{k} of {row:?}: {kept:?}");
            let smallest_kept = kept.iter().copied().filter(|&x| x > NEG_INF).fold(f32::INFINITY, f32::min);
            let dropped = row.iter().zip(kept).filter(|&(_, &kept)| kept == NEG_INF).map(|(&x, _)| x);
            assert!(
                dropped.fold(NEG_INF, f32::max) <= smallest_kept,
                "top-{k} of {row:?} dropped a larger logit: {kept:?}"
            );
        }
    });
}

// ---------------------------------------------------------------------------- task 3: top-p and min-p

#[rstest]
fn task_3_top_p(
    #[values(
        "half",
        "three_quarters",
        "tiny_keeps_one",
        "confident_row",
        "one_keeps_all",
        "reached_exactly",
        "reached_exactly_of_eight",
        "excluded_stay_excluded",
        "many",
        "single_row",
        "f16",
        "bf16"
    )]
    name: &str,
) {
    check_filter(&format!("top_p/{name}"), |case| Box::new(TopP(case.f32("p"))));
}

/// With p = 1 nothing is cut off, not even a token so unlikely that the sum has long been rounded to 1.
#[test]
fn task_3_top_p_of_one_keeps_the_tail() {
    let logits = rows(&[&[0.0, 60.0, -60.0, 1.0], &[5.0, -90.0, 5.0, 5.0]]);
    let got = values(&must(apply(&TopP(1.0), &logits)));
    check_that(
        "top-p with p = 1",
        got == values(&logits),
        || format!("got {got:?}, expected all logits as they are"),
        Some("looks like: with p = 1 a sum that is rounded to 1 cuts the tail off; p = 1 keeps all"),
    );
}

#[rstest]
fn task_3_top_p_refuses(#[values(0.0, -0.5, 1.000_001, 1.5, f32::NAN, f32::INFINITY)] p: f32) {
    must(apply(&TopP(0.5), &rows(&[&[0.0, 1.0]])));
    expect_invalid_argument(apply(&TopP(p), &rows(&[&[0.0, 1.0]])), &format!("top-p with p = {p}"));
}

/// Against the definition, in f64, on rows of many shapes.
#[test]
fn task_3_top_p_keeps_the_smallest_sufficient_set() {
    property(60, |rng| {
        let (logits, p) = (random_rows(rng, false, true), rng.uniform() as f32 * 0.98 + 0.01);
        let vocab = logits.dim(1) as usize;
        let filtered = values(&must(apply(&TopP(p), &logits)));
        for (row, kept) in values(&logits).chunks(vocab).zip(filtered.chunks(vocab)) {
            let mut kept_probabilities: Vec<f64> =
                probabilities(row).into_iter().zip(kept).filter(|&(_, &x)| x > NEG_INF).map(|(q, _)| q).collect();
            kept_probabilities.sort_by(f64::total_cmp);
            let sum: f64 = kept_probabilities.iter().sum();
            let context = format!("top-p with p = {p} of {row:?} kept {kept:?}, whose probabilities sum to {sum}");
            assert!(!kept_probabilities.is_empty(), "{context}");
            assert!(sum >= f64::from(p) - 1e-5, "{context}: too few");
            assert!(sum - kept_probabilities[0] < f64::from(p) + 1e-5, "{context}: one less would do");
        }
    });
}

#[rstest]
fn task_3_min_p(
    #[values(
        "half",
        "tenth",
        "zero_keeps_all",
        "one_keeps_the_largest",
        "excluded_stay_excluded",
        "many",
        "f16",
        "bf16"
    )]
    name: &str,
) {
    check_filter(&format!("min_p/{name}"), |case| Box::new(MinP(case.f32("min_p"))));
}

#[rstest]
fn task_3_min_p_refuses(#[values(-0.1, 1.000_001, 1.1, f32::NAN, f32::INFINITY)] min_p: f32) {
    must(apply(&MinP(0.5), &rows(&[&[0.0, 1.0]])));
    expect_invalid_argument(apply(&MinP(min_p), &rows(&[&[0.0, 1.0]])), &format!("min-p of {min_p}"));
}

// -------------------------------------------------------------------------- task 4: repetition penalty

#[rstest]
fn task_4_repetition_penalty(
    #[values(
        "both_signs",
        "repeated_tokens",
        "ragged_histories",
        "empty_history",
        "encourages_below_one",
        "excluded_stay_excluded",
        "bf16",
        "f16"
    )]
    name: &str,
) {
    check_filter(&format!("penalty/{name}"), |case| Box::new(RepetitionPenalty(case.f32("penalty"))));
}

#[test]
fn task_4_repetition_penalty_of_one_changes_nothing() {
    let logits = rows(&[&[2.0, -1.5, 0.0, 3.0]]);
    let filtered = must(RepetitionPenalty(1.0).apply(&logits, &[vec![0, 1, 2]]));
    check_tokens("logits after a penalty of 1", &values(&filtered), &values(&logits));
}

#[rstest]
fn task_4_repetition_penalty_refuses(#[values(0.0, -1.0, f32::NAN, f32::INFINITY)] penalty: f32) {
    must(apply(&RepetitionPenalty(1.5), &rows(&[&[0.0, 1.0]])));
    expect_invalid_argument(
        apply(&RepetitionPenalty(penalty), &rows(&[&[0.0, 1.0]])),
        &format!("a penalty of {penalty}"),
    );
}

/// Histories may come from anywhere; what the model does not know cannot be punished.
#[test]
fn task_4_repetition_penalty_ignores_unknown_tokens() {
    let (logits, history) = (rows(&[&[2.0, 4.0, -1.0]]), [vec![3, 1, (1 << 16) + 5, (1 << 31) + 7, u32::MAX, 3]]);
    let case = format!("a penalty of 2 for 3 tokens and the history {:?}", history[0]);
    let cause = "looks like: an id of V or more in the history is not ignored";
    let filtered = without_panic(&case, |_| Some(cause.to_owned()), || RepetitionPenalty(2.0).apply(&logits, &history));
    let got = filtered.map(|filtered| values(&filtered)).map_err(|error| error.to_string());
    let expected = Ok(vec![2.0, 2.0, -1.0]);
    let others_changed = got.as_ref().map_or(true, |got| got[0] != 2.0 || got[2] != -1.0);
    let cause = others_changed.then_some(cause);
    check_that(&case, got == expected, || format!("got {got:?}, expected {expected:?}"), cause);
}

#[test]
fn task_4_repetition_penalty_of_tokens_above_65535() {
    let vocab = 70_000;
    let logits = Array::from_iter((0..vocab).map(|_| 3.0_f32), &[1, vocab]);
    let filtered = values(&must(RepetitionPenalty(2.0).apply(&logits, &[vec![65_537, 69_999]])));
    let punished: Vec<usize> = (0..filtered.len()).filter(|&token| filtered[token] != 3.0).collect();
    check_equal(
        &format!("the tokens that are punished, of {vocab} with the history [65537, 69999]"),
        &punished,
        &vec![65_537, 69_999],
        &[(vec![1, 4463], "looks like: token ids were cut to 16 bits")],
    );
}

#[rstest]
fn task_4_repetition_penalty_refuses_other_shapes(#[values(&[4], &[1, 1, 4], &[2, 1, 2])] shape: &[i32]) {
    let logits = Array::from_slice(&[2.0_f32, 1.0, -1.0, 0.5], shape);
    must(RepetitionPenalty(1.5).apply(&must(logits.reshape(&[1, 4]).map_err(Into::into)), &[vec![0]]));
    let histories = vec![vec![0]; shape[0] as usize];
    let result = without_panic(
        &format!("logits of shape {shape:?}"),
        |_| Some("looks like: the shape of the logits is taken for granted; what is not [B, V] is refused".to_owned()),
        || RepetitionPenalty(1.5).apply(&logits, &histories),
    );
    expect_invalid_argument(result, &format!("logits of shape {shape:?}, not [B, V]"));
}

#[test]
fn task_4_repetition_penalty_needs_one_history_per_row() {
    let logits = rows(&[&[2.0, 1.0], &[1.0, 2.0]]);
    must(RepetitionPenalty(1.5).apply(&logits, &[vec![0], vec![1]]));
    expect_invalid_argument(RepetitionPenalty(1.5).apply(&logits, &[vec![0]]), "1 history for 2 rows");
    expect_invalid_argument(
        RepetitionPenalty(1.5).apply(&logits, &[vec![0], vec![1], vec![1]]),
        "3 histories for 2 rows",
    );
}

// ----------------------------------------------------------------------------- task 5: seeded sampling

#[rstest]
fn task_5_sample_from_uniform(
    #[values(
        "around_the_boundaries",
        "rows_differ",
        "on_the_boundary",
        "excluded_never_come",
        "one_left",
        "far_apart",
        "many",
        "f16",
        "bf16"
    )]
    name: &str,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("uniform/{name}"));
    let uniforms = case.array("uniforms");
    let tokens = sample_from_uniform(&case.array("logits"), uniforms.as_slice::<f32>());
    case.check(tokens.map(|tokens| as_array(&tokens)));
}

#[test]
fn task_5_sample_from_uniform_in_another_memory_order() {
    let fixture = Fixture::load(DAY);
    let case = fixture.case("uniform/rows_differ");
    let uniforms = case.array("uniforms");
    let logits = grader::strided(&case.array("logits")).map_err(Into::into);
    let tokens = logits.and_then(|logits| sample_from_uniform(&logits, uniforms.as_slice::<f32>()));
    case.check(tokens.map(|tokens| as_array(&tokens)));
}

/// 150,000 equally likely tokens: sums in f32 lose their last digits, and the end of the vocabulary must still be
/// reached.
#[test]
fn task_5_sample_from_uniform_of_a_large_vocabulary() {
    let vocab = 150_000_u32;
    let logits = Array::from_iter((0..3 * vocab).map(|_| -2.5_f32), &[3, vocab as i32]);
    let tokens = must(sample_from_uniform(&logits, &[0.25, 0.5, 0.999_999]));
    for (token, expected) in tokens.into_iter().zip([vocab / 4, vocab / 2, vocab]) {
        check_drawn(vocab, token, expected);
    }
}

/// One token has nearly all of the probability, and the rest is shared by a tail in which each has less than half of
/// what an f32 near 1 can tell apart: a sum in f32 never grows beyond the first token.
#[test]
fn task_5_sample_from_uniform_sums_the_tail_in_f64() {
    let (vocab, uniforms) = (150_000_u32, [0.999_93_f32, 0.999_96]);
    // A tail of 1e-4 in all.
    let tail = (1e-4_f64 / f64::from(vocab - 1)).ln() as f32;
    let row: Vec<f32> = (0..vocab).map(|token| if token == 0 { 0.0 } else { tail }).collect();
    let probabilities = probabilities(&row);
    let tokens = must(sample_from_uniform(&Array::from_slice(&row.repeat(2), &[2, vocab as i32]), &uniforms));
    for (token, uniform) in tokens.into_iter().zip(uniforms) {
        let mut sum = 0.0;
        let expected = probabilities.iter().position(|probability| {
            sum += probability;
            sum > f64::from(uniform)
        });
        check_drawn(vocab, token, expected.unwrap_or_default() as u32);
    }
}

#[track_caller]
fn check_drawn(vocab: u32, token: u32, expected: u32) {
    check_that(
        &format!("a token of {vocab}"),
        token < vocab && token.abs_diff(expected) <= vocab / 1000,
        || format!("got {token}, expected about {expected}"),
        Some(
            "looks like: the sums are f32, in which the probabilities of a large vocabulary are rounded off; sum in \
             f64",
        ),
    );
}

#[test]
fn task_5_sample_from_uniform_refuses() {
    let two = rows(&[&[0.0, 1.0], &[2.0, 0.0]]);
    must(sample_from_uniform(&two, &[0.5, 0.5]));
    expect_invalid_argument(sample_from_uniform(&two, &[0.5]), "1 uniform number for 2 rows");
    expect_invalid_argument(sample_from_uniform(&two, &[0.5, 0.5, 0.5]), "3 uniform numbers for 2 rows");
    expect_invalid_argument(sample_from_uniform(&rows(&[&[0.0, f32::NAN]]), &[0.5]), "logits with NaN");
    expect_invalid_argument(
        sample_from_uniform(&rows(&[&[0.0, 1.0], &[NEG_INF, NEG_INF]]), &[0.5, 0.5]),
        "a row that excludes every token",
    );
    expect_invalid_argument(
        sample_from_uniform(&Array::from_slice(&[0.0_f32, 1.0], &[2]), &[0.5, 0.5]),
        "logits [2] without a batch axis",
    );
}

/// Whatever the logits and the number, the token is possible and its piece of the line holds the number.
#[test]
fn task_5_sample_from_uniform_inverts_the_distribution() {
    property(100, |rng| {
        let logits = random_rows(rng, true, true);
        let vocab = logits.dim(1) as usize;
        let uniforms: Vec<f32> =
            (0..logits.dim(0)).map(|_| [0.0, 0.999_999_9, rng.uniform() as f32][rng.between(0, 2) as usize]).collect();
        let tokens = must(sample_from_uniform(&logits, &uniforms));
        for ((row, &u), &token) in values(&logits).chunks(vocab).zip(&uniforms).zip(&tokens) {
            let probabilities = probabilities(row);
            let below: f64 = probabilities[..token as usize].iter().sum();
            let context = format!("token {token} for u = {u} of {row:?}");
            assert!(row[token as usize] > NEG_INF, "{context}: it is excluded");
            assert!(below <= f64::from(u) + 1e-5, "{context}: the tokens before it have {below}");
            let above = below + probabilities[token as usize];
            assert!(above >= f64::from(u) - 1e-5, "{context}: with it the sum is only {above}");
        }
    });
}

#[rstest]
fn task_5_sampler_repeats_with_the_same_seed(#[values(false, true)] from_options: bool) {
    let draw = |seed| {
        let options = SamplerOptions { seed, ..sampling() };
        let sampler = if from_options { Sampler::from_options(&options) } else { Sampler::new(Vec::new(), seed) };
        draws(&mut must(sampler), &flat(16), 40)
    };
    let cause = "looks like: the seed does not decide what is drawn";
    check_that("two samplers with seed 7", draw(7) == draw(7), || "40 tokens differ".to_owned(), Some(cause));
    let cut = "looks like: the seed is cut to 32 bits; it has 64";
    let ignored = "looks like: the seed is not used";
    for (seed, cause) in [(0, ignored), (8, ignored), (9, ignored), (7 + (1 << 32), cut), (7 + (1 << 63), cut)] {
        let message = || "the same 40 tokens".to_owned();
        check_that(&format!("samplers with seed 7 and with seed {seed}"), draw(7) != draw(seed), message, Some(cause));
    }
}

/// Every step, and every row of a step, has a random number of its own.
#[test]
fn task_5_sampler_draws_anew_for_each_step_and_row() {
    let mut sampler = must(Sampler::new(Vec::new(), 3));
    let one_row = draws(&mut sampler, &flat(64), 12);
    let differ = |tokens: &[u32]| tokens.iter().any(|&token| token != tokens[0]);
    let cause =
        "looks like: every step draws the same number; take a new key for each, from the sampler's own random state";
    check_that("12 steps over 64 equal logits", differ(&one_row), || format!("got {one_row:?}"), Some(cause));
    let row: &[f32] = &[0.0; 64];
    let many_rows = must(sampler.sample(&rows(&[row; 12]), &vec![Vec::new(); 12]));
    let cause = "looks like: one number is drawn for all rows; each row has its own";
    check_that(
        "one step with 12 rows of 64 equal logits",
        differ(&many_rows),
        || format!("got {many_rows:?}"),
        Some(cause),
    );
}

#[test]
fn task_5_greedy_sampler_takes_the_most_likely() {
    let logits = rows(&[&[4.0, 1.0, 0.0, 2.0], &[1.0, 0.5, 2.0, 3.0]]);
    let history = [Vec::new(), Vec::new()];
    check_tokens("Sampler::greedy", &must(Sampler::greedy().sample(&logits, &history)), &[0, 3]);
    let mut cold = must(Sampler::from_options(&SamplerOptions { temperature: 0.0, ..SamplerOptions::default() }));
    // However often it is asked.
    let again: Vec<u32> = (0..8).flat_map(|_| must(cold.sample(&logits, &history))).collect();
    let cause = "looks like: temperature 0 draws by chance; it takes the most likely token";
    check_that("temperature 0, eight steps", again == [0, 3].repeat(8), || format!("got {again:?}"), Some(cause));
    // With temperature 0 the penalty still counts: token 0 falls from 4 to 1.
    let options = SamplerOptions { repetition_penalty: Some(4.0), ..SamplerOptions::default() };
    let mut penalising = must(Sampler::from_options(&options));
    check_equal(
        "temperature 0 with a penalty",
        &must(penalising.sample(&logits, &[vec![0], Vec::new()])),
        &vec![3, 3],
        &[(vec![0, 3], "looks like: temperature 0 leaves the repetition penalty out; it comes before the choice")],
    );
}

#[test]
fn task_5_sampler_refuses_nan() {
    let history = [Vec::new()];
    let samplers =
        || [Sampler::greedy(), must(Sampler::new(Vec::new(), 1)), must(Sampler::new(vec![Box::new(TopK(1))], 1))];
    for mut sampler in samplers() {
        check_tokens("a row with one possible token", &must(sampler.sample(&rows(&[&[NEG_INF, 1.0]]), &history)), &[1]);
        expect_invalid_argument(sampler.sample(&rows(&[&[f32::NAN, f32::NAN, f32::NAN]]), &history), "logits of NaN");
        expect_invalid_argument(sampler.sample(&rows(&[&[f32::NAN, 1.0, 2.0]]), &history), "logits with one NaN");
    }
}

#[rstest]
#[case::temperature(SamplerOptions { temperature: -0.5, ..sampling() })]
#[case::temperature_nan(SamplerOptions { temperature: f32::NAN, ..sampling() })]
#[case::temperature_infinite(SamplerOptions { temperature: f32::INFINITY, ..sampling() })]
#[case::top_k(SamplerOptions { top_k: Some(0), ..sampling() })]
#[case::top_p(SamplerOptions { top_p: Some(1.01), ..sampling() })]
#[case::top_p_zero(SamplerOptions { top_p: Some(0.0), ..sampling() })]
#[case::min_p(SamplerOptions { min_p: Some(-0.1), ..sampling() })]
#[case::penalty(SamplerOptions { repetition_penalty: Some(0.0), ..sampling() })]
#[case::penalty_when_greedy(SamplerOptions { repetition_penalty: Some(0.0), ..SamplerOptions::default() })]
fn task_5_from_options_refuses(#[case] options: SamplerOptions) {
    must(Sampler::from_options(&sampling()));
    expect_invalid_argument(Sampler::from_options(&options).map(|_| ()), &format!("{options:?}"));
}

/// The filters one after another, in the order of `Sampler::from_options`.
#[rstest]
fn task_5_chain_of_filters(#[values("two_rows", "three_rows", "steep_rows")] name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("chain/{name}"));
    let filters: [Box<dyn LogitFilter>; 5] = [
        Box::new(RepetitionPenalty(case.f32("penalty"))),
        Box::new(Temperature(case.f32("temperature"))),
        Box::new(TopK(case.i32("k") as usize)),
        Box::new(TopP(case.f32("p"))),
        Box::new(MinP(case.f32("min_p"))),
    ];
    let histories = histories(case);
    case.check(filters.iter().try_fold(case.array("logits"), |logits, filter| filter.apply(&logits, &histories)));
}

/// Many draws: excluded tokens never come, and the others as often as their probability says (chi-square test; the
/// seed is fixed, so this passes always or never).
#[rstest]
fn task_5_from_options_draws_from_the_filtered_distribution(#[values(1, 2)] seed: u64) {
    let fixture = Fixture::load(DAY);
    let draws = ["two_rows", "three_rows", "steep_rows"].map(|name| {
        let case = fixture.case(&format!("chain/{name}"));
        (case, counts_of_draws(case, seed))
    });
    let of = |case: &Case, name: &str| -> Vec<f64> { values(&case.array(name)).into_iter().map(f64::from).collect() };
    let unfit = |name: &str| {
        draws.iter().find_map(|(case, counts)| {
            let (vocab, probabilities) = (case.array("logits").dim(1) as usize, of(case, name));
            counts.chunks(vocab).zip(probabilities.chunks(vocab)).find_map(|(counts, row)| misfit(counts, row))
        })
    };
    // Of the known mistakes that these draws fit, the one that they fit best.
    let likelihood = |name: &str| -> f64 {
        let logs = draws.iter().flat_map(|(case, counts)| counts.iter().zip(of(case, name)));
        logs.filter(|&(&n, _)| n > 0).map(|(&n, p)| f64::from(n) * p.ln()).sum()
    };
    let best = WRONG_CHAINS
        .iter()
        .map(|(mistake, cause)| (format!("probabilities_{mistake}"), *cause))
        .filter(|(mistake, _)| unfit(mistake).is_none())
        .max_by(|a, b| likelihood(&a.0).total_cmp(&likelihood(&b.0)));
    let found = unfit("probabilities");
    let case = "2,000 draws of each row with all options";
    check_that(case, found.is_none(), || found.clone().unwrap_or_default(), best.map(|(_, cause)| cause));
}

/// How often each token of each row was drawn, with the options of the case.
fn counts_of_draws(case: &Case, seed: u64) -> Vec<u32> {
    let options = SamplerOptions {
        temperature: case.f32("temperature"),
        top_k: Some(case.i32("k") as usize),
        top_p: Some(case.f32("p")),
        min_p: Some(case.f32("min_p")),
        repetition_penalty: Some(case.f32("penalty")),
        seed,
    };
    let (logits, histories) = (case.array("logits"), histories(case));
    let (n_rows, vocab) = (logits.dim(0) as usize, logits.dim(1) as usize);
    // Each row many times over in one batch: the same draws with few calls.
    let copies = 500;
    let tiled: Vec<f32> = values(&logits).repeat(copies);
    let tiled = Array::from_slice(&tiled, &[(n_rows * copies) as i32, vocab as i32]);
    let tiled_histories: Vec<_> = histories.iter().cycle().take(n_rows * copies).cloned().collect();
    let mut sampler = must(Sampler::from_options(&options));
    let mut counts = vec![0_u32; n_rows * vocab];
    let n_steps = 4;
    for _ in 0..n_steps {
        for (row, token) in must(sampler.sample(&tiled, &tiled_histories)).into_iter().enumerate() {
            counts[row % n_rows * vocab + token as usize] += 1;
        }
    }
    counts
}

/// Chains that the fixture has probabilities for as well.
const WRONG_CHAINS: [(&str, &str); 9] = [
    ("temperature_last", "looks like: the temperature comes after top-k and top-p; it comes before them"),
    ("temperature_after_top_p", "looks like: the temperature comes after top-k and top-p; it comes before them"),
    ("penalty_last", "looks like: the repetition penalty comes last; it comes first"),
    (
        "top_p_before_top_k",
        "looks like: top-p comes before top-k; top-k comes first, and top-p renormalises what is left",
    ),
    ("no_penalty", "looks like: the repetition penalty is left out"),
    ("no_temperature", "looks like: the temperature is left out"),
    ("no_top_k", "looks like: top-k is left out"),
    ("no_top_p", "looks like: top-p is left out"),
    ("no_min_p", "looks like: min-p is left out"),
];

/// The samplers' history is the whole sequence: prompt and generated tokens.
#[test]
fn task_5_generate_shows_the_sampler_the_whole_sequence() {
    let recorder = HistoryRecorder::default();
    // The scripted token is so likely that drawing another would be a matter of 10 million steps.
    let mut sampler = must(Sampler::new(vec![Box::new(recorder.clone())], 5));
    let model = ScriptedModel::answering(2, &[7, 8, 9]);
    let options = GenerateOptions { max_tokens: 3, stop_tokens: Vec::new(), stop_strings: Vec::new() };
    must(generate(&model, &[2, 0], &mut sampler, &options, &mut |_| ControlFlow::Continue(())));
    let rows = |rows: [&[u32]; 3]| rows.map(|row| vec![row.to_vec()]).to_vec();
    check_equal(
        "the history at each step, one row",
        &recorder.histories(),
        &rows([&[2, 0], &[2, 0, 7], &[2, 0, 7, 8]]),
        &[(
            rows([&[], &[7], &[7, 8]]),
            "looks like: the history has the generated tokens alone; the prompt belongs to it",
        )],
    );
}

/// Each filter sees what the one before it made of the logits, and the history.
#[test]
fn task_5_sample_applies_the_filters_in_order() {
    let recorder = HistoryRecorder::default();
    let filters: Vec<Box<dyn LogitFilter>> =
        vec![Box::new(TopK(2)), Box::new(RepetitionPenalty(10.0)), Box::new(recorder.clone())];
    let mut sampler = must(Sampler::new(filters, 5));
    let history = [vec![1], vec![]];
    // Of tokens 1 and 2 the penalty leaves 2. The other way round it would have been 0 and 2.
    let logits = rows(&[&[30.0, 50.0, 49.0], &[-90.0, 9.0, -90.0]]);
    let tokens: Vec<Vec<u32>> = (0..8).map(|_| must(sampler.sample(&logits, &history))).collect();
    check_equal(
        "8 draws",
        &tokens,
        &vec![vec![2, 1]; 8],
        &[(vec![vec![1, 1]; 8], "looks like: what a filter returns is dropped")],
    );
    let shown = vec![history.to_vec(); 8];
    check_equal("the histories that filters were shown", &recorder.histories(), &shown, &[]);
}

// -------------------------------------------------------------------------------------------- helpers

fn check_filter(name: &str, filter: impl Fn(&Case) -> Box<dyn LogitFilter>) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(name);
    let filtered = filter(case).apply(&case.array("logits"), &histories(case));
    if let Ok(filtered) = &filtered
        && filtered.dtype() == Dtype::Float32
        && filtered.eval().is_ok()
    {
        let is_finite_mask = |&x: &f32| x < -1e3 && x.is_finite();
        let cause =
            "looks like: excluded entries are set to a very small number; minus infinity excludes them for good";
        let message = || "an entry is far below all logits, and finite".to_owned();
        check_that(name, !values(filtered).iter().any(is_finite_mask), message, Some(cause));
    }
    case.check(filtered);
}

/// One history per row: the parameters `history_0`, `history_1`, ..; empty where a case has none.
fn histories(case: &Case) -> Vec<Vec<u32>> {
    let n_rows = case.array("logits").dim(0);
    (0..n_rows)
        .map(|row| format!("history_{row}"))
        .map(|name| if case.has(&name) { case.u32s(&name) } else { Vec::new() })
        .collect()
}

/// Applies a filter that looks at no history.
fn apply(filter: &dyn LogitFilter, logits: &Array) -> Result<Array> {
    let filtered = filter.apply(logits, &vec![Vec::new(); logits.dim(0) as usize])?;
    filtered.eval()?;
    Ok(filtered)
}

fn sampling() -> SamplerOptions {
    SamplerOptions { temperature: 0.8, ..SamplerOptions::default() }
}

/// One token at a time, from a single row.
fn draws(sampler: &mut Sampler, logits: &Array, n: usize) -> Vec<u32> {
    (0..n).flat_map(|_| must(sampler.sample(logits, &[Vec::new()]))).collect()
}

#[track_caller]
fn must<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("the call returned an error: {error}"))
}

fn as_array(tokens: &[u32]) -> Array {
    Array::from_slice(tokens, &[tokens.len() as i32])
}
