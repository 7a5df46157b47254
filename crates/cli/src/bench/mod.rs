//! `tiny-llm bench`: how fast this engine is, in one process and at one stage.
//!
//! `cargo xtask bench` calls this once for each repetition, in turn with other engines.

mod memory;
mod profile;
mod threads;
mod timing;

use std::time::Instant;

use anyhow::{Result, bail};
use mlx_rs::Dtype;

use crate::arguments::Bench;
use crate::engine::LanguageModel;
use crate::info;
use crate::machine;
use crate::measurements::summary::summarize;
use crate::measurements::{FORMAT, Measurements, Run, report};
use crate::model::{Loaded, Setting};
use crate::output::{self, note};

/// Enough for every kernel, buffer and thread to have been used once.
const WARM_UP_TOKENS: usize = 4;

/// All of them are kept until the end. Medians stopped changing long before.
const MOST_REPEATS: usize = 10_000;

pub fn run(arguments: &Bench) -> Result<()> {
    let n_threads = machine::threads(arguments.threads)?;
    check(arguments)?;
    threads::restart_with(n_threads)?;

    let start = Instant::now();
    let opened = Setting::new(&arguments.model)?.open()?;
    let (longest, max_positions) = (longest(arguments), opened.checkpoint.config().max_position_embeddings);
    if longest > max_positions {
        bail!("this would take {longest} positions, but the model has only {max_positions}");
    }
    let loaded = opened.load()?;
    let load_seconds = start.elapsed().as_secs_f64();

    let prompt = prompt(arguments.prompt_tokens, loaded.model.vocab_size());
    timing::generate(&loaded.model, &prompt, WARM_UP_TOKENS).map_err(|error| loaded.explain(error))?;
    let mut runs = Vec::with_capacity(arguments.repeats);
    for _ in 0..arguments.repeats {
        runs.push(repetition(arguments, &loaded, &prompt, n_threads)?);
    }
    // What follows needs more memory or disturbs the clock, so it comes last.
    if let Some(first) = runs.first_mut() {
        if arguments.profile {
            first.profile = Some(profile::measure(&loaded.model, &prompt, arguments.generate_tokens)?);
        }
        first.context_sweep = timing::context_sweep(&loaded.model, &arguments.context_sweep)?;
    }
    let weights = loaded.weight_bytes()?;
    for run in &mut runs {
        run.weight_bytes = weights.all;
        run.weight_bytes_per_token = weights.per_token;
    }

    if arguments.json {
        return runs.iter().try_for_each(|run| output::json(&serde_json::to_value(run)?));
    }
    note!("loaded in {load_seconds:.2} s; measuring this machine");
    let measurements = Measurements {
        format: FORMAT,
        date: String::new(),
        commit: String::new(),
        command: String::new(),
        machine: if loaded.is_on_gpu { machine::measure_gpu(n_threads)? } else { machine::measure(n_threads)? },
        model: info::describe(&arguments.model.model, &loaded.checkpoint)?,
        runs,
    };
    output::line(&report::tables(&measurements, &summarize(&measurements)))
}

/// Positions of the longest sequence; numbers whose sum is no number are too long for any model.
fn longest(arguments: &Bench) -> usize {
    let generated = arguments.prompt_tokens.saturating_add(arguments.generate_tokens);
    arguments.context_sweep.iter().map(|n| n.saturating_add(timing::SWEEP_TOKENS)).fold(generated, usize::max)
}

fn check(arguments: &Bench) -> Result<()> {
    let at_least = |name: &str, value: usize, min: usize| match value < min {
        true => bail!("{name} must be at least {min}"),
        false => Ok(()),
    };
    at_least("--prompt-tokens", arguments.prompt_tokens, 1)?;
    // The first token belongs to prefill, so decoding begins with the second.
    at_least("--generate-tokens", arguments.generate_tokens, 2)?;
    at_least("--repeats", arguments.repeats, 1)?;
    if arguments.repeats > MOST_REPEATS {
        bail!("--repeats must be at most {MOST_REPEATS}");
    }
    at_least("a length in --context-sweep", arguments.context_sweep.iter().copied().min().unwrap_or(1), 1)
}

/// Token ids that every engine can be given: the same numbers, whatever the tokenizer.
fn prompt(n_tokens: usize, vocab_size: usize) -> Vec<u32> {
    (0..n_tokens).map(|idx| ((37 * idx + 11) % vocab_size.min(10_000)) as u32).collect()
}

fn repetition(arguments: &Bench, loaded: &Loaded, prompt: &[u32], threads: usize) -> Result<Run> {
    let times = timing::generate(&loaded.model, prompt, arguments.generate_tokens);
    let times = times.map_err(|error| loaded.explain(error))?;
    let (first, later) = times.split_first().map_or((0.0, &[][..]), |(first, later)| (*first, later));
    let cache_dtype_bytes = match (loaded.model.new_cache(), loaded.dtype) {
        (None, _) => 0,
        (Some(_), Dtype::Float32) => 4,
        (Some(_), _) => 2,
    };
    Ok(Run {
        engine: if cfg!(feature = "reference") { "reference" } else { "student" }.to_owned(),
        version: format!("tiny-llm {}", env!("CARGO_PKG_VERSION")),
        stage: Some(arguments.model.stage.to_string()),
        kernel: loaded.kernel.clone(),
        prompt_tokens: prompt.len(),
        generate_tokens: arguments.generate_tokens,
        threads,
        prefill_seconds: first,
        token_seconds: later.to_vec(),
        context_sweep: Vec::new(),
        // Counted at the end: counting reads the weights.
        weight_bytes: 0,
        weight_bytes_per_token: 0,
        cache_dtype_bytes,
        peak_memory_bytes: match loaded.is_on_gpu {
            true => Some(mlx_rs::memory::peak_memory()? as u64),
            false => memory::peak_resident_bytes(),
        },
        profile: None,
        own_clock: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_is_the_one_that_the_other_engines_get() {
        assert_eq!(prompt(4, 49_152), [11, 48, 85, 122]);
        assert_eq!(prompt(300, 49_152)[299], (37 * 299 + 11) % 10_000);
        assert!(prompt(300, 96).iter().all(|&token| token < 96));
    }
}
