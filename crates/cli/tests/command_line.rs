//! The program as a user meets it: exit codes, what goes to which stream, and that errors are one clear line.

#![allow(clippy::unwrap_used)] // in helpers of tests, which clippy.toml does not recognise as tests

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use safetensors::SafeTensors;
use serde_json::Value;

fn command<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    // Tests run side by side: more BLAS threads than processors only wait for each other.
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiny-llm"));
    command.args(arguments).env("OPENBLAS_NUM_THREADS", "1");
    command
}

fn tiny_llm(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn tiny_model() -> String {
    fixtures().join("models/tiny-qwen2-tied").display().to_string()
}

/// Exit code 2, nothing on standard output, and one line on standard error that says `needle`.
fn assert_refused(arguments: &[&str], needle: &str) {
    assert_refused_with(arguments, &[], needle);
}

/// The same with variables of the environment.
fn assert_refused_with(arguments: &[&str], variables: &[(&str, &str)], needle: &str) {
    let output = command(arguments).envs(variables.iter().copied()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    assert!(errors[0].contains(needle), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    // Nobody who uses the program knows its sources.
    assert!(![".cpp:", ".rs:"].iter().any(|place| stderr.contains(place)), "{stderr}");
}

/// A copy of the tiny model that can read text: each character from the blank on is a token.
fn tiny_model_with_tokenizer(folder: &Path) -> String {
    for entry in fs::read_dir(tiny_model()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let vocab = (32..127_u8).map(|c| (char::from(c).to_string(), Value::from(c - 32))).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": Value::Object(vocab), "merges": [],
        },
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    folder.display().to_string()
}

/// Multiplies a model's feed-forward weights, which are f32.
fn scale_feed_forward(weights: &Path, factor: f32) {
    let mut bytes = fs::read(weights).unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    for (name, info) in metadata.tensors().iter().filter(|(name, _)| name.contains(".mlp.")) {
        assert_eq!(info.dtype, safetensors::Dtype::F32, "{name}");
        let (start, end) = info.data_offsets;
        for word in bytes[8 + header..][start..end].chunks_mut(4) {
            let scaled = factor * f32::from_le_bytes(word.try_into().unwrap());
            word.copy_from_slice(&scaled.to_le_bytes());
        }
    }
    fs::write(weights, bytes).unwrap();
}

/// Commands that print, on a model and a text in `folder`.
fn printing(folder: &Path) -> Vec<Vec<String>> {
    let model = tiny_model_with_tokenizer(folder);
    let text = folder.join("text.txt").display().to_string();
    fs::write(&text, "a text of some tokens").unwrap();
    let measurements = folder.join("measurements.json").display().to_string();
    let machine = serde_json::json!({
        "cpu": "", "cores": 1, "simd": [], "system": "", "memory_bytes": null, "threads": 1, "bandwidth": 1e9, "peak_flops": 1e9,
    });
    let info: Value = serde_json::from_slice(&tiny_llm(&["info", "--json", "-m", &model]).stdout).unwrap();
    let all = serde_json::json!({
        "format": 1, "date": "", "commit": "", "command": "", "machine": machine, "model": info["model"], "runs": bench(&[]),
    });
    fs::write(&measurements, all.to_string()).unwrap();
    let commands: [&[&str]; 9] = [
        &["--help"],
        &["info", "-m", &model],
        &["info", "-m", &model, "--json"],
        &["generate", "-m", &model, "hello", "--max-tokens", "5"],
        &["generate", "-m", &model, "hello", "--max-tokens", "5", "--json"],
        &["perplexity", "-m", &model, &text, "--context", "16"],
        &["bench", "-m", &model, "--json", "--prompt-tokens", "5", "--generate-tokens", "4", "--repeats", "1"],
        &["machine", "--json", "--threads", "1"],
        &["report", &measurements],
    ];
    commands.iter().map(|command| command.iter().map(|&word| word.to_owned()).collect()).collect()
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
fn the_kernel_of_quantized_weights_is_named_where_there_are_any() {
    let said = |arguments: &[&str]| {
        let mut command = command(&[&["generate", "Hi", "--max-tokens", "1"], arguments].concat());
        let output = command.env("TINY_LLM_KERNEL", "portable").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(said(&[]).contains("on the CPU (portable kernel), stage flash"), "{}", said(&[]));
    assert!(said(&["--stage", "cached"]).contains("on the CPU, stage cached"));
    let folder = tempfile::tempdir().unwrap();
    let dense = tiny_model_with_tokenizer(folder.path());
    assert!(said(&["-m", &dense]).contains("on the CPU, stage flash"));
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
    assert_refused(&["chat", "Hi", "-m", &model], "tiny-qwen2-tied: chat template: the model has none");
    assert_refused(&["chat", "Hi", "-m", &model], "use `generate`");
    assert_refused(&["logits", "-m", &model, "--tokens", "5,96", "-o", "unused"], "token 96");
    assert_refused(&["generate", "Hi", "--top-p", "0.9"], "--temperature");
    assert_refused(&["generate", "Hi", "--temperature", "1", "--top-p", "1.5"], "TopP");
    assert_refused(&["generate", "Hi", "--temperature", "-1"], "Temperature");
    assert_refused(&["generate", "Hi", "--temperature", "1e-38"], "--temperature must be 0 or at least 1e-5");
    // Before a model is looked for.
    for (option, value, needle) in
        [("temperature", "nan", "Temperature"), ("repetition-penalty", "0", "RepetitionPenalty")]
    {
        let option = format!("--{option}={value}");
        assert_refused(&["chat", "Hi", "-m", "no-such-model", &option], needle);
        assert_refused(&["generate", "Hi", "-m", "no-such-model", &option], needle);
    }
    let folder = tempfile::tempdir().unwrap().path().display().to_string();
    assert_refused(&["logits", "-m", "no-such-model", "--tokens", "5", "-o", "/"], "/ is a folder");
    assert_refused(
        &["logits", "-m", "no-such-model", "--tokens", "5", "-o", &format!("{folder}/x")],
        "there is no folder",
    );
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
    let most = usize::MAX.to_string();
    assert_refused(&["bench", "-m", &model, "--threads", &most], "--threads must be at most");
    assert_refused(&["machine", "--threads", "100000"], "--threads must be at most");
    for option in ["--prompt-tokens", "--generate-tokens", "--context-sweep"] {
        assert_refused(&["bench", "-m", &model, option, &most], "positions, but the model has only");
    }
    assert_refused(&["bench", "-m", &model, "--repeats", "10000000000"], "--repeats must be at most");
    assert_refused(&["bench", "-m", &model, "--prompt-tokens", "100000"], "positions, but the model has only");
    assert_refused(&["bench", "-m", &model, "--context-sweep", "100000"], "positions, but the model has only");
    assert_refused(&["report", "no-such-file.json"], "no-such-file.json");
    assert_refused(&["convert", "-m", &model, "-o", "unused"], "is a folder already");
    let output = tiny_llm(&["bench", "--stage", "fast"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no stage `fast`"));
}

#[test]
fn numbers_are_refused_in_words() {
    for (arguments, needle) in [
        (["--seed", "-1"], "invalid value '-1' for '--seed <SEED>': is not a whole number from 0"),
        (["--max-tokens", "-5"], "invalid value '-5' for '--max-tokens <N>': is not a whole number from 0"),
        (["--top-k", "18446744073709551616"], "is too large"),
        (["--tokens", "1,-2"], "invalid value '-2' for '--tokens <IDS>': is not a whole number from 0"),
        (["--tokens", "-1,2"], "invalid value '-1' for '--tokens <IDS>': is not a whole number from 0"),
        (["--temperature", "warm"], "invalid value 'warm' for '--temperature <T>': is not a number"),
    ] {
        let output = tiny_llm(&[["generate"].as_slice(), &arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(needle), "{stderr}");
    }
}

#[test]
fn a_path_need_not_be_text_and_a_text_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join(OsStr::from_bytes(b"mod\xe8le"));
    fs::create_dir(&model).unwrap();
    tiny_model_with_tokenizer(&model);
    let output = command(&["info".as_ref(), "--json".as_ref(), "-m".as_ref(), model.as_os_str()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let info: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(info["model"]["name"], "mod\u{fffd}le");
    let logits = model.join("logits");
    let arguments =
        ["logits".as_ref(), "--tokens=1".as_ref(), "-m".as_ref(), model.as_os_str(), "-o".as_ref(), logits.as_os_str()];
    assert!(command(&arguments).output().unwrap().status.success());
    assert!(logits.exists());

    let output = command(&["generate".as_ref(), OsStr::from_bytes(b"caf\xe9")]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.starts_with("error: \"caf\\xE9\": texts and numbers have to be UTF-8"), "{stderr}");
}

#[test]
fn when_nobody_reads_any_more_a_command_ends_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in printing(folder.path()) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(&arguments).stdout(writer).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("error") && !stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in printing(folder.path()) {
        let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        let output = command(&arguments).stdout(full()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains("error: cannot write to standard output: No space left"), "{arguments:?}: {stderr}");
        // Without a place for what only people read, the result is still the result.
        let output = command(&arguments).stderr(full()).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn logits_are_written_through_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let [target, link] = ["target", "link"].map(|name| folder.path().join(name));
    symlink(&target, &link).unwrap();
    let output = tiny_llm(&["logits", "-m", &tiny_model(), "--tokens", "5", "-o", &link.display().to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(SafeTensors::deserialize(&fs::read(&target).unwrap()).is_ok());
}

#[test]
fn activations_that_overflow_are_an_error_that_names_the_dtype() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model_with_tokenizer(folder.path());
    scale_feed_forward(&folder.path().join("model.safetensors"), 3000.0);
    let [text, logits] = ["text.txt", "logits"].map(|name| folder.path().join(name).display().to_string());
    fs::write(&text, "hello there, a text").unwrap();
    let commands: [&[&str]; 6] = [
        &["generate", "hello", "--max-tokens", "3"],
        &["generate", "hello", "--max-tokens", "3", "--temperature", "1"],
        &["perplexity", &text, "--context", "16"],
        &["perplexity", &text, "--context", "16", "--json"],
        &["logits", "hello", "-o", &logits],
        &["bench", "--prompt-tokens", "5", "--generate-tokens", "4", "--repeats", "1", "--json"],
    ];
    for command in commands {
        let with = |dtype| [command, &["-m", &model, "--dtype", dtype]].concat();
        assert_refused(&with("f16"), "with --dtype f16 the model's activations overflow");
        assert_refused(&with("f16"), "use --dtype bf16 or --dtype f32");
        let output = tiny_llm(&with("f32"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn what_the_environment_asks_for_is_refused_before_a_model_is_looked_for() {
    let generate = ["generate", "Hi", "-m", "no-such-model"];
    let on_gpu = [generate.as_slice(), &["--device", "gpu"]].concat();
    let emulator = ("TINY_LLM_GPU", "emulator");
    assert_refused_with(
        &generate,
        &[("TINY_LLM_KERNEL", "x")],
        "error: TINY_LLM_KERNEL is \"x\", and there is no such kernel",
    );
    assert_refused_with(&generate, &[("TINY_LLM_GPU", "x")], "error: TINY_LLM_GPU is \"x\"");
    assert_refused_with(&on_gpu, &[emulator, ("TINY_LLM_EMULATOR", "x")], "error: TINY_LLM_EMULATOR is \"x\"");
    assert_refused_with(&on_gpu, &[emulator, ("CXX", "/nowhere/c++")], "error: CXX is `/nowhere/c++`");
    assert_refused_with(
        &on_gpu,
        &[emulator, ("TINY_LLM_RESULTS", "/nowhere/x")],
        "error: TINY_LLM_RESULTS: cannot write",
    );
    // Empty variables count as not set.
    let empty = ["GPU", "KERNEL", "EMULATOR", "RESULTS", "THREADS"].map(|name| (format!("TINY_LLM_{name}"), ""));
    let model = tiny_model();
    let arguments =
        ["bench", "--json", "-m", &model, "--prompt-tokens", "5", "--generate-tokens", "4", "--repeats", "1"];
    let output = command(&arguments).envs(empty).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
