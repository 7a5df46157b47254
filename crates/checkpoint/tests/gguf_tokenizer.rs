//! What GGUF files leave out or say wrongly about text.

#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod common;

use checkpoint::{Checkpoint, Message};
use common::{data, json};
use rstest::rstest;

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn position(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).position(|window| window == needle).unwrap()
}

/// A fixture with one string in place of another.
fn replaced(bytes: &[u8], old: &str, new: &str) -> Vec<u8> {
    let (old, new) = (string(old), string(new));
    let start = position(bytes, &old);
    [&bytes[..start], &new, &bytes[start + old.len()..]].concat()
}

/// Names the pre-tokenizer; the template gives or takes the bytes by which the name is longer, so that the rest stays in place.
fn with_pre_tokenizer(name: &str, pre: &str) -> Vec<u8> {
    let bytes = std::fs::read(data(&format!("{name}.gguf"))).unwrap();
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}";
    let start = position(&bytes, &string("tokenizer.ggml.pre")) + string("tokenizer.ggml.pre").len() + 4;
    let old = u64::from_le_bytes(bytes[start..start + 8].try_into().unwrap()) as usize;
    let renamed = [&bytes[..start], &string(pre), &bytes[start + 8 + old..]].concat();
    let room = template.len() + old - pre.len();
    let filled = format!("{:<room$}", &template[..template.len().min(room)]);
    replaced(&renamed, template, &filled)
}

fn without_pre_tokenizer(name: &str) -> Vec<u8> {
    let bytes = std::fs::read(data(&format!("{name}.gguf"))).unwrap();
    replaced(&bytes, "tokenizer.ggml.pre", "tokenizer.ggml.was")
}

/// The file and, while it is needed, its place.
fn open(bytes: &[u8]) -> (tempfile::NamedTempFile, Result<Checkpoint, checkpoint::Error>) {
    let file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let checkpoint = Checkpoint::open(file.path());
    (file, checkpoint)
}

/// Whether the texts of `encodings.json` get the ids that the tokenizer of the fixture gives them.
fn encodes_as(checkpoint: &Checkpoint, fixture: &str) -> bool {
    let tokenizer = checkpoint.tokenizer().unwrap();
    let file = json("encodings.json");
    file[fixture].as_array().unwrap().iter().all(|case| {
        let ids = tokenizer.encode(case["text"].as_str().unwrap(), false).unwrap();
        case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).eq(ids)
    })
}

#[test]
fn without_a_name_the_architecture_decides_how_texts_are_split() {
    let (_file, checkpoint) = open(&without_pre_tokenizer("tiny-qwen2"));
    let checkpoint = checkpoint.unwrap();
    assert!(encodes_as(&checkpoint, "tiny-qwen2"));
    assert!(checkpoint.tokenizer().unwrap().warnings().is_empty());
}

#[test]
fn where_the_architecture_cannot_decide_the_guess_is_said() {
    let (_file, checkpoint) = open(&without_pre_tokenizer("tiny-llama"));
    let warnings = checkpoint.unwrap().tokenizer().unwrap().warnings().to_vec();
    assert!(warnings.len() == 1 && warnings[0].contains("tokenizer.ggml.pre"), "{warnings:?}");
    let named = Checkpoint::open(&data("tiny-llama.gguf")).unwrap().tokenizer().unwrap();
    assert!(named.warnings().is_empty());
}

#[rstest]
#[case("deepseek-r1-qwen")]
#[case("kormo")]
#[case("megrez")]
fn relatives_of_qwen2_split_as_it_does(#[case] name: &str) {
    let (_file, checkpoint) = open(&with_pre_tokenizer("tiny-qwen2", name));
    assert!(encodes_as(&checkpoint.unwrap(), "tiny-qwen2"));
}

#[test]
fn an_unknown_pre_tokenizer_is_named() {
    let (_file, checkpoint) = open(&with_pre_tokenizer("tiny-qwen2", "tekken"));
    let error = checkpoint.unwrap().tokenizer().err().unwrap().to_string();
    assert!(error.contains("`tekken`"), "{error}");
}

/// As in llama.cpp: such a token ends an answer, whatever type a converter wrote.
#[rstest]
#[case::normal(1)]
#[case::user_defined(4)]
fn a_mistyped_end_of_turn_is_recognised(#[case] kind: i32) {
    let mut bytes = std::fs::read(data("tiny-llama.gguf")).unwrap();
    let original = Checkpoint::open(&data("tiny-llama.gguf")).unwrap();
    let names = ["<|im_end|>", "<|endoftext|>", "<|im_start|>"];
    // The metadata name the first as the end of a sequence; the second ends an answer by its text alone.
    let [end, end_of_text, begin] = names.map(|name| original.tokenizer().unwrap().token_to_id(name).unwrap());
    let key = string("tokenizer.ggml.token_type");
    let types = position(&bytes, &key) + key.len() + 16; // type, type of the elements, count
    for id in [end, end_of_text, begin] {
        let at = types + 4 * id as usize;
        assert_eq!(bytes[at..at + 4], 3_i32.to_le_bytes());
        bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
    }
    let (_file, checkpoint) = open(&bytes);
    let checkpoint = checkpoint.unwrap();
    let tokenizer = checkpoint.tokenizer().unwrap();
    assert_eq!(checkpoint.config().eos_token_ids, original.config().eos_token_ids);
    assert!(checkpoint.config().eos_token_ids.contains(&end_of_text));
    assert!(!checkpoint.config().eos_token_ids.contains(&begin));
    let prompt = checkpoint.chat_template().unwrap().render(&[Message::new("user", "<|im_start|>a")], true).unwrap();
    let right = original.tokenizer().unwrap().encode(&prompt, false).unwrap();
    assert_eq!(tokenizer.encode(&prompt, false).unwrap(), right);
    assert_eq!(tokenizer.decode(&right, true).unwrap(), "user: a");
    let warnings = tokenizer.warnings();
    assert!(warnings.len() == 3 && warnings.iter().any(|warning| warning.contains("<|im_end|>")), "{warnings:?}");
}
