//! The tensors of a Qwen2-shaped model: their Hugging Face names and shapes follow from the configuration alone.

use std::path::Path;

use crate::config::Config;
use crate::error::{Error, Result};

/// What a source of weights can tell about a tensor without reading it.
pub(crate) trait TensorShapes {
    /// Logical row-major shape under the Hugging Face name: of the weights, not of packed integers.
    fn shape(&self, name: &str) -> Result<Option<Vec<usize>>>;
    /// All names, in Hugging Face spelling where there is one.
    fn names(&self) -> Vec<String>;
    /// The file to name in an error.
    fn file(&self, name: &str) -> &Path;
}

/// Every tensor that the model needs. Lazy, so that a lying layer count ends at the first tensor that is not there.
pub(crate) fn tensors(config: &Config) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
    let (vocab, hidden) = (config.vocab_size, config.hidden_size);
    let head = (!config.tie_word_embeddings).then(|| ("lm_head.weight".to_owned(), vec![vocab, hidden]));
    let outside = [("model.embed_tokens.weight".to_owned(), vec![vocab, hidden])];
    let norm = [("model.norm.weight".to_owned(), vec![hidden])];
    let layers = (0..config.num_hidden_layers).flat_map(|layer| layer_tensors(config, layer));
    outside.into_iter().chain(norm).chain(head).chain(layers)
}

fn layer_tensors(config: &Config, layer: usize) -> Vec<(String, Vec<usize>)> {
    let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    let mut tensors = vec![
        ("input_layernorm.weight", vec![hidden]),
        ("post_attention_layernorm.weight", vec![hidden]),
        ("self_attn.q_proj.weight", vec![queries, hidden]),
        ("self_attn.k_proj.weight", vec![keys, hidden]),
        ("self_attn.v_proj.weight", vec![keys, hidden]),
        ("self_attn.o_proj.weight", vec![hidden, queries]),
        ("mlp.gate_proj.weight", vec![intermediate, hidden]),
        ("mlp.up_proj.weight", vec![intermediate, hidden]),
        ("mlp.down_proj.weight", vec![hidden, intermediate]),
    ];
    if config.attention_bias {
        tensors.extend([
            ("self_attn.q_proj.bias", vec![queries]),
            ("self_attn.k_proj.bias", vec![keys]),
            ("self_attn.v_proj.bias", vec![keys]),
        ]);
    }
    tensors.into_iter().map(|(name, shape)| (format!("model.layers.{layer}.{name}"), shape)).collect()
}

/// The weight next to a q, k or v bias that a model without biases does not store: `….q_proj.bias` -> `….q_proj.weight`.
pub(crate) fn weight_of_implied_bias(config: &Config, name: &str) -> Option<String> {
    let module = name.strip_suffix(".bias").filter(|_| !config.attention_bias)?;
    let is_biased = [".self_attn.q_proj", ".self_attn.k_proj", ".self_attn.v_proj"].iter().any(|m| module.ends_with(m));
    is_biased.then(|| format!("{module}.weight"))
}

/// Compares what the configuration demands with what the files hold, in both directions.
pub(crate) fn check(config: &Config, weights: &impl TensorShapes) -> Result<()> {
    let mut expected = std::collections::HashSet::new();
    for (name, shape) in tensors(config) {
        let found = weights.shape(&name)?.ok_or_else(|| {
            Error::tensor(
                weights.file(&name),
                &name,
                format!("is missing; the configuration demands it with shape {shape:?}"),
            )
        })?;
        if found != shape {
            let problem = format!("has shape {found:?}, but the configuration demands {shape:?}");
            return Err(Error::tensor(weights.file(&name), &name, problem));
        }
        expected.insert(name);
    }
    // A tensor that would be left out means a model that would be computed wrongly.
    for name in weights.names() {
        if !expected.contains(&name) && !is_harmless(config, &name) {
            let problem = format!(
                "has no place in a model of {} layers{}; the configuration contradicts the weights, or the architecture is not supported",
                config.num_hidden_layers,
                if config.attention_bias { "" } else { " without attention biases" },
            );
            return Err(Error::tensor(weights.file(&name), &name, problem));
        }
    }
    Ok(())
}

/// Tensors that old exporters write although nothing reads them.
fn is_harmless(config: &Config, name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || (config.tie_word_embeddings && name.starts_with("lm_head."))
}
