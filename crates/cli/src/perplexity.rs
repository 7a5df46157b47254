//! `tiny-llm perplexity`: how well the model predicts a text.
//!
//! The text is cut into windows that do not overlap. In each, every token but the first is predicted from those before it.
//! Perplexity is `exp(mean negative log-likelihood)`; other engines agree when they cut and score alike.

use std::fs;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use mlx_rs::{Array, Dtype};
use serde_json::json;

use crate::arguments::Perplexity;
use crate::engine::{LanguageModel, LogitsToKeep};
use crate::model::load;

pub fn run(arguments: &Perplexity) -> Result<()> {
    let text = fs::read_to_string(&arguments.file).with_context(|| format!("reading {}", arguments.file.display()))?;
    let loaded = load(&arguments.model)?;
    let window = arguments.context;
    if window < 2 || window > loaded.model.max_positions() {
        bail!("--context must be between 2 and the model's {} positions", loaded.model.max_positions());
    }
    let mut tokens = loaded.tokenizer()?.encode(&text, false)?;
    tokens.truncate(arguments.limit.unwrap_or(tokens.len()));
    // A last window of one token has nothing to score.
    let windows: Vec<&[u32]> = tokens.chunks(window).filter(|window| window.len() > 1).collect();
    if windows.is_empty() {
        bail!("{} has fewer than two tokens", arguments.file.display());
    }

    let progress = ProgressBar::new(windows.len() as u64)
        .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} windows, {msg}, {eta} left")?);
    let (mut total, mut n_scored) = (0.0, 0);
    for window in &windows {
        total += negative_log_likelihood(&loaded.model, window)?;
        n_scored += window.len() - 1;
        progress.set_message(format!("perplexity {:.4}", (total / n_scored as f64).exp()));
        progress.inc(1);
    }
    progress.finish_and_clear();

    let perplexity = (total / n_scored as f64).exp();
    if arguments.json {
        println!("{}", json!({ "perplexity": perplexity, "scored_tokens": n_scored, "context": window }));
    } else {
        println!("perplexity {perplexity:.4} over {n_scored} tokens in windows of {window}");
    }
    Ok(())
}

/// The sum of `-log p(token | the tokens before it)` over all tokens but the first.
fn negative_log_likelihood(model: &dyn LanguageModel, tokens: &[u32]) -> Result<f64> {
    let token_ids = Array::from_slice(tokens, &[1, tokens.len() as i32]);
    let logits = model.forward(&token_ids, None, LogitsToKeep::All)?; // [1, L, V]
    let logits = logits.as_dtype(Dtype::Float32)?.contiguous()?;
    let rows = logits.as_slice::<f32>().chunks(model.vocab_size());
    // The prediction at each position is for the token after it.
    Ok(rows.zip(&tokens[1..]).map(|(row, &target)| log_sum_exp(row) - f64::from(row[target as usize])).sum())
}

/// In f64 on the host: MLX's f32 sum over 50,000 terms is off by 5e-5 on average, which is visible in a perplexity.
fn log_sum_exp(row: &[f32]) -> f64 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    f64::from(max) + sum.ln()
}
