//! Damaged Hugging Face folders: every error names the file, and the tensor where there is one.

#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod common;

use std::path::Path;

use checkpoint::{Checkpoint, Error};
use common::{copy_of, edit_json};
use rstest::rstest;
use serde_json::{Map, Value, json};

const SHARD: &str = "model-00001-of-00002.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn error_of(folder: &Path) -> String {
    Checkpoint::open(folder).unwrap_err().to_string()
}

/// Header and data of a safetensors file.
fn parts(path: &Path) -> (Map<String, Value>, Vec<u8>) {
    let bytes = std::fs::read(path).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + len]).unwrap(), bytes[8 + len..].to_vec())
}

fn write(path: &Path, header: &str, data: &[u8]) {
    let len = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&len, header.as_bytes(), data].concat()).unwrap();
}

/// Opens the sharded fixture after its first shard's header was changed.
fn with_header(edit: impl FnOnce(&mut Map<String, Value>)) -> String {
    let folder = copy_of("sharded");
    let shard = folder.path().join(SHARD);
    let (mut header, data) = parts(&shard);
    edit(&mut header);
    write(&shard, &Value::Object(header).to_string(), &data);
    error_of(folder.path())
}

const NAME: &str = "model.embed_tokens.weight";

#[rstest]
#[case::unknown_dtype(json!({ "dtype": "F7" }), "unknown dtype \"F7\"")]
#[case::no_dtype(json!({ "dtype": null }), "invalid type: null")]
#[case::integers(json!({ "dtype": "I16" }), "dtype I16 is not supported")]
#[case::wrong_shape(json!({ "shape": [16, 40] }), "has shape [16, 40]")]
#[case::negative(json!({ "shape": [-40, 16] }), "integer `-40`")]
#[case::no_shape(json!({ "shape": "40x16" }), "expected a shape of at most 8 sizes")]
#[case::many_axes(json!({ "shape": [1, 1, 1, 1, 1, 1, 1, 40, 16] }), "expected a shape of at most 8 sizes")]
#[case::not_as_long_as_its_shape(json!({ "shape": [40, 17] }), "which do not fit BF16 [40, 17]")]
#[case::offsets_outside(json!({ "data_offsets": [0, 1_000_000_000_000_u64] }), "truncated or a wrong header")]
#[case::offsets_overflow(json!({ "data_offsets": [0, u64::MAX] }), "truncated or a wrong header")]
#[case::offsets_reversed(json!({ "data_offsets": [5, 1] }), "truncated or a wrong header")]
#[case::no_offsets(json!({ "data_offsets": [1] }), "expected a tuple of size 2")]
fn a_lying_header_names_file_and_tensor(#[case] fields: Value, #[case] problem: &str) {
    let text = with_header(|header| header[NAME].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone()));
    assert!(text.contains(SHARD) && text.contains(NAME) && text.contains(problem), "{text}");
}

/// A parser that keeps one of two entries would read one of two tensors.
#[test]
fn two_entries_of_one_tensor_are_refused() {
    let folder = copy_of("sharded");
    let shard = folder.path().join(SHARD);
    let (header, data) = parts(&shard);
    let twice = format!("{{\"{NAME}\":{},{}", header[NAME], &Value::Object(header.clone()).to_string()[1..]);
    write(&shard, &twice, &data);
    let text = error_of(folder.path());
    assert!(text.contains(NAME) && text.contains("two entries"), "{text}");
}

#[test]
fn headers_that_do_not_add_up_name_the_file() {
    // Sizes that agree with the offsets, but not with the dtype; gaps; a product that overflows.
    for shape in [json!([40, 17]), json!([u64::MAX, u64::MAX]), json!([])] {
        let text = with_header(|header| header[NAME]["shape"] = shape);
        assert!(text.contains(SHARD) && text.contains("header"), "{text}");
    }
    let text = with_header(|header| drop(header.remove(NAME)));
    assert!(text.contains(SHARD) || text.contains(INDEX), "{text}");
}

/// Offsets whose sum overflows 64 bits only over many tensors must not wrap around to something plausible.
#[test]
fn offsets_that_overflow_together_are_refused() {
    let folder = copy_of("sharded");
    std::fs::remove_file(folder.path().join(INDEX)).unwrap();
    let step = (u64::MAX / 8) & !7;
    let mut header = Map::new();
    for i in 0..8 {
        header.insert(
            format!("t{i}"),
            json!({ "dtype": "U8", "shape": [step], "data_offsets": [step * i, step * (i + 1)] }),
        );
    }
    write(&folder.path().join("model.safetensors"), &Value::Object(header).to_string(), &[0; 64]);
    let text = error_of(folder.path());
    assert!(text.contains("model.safetensors") && text.contains("t0"), "{text}");
}

#[test]
fn truncated_files_name_the_file() {
    let folder = copy_of("sharded");
    let shard = folder.path().join(SHARD);
    let whole = std::fs::read(&shard).unwrap();
    for len in [0, 1, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&shard, &whole[..len]).unwrap();
        let text = error_of(folder.path());
        assert!(text.contains(SHARD), "{len}: {text}");
    }
    std::fs::write(&shard, [whole, vec![0]].concat()).unwrap();
    assert!(error_of(folder.path()).contains(SHARD), "one byte too many");
}

#[rstest]
#[case(u64::MAX)]
#[case(u64::MAX - 7)]
#[case(1 << 40)]
#[case(99_999_999)]
#[case(0)]
fn a_lying_header_length_names_the_file(#[case] len: u64) {
    let folder = copy_of("sharded");
    let shard = folder.path().join(SHARD);
    let mut bytes = std::fs::read(&shard).unwrap();
    bytes[..8].copy_from_slice(&len.to_le_bytes());
    std::fs::write(&shard, bytes).unwrap();
    let text = error_of(folder.path());
    assert!(text.contains(SHARD) && text.contains("header"), "{text}");
}

#[rstest]
#[case("not json")]
#[case("[1, 2]")]
#[case("{\"a\": 1}")]
#[case("{\"a\": {\"dtype\": \"F32\"}}")]
#[case("{\"__metadata__\": 3}")]
#[case("\u{0}\u{0}")]
fn a_header_that_is_no_header_names_the_file(#[case] header: &str) {
    let folder = copy_of("sharded");
    write(&folder.path().join(SHARD), header, &[]);
    assert!(error_of(folder.path()).contains(SHARD));
}

#[test]
fn deeply_nested_json_is_refused() {
    let folder = copy_of("sharded");
    write(&folder.path().join(SHARD), &"[".repeat(1_000_000), &[]);
    assert!(error_of(folder.path()).contains(SHARD));
    std::fs::write(folder.path().join("config.json"), "{\"a\":".repeat(1_000_000)).unwrap();
    assert!(error_of(folder.path()).contains("config.json"));
}

#[test]
fn missing_files_are_named() {
    let folder = copy_of("sharded");
    std::fs::remove_file(folder.path().join(SHARD)).unwrap();
    let text = error_of(folder.path());
    assert!(
        text.contains(INDEX) && text.contains(SHARD) && text.contains("missing") && text.contains("tensor"),
        "{text}"
    );

    std::fs::remove_file(folder.path().join(INDEX)).unwrap();
    let text = error_of(folder.path());
    assert!(text.contains("neither model.safetensors nor"), "{text}");

    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    assert!(error_of(folder.path()).contains("config.json"));

    let nowhere = folder.path().join("nowhere");
    assert!(matches!(Checkpoint::open(&nowhere), Err(Error::Io { file, .. }) if file == nowhere));
}

#[test]
fn an_index_that_contradicts_the_shards_names_the_tensor() {
    let index = |edit: &dyn Fn(&mut Value)| {
        let folder = copy_of("sharded");
        edit_json(&folder.path().join(INDEX), edit);
        error_of(folder.path())
    };
    let text = index(&|json| json["weight_map"][NAME] = json!("model-00002-of-00002.safetensors"));
    assert!(text.contains(NAME) && text.contains(INDEX), "{text}");
    let text = index(&|json| json["weight_map"]["model.extra"] = json!(SHARD));
    assert!(text.contains("model.extra") && text.contains(INDEX), "{text}");
    let text = index(&|json| drop(json["weight_map"].as_object_mut().unwrap().remove(NAME)));
    assert!(text.contains(NAME) && text.contains(SHARD), "{text}");
    for name in ["../sharded/secret", "/etc/hosts", "sub/shard", "", ".."] {
        let text = index(&|json| json["weight_map"][NAME] = json!(name));
        assert!(text.contains(NAME) && text.contains("file name"), "{text}");
    }
    let text = index(&|json| json["weight_map"][NAME] = json!(7));
    assert!(text.contains(NAME), "{text}");
    for edit in [json!([]), json!({}), json!({ "weight_map": [] })] {
        let text = index(&|json| *json = edit.clone());
        assert!(text.contains(INDEX), "{text}");
    }
}

/// Who uploads a quantized copy often leaves the index of the original beside it.
#[test]
fn an_index_beside_one_complete_file_is_not_needed() {
    let folder = copy_of("mlx-quantized");
    let index = folder.path().join(INDEX);
    for stale in
        [json!({ "weight_map": { NAME: "model-00001-of-00002.safetensors" } }), json!({ "weight_map": [] }), json!([])]
    {
        std::fs::write(&index, stale.to_string()).unwrap();
        Checkpoint::open(folder.path()).unwrap();
    }
    // One that names the file counts.
    std::fs::write(&index, json!({ "weight_map": { NAME: "model.safetensors" } }).to_string()).unwrap();
    assert!(error_of(folder.path()).contains("does not place it in this shard"));
}

#[test]
fn one_file_without_an_index_is_enough() {
    let folder = copy_of("mlx-quantized");
    assert!(!folder.path().join(INDEX).exists());
    Checkpoint::open(folder.path()).unwrap();
}

/// Opens the quantized fixture after its header was changed.
fn quantized_with(edit: impl FnOnce(&mut Map<String, Value>)) -> String {
    let folder = copy_of("mlx-quantized");
    let file = folder.path().join("model.safetensors");
    let (mut header, data) = parts(&file);
    edit(&mut header);
    write(&file, &Value::Object(header).to_string(), &data);
    error_of(folder.path())
}

#[test]
fn quantized_parts_must_fit_each_other() {
    let layer = "model.layers.0.mlp.gate_proj";
    let swap = |header: &mut Map<String, Value>, from: &str, to: &str| {
        let info = header.remove(&format!("{layer}.{from}")).unwrap();
        header.insert(format!("{layer}.{to}"), info);
    };
    for (from, to) in [("scales", "scale"), ("biases", "bias2")] {
        let text = quantized_with(|header| swap(header, from, to));
        assert!(text.contains("model.safetensors") && text.contains(layer), "{text}");
    }
    let text = quantized_with(|header| header[&format!("{layer}.scales")]["shape"] = json!([64, 1]));
    assert!(text.contains(layer) && text.contains("do not fit"), "{text}");
    let text = quantized_with(|header| header[&format!("{layer}.weight")]["dtype"] = json!("F32"));
    assert!(text.contains(layer) && text.contains("not packed"), "{text}");
}

#[test]
fn quantization_must_be_announced_in_the_config() {
    let folder = copy_of("mlx-quantized");
    let config = folder.path().join("config.json");
    edit_json(&config, |json| {
        json["quantization"]["model.layers.0.mlp.up_proj"] = json!({ "group_size": 32, "bits": 8 })
    });
    assert!(error_of(folder.path()).contains("`model.layers.0.mlp.up_proj.weight`"));
    edit_json(&config, |json| json["quantization"]["model.layers.0.mlp.up_proj"] = json!(false));
    assert!(error_of(folder.path()).contains("`model.layers.0.mlp.up_proj.weight`"));
    edit_json(&config, |json| {
        *json = json.as_object().unwrap().clone().into_iter().filter(|(key, _)| !key.starts_with("quant")).collect()
    });
    assert!(error_of(folder.path()).contains("no `quantization`"));
}
