//! The tiny random models in `tests/fixtures/models`, which days 1.5 and 1.6 share.
#![allow(dead_code)] // neither day uses all of it

use checkpoint::Checkpoint;

/// Opens `tests/fixtures/models/<name>`.
pub fn open(name: &str) -> Checkpoint {
    let path = grader::fixture::folder().join("models").join(name);
    Checkpoint::open(&path).unwrap_or_else(|error| panic!("the model {name}: {error}"))
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
