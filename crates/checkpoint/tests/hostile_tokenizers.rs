//! Tokenizer files that make the library panic, or take more memory and time than there is: each must end in an error that
//! names the file, or in a tokenizer that works.

#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod common;

use checkpoint::Tokenizer;
use common::json;
use rstest::rstest;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: checkpoint::BoundedAllocator = checkpoint::BoundedAllocator;

/// The tokenizer of `sentencepiece.json` with one part replaced.
fn open(part: &str, value: Value) -> Result<Tokenizer, String> {
    let mut tokenizer = json("sentencepiece.json")["tokenizer"].take();
    tokenizer[part] = value;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    Tokenizer::from_file(&path, None).map_err(|error| error.to_string())
}

/// Everything that is done with a tokenizer; the first error.
fn use_it(part: &str, value: Value) -> Result<(), String> {
    let tokenizer = open(part, value)?;
    let words = |error: checkpoint::Error| error.to_string();
    for text in ["Hello world", "", "aé b"] {
        let ids = tokenizer.encode(text, true).map_err(words)?;
        tokenizer.decode(&ids, false).map_err(words)?;
        let mut stream = tokenizer.stream();
        for id in ids {
            stream.push(id).map_err(words)?;
        }
        stream.finish().map_err(words)?;
    }
    Ok(())
}

fn repeated(kind: &str, list: &str, step: Value, times: usize) -> Value {
    json!({ "type": kind, list: vec![step; times] })
}

fn replace(pattern: Value, content: &str) -> Value {
    json!({ "type": "Replace", "pattern": pattern, "content": content })
}

fn template(pieces: Value) -> Value {
    json!({ "type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": {} })
}

#[rstest]
#[case::empty_pattern("normalizer", replace(json!({ "String": "" }), "x"))]
#[case::pattern_of_a_start("normalizer", replace(json!({ "Regex": "^" }), "x"))]
#[case::pattern_of_a_boundary("normalizer", replace(json!({ "Regex": r"\b" }), "x"))]
#[case::charsmap_empty("normalizer", json!({ "type": "Precompiled", "precompiled_charsmap": "" }))]
#[case::charsmap_short("normalizer", json!({ "type": "Precompiled", "precompiled_charsmap": "AAAAAA==" }))]
#[case::charsmap_that_lies("normalizer", json!({ "type": "Precompiled", "precompiled_charsmap": "/////wAAAAA=" }))]
#[case::pieces_of_no_length("pre_tokenizer", json!({ "type": "FixedLength", "length": 0 }))]
#[case::second_text("post_processor", template(json!([{ "Sequence": { "id": "B", "type_id": 0 } }])))]
#[case::unknown_special("post_processor", template(json!([{ "SpecialToken": { "id": "<no>", "type_id": 0 } }])))]
#[case::strip_of_one("decoder", json!({ "type": "Sequence", "decoders": [
    { "type": "Fuse" }, { "type": "Strip", "content": "H", "start": 9, "stop": 9 }
] }))]
#[case::long_prefix("model", json!({
    "type": "BPE", "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": [["a", "b"]], "continuing_subword_prefix": "#########"
}))]
fn nothing_panics(#[case] part: &str, #[case] value: Value) {
    if let Err(error) = use_it(part, value) {
        assert!(error.contains("tokenizer.json: tokenizer: "), "{error}");
    }
}

/// Each step doubles its input or more.
#[rstest]
#[case::byte_level_normalizers("normalizer", repeated("Sequence", "normalizers", json!({ "type": "ByteLevel" }), 40))]
#[case::replacements("normalizer", repeated("Sequence", "normalizers", replace(json!({ "String": "a" }), &"a".repeat(100)), 6))]
#[case::replacements_in_the_decoder(
    "decoder", repeated("Sequence", "decoders", replace(json!({ "String": "e" }), &"e".repeat(100)), 6)
)]
#[case::byte_level_pre_tokenizers("pre_tokenizer", repeated("Sequence", "pretokenizers", json!({
    "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false
}), 200))]
fn what_multiplies_its_input_is_an_error(#[case] part: &str, #[case] value: Value) {
    let error = use_it(part, value).unwrap_err();
    assert!(error.contains("tokenizer.json: tokenizer: ") && error.contains("needs more than"), "{error}");
}
