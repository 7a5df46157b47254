//! Generation that is one step ahead of the CPU: while a GPU computes one token, the next token's graph is built.
//!
//! Building a step takes the CPU a good part of the time that the step takes the GPU, and for a small model more than that. The next
//! step needs the token only as an array, so it can be built and started before anybody knows the number.

use std::ops::ControlFlow;
use std::time::Instant;

use mlx_rs::Array;

use crate::most_likely::MostLikely;
use crate::{Error, GenerateOptions, Generation, KvCache, LanguageModel, LogitsToKeep, Result, StopReason, Timings};

/// What [`generate`](crate::generate()) answers with [`Sampler::greedy`](crate::Sampler::greedy), which calls this where
/// [`LanguageModel::works_ahead`]. The prompt has been checked.
///
/// A step that was started for a token that turns out to be the last is dropped, with whatever error it had. The cache has
/// seen a token too many then, and nobody looks at it any more.
///
/// # Errors
/// As [`generate`](crate::generate()), and [`Error::InvalidArgument`] when the model has no cache.
pub(crate) fn generate_ahead(
    model: &dyn LanguageModel,
    prompt: &[u32],
    options: &GenerateOptions,
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> Result<Generation> {
    let mut timings = Timings { prompt_tokens: prompt.len(), ..Timings::default() };
    // Without a cache a step needs the whole sequence, and not only the array of the newest token.
    let Some(mut cache) = model.new_cache() else {
        return Err(Error::invalid("generate", "a model that works ahead has a cache"));
    };
    let mut unseen = Array::from_slice(prompt, &[1, prompt.len() as i32]);
    let mut tokens = Vec::new();
    let mut phase_start = Instant::now();
    // Known without knowing any token: why there is no step after so many of them.
    let end_after = |n_generated: usize| {
        if n_generated >= options.max_tokens {
            Some(StopReason::MaxTokens)
        } else if prompt.len() + n_generated > model.max_positions() {
            Some(StopReason::ContextFull)
        } else {
            None
        }
    };
    let mut started_early = None;
    let stop_reason = loop {
        if let Some(stop_reason) = end_after(tokens.len()) {
            break stop_reason;
        }
        let step = match started_early.take() {
            Some(step) => step?,
            None => start_step(model, &unseen, &mut cache)?,
        };
        // Not behind the prompt: somebody waits for the first token, which would be read only when the next step is built.
        if !tokens.is_empty() && end_after(tokens.len() + 1).is_none() {
            // No `?`: an error counts once the step turns out to be needed.
            started_early = Some(step.token_ids().and_then(|newest| start_step(model, &newest, &mut cache)));
        }
        let token = step.read()?[0];

        if tokens.is_empty() {
            unseen = step.token_ids()?;
            timings.prefill = phase_start.elapsed();
            phase_start = Instant::now();
        } else {
            timings.decode_tokens += 1;
            timings.decode = phase_start.elapsed();
        }
        if options.stop_tokens.contains(&token) {
            break StopReason::StopToken(token);
        }
        tokens.push(token);
        if on_token(token).is_break() {
            break StopReason::Cancelled;
        }
    };
    Ok(Generation { tokens, text: String::new(), stop_reason, timings })
}

/// Builds and starts the step that follows `token_ids`: `[1, L]`, those that `cache` has not seen.
fn start_step(model: &dyn LanguageModel, token_ids: &Array, cache: &mut [Box<dyn KvCache>]) -> Result<MostLikely> {
    let logits = model.forward(token_ids, Some(cache), LogitsToKeep::Last(1))?; // [1, 1, V]
    // Not converted to f32 as elsewhere: that moves no maximum and would be one more kernel, as an index would.
    let step = MostLikely::new(&logits.reshape(&[1, -1])?)?; // of [1, V]
    step.start()?;
    Ok(step)
}
