//! The built-in model, fetched once into the cache folder: the real thing, through the same door as the tiny fixtures.

#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod common;

use checkpoint::{Checkpoint, Message, registry};
use common::{json, to_f32};
use mlx_rs::Dtype;

fn open() -> Checkpoint {
    Checkpoint::open(&registry::resolve("smollm2-135m").unwrap()).unwrap()
}

#[test]
fn its_configuration_is_that_of_smollm2() {
    let checkpoint = open();
    let config = checkpoint.config();
    assert_eq!((config.num_hidden_layers, config.hidden_size, config.intermediate_size), (30, 576, 1536));
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (9, 3, 64));
    assert_eq!((config.vocab_size, config.max_position_embeddings), (49152, 8192));
    assert_eq!((config.rope_theta, config.rms_norm_eps), (100_000.0, 1e-5));
    assert!(config.tie_word_embeddings && !config.attention_bias);
    assert_eq!((config.eos_token_ids.as_slice(), config.bos_token_id), ([2, 0].as_slice(), Some(1)));
    let summary = checkpoint.summary().unwrap().to_string();
    assert!(summary.contains("134.5M parameters") && summary.contains("Q4_1"), "{summary}");
}

/// Every bit of all 134 million weights, against the `gguf` package.
#[test]
fn all_its_weights_are_exact() {
    let checkpoint = open();
    let expected = json("smollm2_checksums.json");
    let expected = expected.as_object().unwrap();
    assert_eq!(expected.len(), 272);
    for (name, entry) in expected {
        let shape: Vec<usize> =
            entry["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap() as usize).collect();
        let values = to_f32(&checkpoint.tensor(name, &shape, Some(Dtype::Float32)).unwrap());
        let checksum = values
            .iter()
            .zip((1..).step_by(2))
            .fold(0u64, |sum, (value, odd)| sum.wrapping_add(u64::from(value.to_bits()).wrapping_mul(odd)));
        assert_eq!(checksum.to_string(), entry["checksum"], "{name}");
    }
}

#[test]
fn a_chat_begins_with_its_own_template_and_tokens() {
    let checkpoint = open();
    let prompt = checkpoint.chat_template().unwrap().render(&[Message::new("user", "Hi")], true).unwrap();
    let tokenizer = checkpoint.tokenizer().unwrap();
    let ids = tokenizer.encode(&prompt, false).unwrap();
    assert_eq!(ids[..4], [1, 9690, 198, 2683], "<|im_start|> system newline You");
    assert_eq!(ids[ids.len() - 4..], [198, 1, 520, 9531, 198][1..], "<|im_start|> assistant newline");
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), prompt);
    assert_eq!(tokenizer.vocab_size(), 49152);
}
