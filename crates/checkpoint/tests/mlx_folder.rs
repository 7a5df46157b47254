//! A GGUF file written as a folder for mlx-lm is the same model.

#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod common;

use checkpoint::{Checkpoint, Message, registry};
use common::{data, json_file, to_f32};
use mlx_rs::Dtype;

#[test]
fn the_built_in_model_stays_the_same_model() {
    let gguf = Checkpoint::open(&registry::resolve("smollm2-135m").unwrap()).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("model");
    gguf.write_mlx_folder(&path).unwrap();
    let folder = Checkpoint::open(&path).unwrap();

    let (mut of_gguf, mut of_folder) = (gguf.config().clone(), folder.config().clone());
    of_gguf.eos_token_ids.sort_unstable();
    of_folder.eos_token_ids.sort_unstable();
    assert_eq!(of_folder, of_gguf);
    for (name, shape) in gguf.tensors() {
        let values = |checkpoint: &Checkpoint| to_f32(&checkpoint.tensor(&name, &shape, Some(Dtype::Float32)).unwrap());
        let pairs = values(&gguf).into_iter().zip(values(&folder));
        // The same integers, scales and biases; only the order of two f32 operations differs.
        let worst = pairs.map(|(a, b)| (a - b).abs() / a.abs().max(0.01)).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{name}: off by {worst}");
        // 8 bits where the file has them, 4 elsewhere: what `config.json` says fits what is stored.
        let bits = |checkpoint: &Checkpoint| checkpoint.quantized(&name).unwrap().map(|tensor| tensor.bits);
        assert_eq!(bits(&folder), bits(&gguf), "{name}");
    }

    let text = "Ein Satz, 3 Zahlen: 1 23 456.\n\tfn main() {}";
    let tokens = |checkpoint: &Checkpoint| checkpoint.tokenizer().unwrap().encode(text, true).unwrap();
    assert_eq!(tokens(&folder), tokens(&gguf));
    let prompt = |checkpoint: &Checkpoint| {
        checkpoint.chat_template().unwrap().render(&[Message::new("user", "Hello")], true).unwrap()
    };
    assert_eq!(prompt(&folder), prompt(&gguf));
}

#[test]
fn numbers_are_written_as_they_were_meant() {
    let gguf = Checkpoint::open(&data("tiny-gpt2-split.gguf")).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("model");
    gguf.write_mlx_folder(&path).unwrap();
    let config = json_file(&path.join("config.json"));
    assert_eq!(config["quantization"]["bits"], 8);
    assert_eq!(config["quantization"]["group_size"], 32);
    let eps = config["rms_norm_eps"].as_f64().unwrap();
    assert!(eps.to_string().len() < 10, "{eps}");
    assert_eq!(eps as f32, gguf.config().rms_norm_eps);
}

#[test]
fn what_cannot_be_written_exactly_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let refused = |model: &str, folder: &str| {
        let folder = temporary.path().join(folder);
        Checkpoint::open(&data(model)).unwrap().write_mlx_folder(&folder).unwrap_err().to_string()
    };
    let message = refused("tiny-llama.gguf", "new");
    assert!(message.contains("tensor `model.") && message.contains("stored as Q5_0"), "{message}");
    assert!(!temporary.path().join("new").exists() && !temporary.path().join("new.partial").exists());
    assert!(refused("sharded", "new").contains("is a folder already"));
    assert!(refused("tiny-gpt2-split.gguf", "").contains("exists already"));
}
