//! The program as a user meets it: exit codes, what goes to which stream, and that errors are one clear line.

#![allow(clippy::unwrap_used)] // in helpers of tests, which clippy.toml does not recognise as tests

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::SafeTensors;
use serde_json::Value;

fn tiny_llm(arguments: &[&str]) -> Output {
    // Tests run side by side: more BLAS threads than processors only wait for each other.
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiny-llm"));
    command.args(arguments).env("OPENBLAS_NUM_THREADS", "1").output().unwrap()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn tiny_model() -> String {
    fixtures().join("models/tiny-qwen2-tied").display().to_string()
}

/// Exit code 2, nothing on standard output, and one line on standard error that says `needle`.
fn assert_refused(arguments: &[&str], needle: &str) {
    let output = tiny_llm(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    assert!(errors[0].contains(needle), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn logits_need_no_tokenizer_and_are_what_transformers_computes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("logits.safetensors");
    let tokens = "17,4,81,33";
    let output = tiny_llm(&["logits", "-m", &tiny_model(), "--tokens", tokens, "-o", &file.display().to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let bytes = fs::read(&file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("tokens").unwrap().shape(), [4]);
    let logits = tensors.tensor("logits").unwrap();
    assert_eq!(logits.shape(), [4, 96]);
    let values: Vec<f32> = logits.data().chunks(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect();

    let oracle: Value =
        serde_json::from_str(&fs::read_to_string(fixtures().join("command_line.json")).unwrap()).unwrap();
    assert_eq!(oracle["tokens"], Value::from(vec![17, 4, 81, 33]));
    for (idx, (got, expected)) in values.iter().zip(oracle["logits"].as_array().unwrap()).enumerate() {
        let expected = expected.as_f64().unwrap();
        assert!((f64::from(*got) - expected).abs() <= 1e-4, "logit {idx}: {got}, transformers says {expected}");
    }
}

#[test]
fn perplexity_is_what_transformers_computes() {
    let text = fixtures().join("text/alice.txt").display().to_string();
    let output = tiny_llm(&["perplexity", &text, "--context", "128", "--limit", "384", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();

    let oracle: Value =
        serde_json::from_str(&fs::read_to_string(fixtures().join("command_line.json")).unwrap()).unwrap();
    assert_eq!(report["scored_tokens"], oracle["perplexity"]["scored_tokens"]);
    let got = report["perplexity"].as_f64().unwrap();
    let expected = oracle["perplexity"]["value"].as_f64().unwrap();
    assert!((got / expected - 1.0).abs() < 1e-4, "{got}, transformers says {expected}");
}

#[test]
fn a_question_is_answered_on_standard_output_and_measured_on_standard_error() {
    let output = tiny_llm(&["chat", "What is the capital of France?", "--max-tokens", "16"]);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.contains("Paris"), "{stdout}");
    assert!(stderr.contains("prefill: ") && stderr.contains("decode: "), "{stderr}");
}

#[test]
fn a_continuation_stops_where_it_is_told() {
    let output = tiny_llm(&["generate", "The capital of France is", "--max-tokens", "4", "--stop", "Paris", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["stop_reason"], "stopped at stop string \"Paris\"");
    assert_eq!(report["text"], " ");
    assert_eq!(report["prompt_tokens"], 5);
}

#[test]
fn what_cannot_work_is_refused_in_one_line() {
    let model = tiny_model();
    assert_refused(&["chat", "Hi", "-m", "no-such-model"], "smollm2-135m");
    assert_refused(&["generate", "--tokens", "1", "-m", &model], "tokenizer");
    assert_refused(&["chat", "Hi", "-m", &model], "use `generate`");
    assert_refused(&["logits", "-m", &model, "--tokens", "5,96", "-o", "unused"], "token 96");
    assert_refused(&["generate", "Hi", "--top-p", "0.9"], "--temperature");
    assert_refused(&["generate", "Hi", "--temperature", "1", "--top-p", "1.5"], "TopP");
    assert_refused(&["generate", "Hi", "--temperature=-1"], "Temperature");
    assert_refused(&["perplexity", "no-such-file.txt"], "no-such-file.txt");
    let folder = tempfile::tempdir().unwrap();
    let unwritable = folder.path().join("missing/logits.safetensors").display().to_string();
    assert_refused(&["logits", "-m", &model, "--tokens", "5", "-o", &unwritable], "missing/logits.safetensors");
}

#[test]
fn a_damaged_model_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(tiny_model()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let weights = folder.path().join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 100]).unwrap();
    let model = folder.path().display().to_string();
    assert_refused(&["logits", "-m", &model, "--tokens", "5", "-o", "unused"], "model.safetensors");
}

#[test]
fn a_wrong_command_line_explains_itself() {
    let output = tiny_llm(&["generate"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Usage"));
}
