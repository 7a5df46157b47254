//! A tensor that does not fit into the memory that this process may have is an error, and not a crash inside MLX.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use checkpoint::{Checkpoint, Error};
use mlx_rs::Dtype;
use serde_json::{Map, Value, json};

const VOCAB: usize = 1 << 20;
const HIDDEN: usize = 2048;
/// The embedding has 8 GiB; with the mapped file, and not with a copy, a process stays below this.
const LIMIT_KIB: u64 = 12 << 20;

/// A model whose embedding is a hole in its file: large, and nearly nothing on the disk.
fn write_model(folder: &Path) {
    let config = json!({
        "model_type": "llama", "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": 1,
        "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 2, "hidden_act": "silu",
        "max_position_embeddings": 16, "tie_word_embeddings": true,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![VOCAB, HIDDEN]),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
        (layer("input_layernorm"), vec![HIDDEN]),
        (layer("post_attention_layernorm"), vec![HIDDEN]),
        (layer("self_attn.o_proj"), vec![HIDDEN, 2]),
        (layer("mlp.down_proj"), vec![HIDDEN, 1]),
    ];
    tensors.extend(["q_proj", "k_proj", "v_proj"].map(|name| (layer(&format!("self_attn.{name}")), vec![2, HIDDEN])));
    tensors.extend(["gate_proj", "up_proj"].map(|name| (layer(&format!("mlp.{name}")), vec![1, HIDDEN])));
    let mut header = Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let begin = end;
        end += shape.iter().product::<usize>() * 4;
        header.insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, end] }));
    }
    let header = Value::Object(header).to_string();
    let mut file = File::create(folder.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
}

#[test]
fn a_tensor_without_memory_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    for dtype in ["as stored", "f16"] {
        let output = Command::new("sh")
            .args(["-c", &format!("ulimit -v {LIMIT_KIB}; exec \"$0\" --exact child --ignored --nocapture")])
            .arg(std::env::current_exe().unwrap())
            .env("MEMORY_TEST_MODEL", folder.path())
            .env("MEMORY_TEST_DTYPE", dtype)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{dtype}: {} {text}", output.status);
        assert!(text.contains("not enough memory for its 8590 MB"), "{dtype}: {text}");
    }
}

#[test]
#[ignore = "run by the other test, with a limit"]
fn child() {
    let Ok(model) = std::env::var("MEMORY_TEST_MODEL") else { return };
    let dtype = std::env::var("MEMORY_TEST_DTYPE").is_ok_and(|dtype| dtype == "f16").then_some(Dtype::Float16);
    let checkpoint = Checkpoint::open(Path::new(&model)).unwrap();
    // What fits is there, under the same limit.
    checkpoint.tensor("model.norm.weight", &[HIDDEN], dtype).unwrap();
    let error = checkpoint.tensor("model.embed_tokens.weight", &[VOCAB, HIDDEN], dtype).unwrap_err();
    assert!(matches!(error, Error::Memory { .. }), "{error}");
    println!("\n{error}");
}
