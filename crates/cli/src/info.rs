//! `tiny-llm info`: what a model is and where its files are.

use std::ffi::OsStr;

use anyhow::Result;
use checkpoint::{Checkpoint, untrusted};
use serde_json::json;

use crate::arguments::Info;
use crate::measurements::Model;
use crate::{model, output};

pub fn run(arguments: &Info) -> Result<()> {
    let path = model::resolve(&arguments.model)?;
    let checkpoint = Checkpoint::open(&path)?;
    if arguments.json {
        let model = describe(&arguments.model, &checkpoint)?;
        // JSON has no place for bytes that are no text.
        let path = std::path::absolute(&path)?.to_string_lossy().into_owned();
        output::json(&json!({ "path": path, "model": model }))
    } else {
        output::line(&format!("{}\n{}", checkpoint.summary()?, untrusted::path(&path)))
    }
}

/// The model as measurements describe it. A path is shortened to its last part: where it lay says nothing elsewhere.
pub fn describe(name: &OsStr, checkpoint: &Checkpoint) -> Result<Model> {
    let summary = checkpoint.summary()?;
    let config = checkpoint.config();
    let is_path = checkpoint.path().ends_with(name) || name.to_string_lossy().ends_with(".gguf");
    let last_part = checkpoint.path().file_name().map(|part| part.to_string_lossy().into_owned());
    Ok(Model {
        name: last_part.filter(|_| is_path).unwrap_or_else(|| name.to_string_lossy().into_owned()),
        description: summary.to_string(),
        parameters: summary.parameters,
        vocab_size: config.vocab_size as u64,
        hidden_size: config.hidden_size as u64,
        num_hidden_layers: config.num_hidden_layers as u64,
        num_attention_heads: config.num_attention_heads as u64,
        num_key_value_heads: config.num_key_value_heads as u64,
        head_dim: config.head_dim as u64,
        tie_word_embeddings: config.tie_word_embeddings,
    })
}
