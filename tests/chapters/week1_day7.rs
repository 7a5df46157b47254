//! Day 1.7: greedy, the logit filters, seeded sampling.

mod distributions;
mod scripted;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::rc::Rc;

use distributions::{check_frequencies, flat, probabilities, random_rows, rows, values};
use grader::{Case, Fixture, check_tokens, expect_error, property};
use mlx_rs::Array;
use rstest::rstest;
use scripted::ScriptedModel;
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

#[test]
fn task_1_greedy_refuses_what_has_no_most_likely_token() {
    // First what must work, so that an empty solution does not pass.
    check_tokens("greedy", &must(greedy(&rows(&[&[1.0, 3.0, 2.0]]))), &[1]);
    expect_error(greedy(&rows(&[&[0.0, 1.0], &[f32::NAN, 1.0]])), "logits with NaN");
    expect_error(greedy(&Array::from_slice(&[0.0_f32, 1.0], &[2])), "logits [2] without a batch axis");
    expect_error(greedy(&Array::from_slice(&[0.0_f32, 1.0], &[1, 1, 2])), "logits [1, 1, 2]");
}

// ---------------------------------------------------------------------- task 2: temperature and top-k

#[rstest]
fn task_2_temperature(#[values("cold", "warm", "one", "excluded_stay_excluded", "bf16", "f16")] name: &str) {
    check_filter(&format!("temperature/{name}"), |case| Box::new(Temperature(case.f32("temperature"))));
}

#[rstest]
fn task_2_temperature_refuses(#[values(0.0, -1.0, f32::NAN, f32::INFINITY)] temperature: f32) {
    must(apply(&Temperature(0.5), &rows(&[&[0.0, 1.0]])));
    expect_error(apply(&Temperature(temperature), &rows(&[&[0.0, 1.0]])), &format!("temperature {temperature}"));
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
    expect_error(apply(&TopK(0), &rows(&[&[0.0, 1.0]])), "top-k with k = 0, which leaves nothing");
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
    check_tokens("logits after top-p with p = 1", &values(&must(apply(&TopP(1.0), &logits))), &values(&logits));
}

#[rstest]
fn task_3_top_p_refuses(#[values(0.0, -0.5, 1.5, f32::NAN)] p: f32) {
    must(apply(&TopP(0.5), &rows(&[&[0.0, 1.0]])));
    expect_error(apply(&TopP(p), &rows(&[&[0.0, 1.0]])), &format!("top-p with p = {p}"));
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
fn task_3_min_p_refuses(#[values(-0.1, 1.1, f32::NAN)] min_p: f32) {
    must(apply(&MinP(0.5), &rows(&[&[0.0, 1.0]])));
    expect_error(apply(&MinP(min_p), &rows(&[&[0.0, 1.0]])), &format!("min-p of {min_p}"));
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
    expect_error(apply(&RepetitionPenalty(penalty), &rows(&[&[0.0, 1.0]])), &format!("a penalty of {penalty}"));
}

#[test]
fn task_4_repetition_penalty_needs_one_history_per_row() {
    let logits = rows(&[&[2.0, 1.0], &[1.0, 2.0]]);
    must(RepetitionPenalty(1.5).apply(&logits, &[vec![0], vec![1]]));
    expect_error(RepetitionPenalty(1.5).apply(&logits, &[vec![0]]), "1 history for 2 rows");
    expect_error(RepetitionPenalty(1.5).apply(&logits, &[vec![0], vec![1], vec![1]]), "3 histories for 2 rows");
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

/// 150,000 equally likely tokens: sums in f32 lose their last digits, and the end of the vocabulary must still be reached.
#[test]
fn task_5_sample_from_uniform_of_a_large_vocabulary() {
    let vocab = 150_000_u32;
    let logits = Array::from_iter((0..3 * vocab).map(|_| -2.5_f32), &[3, vocab as i32]);
    let tokens = must(sample_from_uniform(&logits, &[0.25, 0.5, 0.999_999]));
    for (token, expected) in tokens.into_iter().zip([vocab / 4, vocab / 2, vocab]) {
        let off = token.abs_diff(expected);
        assert!(
            token < vocab && off <= vocab / 1000,
            "token {token} of {vocab} equally likely ones, expected about {expected}"
        );
    }
}

#[test]
fn task_5_sample_from_uniform_refuses() {
    let two = rows(&[&[0.0, 1.0], &[2.0, 0.0]]);
    must(sample_from_uniform(&two, &[0.5, 0.5]));
    expect_error(sample_from_uniform(&two, &[0.5]), "1 uniform number for 2 rows");
    expect_error(sample_from_uniform(&two, &[0.5, 0.5, 0.5]), "3 uniform numbers for 2 rows");
    expect_error(sample_from_uniform(&rows(&[&[0.0, f32::NAN]]), &[0.5]), "logits with NaN");
    expect_error(
        sample_from_uniform(&rows(&[&[0.0, 1.0], &[NEG_INF, NEG_INF]]), &[0.5, 0.5]),
        "a row that excludes every token",
    );
    expect_error(
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
    check_tokens("two samplers with seed 7", &draw(7), &draw(7));
    for seed in [0, 8, 9, 7_000_000_007] {
        assert_ne!(draw(7), draw(seed), "40 tokens with seed 7 and with seed {seed}");
    }
}

/// Every step, and every row of a step, has a random number of its own.
#[test]
fn task_5_sampler_draws_anew_for_each_step_and_row() {
    let mut sampler = must(Sampler::new(Vec::new(), 3));
    let one_row = draws(&mut sampler, &flat(64), 12);
    assert!(one_row.iter().any(|&token| token != one_row[0]), "12 steps gave {one_row:?}: the same number each time");
    let row: &[f32] = &[0.0; 64];
    let many_rows = must(sampler.sample(&rows(&[row; 12]), &vec![Vec::new(); 12]));
    assert!(
        many_rows.iter().any(|&token| token != many_rows[0]),
        "12 equal rows gave {many_rows:?}: one number for all"
    );
}

#[test]
fn task_5_greedy_sampler_takes_the_most_likely() {
    let logits = rows(&[&[4.0, 1.0, 0.0, 2.0], &[1.0, 0.5, 2.0, 3.0]]);
    let history = [Vec::new(), Vec::new()];
    check_tokens("Sampler::greedy", &must(Sampler::greedy().sample(&logits, &history)), &[0, 3]);
    let mut cold = must(Sampler::from_options(&SamplerOptions { temperature: 0.0, ..SamplerOptions::default() }));
    check_tokens("temperature 0", &must(cold.sample(&logits, &history)), &[0, 3]);
    // With temperature 0 the penalty still counts: token 0 falls from 4 to 1.
    let options = SamplerOptions { repetition_penalty: Some(4.0), ..SamplerOptions::default() };
    let mut penalising = must(Sampler::from_options(&options));
    check_tokens("temperature 0 with a penalty", &must(penalising.sample(&logits, &[vec![0], Vec::new()])), &[3, 3]);
}

#[test]
fn task_5_sampler_refuses_nan() {
    let history = [Vec::new()];
    let samplers =
        || [Sampler::greedy(), must(Sampler::new(Vec::new(), 1)), must(Sampler::new(vec![Box::new(TopK(1))], 1))];
    for mut sampler in samplers() {
        check_tokens("a row with one possible token", &must(sampler.sample(&rows(&[&[NEG_INF, 1.0]]), &history)), &[1]);
        expect_error(sampler.sample(&rows(&[&[f32::NAN, f32::NAN, f32::NAN]]), &history), "logits of NaN");
    }
}

#[rstest]
#[case::temperature(SamplerOptions { temperature: -0.5, ..sampling() })]
#[case::temperature_nan(SamplerOptions { temperature: f32::NAN, ..sampling() })]
#[case::top_k(SamplerOptions { top_k: Some(0), ..sampling() })]
#[case::top_p(SamplerOptions { top_p: Some(1.01), ..sampling() })]
#[case::min_p(SamplerOptions { min_p: Some(-0.1), ..sampling() })]
#[case::penalty(SamplerOptions { repetition_penalty: Some(0.0), ..sampling() })]
fn task_5_from_options_refuses(#[case] options: SamplerOptions) {
    must(Sampler::from_options(&sampling()));
    expect_error(Sampler::from_options(&options).map(|_| ()), &format!("{options:?}"));
}

/// The filters one after another, in the order of `Sampler::from_options`.
#[rstest]
fn task_5_chain_of_filters(#[values("two_rows", "three_rows")] name: &str) {
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
fn task_5_from_options_draws_from_the_filtered_distribution(
    #[values("two_rows", "three_rows")] name: &str,
    #[values(1, 2)] seed: u64,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("chain/{name}"));
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
    let expected: Vec<f64> = values(&case.array("probabilities")).into_iter().map(f64::from).collect();
    for (row, (counts, probabilities)) in counts.chunks(vocab).zip(expected.chunks(vocab)).enumerate() {
        check_frequencies(&format!("{name}, row {row}"), counts, probabilities);
    }
}

/// The samplers' history is the whole sequence: prompt and generated tokens.
#[test]
fn task_5_generate_shows_the_sampler_the_whole_sequence() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let recorder = Box::new(HistoryRecorder(seen.clone()));
    // The scripted token is so likely that drawing another would be a matter of 10 million steps.
    let mut sampler = must(Sampler::new(vec![recorder], 5));
    let model = ScriptedModel::answering(2, &[7, 8, 9]);
    let options = GenerateOptions { max_tokens: 3, stop_tokens: Vec::new(), stop_strings: Vec::new() };
    must(generate(&model, &[2, 0], &mut sampler, &options, &mut |_| ControlFlow::Continue(())));
    let expected = [vec![vec![2, 0]], vec![vec![2, 0, 7]], vec![vec![2, 0, 7, 8]]];
    check_tokens("the history at each step, one row", &seen.borrow(), &expected);
}

/// Changes nothing, and remembers the histories that it was shown.
struct HistoryRecorder(Rc<RefCell<Vec<Vec<Vec<u32>>>>>);

impl LogitFilter for HistoryRecorder {
    fn apply(&self, logits: &Array, history: &[Vec<u32>]) -> Result<Array> {
        self.0.borrow_mut().push(history.to_vec());
        Ok(logits.clone())
    }
}

// -------------------------------------------------------------------------------------------- helpers

fn check_filter(name: &str, filter: impl Fn(&Case) -> Box<dyn LogitFilter>) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(name);
    case.check(filter(case).apply(&case.array("logits"), &histories(case)));
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
