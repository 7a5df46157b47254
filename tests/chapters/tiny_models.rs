//! The tiny random models in `tests/fixtures/models`, which days 1.5 and 1.6 share.
#![allow(dead_code)] // neither day uses all of it

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};

use checkpoint::Checkpoint;

/// Opens `tests/fixtures/models/<name>`.
pub fn open(name: &str) -> Checkpoint {
    let path = grader::fixture::folder().join("models").join(name);
    Checkpoint::open(&path).unwrap_or_else(|error| panic!("the model {name}: {error}"))
}

/// A tiny model's weights under another config.json; the folder goes when this value does.
pub struct Reconfigured {
    folder: PathBuf,
}

impl Reconfigured {
    /// `changes` are keys of config.json and what stands there instead.
    pub fn new(name: &str, changes: &[(&str, &str)]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let id = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tiny-llm-test-{}-{id}", process::id()));
        let original = grader::fixture::folder().join("models").join(name);
        let read = |file: &str| fs::read(original.join(file)).unwrap_or_else(|error| panic!("{name}/{file}: {error}"));
        let config = String::from_utf8_lossy(&read("config.json")).into_owned();
        let changed = |line: &str| {
            let change = changes.iter().find(|(key, _)| line.trim_start().starts_with(&format!("\"{key}\":")));
            let comma = if line.ends_with(',') { "," } else { "" };
            change.map_or_else(|| line.to_owned(), |(key, value)| format!("\"{key}\": {value}{comma}"))
        };
        let config = config.lines().map(changed).collect::<Vec<_>>().join("\n");
        for (key, value) in changes {
            assert!(config.contains(&format!("\"{key}\": {value}")), "{name}: config.json has no {key}");
        }
        let write = || {
            fs::create_dir_all(&folder)?;
            fs::write(folder.join("config.json"), &config)?;
            fs::write(folder.join("model.safetensors"), read("model.safetensors"))
        };
        write().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        Self { folder }
    }

    pub fn open(&self) -> Checkpoint {
        Checkpoint::open(&self.folder).unwrap_or_else(|error| panic!("{}: {error}", self.folder.display()))
    }
}

impl Drop for Reconfigured {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Names and shapes of all tensors of a tiny model, in the order in which the model's parts hold them.
///
/// A model of the llama architecture has no biases in its file; the checkpoint gives zeros for them.
pub fn tensors(name: &str) -> Vec<(String, Vec<usize>)> {
    let config = open(name);
    let config = config.config();
    let (hidden, inner, vocab) = (config.hidden_size, config.intermediate_size, config.vocab_size);
    let (q, kv) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![vocab, hidden])];
    for layer in 0..config.num_hidden_layers {
        let mut add =
            |name: &str, shape: &[usize]| tensors.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
        for (name, rows) in [("q", q), ("k", kv), ("v", kv)] {
            add(&format!("self_attn.{name}_proj.weight"), &[rows, hidden]);
            add(&format!("self_attn.{name}_proj.bias"), &[rows]);
        }
        add("self_attn.o_proj.weight", &[hidden, q]);
        add("mlp.gate_proj.weight", &[inner, hidden]);
        add("mlp.up_proj.weight", &[inner, hidden]);
        add("mlp.down_proj.weight", &[hidden, inner]);
        add("input_layernorm.weight", &[hidden]);
        add("post_attention_layernorm.weight", &[hidden]);
    }
    tensors.push(("model.norm.weight".to_owned(), vec![hidden]));
    if !config.tie_word_embeddings {
        tensors.push(("lm_head.weight".to_owned(), vec![vocab, hidden]));
    }
    tensors
}
