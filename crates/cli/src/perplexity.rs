//! `tiny-llm perplexity`: how well the model predicts a text.
//!
//! The text is cut into windows that do not overlap. In each, every token but the first is predicted from those before it.
//! Perplexity is `exp(mean negative log-likelihood)`; other engines agree when they cut and score alike.

use std::fs::File;

use anyhow::{Context, Result, bail};
use checkpoint::untrusted;
use mlx_rs::{Array, Dtype};
use serde_json::json;

use crate::arguments::Perplexity;
use crate::engine::{LanguageModel, LogitsToKeep};
use crate::model::{Loaded, Setting};
use crate::output;
use crate::progress::ProgressLine;
use crate::text_tokens::TextTokens;

pub fn run(arguments: &Perplexity) -> Result<()> {
    let name = untrusted::path(&arguments.file);
    let about = || format!("reading {name}");
    let file = File::open(&arguments.file).with_context(about)?;
    let n_bytes = file.metadata().with_context(about)?.len();
    let opened = Setting::new(&arguments.model)?.open()?;
    let tokenizer = opened.tokenizer()?;
    let (window, positions) = (arguments.context, opened.checkpoint.config().max_position_embeddings);
    if window < 2 || window > positions {
        bail!("--context must be between 2 and the model's {positions} positions");
    }
    let mut tokens = TextTokens::new(file, &tokenizer, arguments.limit);
    let mut next = tokens.next(window).with_context(about)?;
    if next.len() < 2 {
        bail!("{name} has fewer than two tokens to look at");
    }
    let loaded = opened.load()?;

    let progress = ProgressLine::bar(arguments.limit.map_or(n_bytes, |limit| limit as u64))?;
    let (mut total, mut n_scored, mut n_seen) = (0.0, 0, 0);
    // A last window of one token has nothing to score.
    while next.len() > 1 {
        total += negative_log_likelihood(&loaded, &next)?;
        n_scored += next.len() - 1;
        n_seen += next.len();
        progress.set_message(format!("perplexity {:.4}", (total / n_scored as f64).exp()));
        progress.set_position(if arguments.limit.is_some() { n_seen as u64 } else { tokens.n_read() });
        next = tokens.next(window).with_context(about)?;
    }
    drop(progress);

    let perplexity = (total / n_scored as f64).exp();
    if arguments.json {
        output::json(&json!({ "perplexity": perplexity, "scored_tokens": n_scored, "context": window }))
    } else {
        output::line(&format!("perplexity {perplexity:.4} over {n_scored} tokens in windows of {window}"))
    }
}

/// The sum of `-log p(token | the tokens before it)` over all tokens but the first.
fn negative_log_likelihood(loaded: &Loaded, tokens: &[u32]) -> Result<f64> {
    let model: &dyn LanguageModel = &loaded.model;
    let token_ids = Array::from_slice(tokens, &[1, tokens.len() as i32]);
    let logits = model.forward(&token_ids, None, LogitsToKeep::All)?; // [1, L, V]
    let logits = logits.as_dtype(Dtype::Float32)?.contiguous()?;
    // Here, and not by `as_slice`, which panics where this is an error.
    logits.eval()?;
    let values = logits.as_slice::<f32>();
    loaded.check_finite(values)?;
    // The prediction at each position is for the token after it.
    let rows = values.chunks(model.vocab_size());
    Ok(rows.zip(&tokens[1..]).map(|(row, &target)| log_sum_exp(row) - f64::from(row[target as usize])).sum())
}

/// In f64 on the host: MLX's f32 sum over 50,000 terms is off by 5e-5 on average, which is visible in a perplexity.
fn log_sum_exp(row: &[f32]) -> f64 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    f64::from(max) + sum.ln()
}
