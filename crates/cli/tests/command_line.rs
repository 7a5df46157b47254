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

/// What `bench --json` writes for the tiny model, one object per repetition.
fn bench(arguments: &[&str]) -> Vec<Value> {
    let model = tiny_model();
    let sizes = ["bench", "--json", "-m", &model, "--prompt-tokens", "5", "--generate-tokens", "4", "--threads", "1"];
    let output = tiny_llm(&[&sizes, arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_benchmark_times_every_token_of_every_repetition() {
    let runs = bench(&["--repeats", "2", "--stage", "cached", "--context-sweep", "3,8", "--profile"]);
    assert_eq!(runs.len(), 2);
    for run in &runs {
        assert_eq!(run["stage"], "cached");
        assert_eq!(run["threads"], 1);
        assert!(run["prefill_seconds"].as_f64().unwrap() > 0.0);
        assert_eq!(run["token_seconds"].as_array().unwrap().len(), 3); // the first token belongs to prefill
        assert!(run["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
        assert_eq!(run["cache_dtype_bytes"], 4);
    }
    let contexts: Vec<_> = runs[0]["context_sweep"].as_array().unwrap().iter().map(|point| &point["context"]).collect();
    assert_eq!(contexts, [3, 8]);
    assert!(runs[1]["context_sweep"].as_array().unwrap().is_empty());
    // One append of keys and values in each layer for each later token; nothing of the other repetitions is counted.
    let profile = &runs[0]["profile"];
    let appends = |phase: &str| {
        let operations = profile[phase]["operations"].as_array().unwrap();
        operations.iter().find(|o| o["name"] == "kv_append").map(|o| o["calls"].as_u64().unwrap())
    };
    let in_prefill = appends("prefill").unwrap();
    assert_eq!(appends("decode").unwrap(), 3 * in_prefill);
}

#[test]
fn an_engine_without_a_cache_is_measured_too() {
    let runs = bench(&["--repeats", "1", "--stage", "dense", "--context-sweep", "4"]);
    assert_eq!((&runs[0]["stage"], &runs[0]["cache_dtype_bytes"]), (&Value::from("dense"), &Value::from(0)));
    assert_eq!(runs[0]["context_sweep"].as_array().unwrap().len(), 1);
}

#[test]
fn measurements_become_tables_and_plots() {
    let folder = tempfile::tempdir().unwrap();
    let machine: Value = serde_json::from_slice(&tiny_llm(&["machine", "--json", "--threads", "1"]).stdout).unwrap();
    let info: Value = serde_json::from_slice(&tiny_llm(&["info", "--json", "-m", &tiny_model()]).stdout).unwrap();
    assert!(Path::new(info["path"].as_str().unwrap()).is_dir());
    assert_eq!(info["model"]["name"], "tiny-qwen2-tied"); // and not where it lies
    let measurements = serde_json::json!({
        "format": 1, "date": "2026-01-31 23:59", "commit": "0123456", "command": "cargo xtask bench",
        "machine": machine, "model": info["model"], "runs": bench(&["--stage", "flash"]),
    });
    let file = folder.path().join("measurements.json").display().to_string();
    fs::write(&file, measurements.to_string()).unwrap();
    let plots = folder.path().join("plots");
    let output = tiny_llm(&["report", &file, "--output", &plots.display().to_string()]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("| reference, flash |") && stdout.contains("commit 0123456"), "{stdout}");
    assert_eq!(fs::read_to_string(plots.join("table.md")).unwrap().trim(), stdout.trim());
    assert!(fs::read_to_string(plots.join("stages.svg")).unwrap().contains("reference, flash"));
}

#[test]
fn a_benchmark_that_means_nothing_is_refused() {
    let model = tiny_model();
    assert_refused(&["bench", "-m", &model, "--generate-tokens", "1"], "--generate-tokens must be at least 2");
    assert_refused(&["bench", "-m", &model, "--repeats", "0"], "--repeats must be at least 1");
    assert_refused(&["bench", "-m", &model, "--threads", "0"], "--threads must be at least 1");
    assert_refused(&["bench", "-m", &model, "--prompt-tokens", "100000"], "positions, but the model has only");
    assert_refused(&["bench", "-m", &model, "--context-sweep", "100000"], "positions, but the model has only");
    assert_refused(&["report", "no-such-file.json"], "no-such-file.json");
    assert_refused(&["convert", "-m", &model, "-o", "unused"], "is a folder already");
    let output = tiny_llm(&["bench", "--stage", "fast"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no stage `fast`"));
}
