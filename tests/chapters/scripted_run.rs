//! Generation with a scripted model: what goes in, what must come out, and what known mistakes make of it.

use std::fmt::{self, Debug};
use std::ops::ControlFlow;

use tiny_llm::{GenerateOptions, Generation, LanguageModel, Result, Sampler, StopReason, generate, generate_text};

use crate::named::{check_that, fail};
use crate::scripted::{BytesDecoder, Call, ScriptedModel};

/// Tokens and their bytes in these tests: token i stands for TEXTS[i].
pub const TEXTS: [&[u8]; 10] =
    [b"Hello", b" wor", b"ld", b"E", b"N", b"D", "👋".as_bytes(), &[0xF0, 0x9F], &[0x8C, 0x8D], b"D\xF0\x9F"];

/// A request, and the model that answers it.
#[derive(Clone)]
pub struct Scenario {
    prompt: Vec<u32>,
    /// What the model answers after the prompt, token by token.
    script: Vec<u32>,
    options: GenerateOptions,
    n_positions: usize,
    is_cached: bool,
    /// The call of `on_token` or `on_text` that breaks, counted from 1. 0: none does.
    break_at: usize,
    finish_fails: bool,
}

/// What came out.
struct Ran<T> {
    generation: Generation,
    /// What the callback received.
    streamed: Vec<T>,
    calls: Vec<Call>,
    n_caches: usize,
}

pub fn scenario(prompt: &[u32], script: &[u32], max_tokens: usize) -> Scenario {
    Scenario {
        prompt: prompt.to_vec(),
        script: script.to_vec(),
        options: up_to(max_tokens),
        n_positions: 64,
        is_cached: false,
        break_at: 0,
        finish_fails: false,
    }
}

pub fn up_to(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, stop_tokens: Vec::new(), stop_strings: Vec::new() }
}

/// Generates greedily, and lets nobody interfere.
pub fn run(model: &dyn LanguageModel, prompt: &[u32], options: &GenerateOptions) -> Result<Generation> {
    generate(model, prompt, &mut Sampler::greedy(), options, &mut |_| ControlFlow::Continue(()))
}

impl Scenario {
    pub fn stop_tokens(mut self, stop_tokens: &[u32]) -> Self {
        self.options.stop_tokens = stop_tokens.to_vec();
        self
    }

    pub fn stop_strings(mut self, stop_strings: &[&str]) -> Self {
        self.options.stop_strings = strings(stop_strings);
        self
    }

    pub fn positions(self, n_positions: usize) -> Self {
        Self { n_positions, ..self }
    }

    pub fn cached(self, is_cached: bool) -> Self {
        Self { is_cached, ..self }
    }

    /// The callback breaks at this call, counted from 1.
    pub fn break_at(self, break_at: usize) -> Self {
        Self { break_at, ..self }
    }

    /// `TextDecoder::finish` returns an error.
    pub fn finish_fails(self) -> Self {
        Self { finish_fails: true, ..self }
    }

    pub fn model(&self) -> ScriptedModel {
        let model = ScriptedModel::answering(self.prompt.len(), &self.script).with_positions(self.n_positions);
        if self.is_cached { model.cached() } else { model }
    }

    /// Runs `generate` and says nothing about the outcome.
    pub fn run(&self) {
        let _ = run(&self.model(), &self.prompt, &self.options);
    }

    /// Runs `generate`: these tokens are kept, for this reason, and everything else follows from them.
    #[track_caller]
    pub fn expect_tokens(&self, kept: &[u32], reason: &StopReason) {
        let model = self.model();
        let mut streamed = Vec::new();
        let mut on_token = |token| {
            streamed.push(token);
            self.answer_of_call(streamed.len())
        };
        let result = generate(&model, &self.prompt, &mut Sampler::greedy(), &self.options, &mut on_token);
        let ran = self.ran(result, streamed, &model);
        let expected = Expected { scenario: self, kept, reason };
        expected.check_calls(&ran.calls, &ran.generation.stop_reason);
        expected.check_tokens(&ran);
        expected.check_the_rest(&ran);
        let text = &ran.generation.text;
        self.equal("text, which `generate` leaves empty", text, &String::new(), None);
    }

    /// Runs `generate_text`: these tokens are kept, and this is their text.
    #[track_caller]
    pub fn expect_text(&self, text: &str, kept: &[u32], reason: &StopReason) {
        let (ran, pieces) = self.run_text();
        let expected = Expected { scenario: self, kept, reason };
        let none_is_empty = pieces.iter().all(|piece| !piece.is_empty());
        let cause = "looks like: on_text is called with an empty string; what is empty is not passed on";
        check_that(&self.to_string(), none_is_empty, || format!("pieces passed to on_text: {pieces:?}"), Some(cause));
        let shows_stop_string = matches!(reason, StopReason::StopString(stop) if pieces.concat().contains(stop));
        if matches!(reason, StopReason::Cancelled | StopReason::StopString(_)) && !shows_stop_string {
            expected.check_number_of_calls(ran.calls.len());
        }
        let cause = expected.cause_of_text(&pieces.concat(), text);
        self.equal("the text passed to on_text, joined", &pieces.concat(), &text.to_owned(), cause);
        let cause = ran.generation.text.is_empty().then_some("looks like: Generation::text is not filled in");
        self.equal("Generation::text", &ran.generation.text, &text.to_owned(), cause);
        expected.check_reason(&ran.generation.stop_reason);
        expected.check_number_of_calls(ran.calls.len());
        expected.check_tokens(&Ran { streamed: ran.generation.tokens.clone(), ..ran });
    }

    /// The pieces that `on_text` receives.
    #[track_caller]
    pub fn expect_pieces(&self, expected: &[&str]) {
        let (_, pieces) = self.run_text();
        let at_once = pieces.len() == 1 && expected.len() > 1;
        let cause = at_once.then_some(
            "looks like: all text is passed on at the end; each piece is passed on when \
         its token comes",
        );
        self.equal("pieces passed to on_text", &pieces, &strings(expected), cause);
    }

    /// `generate_text` must return the error that says `text`.
    #[track_caller]
    pub fn expect_text_error(&self, text: &str, n_calls: usize, cause: &str) {
        let model = self.model();
        let (result, _) = self.generate_text(&model);
        let got = match &result {
            Ok(generation) => format!("no error, and the text {:?}", generation.text),
            Err(error) => error.to_string(),
        };
        let holds = result.is_err() && got.contains(text);
        check_that(
            &self.to_string(),
            holds,
            || format!("expected an error that says {text:?}, got: {got}"),
            Some(cause),
        );
        self.equal("calls of the model, none after the error", &model.calls().len(), &n_calls, None);
    }

    #[track_caller]
    fn run_text(&self) -> (Ran<u32>, Vec<String>) {
        let model = self.model();
        let (result, pieces) = self.generate_text(&model);
        (self.ran(result, Vec::new(), &model), pieces)
    }

    fn generate_text(&self, model: &ScriptedModel) -> (Result<Generation>, Vec<String>) {
        let mut pieces = Vec::new();
        let mut on_text = |piece: &str| {
            pieces.push(piece.to_owned());
            self.answer_of_call(pieces.len())
        };
        let decoder = BytesDecoder::new(&TEXTS);
        let mut decoder = if self.finish_fails { decoder.failing_at_the_end() } else { decoder };
        let sampler = &mut Sampler::greedy();
        (generate_text(model, &mut decoder, &self.prompt, sampler, &self.options, &mut on_text), pieces)
    }

    fn answer_of_call(&self, call: usize) -> ControlFlow<()> {
        if call == self.break_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    #[track_caller]
    fn ran<T>(&self, result: Result<Generation>, streamed: Vec<T>, model: &ScriptedModel) -> Ran<T> {
        match result {
            Ok(generation) => Ran { generation, streamed, calls: model.calls(), n_caches: model.n_caches() },
            Err(error) => {
                let error = error.to_string();
                let cause = error
                    .contains("positions")
                    .then_some("looks like: the model is called with more tokens than it has positions");
                fail(&self.to_string(), &format!("the call returned an error: {error}"), cause)
            }
        }
    }

    #[track_caller]
    fn equal<T: PartialEq + Debug>(&self, what: &str, got: &T, expected: &T, cause: Option<&str>) {
        let message = || format!("{what}\n  got      {got:?}\n  expected {expected:?}");
        check_that(&self.to_string(), got == expected, message, cause);
    }
}

/// The request in words, for a failure's first lines.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = |&token: &u32| match token {
            ScriptedModel::NAN => "NaN".to_owned(),
            ScriptedModel::ERROR => "an error".to_owned(),
            token => token.to_string(),
        };
        let script: Vec<String> = self.script.iter().map(token).collect();
        write!(
            f,
            "prompt {:?}; the model answers {}, then {} wherever nobody should look, has {} positions and {} cache\n\
             max_tokens {}, stop_tokens {:?}, stop_strings {:?}",
            self.prompt,
            script.join(" "),
            ScriptedModel::TRAP,
            self.n_positions,
            if self.is_cached { "a" } else { "no" },
            self.options.max_tokens,
            self.options.stop_tokens,
            self.options.stop_strings,
        )?;
        if self.break_at > 0 {
            write!(f, "; the callback breaks at its call {}", self.break_at)?;
        }
        Ok(())
    }
}

struct Expected<'a> {
    scenario: &'a Scenario,
    kept: &'a [u32],
    reason: &'a StopReason,
}

impl Expected<'_> {
    fn n_steps(&self) -> usize {
        self.kept.len() + usize::from(matches!(self.reason, StopReason::StopToken(_)))
    }

    /// The whole sequence before step i.
    fn sequence(&self, step: usize) -> Vec<u32> {
        [&self.scenario.prompt[..], &self.kept[..step.min(self.kept.len())]].concat()
    }

    #[track_caller]
    fn check_calls(&self, calls: &[Call], reason: &StopReason) {
        let is_cached = self.scenario.is_cached;
        let seen: Vec<Vec<u32>> = calls.iter().map(|call| call.tokens.clone()).collect();
        let unseen = |step: usize| if is_cached && step > 0 { vec![self.kept[step - 1]] } else { self.sequence(step) };
        let expected: Vec<_> = (0..self.n_steps()).map(unseen).collect();
        let cause = self.cause_of_calls(&seen, &expected, reason);
        self.scenario.equal("what the model was given at each step", &seen, &expected, cause);
        let has_cache: Vec<bool> = calls.iter().map(|call| call.has_cache).collect();
        let cause = "looks like: the cache of model.new_cache() is not passed to every step";
        let expected = vec![is_cached; has_cache.len()];
        self.scenario.equal("whether each call had the cache", &has_cache, &expected, Some(cause));
    }

    fn cause_of_calls(&self, seen: &[Vec<u32>], expected: &[Vec<u32>], reason: &StopReason) -> Option<&'static str> {
        let (prompt, is_cached) = (&self.scenario.prompt, self.scenario.is_cached);
        let whole: Vec<_> = (0..seen.len()).map(|step| self.sequence(step)).collect();
        let all = |holds: &dyn Fn(usize, &[u32]) -> bool| {
            seen.len() > 1 && seen.iter().enumerate().skip(1).all(|(step, tokens)| holds(step, tokens))
        };
        if let StopReason::StopToken(token) = reason
            && seen.is_empty()
            && prompt.contains(token)
        {
            return Some("looks like: a stop token in the prompt ends the answer; there it is a token like any other");
        }
        let less_the_prompt = self.scenario.options.max_tokens.saturating_sub(prompt.len());
        if *reason == StopReason::MaxTokens && seen.len() < expected.len() && seen.len() == less_the_prompt {
            return Some("looks like: the prompt's tokens count in max_tokens; only what was generated does");
        }
        if seen.len() > expected.len() && seen.starts_with(expected) {
            return Some(match self.reason {
                StopReason::MaxTokens => {
                    "looks like: one token too many; max_tokens is compared before each model call"
                }
                StopReason::StopToken(_) => "looks like: a stop token does not end the answer; any of stop_tokens does",
                StopReason::Cancelled => "looks like: the model is called although the callback returned Break",
                _ => "looks like: the model is called after the answer has ended",
            });
        }
        if seen.len() < expected.len() && expected.starts_with(seen) {
            return Some(match self.reason {
                StopReason::ContextFull => {
                    "looks like: it stops one position too early; a sequence of max_positions tokens still fits"
                }
                StopReason::MaxTokens if seen.is_empty() => "looks like: the model is never called",
                _ => "looks like: it stops one step too early",
            });
        }
        if all(&|_, tokens| tokens == &prompt[..]) {
            Some("looks like: the model is given the prompt alone at every step; append each new token to the sequence")
        } else if !is_cached && all(&|_, tokens| tokens.len() == 1) {
            Some(
                "looks like: the model is given only the newest token; without a cache it needs the whole sequence \
                 every step",
            )
        } else if all(&|step, tokens| tokens == &whole[step][prompt.len()..]) {
            Some("looks like: after the first token the prompt is dropped from the sequence")
        } else if is_cached && seen == whole {
            Some(
                "looks like: a model with a cache is given the whole sequence; from the second step on it gets the \
                 newest token",
            )
        } else if is_cached && all(&|step, tokens| tokens.len() == 2 && whole[step].ends_with(tokens)) {
            Some(
                "looks like: a model with a cache is given the newest two tokens; it has seen the one before the \
                 newest",
            )
        } else if all(&|step, tokens| tokens.len() == whole[step].len() + 1 && tokens.starts_with(&whole[step])) {
            Some("looks like: the newest token is appended twice to what the model is given")
        } else if seen.first().is_some_and(|first| first.len() < prompt.len()) {
            Some("looks like: the first step is not given the whole prompt")
        } else {
            None
        }
    }

    #[track_caller]
    fn check_tokens(&self, ran: &Ran<u32>) {
        let tokens = &ran.generation.tokens;
        self.scenario.equal("tokens", tokens, &self.kept.to_vec(), self.cause_of_tokens(tokens, "tokens"));
        let streamed = &ran.streamed;
        let cause = self.cause_of_tokens(streamed, "on_token");
        self.scenario.equal("tokens passed to on_token", streamed, &self.kept.to_vec(), cause);
    }

    fn cause_of_tokens(&self, tokens: &[u32], place: &str) -> Option<&'static str> {
        let kept = self.kept;
        let is_result = place == "tokens";
        let next = self.scenario.script.get(kept.len()).copied();
        let one_more = tokens.len() == kept.len() + 1 && tokens.starts_with(kept) && tokens.last().copied() == next;
        if is_result && tokens == self.sequence(kept.len()) {
            Some("looks like: the prompt stands in `tokens`; only what was generated belongs there")
        } else if is_result && tokens.first() == self.scenario.prompt.last() && tokens.get(1..) == Some(kept) {
            Some("looks like: the prompt's last token stands in `tokens`; only what was generated belongs there")
        } else if one_more && matches!(self.reason, StopReason::StopToken(_)) {
            Some(if is_result {
                "looks like: the stop token is part of the answer; it is compared before it is kept"
            } else {
                "looks like: the stop token is passed to on_token; it is compared before"
            })
        } else if one_more {
            Some("looks like: one token too many; max_tokens is compared before each model call")
        } else if kept.len() > 1 && tokens == &kept[1..] {
            Some("looks like: the first generated token (the one that prefill gives) is missing")
        } else if !kept.is_empty() && tokens == &kept[..kept.len() - 1] {
            Some(match self.reason {
                StopReason::Cancelled => {
                    "looks like: the token at which the callback returned Break is missing; it stays"
                }
                StopReason::StopString(_) => {
                    "looks like: the token that completed the stop string is missing; it stays in `tokens`"
                }
                _ => "looks like: the last token is missing",
            })
        } else {
            None
        }
    }

    #[track_caller]
    fn check_reason(&self, reason: &StopReason) {
        let cause = match (reason, self.reason) {
            (StopReason::Cancelled, StopReason::StopString(_)) if self.scenario.break_at > 0 => Some(
                "looks like: a Break at the text in front of a complete stop string is the reason; the answer \
                 had ended",
            ),
            (StopReason::Cancelled, StopReason::StopString(_)) => Some(
                "looks like: the break at a stop string is taken for the caller's; a stop string that is complete is \
                 the reason",
            ),
            (StopReason::Cancelled, StopReason::MaxTokens | StopReason::StopToken(_) | StopReason::ContextFull) => {
                Some("looks like: a Break in the final flush changes the reason; generation has ended by then")
            }
            (_, StopReason::Cancelled) => Some("looks like: a Break is reported as another reason; it is Cancelled"),
            (StopReason::MaxTokens, StopReason::ContextFull) => {
                Some("looks like: a full context is reported as MaxTokens")
            }
            (StopReason::ContextFull, StopReason::MaxTokens) => {
                Some("looks like: the positions are compared before max_tokens; MaxTokens comes first")
            }
            (_, StopReason::StopString(_)) => {
                Some("looks like: a stop string that is complete is not the reason; it goes before every other")
            }
            _ => None,
        };
        self.scenario.equal("stop_reason", reason, self.reason, cause);
    }

    #[track_caller]
    fn check_number_of_calls(&self, n_calls: usize) {
        let cause = match self.reason {
            StopReason::StopString(_) => "looks like: the model is called after the stop string was complete",
            StopReason::Cancelled => "looks like: the model is called although the callback returned Break",
            _ => "looks like: the model is called once more than there are tokens",
        };
        let cause = (n_calls > self.n_steps()).then_some(cause);
        self.scenario.equal("calls of the model", &n_calls, &self.n_steps(), cause);
    }

    #[track_caller]
    fn check_the_rest(&self, ran: &Ran<u32>) {
        self.check_reason(&ran.generation.stop_reason);
        let timings = ran.generation.timings;
        let cause = "looks like: timings.prompt_tokens is not filled in with the length of the prompt";
        let n_prompt = self.scenario.prompt.len();
        self.scenario.equal("timings.prompt_tokens", &timings.prompt_tokens, &n_prompt, Some(cause));
        let n_decoded = self.n_steps().saturating_sub(1);
        let cause = if timings.decode_tokens == self.n_steps() {
            Some("looks like: the first token counts as decoded; prefill gives it")
        } else if timings.decode_tokens + 1 == n_decoded && matches!(self.reason, StopReason::StopToken(_)) {
            Some("looks like: the stop token is not counted in decode_tokens; it was sampled like any other")
        } else if timings.decode_tokens == 0 {
            Some("looks like: decode_tokens is not counted")
        } else {
            None
        };
        self.scenario.equal("timings.decode_tokens", &timings.decode_tokens, &n_decoded, cause);
        let cause = "looks like: model.new_cache() is asked again; one cache serves the whole generation";
        self.scenario.equal("calls of model.new_cache()", &ran.n_caches, &1, (ran.n_caches > 1).then_some(cause));
    }

    fn cause_of_text(&self, got: &str, text: &str) -> Option<&'static str> {
        if let StopReason::StopString(stop) = self.reason
            && got.len() > text.len()
            && got.contains(stop.as_str())
        {
            return Some(if stop.contains('\u{FFFD}') {
                "looks like: the decoder's rest does not go through the matcher, so a stop string in it is missed"
            } else {
                "looks like: the stop string itself is shown"
            });
        }
        let ended = matches!(self.reason, StopReason::StopString(_) | StopReason::Cancelled);
        if ended && got.len() > text.len() && got.starts_with(text) {
            return Some("looks like: something is shown after a stop string or a Break; nothing is flushed then");
        }
        let missing = text.strip_prefix(got).filter(|missing| !missing.is_empty())?;
        Some(if missing.contains('\u{FFFD}') {
            "looks like: what the decoder still held is lost; decoder.finish() is flushed however generation ended \
             by itself"
        } else if ended {
            "looks like: text in front of the stop string, or the piece that was broken at, is missing"
        } else {
            "looks like: what was held back is lost; the matcher's rest is flushed when generation ends by itself"
        })
    }
}

pub fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}
