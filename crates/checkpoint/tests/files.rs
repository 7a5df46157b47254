//! What stands in the place of a file, and what errors show of it.

#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod common;

use std::error::Error as _;
use std::path::Path;

use checkpoint::{Checkpoint, Error};
use common::{copy_of, data, edit_json};
use rstest::rstest;
use serde_json::json;

fn error_of(model: &Path) -> Error {
    let checkpoint = match Checkpoint::open(model) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return error,
    };
    match checkpoint.tokenizer().err() {
        Some(error) => error,
        None => checkpoint.chat_template().err().unwrap(),
    }
}

/// A folder with every file that a model can have, except shards.
fn whole_model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    Checkpoint::open(&data("tiny-gpt2-split.gguf")).unwrap().write_mlx_folder(&model).unwrap();
    folder
}

/// Reading a pipe waits for ever, reading a device fills the memory, and a folder or a link to nothing is not "no such file".
#[cfg(unix)]
#[rstest]
fn what_is_no_file_is_refused_by_name(
    #[values(
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "generation_config.json",
        "chat_template.jinja",
        "model.safetensors",
        "model.safetensors.index.json"
    )]
    name: &str,
) {
    let folder = whole_model();
    let model = folder.path().join("model");
    let file = model.join(name);
    let link = |target: &str| std::os::unix::fs::symlink(target, &file).unwrap();
    for (what, said) in [
        ("pipe", "is a pipe or a device"),
        ("device", "is a pipe or a device"),
        ("folder", "is a folder"),
        ("nothing", "is a link to a file that is not there"),
    ] {
        let _ = std::fs::remove_file(&file);
        match what {
            "pipe" => assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success()),
            "device" => link("/dev/zero"),
            "folder" => std::fs::create_dir(&file).unwrap(),
            _ => link("nowhere"),
        }
        let error = error_of(&model).to_string();
        assert!(error.contains(name) && error.contains(said), "{what}: {error}");
        if what == "folder" {
            std::fs::remove_dir(&file).unwrap();
        }
    }
}

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 988097824\n";

#[rstest]
#[case("model.safetensors")]
#[case("tokenizer.json")]
#[case("config.json")]
fn a_git_lfs_pointer_is_called_one(#[case] name: &str) {
    let folder = whole_model();
    let model = folder.path().join("model");
    std::fs::write(model.join(name), POINTER).unwrap();
    let error = error_of(&model).to_string();
    assert!(error.contains(name) && error.contains("Git LFS pointer"), "{error}");
    assert!(error.contains("988097824 bytes") && error.contains("git lfs pull"), "{error}");
}

#[test]
fn other_files_in_the_place_of_a_model_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let gguf = folder.path().join("model.gguf");
    std::fs::write(&gguf, POINTER).unwrap();
    assert!(error_of(&gguf).to_string().contains("Git LFS pointer"));

    let error = error_of(folder.path()).to_string();
    assert!(error.contains("is a folder of GGUF files") && error.contains("give one (`model.gguf`)"), "{error}");
    std::fs::remove_file(&gguf).unwrap();
    assert!(error_of(folder.path()).to_string().contains("has no config.json"));

    let error = error_of(&data("mlx-quantized/model.safetensors")).to_string();
    assert!(error.contains("give its folder"), "{error}");
}

#[test]
fn a_missing_tokenizer_says_where_to_get_it() {
    let folder = whole_model();
    let model = folder.path().join("model");
    std::fs::remove_file(model.join("tokenizer.json")).unwrap();
    let error = error_of(&model).to_string();
    assert!(
        error.contains("tokenizer.json") && error.contains("download it") && error.contains("save_pretrained"),
        "{error}"
    );
}

/// A program that prints a chain of causes would say a cause twice that is also part of the message.
#[test]
fn a_cause_is_said_once() {
    let error = error_of(Path::new("/nowhere/model.gguf"));
    assert!(matches!(error, Error::Io { .. }) && error.source().is_none(), "{error:?}");
    assert_eq!(error.to_string().matches("No such file").count(), 1, "{error}");
}

/// What a downloaded file says is shown, and not obeyed.
#[test]
fn errors_show_escapes_line_ends_and_long_values_without_obeying_them() {
    const HOSTILE: &str = "\u{1b}]0;title\u{7}\nerror: forged\u{9b}31m\u{202e}";
    let long = "x".repeat(100_000);
    for fields in [
        json!({ "model_type": HOSTILE }),
        json!({ "hidden_act": HOSTILE }),
        json!({ "torch_dtype": HOSTILE }),
        json!({ "hidden_size": HOSTILE }),
        json!({ "quantization_config": { "quant_method": HOSTILE } }),
        json!({ "rope_scaling": { "type": HOSTILE } }),
        json!({ "layer_types": [HOSTILE] }),
        json!({ "hidden_size": long }),
        json!({ "eos_token_id": long }),
        json!({ "rope_scaling": { "factor": long } }),
        json!({ "model_type": long }),
    ] {
        let folder = copy_of("sharded");
        edit_json(&folder.path().join("config.json"), |config| {
            config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        });
        let error = error_of(folder.path()).to_string();
        assert!(!error.chars().any(|c| c.is_control() || c == '\u{202e}'), "{error:?}");
        assert!(error.len() < 2_000, "{} bytes", error.len());
    }
    let folder = copy_of("sharded");
    edit_json(&folder.path().join("model.safetensors.index.json"), |index| {
        index["weight_map"][HOSTILE] = json!(HOSTILE)
    });
    let error = error_of(folder.path()).to_string();
    assert!(error.contains("\\u{1b}]0;title\\u{7}\\nerror") && !error.contains('\n'), "{error:?}");
    let error = error_of(Path::new("/nowhere/\u{1b}[2Jmodel")).to_string();
    assert!(error.starts_with("/nowhere/\\u{1b}[2Jmodel: "), "{error:?}");
}

/// A header is read piece by piece: a tree of its values would take forty times its length.
#[test]
fn large_files_that_ought_to_be_small_are_refused_or_skipped() {
    let folder = copy_of("sharded");
    let config = folder.path().join("config.json");
    std::fs::write(&config, format!("{{\"x\": [{}1]}}", "1,".repeat(5 << 20))).unwrap();
    let error = error_of(folder.path()).to_string();
    assert!(error.contains("config.json") && error.contains("at most"), "{error}");
}
