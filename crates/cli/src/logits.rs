//! `tiny-llm logits`: the model's raw output, for comparison with any other engine.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use mlx_rs::{Array, Dtype};
use safetensors::tensor::{Dtype as FileDtype, TensorView};

use crate::arguments::Logits;
use crate::engine::{LanguageModel, LogitsToKeep};
use crate::model::load;

pub fn run(arguments: &Logits) -> Result<()> {
    let loaded = load(&arguments.model)?;
    let tokens = loaded.tokens(&arguments.input)?;
    if tokens.len() > loaded.model.max_positions() {
        bail!("{} tokens, but the model has only {} positions", tokens.len(), loaded.model.max_positions());
    }
    let token_ids = Array::from_slice(&tokens, &[1, tokens.len() as i32]);
    let logits = LanguageModel::forward(&loaded.model, &token_ids, None, LogitsToKeep::All)?; // [1, L, V]
    let logits = logits.as_dtype(Dtype::Float32)?.contiguous()?;

    // Bytes in the order of the file format, which is little-endian.
    let logit_bytes: Vec<u8> = logits.as_slice::<f32>().iter().flat_map(|x| x.to_le_bytes()).collect();
    let token_bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    let shape = vec![tokens.len(), loaded.checkpoint.config().vocab_size];
    let tensors = [
        ("logits", TensorView::new(FileDtype::F32, shape, &logit_bytes)?),
        ("tokens", TensorView::new(FileDtype::U32, vec![tokens.len()], &token_bytes)?),
    ];
    let metadata = HashMap::from([("model".to_owned(), arguments.model.model.clone())]);
    safetensors::serialize_to_file(tensors, Some(metadata), &arguments.output)
        .with_context(|| format!("writing {}", arguments.output.display()))?;
    eprintln!("wrote logits {:?} to {}", &logits.shape()[1..], arguments.output.display());
    Ok(())
}
