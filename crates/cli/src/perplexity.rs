//! `tiny-llm perplexity`: how well the model predicts a text.
//!
//! The text is cut into windows that do not overlap. In each, every token but the first is predicted from those before it.
//! Perplexity is `exp(mean negative log-likelihood)`; other engines agree when they cut and score alike.

use std::fs;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use mlx_rs::ops::indexing::TryIndexOp;
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
    let len = tokens.len() as i32;
    let token_ids = Array::from_slice(tokens, &[1, len]);
    let logits = model.forward(&token_ids, None, LogitsToKeep::All)?.as_dtype(Dtype::Float32)?; // [1, L, V]
    let predictions = logits.try_index((0, ..len - 1))?; // [L - 1, V]
    let targets = Array::from_slice(&tokens[1..], &[len - 1, 1]);
    let chosen = predictions.take_along_axis(&targets, -1)?; // [L - 1, 1]
    let losses = predictions.logsumexp_axis(-1, true)?.subtract(chosen)?.contiguous()?;
    // f64, because a sum of thousands of losses loses digits in f32.
    Ok(losses.as_slice::<f32>().iter().map(|&loss| f64::from(loss)).sum())
}
