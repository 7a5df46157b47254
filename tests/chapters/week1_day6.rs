//! Day 1.6: next-token logits, the generation loop, stop strings, streamed text.

mod named;
mod scripted;
mod scripted_run;
mod stop_string_rule;
mod tiny_models;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use grader::{Fixture, check_tokens, expect_error, property};
use mlx_rs::{Array, Dtype};
use named::{check_equal, check_that, without_panic};
use rstest::rstest;
use scripted::{BytesDecoder, HistoryRecorder, ScriptedModel};
use scripted_run::{run, scenario, strings, up_to};
use stop_string_rule::{Pushed, cause_of_panic, cut_at_stop_string, random_text, undecided};
use tiny_llm::{
    GenerateOptions, LanguageModel, LogitsToKeep, Qwen2Model, Result, Sampler, StopReason, StopStringMatcher,
    StopStringOutcome, Timings, generate, next_token_logits,
};

const DAY: &str = "week1_day6";

// -------------------------------------------------------------------------- task 1: next-token logits

#[rstest]
#[case::tied_one_token("tiny-qwen2-tied", "one_token")]
#[case::tied_five_tokens("tiny-qwen2-tied", "five_tokens")]
#[case::tied_seven_tokens("tiny-qwen2-tied", "seven_tokens")]
#[case::tied_thirteen_tokens("tiny-qwen2-tied", "thirteen_tokens")]
#[case::untied_five_tokens("tiny-qwen2-untied", "five_tokens")]
#[case::untied_seven_tokens("tiny-qwen2-untied", "seven_tokens")]
#[case::untied_thirteen_tokens("tiny-qwen2-untied", "thirteen_tokens")]
#[case::bf16_five_tokens("tiny-qwen2-bf16", "five_tokens")]
#[case::bf16_thirteen_tokens("tiny-qwen2-bf16", "thirteen_tokens")]
#[case::llama_one_token("tiny-llama", "one_token")]
#[case::llama_seven_tokens("tiny-llama", "seven_tokens")]
fn task_1_next_token_logits(#[case] model: &str, #[case] prompt: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("next/{model}/{prompt}"));
    let prompt = case.array("prompt");
    case.check(load(model).and_then(|model| next_token_logits(&model, prompt.as_slice::<u32>(), None)));
}

/// One call with all tokens as one row, asking for the logits of the last position only.
#[test]
fn task_1_next_token_logits_asks_the_model_once() {
    let model = ScriptedModel::answering(3, &[5]);
    let logits = next_token_logits(&model, &[4, 1, 2], None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(logits.shape(), [1, ScriptedModel::VOCAB], "the shape of the next token's logits");
    let calls = model.calls();
    assert_eq!(calls.len(), 1, "calls of the model");
    check_equal(
        "the tokens that the model was given",
        &calls[0].tokens,
        &vec![4, 1, 2],
        &[(vec![2], "looks like: the model is given the newest token alone; it is given all of `tokens`")],
    );
    check_equal(
        "the positions whose logits were asked for",
        &calls[0].keep,
        &LogitsToKeep::Last(1),
        &[(
            LogitsToKeep::All,
            "looks like: the logits of all positions are computed; only those of the last one are needed",
        )],
    );
    assert!(!calls[0].has_cache, "no cache was passed in");
}

/// Some models answer in bf16, and sampling works in f32.
#[rstest]
fn task_1_next_token_logits_are_f32(#[values(Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype) {
    let model = ScriptedModel::answering(2, &[5]).in_dtype(dtype);
    let logits = next_token_logits(&model, &[4, 1], None).unwrap_or_else(|error| panic!("{error}"));
    let cause = "looks like: the logits keep the model's dtype; samplers work in f32";
    check_equal("the dtype of the next token's logits", &logits.dtype(), &Dtype::Float32, &[(dtype, cause)]);
    assert_eq!(scripted::most_likely(&logits), 5, "the most likely token");
}

#[test]
fn task_1_next_token_logits_passes_the_cache_on() {
    let model = ScriptedModel::answering(3, &[5]).cached();
    let mut cache = model.new_cache();
    let logits = next_token_logits(&model, &[4, 1, 2], cache.as_deref_mut()).unwrap_or_else(|error| panic!("{error}"));
    let cause = "looks like: the cache is not passed on to the model";
    check_equal("whether the model got the cache", &model.calls()[0].has_cache, &true, &[(false, cause)]);
    assert_eq!(scripted::most_likely(&logits), 5, "the most likely token");
}

#[test]
fn task_1_next_token_logits_passes_the_models_error_on() {
    must(next_token_logits(&ScriptedModel::answering(2, &[5]), &[4, 1], None));
    let failing = ScriptedModel::answering(2, &[ScriptedModel::ERROR]);
    let text = expect_error(next_token_logits(&failing, &[4, 1], None), "a model that fails");
    assert!(text.contains("scripted failure"), "the model's own error must come through, not {text:?}");
}

// ---------------------------------------------------------------------------- task 2: generation loop

/// Token for token what transformers generates.
#[rstest]
#[case::tied_one_token("tiny-qwen2-tied", "one_token")]
#[case::tied_five_tokens("tiny-qwen2-tied", "five_tokens")]
#[case::tied_seven_tokens("tiny-qwen2-tied", "seven_tokens")]
#[case::tied_thirteen_tokens("tiny-qwen2-tied", "thirteen_tokens")]
#[case::untied_five_tokens("tiny-qwen2-untied", "five_tokens")]
#[case::untied_seven_tokens("tiny-qwen2-untied", "seven_tokens")]
#[case::untied_thirteen_tokens("tiny-qwen2-untied", "thirteen_tokens")]
#[case::bf16_five_tokens("tiny-qwen2-bf16", "five_tokens")]
#[case::bf16_thirteen_tokens("tiny-qwen2-bf16", "thirteen_tokens")]
#[case::llama_one_token("tiny-llama", "one_token")]
#[case::llama_seven_tokens("tiny-llama", "seven_tokens")]
fn task_2_generates_what_transformers_generates(#[case] model: &str, #[case] prompt: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("greedy/{model}/{prompt}"));
    let prompt = case.array("prompt");
    let max_tokens = case.i32("max_tokens") as usize;
    let generation = load(model).and_then(|model| run(&model, prompt.as_slice::<u32>(), &up_to(max_tokens)));
    let stop_reason = generation.as_ref().ok().map(|generation| generation.stop_reason.clone());
    case.check(generation.map(|generation| as_array(&generation.tokens)));
    assert_eq!(stop_reason, Some(StopReason::MaxTokens), "the reason for stopping after {max_tokens} tokens");
}

/// The stop tokens are a list in generation_config.json; transformers stops at any of them.
#[rstest]
#[case::tied_one_token("tiny-qwen2-tied", "one_token")]
#[case::tied_five_tokens("tiny-qwen2-tied", "five_tokens")]
#[case::tied_seven_tokens("tiny-qwen2-tied", "seven_tokens")]
#[case::tied_thirteen_tokens("tiny-qwen2-tied", "thirteen_tokens")]
#[case::untied_five_tokens("tiny-qwen2-untied", "five_tokens")]
#[case::untied_seven_tokens("tiny-qwen2-untied", "seven_tokens")]
#[case::bf16_thirteen_tokens("tiny-qwen2-bf16", "thirteen_tokens")]
#[case::llama_one_token("tiny-llama", "one_token")]
fn task_2_stops_where_transformers_stops(#[case] model: &str, #[case] prompt: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("greedy/stop/{model}/{prompt}"));
    let prompt = case.array("prompt");
    let mut options = up_to(case.i32("max_tokens") as usize);
    options.stop_tokens = tiny_models::open(model).config().eos_token_ids.clone();
    let generation = load(model).and_then(|model| run(&model, prompt.as_slice::<u32>(), &options));
    let stop_reason = generation.as_ref().ok().map(|generation| generation.stop_reason.clone());
    case.check(generation.map(|generation| as_array(&generation.tokens)));
    assert_eq!(stop_reason, Some(StopReason::StopToken(case.i32("stop_token") as u32)));
}

#[test]
fn task_2_gives_a_model_without_a_cache_the_whole_sequence_each_step() {
    scenario(&[4, 1], &[7, 8, 9], 3).expect_tokens(&[7, 8, 9], &StopReason::MaxTokens);
}

#[test]
fn task_2_gives_a_cached_model_the_prompt_and_then_each_new_token() {
    scenario(&[4, 1, 2], &[7, 8, 9], 3).cached(true).expect_tokens(&[7, 8, 9], &StopReason::MaxTokens);
}

#[rstest]
fn task_2_max_tokens(#[values(0, 1, 2, 5)] max_tokens: usize, #[values(false, true)] cached: bool) {
    let script = [7, 8, 9, 10, 11, 12];
    let kept = &script[..max_tokens];
    scenario(&[4, 1], &script, max_tokens).cached(cached).expect_tokens(kept, &StopReason::MaxTokens);
}

/// "No limit" is a large number: nothing may be allocated for it, or added to it.
#[rstest]
fn task_2_max_tokens_may_be_the_largest_number(#[values(false, true)] cached: bool) {
    let scenario = scenario(&[4, 1], &[7, 8, 9], usize::MAX).stop_tokens(&[9]).cached(cached);
    let cause = |text: &str| {
        let cause =
            "looks like: memory is reserved for max_tokens, or something is added to it; it may be as large as a usize";
        (text.contains("overflow") || text.contains("capacity")).then(|| cause.to_owned())
    };
    without_panic(&scenario.to_string(), cause, || scenario.run());
    scenario.expect_tokens(&[7, 8], &StopReason::StopToken(9));
}

#[rstest]
#[case::the_first_token(&[7], 0)]
#[case::the_third_token(&[9], 2)]
#[case::two_of_them_the_nearer_listed_last(&[10, 9], 2)]
#[case::second_of_three(&[30, 9, 31], 2)]
#[case::last_of_three(&[30, 31, 10], 3)]
#[case::the_token_at_max_tokens(&[12], 5)]
fn task_2_every_stop_token_ends_the_answer(
    #[case] stop_tokens: &[u32],
    #[case] n_kept: usize,
    #[values(false, true)] cached: bool,
) {
    let script = [7, 8, 9, 10, 11, 12];
    let reason = StopReason::StopToken(script[n_kept]);
    scenario(&[4, 1], &script, 6).stop_tokens(stop_tokens).cached(cached).expect_tokens(&script[..n_kept], &reason);
}

/// A stop token ends an answer; in the prompt it is a token like any other.
#[test]
fn task_2_a_stop_token_in_the_prompt_stops_nothing() {
    scenario(&[4, 4], &[7, 8], 2).stop_tokens(&[4]).expect_tokens(&[7, 8], &StopReason::MaxTokens);
}

/// Stop strings are `generate_text`'s.
#[test]
fn task_2_does_not_look_at_stop_strings() {
    scenario(&[4], &[7, 8], 2).stop_strings(&["", "7", "a"]).expect_tokens(&[7, 8], &StopReason::MaxTokens);
}

/// Streaming: each token is passed on before the model is asked for the next one.
#[test]
fn task_2_on_token_comes_before_the_next_step() {
    let model = ScriptedModel::answering(1, &[7, 8, 9]);
    let mut n_calls_at_token = Vec::new();
    let mut on_token = |token| {
        n_calls_at_token.push((token, model.calls().len()));
        ControlFlow::Continue(())
    };
    let generation = must(generate(&model, &[4], &mut Sampler::greedy(), &up_to(3), &mut on_token));
    check_tokens("generated tokens", &generation.tokens, &[7, 8, 9]);
    check_equal(
        "(token, calls of the model so far) at each on_token",
        &n_calls_at_token,
        &vec![(7, 1), (8, 2), (9, 3)],
        &[
            (
                vec![(7, 3), (8, 3), (9, 3)],
                "looks like: on_token is called at the end; each token is passed on when it is known",
            ),
            (vec![(7, 2), (8, 3), (9, 3)], "looks like: a token is passed on only after the next model call"),
        ],
    );
}

#[rstest]
fn task_2_on_token_can_cancel(#[values(1, 2, 4)] at: usize, #[values(4, 9)] max_tokens: usize) {
    let script = [7, 8, 9, 10, 11];
    scenario(&[4, 1], &script, max_tokens).break_at(at).expect_tokens(&script[..at], &StopReason::Cancelled);
}

/// Every position may be filled and predicts one more token; then the sequence no longer fits.
#[rstest]
#[case::three_fit(&[4, 1], 3)]
#[case::two_fit(&[4, 1, 2], 2)]
#[case::one_fits(&[4, 1, 2, 3], 1)]
fn task_2_stops_when_the_context_is_full(
    #[case] prompt: &[u32],
    #[case] n_generated: usize,
    #[values(false, true)] cached: bool,
) {
    let script = [7, 8, 9, 10, 11];
    let kept = &script[..n_generated];
    scenario(prompt, &script, 50).positions(4).cached(cached).expect_tokens(kept, &StopReason::ContextFull);
    // Asked for no more than fits, the answer is complete.
    scenario(prompt, &script, n_generated).positions(4).cached(cached).expect_tokens(kept, &StopReason::MaxTokens);
}

/// The sampler's history is the whole sequence so far, prompt included, as one row.
#[rstest]
fn task_2_shows_the_sampler_the_whole_sequence(#[values(false, true)] cached: bool) {
    let model = ScriptedModel::answering(2, &[7, 8, 9]);
    let model = if cached { model.cached() } else { model };
    let recorder = HistoryRecorder::default();
    let mut sampler = must(Sampler::greedy_watched_by(Box::new(recorder.clone())));
    must(generate(&model, &[2, 0], &mut sampler, &up_to(3), &mut |_| ControlFlow::Continue(())));
    let rows = |rows: [&[u32]; 3]| rows.map(|row| vec![row.to_vec()]).to_vec();
    check_equal(
        "the history at each of three steps after the prompt [2, 0]; it is one row",
        &recorder.histories(),
        &rows([&[2, 0], &[2, 0, 7], &[2, 0, 7, 8]]),
        &[
            (
                rows([&[], &[7], &[7, 8]]),
                "looks like: the history has the generated tokens alone; the prompt belongs to it",
            ),
            (rows([&[2, 0]; 3]), "looks like: the history is the prompt alone; generated tokens belong to it"),
            (
                rows([&[2, 0], &[7], &[8]]),
                "looks like: the history is what the model has not seen; it is the whole sequence",
            ),
            (
                vec![vec![vec![2], vec![0]], vec![vec![2], vec![0], vec![7]], vec![vec![2], vec![0], vec![7], vec![8]]],
                "looks like: the history has a row for each token; it has one row for each sequence of the batch",
            ),
        ],
    );
}

#[test]
fn task_2_refuses_prompts_that_the_model_cannot_take() {
    let model = ScriptedModel::answering(2, &[7]).with_positions(4);
    let run = |prompt: &[u32]| run(&model, prompt, &up_to(1));
    // First what must work, so that an empty solution does not pass.
    must(run(&[4, 1]));
    expect_error(run(&[]), "an empty prompt");
    expect_error(run(&[1, 2, 3, 4, 5]), "a prompt of 5 tokens for a model of 4 positions");
    expect_error(run(&[1, ScriptedModel::VOCAB as u32]), "a token that is not in the vocabulary");
    assert_eq!(model.calls().len(), 1, "calls of the model: a bad prompt is refused before any work");
}

/// Something is broken if logits are NaN; no token may be made up.
#[test]
fn task_2_refuses_logits_that_are_nan() {
    let model = ScriptedModel::answering(1, &[7, ScriptedModel::NAN, 9]);
    must(run(&model, &[4], &up_to(1)));
    expect_error(run(&model.fresh(), &[4], &up_to(3)), "NaN logits at the second step");
    let model = ScriptedModel::answering(1, &[ScriptedModel::NAN]);
    expect_error(run(&model, &[4], &up_to(3)), "NaN logits at the first step");
}

#[test]
fn task_2_passes_the_models_error_on() {
    let model = ScriptedModel::answering(1, &[7, ScriptedModel::ERROR, 9]);
    must(run(&model, &[4], &up_to(1)));
    let text = expect_error(run(&model.fresh(), &[4], &up_to(3)), "a model that fails at the second step");
    assert!(text.contains("scripted failure"), "the model's own error must come through, not {text:?}");
}

const PAUSE: Duration = Duration::from_millis(30);

/// MLX is lazy: the model's call returns at once, and its logits take a while when somebody looks at them. A clock that
/// is stopped before that shows nearly nothing. (The other way round there is no limit: a slow machine passes.)
#[test]
fn task_2_timings_wait_until_the_token_is_known() {
    let slow_prompt = ScriptedModel::answering(3, &[7]).lazily_taking(PAUSE, Duration::ZERO);
    let timings = timings_of(&slow_prompt, &up_to(1), &[7]);
    let cause = if timings.decode >= PAUSE {
        "looks like: the first token's time is counted as decode; it belongs to prefill"
    } else {
        "looks like: the clock stops before the token is known; MLX is lazy, so stop it when the token is there as a \
         u32"
    };
    check_at_least("prefill, when the prompt's logits take that long", timings, timings.prefill, PAUSE, cause);
    assert_eq!((timings.decode_tokens, timings.decode), (0, Duration::ZERO), "one token: nothing to decode");

    let slow_steps = || ScriptedModel::answering(3, &[7, 8, 9]).lazily_taking(Duration::ZERO, PAUSE);
    let timings = timings_of(&slow_steps(), &up_to(3), &[7, 8, 9]);
    let cause = if timings.prefill >= 2 * PAUSE {
        "looks like: the later tokens' time is counted as prefill"
    } else {
        "looks like: decode does not last until the last token is known; MLX is lazy, so stop the clock when it is \
         there as a u32"
    };
    check_at_least("decode, when each of two steps takes half of that", timings, timings.decode, 2 * PAUSE, cause);
    // A stop token takes a step like any other.
    let options = GenerateOptions { stop_tokens: vec![9], ..up_to(9) };
    let timings = timings_of(&slow_steps(), &options, &[7, 8]);
    let cause = "looks like: the stop token's time is not counted in decode; it was sampled like any other";
    check_at_least(
        "decode, when the second of two steps gives a stop token",
        timings,
        timings.decode,
        2 * PAUSE,
        cause,
    );
}

/// The two phases follow one another, so together they cannot last longer than from the start to the last token.
#[test]
fn task_2_timings_count_nothing_twice() {
    let model = ScriptedModel::answering(3, &[7, 8]).lazily_taking(PAUSE, Duration::ZERO);
    let start = Instant::now();
    let mut until_last_token = Duration::ZERO;
    let mut n_tokens = 0;
    let mut on_token = |_| {
        until_last_token = start.elapsed();
        n_tokens += 1;
        if n_tokens == 2 {
            std::thread::sleep(PAUSE); // somebody who reads slowly
        }
        ControlFlow::Continue(())
    };
    let timings = must(generate(&model, &[4, 1, 2], &mut Sampler::greedy(), &up_to(2), &mut on_token)).timings;
    let cause = if timings.decode >= PAUSE && timings.decode >= timings.prefill {
        "looks like: decode is measured from the start, or until on_token returned; it lasts from the first token to \
         the last"
    } else {
        "looks like: decode lasts until on_token has returned; it ends when the last token is known"
    };
    check_that(
        "prefill and decode of two tokens; on_token takes its time at the second",
        timings.prefill + timings.decode <= until_last_token,
        || {
            format!(
                "prefill {:?} and decode {:?}, but the last token came after {until_last_token:?}",
                timings.prefill, timings.decode
            )
        },
        Some(cause),
    );
}

/// Of an answer to the prompt 4, 1, 2.
#[track_caller]
fn timings_of(model: &ScriptedModel, options: &GenerateOptions, tokens: &[u32]) -> Timings {
    let generation = must(run(model, &[4, 1, 2], options));
    check_tokens("the tokens whose times are compared", &generation.tokens, tokens);
    generation.timings
}

#[track_caller]
fn check_at_least(what: &str, timings: Timings, got: Duration, least: Duration, cause: &str) {
    check_that(what, got >= least, || format!("{least:?} at least, and the timings are {timings:?}"), Some(cause));
}

// ------------------------------------------------------------------------------- task 3: stop strings

/// The pieces, and what is released at each: `|` marks where a match ends the text.
#[rstest]
#[case::no_stop_strings(&[], &["one", " ", "two"], &["one", " ", "two"], None)]
#[case::in_one_piece(&["END"], &["the END of it"], &["the "], Some("END"))]
#[case::over_three_pieces(&["END"], &["the E", "N", "D of it"], &["the ", "", ""], Some("END"))]
#[case::letter_by_letter(&["END"], &["a", "E", "N", "D"], &["a", "", "", ""], Some("END"))]
#[case::at_the_very_start(&["END"], &["END"], &[""], Some("END"))]
#[case::false_alarm(&["END"], &["EN", "TER"], &["", "ENTER"], None)]
#[case::false_alarm_that_becomes_another(&["ENEND"], &["ENEN", "END"], &["", "EN"], Some("ENEND"))]
#[case::repeated_letter(&["aab"], &["aa", "a", "b"], &["", "a", ""], Some("aab"))]
#[case::second_of_the_list(&["xyz", "END"], &["x END"], &["x "], Some("END"))]
#[case::first_in_the_text_not_in_the_list(&["late", "soon"], &["too soon, too late"], &["too "], Some("soon"))]
#[case::a_prefix_of_another_ends_first(&["STOPPED", "STOP"], &["now STOPPED"], &["now "], Some("STOP"))]
#[case::inside_another_ends_first(&["abcd", "bc"], &["xabcd"], &["xa"], Some("bc"))]
#[case::inside_another_listed_first(&["bc", "abcd"], &["xabcd"], &["xa"], Some("bc"))]
#[case::the_nearest_of_two_equal_ones(&["END"], &["one END two END"], &["one "], Some("END"))]
#[case::begins_again_inside_itself(&["abac"], &["ab", "abac"], &["", "ab"], Some("abac"))]
#[case::held_back_by_a_longer_one(&["zab", "abc"], &["xab", "d"], &["x", "abd"], None)]
#[case::inside_another_in_pieces(&["abcd", "bc"], &["xa", "b", "c", "d"], &["x", "", "a"], Some("bc"))]
#[case::the_longer_one_of_a_common_end(&["ND", "END"], &["the END"], &["the "], Some("END"))]
#[case::overlapping(&["aba", "bab"], &["xab", "ab"], &["x", ""], Some("aba"))]
#[case::newlines(&["\n\n"], &["a\n", "b\n", "\nc"], &["a", "\nb", ""], Some("\n\n"))]
#[case::characters_of_several_bytes(&["日本", "é!"], &["caf", "é", " 日", "x", "日", "本"], &["caf", "", "é ", "日x", "", ""], Some("日本"))]
#[case::half_of_an_emoji_stop(&["👋🏽"], &["hi 👋", "👋", "🏽"], &["hi ", "👋", ""], Some("👋🏽"))]
#[case::empty_stop_strings_stop_nothing(&["", "END"], &["a", "b"], &["a", "b"], None)]
#[case::empty_pieces(&["END"], &["", "E", "", "ND"], &["", "", "", ""], Some("END"))]
fn task_3_stop_strings(
    #[case] stop_strings: &[&str],
    #[case] pieces: &[&str],
    #[case] released: &[&str],
    #[case] matched: Option<&str>,
) {
    let mut matcher = matcher(stop_strings);
    let context = format!("stop strings {stop_strings:?}, pieces {pieces:?}");
    for (at, (piece, expected_text)) in pieces.iter().zip(released).enumerate() {
        let outcome = push(&mut matcher, piece, &context);
        let expected_match = matched.filter(|_| at + 1 == released.len());
        check_push(&format!("{context}; at piece {at}"), stop_strings, &outcome, expected_text, expected_match);
        if outcome.matched.is_some() {
            break;
        }
    }
}

/// `push` of the learner; a panic is named.
#[track_caller]
fn push(matcher: &mut StopStringMatcher, piece: &str, context: &str) -> StopStringOutcome {
    without_panic(&format!("{context}; push({piece:?})"), cause_of_panic, || matcher.push(piece))
}

#[track_caller]
fn check_push(case: &str, stop_strings: &[&str], outcome: &StopStringOutcome, text: &str, matched: Option<&str>) {
    let stop_strings = strings(stop_strings);
    let pushed = Pushed {
        stop_strings: &stop_strings,
        text: &outcome.text,
        matched: outcome.matched.as_deref(),
        expected_text: text,
        expected_match: matched,
    };
    let message = || {
        let (got_text, got) = (&outcome.text, outcome.matched.as_deref());
        format!("  got      text {got_text:?}, matched {got:?}\n  expected text {text:?}, matched {matched:?}")
    };
    check_that(case, pushed.is_right(), message, pushed.cause());
}

/// What follows a stop string in its piece is gone, and so is the stop string.
#[test]
fn task_3_keeps_nothing_after_a_match() {
    let mut matcher = matcher(&["END"]);
    assert_eq!(matcher.push("the E").text, "the ");
    assert_eq!(matcher.push("ND of EN").matched.as_deref(), Some("END"));
    let cause = "looks like: what follows the stop string, or the stop string itself, stays held back; after a match \
     nothing does";
    let kept = matcher.finish();
    check_that(
        "finish() after \"the E\" and \"ND of EN\" with the stop string \"END\"",
        kept.is_empty(),
        || format!("got {kept:?}, expected nothing"),
        Some(cause),
    );
}

#[test]
fn task_3_finish_returns_what_was_held_back() {
    let mut matcher = matcher(&["END", "NDS"]);
    assert_eq!(matcher.push("the EN").text, "the ");
    assert_eq!(matcher.finish(), "EN");
    assert_eq!(matcher.finish(), "", "what was returned once is not held back any more");
}

/// However the text is cut, the result is the same, and no character is held back longer than needed.
#[test]
fn task_3_stop_strings_do_not_depend_on_the_cuts() {
    property(400, |rng| {
        let text = random_text(rng, 16);
        let stop_strings: Vec<String> = (0..rng.between(0, 3)).map(|_| random_text(rng, 4)).collect();
        let (expected, expected_match) = cut_at_stop_string(&text, &stop_strings);
        let context = format!("text {text:?}, stop strings {stop_strings:?}");

        let mut matcher = StopStringMatcher::new(&stop_strings);
        let (mut released, mut received, mut matched) = (String::new(), String::new(), None);
        let mut rest = text.as_str();
        while !rest.is_empty() && matched.is_none() {
            let n_chars = rng.between(1, 4) as usize;
            let cut = rest.char_indices().nth(n_chars).map_or(rest.len(), |(at, _)| at);
            let (piece, tail) = rest.split_at(cut);
            rest = tail;
            received.push_str(piece);
            let outcome = push(&mut matcher, piece, &context);
            released.push_str(&outcome.text);
            matched = outcome.matched;
            if matched.is_none() {
                let right = &received[..received.len() - undecided(&received, &stop_strings)];
                let cause = Pushed {
                    stop_strings: &stop_strings,
                    text: &released,
                    matched: None,
                    expected_text: right,
                    expected_match: None,
                }
                .cause();
                let message = || format!("released {released:?}, expected {right:?}");
                check_that(&format!("after {received:?}; {context}"), released == right, message, cause);
            }
        }
        if matched.is_none() {
            released.push_str(&matcher.finish());
        }
        let pushed = Pushed {
            stop_strings: &stop_strings,
            text: &released,
            matched: matched.as_deref(),
            expected_text: &expected,
            expected_match: expected_match.as_deref(),
        };
        let message = || format!("got {released:?}, {matched:?}; expected {expected:?}, {expected_match:?}");
        check_that(&context, pushed.is_right(), message, pushed.cause());
    });
}

fn matcher(stop_strings: &[&str]) -> StopStringMatcher {
    StopStringMatcher::new(&strings(stop_strings))
}

// ----------------------------------------------------------------------------- task 4: streaming text

/// Each piece when its token comes; a token without text of its own gives none.
#[rstest]
#[case::as_it_comes(&[0, 1, 2], &["Hello", " wor", "ld"])]
#[case::never_half_a_character(&[0, 7, 8, 2], &["Hello", "🌍", "ld"])]
fn task_4_streams_pieces(#[case] script: &[u32], #[case] pieces: &[&str]) {
    let scenario = scenario(&[4], script, script.len());
    scenario.expect_text(&pieces.concat(), script, &StopReason::MaxTokens);
    scenario.expect_pieces(pieces);
}

/// However generation ends by itself, the decoder's rest comes out: here half a character.
#[rstest]
#[case::max_tokens(scenario(&[4], &[0, 7], 2), StopReason::MaxTokens)]
#[case::stop_token(scenario(&[4], &[0, 7, 20], 9).stop_tokens(&[20]), StopReason::StopToken(20))]
#[case::full_context(scenario(&[4], &[0, 7, 8], 9).positions(2), StopReason::ContextFull)]
fn task_4_flushes_the_decoder(#[case] scenario: scripted_run::Scenario, #[case] reason: StopReason) {
    scenario.expect_text("Hello\u{FFFD}", &[0, 7], &reason);
}

/// What may have become a stop string is text after all when generation ends by itself.
#[rstest]
#[case::max_tokens(scenario(&[4], &[0, 3, 4], 3), StopReason::MaxTokens)]
#[case::stop_token(scenario(&[4], &[0, 3, 4, 20], 9).stop_tokens(&[20]), StopReason::StopToken(20))]
#[case::full_context(scenario(&[4], &[0, 3, 4, 5], 9).positions(3), StopReason::ContextFull)]
fn task_4_flushes_what_was_held_back(#[case] scenario: scripted_run::Scenario, #[case] reason: StopReason) {
    scenario.stop_strings(&["END"]).expect_text("HelloEN", &[0, 3, 4], &reason);
}

#[rstest]
#[case::over_several_tokens(&[0, 3, 4, 5, 1, 2], &["END"], "Hello", "END", 4)]
#[case::at_max_tokens(&[0, 1, 2, 3, 4, 5], &["END"], "Hello world", "END", 6)]
#[case::text_before_it_in_the_same_token(&[0, 1, 2], &["or"], "Hello w", "or", 2)]
#[case::several(&[0, 1, 2], &["xyz", "o w", "Hello world"], "Hell", "o w", 2)]
#[case::in_a_character_of_two_tokens(&[0, 7, 8, 1], &["🌍"], "Hello", "🌍", 3)]
fn task_4_stops_at_a_stop_string(
    #[case] script: &[u32],
    #[case] stop_strings: &[&str],
    #[case] text: &str,
    #[case] matched: &str,
    #[case] n_tokens: usize,
) {
    let reason = StopReason::StopString(matched.to_owned());
    scenario(&[4], script, 6).stop_strings(stop_strings).expect_text(text, &script[..n_tokens], &reason);
}

#[test]
fn task_4_a_false_alarm_is_printed() {
    let script = [3, 4, 0];
    scenario(&[4], &script, 3).stop_strings(&["END"]).expect_text("ENHello", &script, &StopReason::MaxTokens);
}

/// The decoder's rest goes through the matcher as all text does.
#[test]
fn task_4_the_decoders_rest_may_complete_a_stop_string() {
    let reason = StopReason::StopString("o\u{FFFD}".to_owned());
    scenario(&[4], &[0, 7], 2).stop_strings(&["o\u{FFFD}"]).expect_text("Hell", &[0, 7], &reason);
}

/// Token 9 completes the stop string and begins a character; the end of that is nobody's business.
#[test]
fn task_4_flushes_nothing_after_a_stop_string() {
    let reason = StopReason::StopString("END".to_owned());
    scenario(&[4], &[0, 3, 4, 9], 9).stop_strings(&["END"]).expect_text("Hello", &[0, 3, 4, 9], &reason);
}

#[rstest]
#[case::at_the_first_piece(1, "Hello", 1)]
#[case::at_the_second_piece(2, "Hello wor", 2)]
#[case::at_the_piece_of_the_last_token(4, "Hello world👋", 4)]
fn task_4_on_text_can_cancel(#[case] at: usize, #[case] text: &str, #[case] n_tokens: usize) {
    let script = [0, 1, 2, 6];
    scenario(&[4], &script, 4).break_at(at).expect_text(text, &script[..n_tokens], &StopReason::Cancelled);
}

/// Whoever breaks wants nothing more: neither what the matcher held back ("o") nor what the decoder did.
#[test]
fn task_4_flushes_nothing_after_a_break() {
    let cancelled = StopReason::Cancelled;
    scenario(&[4], &[0, 1], 2).stop_strings(&["oX"]).break_at(1).expect_text("Hell", &[0], &cancelled);
}

/// Generation has ended when the rest is flushed, so there is nothing left to cancel.
#[rstest]
#[case::the_matchers_rest(&[0, 3, 4], &["END"], "HelloEN")]
#[case::the_decoders_rest(&[0, 7], &[], "Hello\u{FFFD}")]
#[case::both(&[0, 3, 7], &["E\u{FFFD}!"], "HelloE\u{FFFD}")]
fn task_4_a_break_in_the_flush_changes_nothing(#[case] script: &[u32], #[case] stops: &[&str], #[case] text: &str) {
    let scenario = scenario(&[4], script, script.len()).stop_strings(stops).break_at(2);
    scenario.expect_text(text, script, &StopReason::MaxTokens);
}

/// The text in front of a stop string is passed on first; a break there comes too late.
#[test]
fn task_4_a_complete_stop_string_goes_before_a_break() {
    let reason = StopReason::StopString("or".to_owned());
    scenario(&[4], &[0, 1, 2], 3).stop_strings(&["or"]).break_at(2).expect_text("Hello w", &[0, 1], &reason);
}

#[test]
fn task_4_passes_the_decoders_error_on() {
    let cause = "looks like: an error of decoder.push() is lost; keep it, break, and return it after the loop";
    let script = [0, BytesDecoder::UNKNOWN, 1, 2];
    scenario(&[4], &script, 4).expect_text_error("the scripted decoder does not know token", 2, cause);
    // Also when it is the last token that max_tokens allows.
    scenario(&[4], &script[..2], 2).expect_text_error("the scripted decoder does not know token", 2, cause);
}

#[test]
fn task_4_passes_the_decoders_error_at_the_end_on() {
    let cause = "looks like: an error of decoder.finish() is lost; it is returned like any other";
    scenario(&[4], &[0, 1], 2).finish_fails().expect_text_error("the scripted decoder cannot finish", 2, cause);
    // Where nothing is flushed, nothing fails.
    let script = [0, 3, 4, 5];
    let scenario = scenario(&[4], &script, 9).stop_strings(&["END"]).finish_fails();
    scenario.expect_text("Hello", &script, &StopReason::StopString("END".to_owned()));
}

#[test]
fn task_4_passes_the_models_error_on() {
    let failing = [0, ScriptedModel::ERROR, 1];
    scenario(&[4], &failing, 3).expect_text_error("scripted failure", 2, "looks like: the model's error is lost");
}

// -------------------------------------------------------------------------------------------- helpers

fn load(name: &str) -> Result<Qwen2Model> {
    Qwen2Model::load(&tiny_models::open(name), Dtype::Float32)
}

#[track_caller]
fn must<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("the call returned an error: {error}"))
}

fn as_array(tokens: &[u32]) -> Array {
    Array::from_slice(tokens, &[tokens.len() as i32])
}
