//! A GGUF file written as a folder for mlx-lm is the same model.

#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod common;

use std::path::Path;

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
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "something is left");
    assert!(refused("sharded", "new").contains("is a folder already"));
    assert!(refused("tiny-gpt2-split.gguf", "").contains("exists already"));
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const FILES: [&str; 5] =
    ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

#[test]
fn folders_of_others_stay_as_they_are() {
    let temporary = tempfile::tempdir().unwrap();
    let mine = temporary.path().join("new.partial");
    std::fs::create_dir(&mine).unwrap();
    std::fs::write(mine.join("thesis.txt"), "mine").unwrap();
    let gguf = Checkpoint::open(&data("tiny-gpt2-split.gguf")).unwrap();
    // A slash at the end says that it is a folder, and nothing else.
    gguf.write_mlx_folder(&temporary.path().join("new/")).unwrap();
    gguf.write_mlx_folder(&temporary.path().join("not/yet/there")).unwrap();
    assert_eq!(names_in(temporary.path()), ["new", "new.partial", "not"]);
    assert_eq!(names_in(&temporary.path().join("new")), FILES);
    assert_eq!(names_in(&temporary.path().join("not/yet")), ["there"]);
    assert_eq!(names_in(&mine), ["thesis.txt"]);
}

#[test]
fn of_several_at_once_one_writes_the_folder() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("new");
    let gguf = Checkpoint::open(&data("tiny-gpt2-split.gguf")).unwrap();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..6).map(|_| scope.spawn(|| gguf.write_mlx_folder(&path))).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let refused: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert_eq!(refused.len(), 5);
    assert!(refused.iter().all(|error| error.to_string().contains("exists already")), "{refused:?}");
    assert_eq!(names_in(temporary.path()), ["new"]);
    assert_eq!(names_in(&path), FILES);
    Checkpoint::open(&path).unwrap();
}

/// As other programs make files and folders: for others to read, if the user's umask says so.
#[cfg(unix)]
#[test]
fn files_have_the_usual_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("new");
    Checkpoint::open(&data("tiny-gpt2-split.gguf")).unwrap().write_mlx_folder(&path).unwrap();
    let (usual_folder, usual_file) = (temporary.path().join("folder"), temporary.path().join("file"));
    std::fs::create_dir(&usual_folder).unwrap();
    std::fs::write(&usual_file, "").unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&usual_folder));
    for file in FILES {
        assert_eq!(mode(&path.join(file)), mode(&usual_file), "{file}");
    }
}

#[test]
fn a_bounded_context_is_written_as_the_file_has_it() {
    let temporary = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(data("tiny-gpt2-split.gguf")).unwrap();
    let key = b"qwen2.context_length";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
    bytes[at..at + 4].copy_from_slice(&2_000_000_000_u32.to_le_bytes());
    let file = temporary.path().join("model.gguf");
    std::fs::write(&file, bytes).unwrap();
    let gguf = Checkpoint::open(&file).unwrap();
    gguf.write_mlx_folder(&temporary.path().join("new")).unwrap();
    let config = json_file(&temporary.path().join("new/config.json"));
    assert_eq!(config["max_position_embeddings"], 2_000_000_000);
    assert!(gguf.config().max_position_embeddings < 2_000_000_000);
}
