//! Time per token over a long answer, with a cache and without one: the figure of day 2.1.
//!
//! With the cache, 512 tokens are decoded after a prompt, several times over; each token's time is the median. Without
//! it, a step of every 32nd length is timed, since a step depends on its length only. Both take turns.
//!
//! `cargo run --release --package tiny-llm-cli --example time_per_token -- figure.svg > times.csv`

mod line_figure;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use checkpoint::{Checkpoint, registry};
use line_figure::{Curve, Figure};
use mlx_rs::{Array, Device, Dtype};
#[cfg(all(feature = "student", not(feature = "reference")))]
use tiny_llm as engine;
#[cfg(feature = "reference")]
use tiny_llm_reference as engine;

use engine::{LanguageModel, Qwen2Model, Stage, greedy, next_token_logits};

const N_TOKENS: usize = 512;
const DENSE_EVERY: usize = 32;
const N_ROUNDS: usize = 5;
const PROMPT: &str = "Once upon a time, in a village by the sea, there lived";

fn main() -> Result<()> {
    let figure_path = std::env::args().nth(1).map(PathBuf::from);
    Device::set_default(&Device::cpu());
    let checkpoint = Checkpoint::open(&registry::resolve("smollm2-135m")?)?;
    let prompt = checkpoint.tokenizer()?.encode(PROMPT, true)?;
    let load = |stage| Qwen2Model::load_stage(&checkpoint, Dtype::Float32, stage);
    let (dense, cached) = (load(Stage::Dense)?, load(Stage::Cached)?);

    let mut cached_rounds = Vec::new();
    let mut dense_rounds = Vec::new();
    for round in 0..N_ROUNDS {
        eprintln!("round {} of {N_ROUNDS}", round + 1);
        let (tokens, times) = decode(&cached, &prompt)?;
        cached_rounds.push(times);
        let steps = (DENSE_EVERY..=N_TOKENS).step_by(DENSE_EVERY);
        dense_rounds.push(steps.map(|n| full_step(&dense, &tokens[..prompt.len() + n])).collect::<Result<Vec<_>>>()?);
    }
    let (cached, dense) = (medians(&cached_rounds), medians(&dense_rounds));

    println!("tokens_generated,cached_ms,dense_ms");
    for (index, time) in cached.iter().enumerate() {
        let n = index + 1;
        let dense = if n % DENSE_EVERY == 0 { format!("{:.3}", dense[n / DENSE_EVERY - 1]) } else { String::new() };
        println!("{n},{time:.3},{dense}");
    }
    if let Some(path) = figure_path {
        let points = |times: &[f64], every: usize| -> Vec<(f64, f64)> {
            times.iter().enumerate().map(|(index, &time)| (((index + 1) * every) as f64, time)).collect()
        };
        let figure = Figure {
            name: "day1-time-per-token",
            title: "Time per token over 512 tokens, with a cache and without one",
            x_axis: "tokens generated",
            y_axis: "milliseconds per token",
            curves: vec![
                Curve { class: "curve-b", label: "dense: everything again", points: points(&dense, DENSE_EVERY) },
                Curve { class: "curve-a", label: "cached", points: points(&cached, 1) },
            ],
        };
        std::fs::write(&path, figure.to_svg()).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Greedy decoding with a cache: prompt and answer, and the milliseconds of each decoded token.
fn decode(model: &Qwen2Model, prompt: &[u32]) -> Result<(Vec<u32>, Vec<f64>)> {
    let mut cache = model.new_cache().context("the model has no cache: is day 2.1 written?")?;
    let mut tokens = prompt.to_vec();
    tokens.push(most_likely(&next_token_logits(model, prompt, Some(&mut cache))?)?);
    let mut times = Vec::with_capacity(N_TOKENS);
    for _ in 0..N_TOKENS {
        let start = Instant::now();
        let newest = tokens.len() - 1;
        let token = most_likely(&next_token_logits(model, &tokens[newest..], Some(&mut cache))?)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        tokens.push(token);
    }
    Ok((tokens, times))
}

/// Milliseconds of a step that computes the whole sequence.
fn full_step(model: &Qwen2Model, tokens: &[u32]) -> Result<f64> {
    let start = Instant::now();
    most_likely(&next_token_logits(model, tokens, None)?)?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// Looking at the token is what makes MLX compute.
fn most_likely(logits: &Array) -> Result<u32> {
    greedy(logits)?.first().copied().context("no row of logits")
}

/// Of each column.
fn medians(rounds: &[Vec<f64>]) -> Vec<f64> {
    let n_columns = rounds.first().map_or(0, Vec::len);
    (0..n_columns)
        .map(|column| {
            let mut values: Vec<f64> = rounds.iter().map(|round| round[column]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        })
        .collect()
}
