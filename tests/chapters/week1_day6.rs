//! Day 1.6: next-token logits, the generation loop, stop strings, streamed text.

mod scripted;
mod scripted_run;
mod stop_string_rule;
mod tiny_models;

use std::ops::ControlFlow;
use std::time::Duration;

use grader::{Fixture, check_tokens, expect_error, property};
use mlx_rs::{Array, Dtype};
use rstest::rstest;
use scripted::{BytesDecoder, ScriptedModel};
use scripted_run::{run, run_streaming, run_text, run_text_on, strings, text_options, up_to};
use stop_string_rule::{cut_at_stop_string, random_text, undecided};
use tiny_llm::{
    GenerateOptions, LanguageModel, LogitsToKeep, Qwen2Model, Result, Sampler, StopReason, StopStringMatcher, generate,
    next_token_logits,
};

const DAY: &str = "week1_day6";

// -------------------------------------------------------------------------- task 1: next-token logits

#[rstest]
#[case("tiny-qwen2-tied", "one_token")]
#[case("tiny-qwen2-tied", "five_tokens")]
#[case("tiny-qwen2-tied", "seven_tokens")]
#[case("tiny-qwen2-tied", "thirteen_tokens")]
#[case("tiny-qwen2-untied", "five_tokens")]
#[case("tiny-qwen2-untied", "seven_tokens")]
#[case("tiny-qwen2-untied", "thirteen_tokens")]
#[case("tiny-qwen2-bf16", "five_tokens")]
#[case("tiny-qwen2-bf16", "thirteen_tokens")]
#[case("tiny-llama", "one_token")]
#[case("tiny-llama", "seven_tokens")]
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
    check_tokens("the tokens that the model was given", &calls[0].tokens, &[4, 1, 2]);
    assert_eq!(calls[0].keep, LogitsToKeep::Last(1), "only the last position's logits are needed");
    assert!(!calls[0].has_cache, "no cache was passed in");
}

/// Some models answer in bf16, and sampling works in f32.
#[rstest]
fn task_1_next_token_logits_are_f32(#[values(Dtype::Float16, Dtype::Bfloat16)] dtype: Dtype) {
    let model = ScriptedModel::answering(2, &[5]).in_dtype(dtype);
    let logits = next_token_logits(&model, &[4, 1], None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(logits.dtype(), Dtype::Float32, "the dtype of the next token's logits");
    assert_eq!(scripted::most_likely(&logits), 5, "the most likely token");
}

#[test]
fn task_1_next_token_logits_passes_the_cache_on() {
    let model = ScriptedModel::answering(3, &[5]).cached();
    let mut cache = model.new_cache();
    let logits = next_token_logits(&model, &[4, 1, 2], cache.as_deref_mut()).unwrap_or_else(|error| panic!("{error}"));
    assert!(model.calls()[0].has_cache, "the cache must reach the model");
    assert_eq!(scripted::most_likely(&logits), 5, "the most likely token");
}

// ---------------------------------------------------------------------------- task 2: generation loop

/// Token for token what transformers generates.
#[rstest]
#[case("tiny-qwen2-tied", "one_token")]
#[case("tiny-qwen2-tied", "five_tokens")]
#[case("tiny-qwen2-tied", "seven_tokens")]
#[case("tiny-qwen2-tied", "thirteen_tokens")]
#[case("tiny-qwen2-untied", "five_tokens")]
#[case("tiny-qwen2-untied", "seven_tokens")]
#[case("tiny-qwen2-untied", "thirteen_tokens")]
#[case("tiny-qwen2-bf16", "five_tokens")]
#[case("tiny-qwen2-bf16", "thirteen_tokens")]
#[case("tiny-llama", "one_token")]
#[case("tiny-llama", "seven_tokens")]
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
#[case("tiny-qwen2-tied", "one_token")]
#[case("tiny-qwen2-tied", "five_tokens")]
#[case("tiny-qwen2-tied", "seven_tokens")]
#[case("tiny-qwen2-tied", "thirteen_tokens")]
#[case("tiny-qwen2-untied", "five_tokens")]
#[case("tiny-qwen2-untied", "seven_tokens")]
#[case("tiny-qwen2-bf16", "thirteen_tokens")]
#[case("tiny-llama", "one_token")]
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
    let model = ScriptedModel::answering(2, &[7, 8, 9]);
    let generation = must(run(&model, &[4, 1], &up_to(3)));
    check_tokens("generated tokens", &generation.tokens, &[7, 8, 9]);
    let seen: Vec<Vec<u32>> = model.calls().into_iter().map(|call| call.tokens).collect();
    check_tokens("what the model was given at each step", &seen, &[vec![4, 1], vec![4, 1, 7], vec![4, 1, 7, 8]]);
}

#[test]
fn task_2_gives_a_cached_model_the_prompt_and_then_each_new_token() {
    let model = ScriptedModel::answering(3, &[7, 8, 9]).cached();
    let generation = must(run(&model, &[4, 1, 2], &up_to(3)));
    check_tokens("generated tokens", &generation.tokens, &[7, 8, 9]);
    let calls = model.calls();
    let seen: Vec<Vec<u32>> = calls.iter().map(|call| call.tokens.clone()).collect();
    check_tokens("what the model was given at each step", &seen, &[vec![4, 1, 2], vec![7], vec![8]]);
    assert!(calls.iter().all(|call| call.has_cache), "every step uses the cache");
    assert_eq!(model.n_caches(), 1, "one cache for the whole generation");
}

#[rstest]
fn task_2_max_tokens(#[values(0, 1, 2, 5)] max_tokens: usize, #[values(false, true)] cached: bool) {
    let model = ScriptedModel::answering(2, &[7, 8, 9, 10, 11, 12]);
    let model = if cached { model.cached() } else { model };
    let generation = must(run(&model, &[4, 1], &up_to(max_tokens)));
    check_tokens("generated tokens", &generation.tokens, &[7, 8, 9, 10, 11][..max_tokens]);
    assert_eq!(generation.stop_reason, StopReason::MaxTokens);
    assert_eq!(
        model.calls().len(),
        max_tokens,
        "one call of the model per token, and none for a token that nobody wants"
    );
    assert_eq!(generation.text, "", "generate leaves the text empty");
}

#[rstest]
#[case(&[7], 0)]
#[case(&[9], 2)]
#[case(&[10, 9], 2)]
#[case(&[30, 9, 31], 2)]
#[case(&[30, 31, 10], 3)]
fn task_2_every_stop_token_ends_the_answer(#[case] stop_tokens: &[u32], #[case] n_kept: usize) {
    let script = [7, 8, 9, 10, 11, 12];
    let model = ScriptedModel::answering(2, &script);
    let options = GenerateOptions { stop_tokens: stop_tokens.to_vec(), ..up_to(6) };
    let (generation, streamed) = must(run_streaming(&model, &[4, 1], &options));
    check_tokens("generated tokens, without the stop token", &generation.tokens, &script[..n_kept]);
    check_tokens("tokens passed to on_token, without the stop token", &streamed, &script[..n_kept]);
    assert_eq!(generation.stop_reason, StopReason::StopToken(script[n_kept]));
    assert_eq!(model.calls().len(), n_kept + 1, "no call of the model after the stop token");
    assert_eq!(generation.timings.decode_tokens, n_kept, "sampled after the first, the stop token included");
}

/// A stop token ends an answer; in the prompt it is a token like any other.
#[test]
fn task_2_a_stop_token_in_the_prompt_stops_nothing() {
    let model = ScriptedModel::answering(2, &[7, 8]);
    let options = GenerateOptions { stop_tokens: vec![4], ..up_to(2) };
    let generation = must(run(&model, &[4, 4], &options));
    check_tokens("generated tokens", &generation.tokens, &[7, 8]);
    assert_eq!(generation.stop_reason, StopReason::MaxTokens);
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
    check_tokens("(token, calls of the model so far) at on_token", &n_calls_at_token, &[(7, 1), (8, 2), (9, 3)]);
}

#[rstest]
fn task_2_on_token_can_cancel(#[values(1, 2, 4)] at: usize, #[values(4, 9)] max_tokens: usize) {
    let script = [7, 8, 9, 10, 11];
    let model = ScriptedModel::answering(2, &script);
    let mut streamed = Vec::new();
    let mut on_token = |token| {
        streamed.push(token);
        if streamed.len() == at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let generation = must(generate(&model, &[4, 1], &mut Sampler::greedy(), &up_to(max_tokens), &mut on_token));
    check_tokens("generated tokens, with the one at which it was cancelled", &generation.tokens, &script[..at]);
    assert_eq!(generation.stop_reason, StopReason::Cancelled);
    assert_eq!(model.calls().len(), at, "no call of the model after the cancellation");
    check_tokens("tokens passed to on_token", &streamed, &script[..at]);
}

/// Every position may be filled and predicts one more token; then the sequence no longer fits.
#[rstest]
#[case(&[4, 1], 3)]
#[case(&[4, 1, 2], 2)]
#[case(&[4, 1, 2, 3], 1)]
fn task_2_stops_when_the_context_is_full(#[case] prompt: &[u32], #[case] n_generated: usize) {
    let script = [7, 8, 9, 10, 11];
    let model = ScriptedModel::answering(prompt.len(), &script).with_positions(4);
    let generation = must(run(&model, prompt, &up_to(50)));
    check_tokens("generated tokens", &generation.tokens, &script[..n_generated]);
    assert_eq!(generation.stop_reason, StopReason::ContextFull);
    // Asked for no more than fits, the answer is complete.
    let generation = must(run(&model.fresh(), prompt, &up_to(n_generated)));
    assert_eq!(generation.stop_reason, StopReason::MaxTokens, "{n_generated} tokens were asked for and fit");
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
}

#[test]
fn task_2_passes_the_models_error_on() {
    let model = ScriptedModel::answering(1, &[7, ScriptedModel::ERROR, 9]);
    must(run(&model, &[4], &up_to(1)));
    let text = expect_error(run(&model.fresh(), &[4], &up_to(3)), "a model that fails at the second step");
    assert!(text.contains("scripted failure"), "the model's own error must come through, not {text:?}");
}

/// The first token belongs to prefill: its cost is the whole prompt.
#[test]
fn task_2_timings_split_prefill_from_decode() {
    let pause = Duration::from_millis(30);
    let slow_prompt = ScriptedModel::answering(3, &[7, 8, 9]).sleeping(pause, Duration::ZERO);
    let timings = must(run(&slow_prompt, &[4, 1, 2], &up_to(3))).timings;
    assert_eq!((timings.prompt_tokens, timings.decode_tokens), (3, 2), "tokens of the prompt, and after the first");
    assert!(
        timings.prefill >= pause,
        "a prompt that takes {pause:?} was counted as a prefill of {:?}",
        timings.prefill
    );

    let slow_steps = ScriptedModel::answering(3, &[7, 8, 9]).sleeping(Duration::ZERO, pause);
    let timings = must(run(&slow_steps, &[4, 1, 2], &up_to(3))).timings;
    assert!(timings.decode >= 2 * pause, "2 steps of {pause:?} each were counted as a decode of {:?}", timings.decode);

    let timings = must(run(&ScriptedModel::answering(1, &[7]), &[4], &up_to(1))).timings;
    assert_eq!((timings.decode_tokens, timings.decode), (0, Duration::ZERO), "one token: nothing to decode");
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
    let (mut texts, mut found) = (Vec::new(), None);
    for piece in pieces {
        let outcome = matcher.push(piece);
        texts.push(outcome.text);
        found = outcome.matched;
        if found.is_some() {
            break;
        }
    }
    check_tokens(
        "the text released at each piece",
        &texts,
        &released.iter().map(|&text| text.to_owned()).collect::<Vec<_>>(),
    );
    assert_eq!(found.as_deref(), matched, "the stop string that ended the text");
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
            let outcome = matcher.push(piece);
            released.push_str(&outcome.text);
            matched = outcome.matched;
            if matched.is_none() {
                let held_back = undecided(&received, &stop_strings);
                assert_eq!(released, received[..received.len() - held_back], "released after {received:?}; {context}");
            }
        }
        if matched.is_none() {
            released.push_str(&matcher.finish());
        }
        assert_eq!((released, matched), (expected, expected_match), "{context}");
    });
}

fn matcher(stop_strings: &[&str]) -> StopStringMatcher {
    StopStringMatcher::new(&strings(stop_strings))
}

// ----------------------------------------------------------------------------- task 4: streaming text

#[test]
fn task_4_text_is_streamed_as_it_comes() {
    let (generation, pieces) = must(run_text(&[0, 1, 2], &text_options(3, &[]), usize::MAX));
    check_tokens("pieces passed to on_text", &pieces, &strings(&["Hello", " wor", "ld"]));
    assert_eq!(generation.text, "Hello world");
    check_tokens("generated tokens", &generation.tokens, &[0, 1, 2]);
    assert_eq!(generation.stop_reason, StopReason::MaxTokens);
    assert_eq!(generation.timings.decode_tokens, 2, "the timings are those of generate");
}

/// A character may need several tokens; until it is complete there is nothing to print.
#[test]
fn task_4_never_prints_half_a_character() {
    let (generation, pieces) = must(run_text(&[0, 7, 8, 2], &text_options(4, &[]), usize::MAX));
    check_tokens("pieces passed to on_text (none is empty)", &pieces, &strings(&["Hello", "🌍", "ld"]));
    assert_eq!(generation.text, "Hello🌍ld");
}

#[test]
fn task_4_flushes_the_decoder_at_the_end() {
    let (generation, pieces) = must(run_text(&[0, 7], &text_options(2, &[]), usize::MAX));
    check_tokens("pieces passed to on_text", &pieces, &strings(&["Hello", "\u{FFFD}"]));
    assert_eq!(generation.text, "Hello\u{FFFD}", "what the decoder still held");
}

#[test]
fn task_4_stops_at_a_stop_string_over_several_tokens() {
    let script = [0, 3, 4, 5, 1, 2];
    let model = ScriptedModel::answering(1, &script);
    let (generation, pieces) = must(run_text_on(&model, &text_options(6, &["END"]), usize::MAX));
    check_tokens("pieces passed to on_text", &pieces, &strings(&["Hello"]));
    assert_eq!(generation.text, "Hello", "neither the stop string nor anything after it");
    assert_eq!(generation.stop_reason, StopReason::StopString("END".to_owned()));
    assert_eq!(model.calls().len(), 4, "calls of the model: none after the stop string");
    check_tokens("generated tokens, with those of the stop string", &generation.tokens, &script[..4]);
}

#[rstest]
#[case::wins_over_max_tokens(&[0, 3, 4, 5], 4, &["END"], "Hello", Some("END"))]
#[case::text_before_it_in_the_same_token(&[0, 1], 2, &["or"], "Hello w", Some("or"))]
#[case::several(&[0, 1, 2], 3, &["xyz", "o w", "Hello world"], "Hell", Some("o w"))]
#[case::false_alarm_held_back_then_printed(&[3, 4, 0], 3, &["END"], "ENHello", None)]
#[case::held_back_at_the_end_is_printed(&[0, 3, 4], 3, &["END"], "HelloEN", None)]
#[case::in_a_character_of_two_tokens(&[0, 7, 8, 1], 4, &["🌍"], "Hello", Some("🌍"))]
#[case::completed_by_the_decoders_rest(&[0, 7], 2, &["o\u{FFFD}"], "Hell", Some("o\u{FFFD}"))]
fn task_4_stop_strings(
    #[case] script: &[u32],
    #[case] max_tokens: usize,
    #[case] stop_strings: &[&str],
    #[case] text: &str,
    #[case] matched: Option<&str>,
) {
    let (generation, pieces) = must(run_text(script, &text_options(max_tokens, stop_strings), usize::MAX));
    assert_eq!(generation.text, text);
    assert_eq!(pieces.concat(), generation.text, "the pieces together are the text");
    assert!(pieces.iter().all(|piece| !piece.is_empty()), "empty pieces are not passed on: {pieces:?}");
    let expected = matched.map_or(StopReason::MaxTokens, |stop| StopReason::StopString(stop.to_owned()));
    assert_eq!(generation.stop_reason, expected);
}

/// What may have become a stop string is text after all when a stop token, or a full context, ends the answer.
#[test]
fn task_4_prints_what_was_held_back_before_a_stop_token() {
    let options = GenerateOptions { stop_tokens: vec![20], ..text_options(9, &["END"]) };
    let (generation, pieces) = must(run_text(&[0, 3, 4, 20], &options, usize::MAX));
    assert_eq!((generation.text.as_str(), pieces.concat().as_str()), ("HelloEN", "HelloEN"));
    assert_eq!(generation.stop_reason, StopReason::StopToken(20));
    check_tokens("generated tokens", &generation.tokens, &[0, 3, 4]);

    let model = ScriptedModel::answering(1, &[0, 3, 4, 5]).with_positions(2);
    let (generation, pieces) = must(run_text_on(&model, &text_options(9, &["END"]), usize::MAX));
    assert_eq!((generation.text.as_str(), pieces.concat().as_str()), ("HelloE", "HelloE"));
    assert_eq!(generation.stop_reason, StopReason::ContextFull);
}

#[test]
fn task_4_on_text_can_cancel() {
    let model = ScriptedModel::answering(1, &[0, 1, 2, 6]);
    let (generation, pieces) = must(run_text_on(&model, &text_options(4, &[]), 2));
    check_tokens(
        "pieces passed to on_text, with the one at which it was cancelled",
        &pieces,
        &strings(&["Hello", " wor"]),
    );
    assert_eq!(generation.text, "Hello wor");
    assert_eq!(generation.stop_reason, StopReason::Cancelled);
    assert_eq!(model.calls().len(), 2, "calls of the model: none after the cancellation");
}

#[test]
fn task_4_passes_the_decoders_error_on() {
    must(run_text(&[0, 1], &text_options(2, &[]), usize::MAX));
    let model = ScriptedModel::answering(1, &[0, BytesDecoder::UNKNOWN, 1, 2]);
    let text = expect_error(run_text_on(&model, &text_options(4, &[]), usize::MAX), "a token that the decoder refuses");
    assert!(text.contains("scripted decoder"), "the decoder's own error must come through, not {text:?}");
    assert_eq!(model.calls().len(), 2, "calls of the model: none after the error");
}

#[test]
fn task_4_passes_the_models_error_on() {
    must(run_text(&[0, 1], &text_options(2, &[]), usize::MAX));
    let failing = [0, ScriptedModel::ERROR, 1];
    expect_error(run_text(&failing, &text_options(3, &[]), usize::MAX), "a model that fails at the second step");
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
