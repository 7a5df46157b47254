//! The clock around generation.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::Result;
use mlx_rs::Array;

use crate::engine::{self, GenerateOptions, LanguageModel, LogitsToKeep, Sampler};
use crate::measurements::SweepPoint;

/// Tokens decoded at each length of a context sweep.
pub const SWEEP_TOKENS: usize = 16;

/// Seconds for each of `n_tokens` tokens after `prompt`; the first includes the prompt. Always the most likely token, and
/// no token stops it, so exactly so many come.
pub fn generate(model: &dyn LanguageModel, prompt: &[u32], n_tokens: usize) -> Result<Vec<f64>> {
    generate_watched(model, prompt, n_tokens, &mut |_| ())
}

/// [`generate`], with a call for each token as soon as it is there.
pub fn generate_watched(
    model: &dyn LanguageModel,
    prompt: &[u32],
    n_tokens: usize,
    on_token: &mut dyn FnMut(usize),
) -> Result<Vec<f64>> {
    let options = GenerateOptions { max_tokens: n_tokens, stop_tokens: Vec::new(), stop_strings: Vec::new() };
    let mut seconds = Vec::with_capacity(n_tokens);
    let mut last = Instant::now();
    engine::generate(model, prompt, &mut Sampler::greedy(), &options, &mut |_| {
        let now = Instant::now();
        seconds.push((now - last).as_secs_f64());
        on_token(seconds.len() - 1);
        last = Instant::now();
        ControlFlow::Continue(())
    })?;
    Ok(seconds)
}

/// The speed of decoding at several lengths of the context: one sequence that grows.
pub fn context_sweep(model: &dyn LanguageModel, contexts: &[usize]) -> Result<Vec<SweepPoint>> {
    let mut contexts = contexts.to_vec();
    contexts.sort_unstable();
    contexts.dedup();
    let Some(mut cache) = model.new_cache() else { return without_cache(model, &contexts) };

    let (mut points, mut n_seen) = (Vec::new(), 0);
    let mut step = |tokens: &[u32]| -> Result<u32> {
        let token_ids = Array::from_slice(tokens, &[1, tokens.len() as i32]);
        let logits = model.forward(&token_ids, Some(&mut cache), LogitsToKeep::Last(1))?; // [1, 1, V]
        Ok(engine::greedy(&logits.reshape(&[1, -1])?)?[0])
    };
    for context in contexts {
        let prompt = super::prompt(context, model.vocab_size());
        let mut token = match prompt.get(n_seen..) {
            Some(unseen) if !unseen.is_empty() => step(unseen)?,
            _ => prompt[0],
        };
        let start = Instant::now();
        for _ in 0..SWEEP_TOKENS {
            token = step(&[token])?;
        }
        points.push(point(context, SWEEP_TOKENS, start));
        n_seen = context.max(n_seen) + SWEEP_TOKENS;
    }
    Ok(points)
}

/// Without a cache every token costs as much as its whole sequence, so one token says it.
fn without_cache(model: &dyn LanguageModel, contexts: &[usize]) -> Result<Vec<SweepPoint>> {
    contexts
        .iter()
        .map(|&context| {
            let prompt = super::prompt(context, model.vocab_size());
            let start = Instant::now();
            generate(model, &prompt, 1)?;
            Ok(point(context, 1, start))
        })
        .collect()
}

fn point(context: usize, n_tokens: usize, start: Instant) -> SweepPoint {
    SweepPoint { context, decode_tokens_per_second: n_tokens as f64 / start.elapsed().as_secs_f64() }
}
