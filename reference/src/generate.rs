//! The autoregressive loop: prefill the prompt, then decode one token at a time.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};

use crate::ahead::generate_ahead;
use crate::{Error, KvCache, LanguageModel, LogitsToKeep, Result, Sampler, StopStringMatcher};

/// When to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateOptions {
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// Any of these ends the answer and is not part of it.
    pub stop_tokens: Vec<u32>,
    /// Any of these ends the answer and is not part of its text; looked at by [`generate_text`] only.
    pub stop_strings: Vec<String>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { max_tokens: 256, stop_tokens: Vec::new(), stop_strings: Vec::new() }
    }
}

/// Why generation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// [`GenerateOptions::max_tokens`] were generated.
    MaxTokens,
    /// The model produced this stop token.
    StopToken(u32),
    /// The text contained this stop string.
    StopString(String),
    /// The sequence reached [`LanguageModel::max_positions`].
    ContextFull,
    /// The callback asked to stop.
    Cancelled,
}

/// How long the two phases took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// From the start to the first sampled token, which belongs to this phase: the time to first token.
    pub prefill: Duration,
    /// Tokens sampled after the first one, a stop token included.
    pub decode_tokens: usize,
    /// From the first sampled token to the last one, a stop token included; zero if there was only one.
    pub decode: Duration,
}

/// The outcome of [`generate`] or [`generate_text`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// What was generated, without the prompt and without a stop token.
    pub tokens: Vec<u32>,
    /// The text of the tokens up to a stop string; empty from [`generate`].
    pub text: String,
    /// Why generation ended.
    pub stop_reason: StopReason,
    /// How long it took.
    pub timings: Timings,
}

/// Turns tokens into text piece by piece, never splitting a character.
pub trait TextDecoder {
    /// The text that is complete now that `token` has arrived; often empty.
    ///
    /// # Errors
    /// When the token does not exist.
    fn push(&mut self, token: u32) -> Result<String>;

    /// What is left when no more tokens come.
    ///
    /// # Errors
    /// When what is left cannot be decoded.
    fn finish(&mut self) -> Result<String>;
}

impl TextDecoder for checkpoint::DecodeStream<'_> {
    fn push(&mut self, token: u32) -> Result<String> {
        Ok(checkpoint::DecodeStream::push(self, token)?)
    }

    fn finish(&mut self) -> Result<String> {
        Ok(checkpoint::DecodeStream::finish(self)?)
    }
}

/// Logits for the token that follows `tokens`: `[1, V]`, f32.
///
/// With a `cache`, `tokens` are those that it has not seen yet; without, the whole sequence.
///
/// # Errors
/// As [`LanguageModel::forward`].
pub fn next_token_logits(
    model: &dyn LanguageModel,
    tokens: &[u32],
    cache: Option<&mut [Box<dyn KvCache>]>,
) -> Result<Array> {
    // [task 1.6.1] next_token_logits
    let token_ids = Array::from_slice(tokens, &[1, tokens.len() as i32]);
    let logits = model.forward(&token_ids, cache, LogitsToKeep::Last(1))?; // [1, 1, V]
    Ok(logits.try_index((.., -1))?.as_dtype(Dtype::Float32)?)
    // [end]
}

/// Generates tokens after `prompt` until something in `options` or the callback ends it.
///
/// `on_token` receives each token as soon as it is known; a stop token is not passed on. When it breaks, the token
/// that it received is still part of the result.
///
/// # Errors
/// [`Error::InvalidArgument`] for an empty prompt, one that is longer than the model's positions, or a token that is
/// not in the vocabulary; and whatever the model or the sampler refuses.
pub fn generate(
    model: &dyn LanguageModel,
    prompt: &[u32],
    sampler: &mut Sampler,
    options: &GenerateOptions,
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> Result<Generation> {
    check_prompt(model, prompt)?;
    // The same, with steps started before the token of the one before is known.
    if sampler.is_plain_greedy() && model.works_ahead() {
        return generate_ahead(model, prompt, options, on_token);
    }
    // [task 1.6.2] generate
    let mut timings = Timings { prompt_tokens: prompt.len(), ..Timings::default() };
    let mut cache = model.new_cache();
    // The samplers' history: one row, the whole sequence so far.
    let mut history = vec![prompt.to_vec()];
    let mut phase_start = Instant::now();
    let stop_reason = loop {
        let sequence = &history[0];
        let n_generated = sequence.len() - prompt.len();
        if n_generated >= options.max_tokens {
            break StopReason::MaxTokens;
        }
        if sequence.len() > model.max_positions() {
            break StopReason::ContextFull;
        }
        // Prefill passes the prompt. Decode passes the newest token if a cache knows the others, else everything again.
        let unseen = match &cache {
            Some(_) if n_generated > 0 => &sequence[sequence.len() - 1..],
            _ => sequence.as_slice(),
        };
        let logits = next_token_logits(model, unseen, cache.as_deref_mut())?;
        let token = sampler.sample(&logits, &history)?[0];

        if n_generated == 0 {
            timings.prefill = phase_start.elapsed();
            phase_start = Instant::now();
        } else {
            timings.decode_tokens += 1;
            timings.decode = phase_start.elapsed();
        }
        if options.stop_tokens.contains(&token) {
            break StopReason::StopToken(token);
        }
        history[0].push(token);
        if on_token(token).is_break() {
            break StopReason::Cancelled;
        }
    };
    let tokens = history[0].split_off(prompt.len());
    Ok(Generation { tokens, text: String::new(), stop_reason, timings })
    // [end]
}

/// Refuses what [`generate`] cannot start from, before any work is done.
fn check_prompt(model: &dyn LanguageModel, prompt: &[u32]) -> Result<()> {
    let refuse = |message: String| Err(Error::invalid("generate", message));
    if prompt.is_empty() {
        return refuse("the prompt is empty; it needs at least one token".into());
    }
    if prompt.len() > model.max_positions() {
        return refuse(format!(
            "the prompt has {} tokens, but the model has only {} positions",
            prompt.len(),
            model.max_positions()
        ));
    }
    match prompt.iter().find(|&&token| token as usize >= model.vocab_size()) {
        Some(token) => refuse(format!("token {token} is not in the vocabulary of {} tokens", model.vocab_size())),
        None => Ok(()),
    }
}

/// Generates text after `prompt`: as [`generate`], with `on_text` receiving the text as it becomes certain.
///
/// A piece of text may come from several tokens, and is held back while it could be the beginning of a stop
/// string. The pieces together are [`Generation::text`]; none is empty. When generation ends by itself, what `decoder` and
/// the stop strings still hold is passed on; a break there changes nothing, since generation has ended. A stop string that
/// is complete is the reason for stopping even when `on_text` breaks at the text in front of it.
///
/// # Errors
/// As [`generate`], and when `decoder` refuses a token or cannot finish.
pub fn generate_text(
    model: &dyn LanguageModel,
    decoder: &mut dyn TextDecoder,
    prompt: &[u32],
    sampler: &mut Sampler,
    options: &GenerateOptions,
    on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<Generation> {
    // [task 1.6.4] generate_text
    let mut matcher = StopStringMatcher::new(&options.stop_strings);
    let mut text = String::new();
    let mut matched = None;
    let mut decode_error = None;
    let mut show = |piece: &str| {
        text.push_str(piece);
        if piece.is_empty() { ControlFlow::Continue(()) } else { on_text(piece) }
    };

    let mut generation = generate(model, prompt, sampler, options, &mut |token| {
        let piece = match decoder.push(token) {
            Ok(piece) => piece,
            Err(error) => {
                // The callback can only stop the loop; the error is returned below.
                decode_error = Some(error);
                return ControlFlow::Break(());
            }
        };
        let outcome = matcher.push(&piece);
        // Known before anybody can break: a stop string that is complete is the reason, whatever the callback says.
        matched = outcome.matched;
        show(&outcome.text)?;
        if matched.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if let Some(error) = decode_error {
        return Err(error);
    }
    // What the decoder still holds may complete a stop string, or be plain text.
    if matched.is_none() && generation.stop_reason != StopReason::Cancelled {
        let outcome = matcher.push(&decoder.finish()?);
        let rest = if outcome.matched.is_none() { matcher.finish() } else { String::new() };
        // Generation is over: there is nothing left to cancel.
        let _ = show(&(outcome.text + &rest));
        matched = outcome.matched;
    }
    if let Some(stop_string) = matched {
        generation.stop_reason = StopReason::StopString(stop_string);
    }
    generation.text = text;
    Ok(generation)
    // [end]
}
