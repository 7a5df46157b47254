//! Generation one step ahead, against generation step by step.

use std::ops::ControlFlow;

use mlx_rs::{Array, Dtype};
use tiny_llm::{
    Device, GenerateOptions, Generation, KvCache, LanguageModel, LogitsToKeep, Qwen2Model, Result, Sampler, Stage,
    StopReason, generate,
};

use crate::refusals::expect_invalid_argument;
use crate::scripted::ScriptedModel;
use crate::tiled::must;
use crate::tiny_models;

/// A model that works ahead or does not, whatever the machine has.
struct Either<'a> {
    model: &'a dyn LanguageModel,
    works_ahead: bool,
    max_positions: usize,
}

impl LanguageModel for Either<'_> {
    fn forward(&self, token_ids: &Array, cache: Option<&mut [Box<dyn KvCache>]>, keep: LogitsToKeep) -> Result<Array> {
        self.model.forward(token_ids, cache, keep)
    }

    fn max_positions(&self) -> usize {
        self.max_positions
    }

    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn new_cache(&self) -> Option<Vec<Box<dyn KvCache>>> {
        self.model.new_cache()
    }

    fn works_ahead(&self) -> bool {
        self.works_ahead
    }
}

/// Generates greedily; the token `cancel_at`, counted from one, cancels. Also returns what `on_token` received.
fn run(
    model: &Either<'_>,
    prompt: &[u32],
    options: &GenerateOptions,
    cancel_at: usize,
) -> Result<(Generation, Vec<u32>)> {
    let mut streamed = Vec::new();
    let mut on_token = |token| {
        streamed.push(token);
        if streamed.len() == cancel_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let generation = generate(model, prompt, &mut Sampler::greedy(), options, &mut on_token)?;
    Ok((generation, streamed))
}

/// Every way to end, on a tiny model for the GPU.
pub fn check_ends(name: &str, dtype: Dtype) {
    let model = must(Qwen2Model::load_on(Device::Gpu, &tiny_models::open(name), dtype, Stage::Flash));
    let prompt = [3_u32, 1, 4, 1, 5];
    let up_to = |max_tokens| GenerateOptions { max_tokens, ..GenerateOptions::default() };
    let compare = |what: &str, options: &GenerateOptions, max_positions: usize, cancel_at: usize| {
        let [(expected, expected_stream), (got, got_stream)] = [false, true].map(|works_ahead| {
            must(run(&Either { model: &model, works_ahead, max_positions }, &prompt, options, cancel_at))
        });
        assert_eq!(got.tokens, expected.tokens, "tokens, {what}");
        assert_eq!(got.stop_reason, expected.stop_reason, "the reason for stopping, {what}");
        assert_eq!(got_stream, expected_stream, "what the callback received, {what}");
        let counts = |generation: &Generation| (generation.timings.prompt_tokens, generation.timings.decode_tokens);
        assert_eq!(counts(&got), counts(&expected), "the tokens that were timed, {what}");
        expected
    };
    let all_positions = model.max_positions();
    for max_tokens in [0, 1, 2, 6] {
        let generation = compare(&format!("at most {max_tokens}"), &up_to(max_tokens), all_positions, 0);
        assert_eq!((generation.tokens.len(), generation.stop_reason), (max_tokens, StopReason::MaxTokens));
    }
    let tokens = compare("at most 6", &up_to(6), all_positions, 0).tokens;
    for stop_token in [tokens[0], tokens[5]] {
        let options = GenerateOptions { stop_tokens: vec![stop_token], ..up_to(6) };
        let generation = compare(&format!("stop token {stop_token}"), &options, all_positions, 0);
        assert_eq!(generation.stop_reason, StopReason::StopToken(stop_token));
    }
    for cancel_at in [1, 4, 6] {
        let generation = compare(&format!("cancelled at {cancel_at}"), &up_to(6), all_positions, cancel_at);
        assert_eq!((generation.tokens.len(), generation.stop_reason), (cancel_at, StopReason::Cancelled));
    }
    for max_positions in [5, 6, 8] {
        let generation = compare(&format!("{max_positions} positions"), &up_to(6), max_positions, 0);
        // The last token needs no position: nothing follows it.
        assert_eq!((generation.tokens.len(), generation.stop_reason), (max_positions - 4, StopReason::ContextFull));
    }
}

/// Errors count where they would without working ahead, and not in a step that nobody needs.
pub fn check_errors() {
    let answer = |script: &[u32], stop_tokens: &[u32]| {
        let model = ScriptedModel::answering(2, script).cached();
        let options =
            GenerateOptions { max_tokens: 4, stop_tokens: stop_tokens.to_vec(), ..GenerateOptions::default() };
        let model = Either { model: &model, works_ahead: true, max_positions: model.max_positions() };
        run(&model, &[4, 1], &options, 0).map(|(generation, _)| generation)
    };
    assert_eq!(must(answer(&[7, 8, 9, 10], &[])).tokens, [7, 8, 9, 10]);
    for (failure, what) in [(ScriptedModel::NAN, "logits of NaN"), (ScriptedModel::ERROR, "a model that fails")] {
        expect_invalid_argument(answer(&[failure], &[]), &format!("{what}, at the first token"));
        expect_invalid_argument(answer(&[7, 8, failure], &[]), &format!("{what}, at the third token"));
        let generation = must(answer(&[7, 8, failure], &[8]));
        assert_eq!(generation.tokens, [7], "tokens before a stop token, then {what}");
        assert_eq!(generation.stop_reason, StopReason::StopToken(8), "a stop token, then {what}");
    }
    // Without a cache a step would need tokens that nobody has read.
    let model = ScriptedModel::answering(2, &[7]);
    let model = Either { model: &model, works_ahead: true, max_positions: 64 };
    expect_invalid_argument(run(&model, &[4, 1], &GenerateOptions::default(), 0), "working ahead without a cache");
}

/// Behind the first token each step is started before the callback receives the token before it, and no step more than are needed.
pub fn check_order() {
    let scripted = ScriptedModel::answering(2, &[7, 8, 9]).cached();
    let model = Either { model: &scripted, works_ahead: true, max_positions: 64 };
    let options = GenerateOptions { max_tokens: 3, ..GenerateOptions::default() };
    let mut n_calls = Vec::new();
    let mut on_token = |_| {
        n_calls.push(scripted.calls().len());
        ControlFlow::Continue(())
    };
    must(generate(&model, &[4, 1], &mut Sampler::greedy(), &options, &mut on_token));
    assert_eq!(n_calls, [1, 3, 3], "calls of the model when each token arrived");
    let seen: Vec<_> = scripted.calls().into_iter().map(|call| call.tokens).collect();
    assert_eq!(seen, [vec![4, 1], vec![7], vec![8]], "what the model was given at each step");
}
