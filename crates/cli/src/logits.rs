//! `tiny-llm logits`: the model's raw output, for comparison with any other engine.

use std::path::Path;

use anyhow::{Result, bail};
use checkpoint::{output, untrusted};
use mlx_rs::{Array, Dtype};
use safetensors::tensor::{Dtype as FileDtype, TensorView};

use crate::arguments::Logits;
use crate::engine::{LanguageModel, LogitsToKeep};
use crate::model::Setting;
use crate::output::note;

pub fn run(arguments: &Logits) -> Result<()> {
    check_output(&arguments.output)?;
    let opened = Setting::new(&arguments.model)?.open()?;
    let tokens = opened.tokens(&arguments.input)?;
    let loaded = opened.load()?;
    if tokens.len() > loaded.model.max_positions() {
        bail!("{} tokens, but the model has only {} positions", tokens.len(), loaded.model.max_positions());
    }
    let token_ids = Array::from_slice(&tokens, &[1, tokens.len() as i32]);
    let logits = LanguageModel::forward(&loaded.model, &token_ids, None, LogitsToKeep::All)?; // [1, L, V]
    let logits = logits.as_dtype(Dtype::Float32)?.contiguous()?;
    // Here, and not by `as_slice`, which panics where this is an error.
    logits.eval()?;
    loaded.check_finite(logits.as_slice::<f32>())?;

    // Bytes in the order of the file format, which is little-endian.
    let logit_bytes: Vec<u8> = logits.as_slice::<f32>().iter().flat_map(|x| x.to_le_bytes()).collect();
    let token_bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    let shape = vec![tokens.len(), loaded.checkpoint.config().vocab_size];
    let tensors = [
        ("logits", TensorView::new(FileDtype::F32, shape, &logit_bytes)?),
        ("tokens", TensorView::new(FileDtype::U32, vec![tokens.len()], &token_bytes)?),
    ];
    let model = arguments.model.model.to_string_lossy();
    output::write_safetensors(&arguments.output, &tensors, &[("model", &model)])?;
    note!("wrote logits {:?} to {}", &logits.shape()[1..], untrusted::path(&arguments.output));
    Ok(())
}

/// What cannot work is known before anything is computed.
fn check_output(file: &Path) -> Result<()> {
    if file.is_dir() {
        bail!("{} is a folder; give the name of a file", untrusted::path(file));
    }
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            bail!("cannot write {}: there is no folder {}", untrusted::path(file), untrusted::path(folder))
        }
        _ => Ok(()),
    }
}
