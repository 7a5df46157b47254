//! Encodings against the Hugging Face tokenizers library, and decoding token by token.

#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod common;

use checkpoint::{Checkpoint, Error, Tokenizer, registry};
use common::{copy_of, data, json};
use rstest::rstest;

fn open(model: &str) -> Tokenizer {
    let path = match model {
        "smollm2-135m" => registry::resolve(model).unwrap(),
        tiny => data(&format!("{tiny}.gguf")),
    };
    Checkpoint::open(&path).unwrap().tokenizer().unwrap()
}

/// The text of a stream, with the promise checked that no piece holds a broken character.
fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = tokenizer.stream();
    let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    pieces.concat() + &stream.finish().unwrap()
}

#[rstest]
#[case("smollm2-135m")]
#[case("tiny-llama")]
#[case("tiny-qwen2")]
#[case("tiny-gpt2-split")]
fn encodings_equal_those_of_hugging_face(#[case] model: &str) {
    let tokenizer = open(model);
    let cases = json("encodings.json");
    let cases = cases[model].as_array().unwrap();
    assert!(cases.len() > 100);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let expected: Vec<u32> = case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(tokenizer.encode(text, false).unwrap(), expected, "{text:?}");
    }
}

#[rstest]
#[case("smollm2-135m")]
#[case("tiny-llama")]
#[case("tiny-gpt2-split")]
fn texts_survive_encoding_and_both_ways_of_decoding(#[case] model: &str) {
    let tokenizer = open(model);
    for case in json("encodings.json")[model].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let ids = tokenizer.encode(text, false).unwrap();
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        let mut stream = tokenizer.stream();
        for &id in &ids {
            let piece = stream.push(id).unwrap();
            assert!(!piece.contains('\u{fffd}') || text.contains('\u{fffd}'), "{text:?} gave {piece:?}");
        }
        assert_eq!(stream.finish().unwrap(), "");
        assert_eq!(streamed(&tokenizer, &ids), tokenizer.decode(&ids, true).unwrap());
    }
}

#[test]
fn a_character_is_held_back_until_it_is_whole() {
    let tokenizer = open("tiny-llama");
    let ids = tokenizer.encode("x𠜎y", false).unwrap();
    assert_eq!(ids.len(), 6, "the test needs a character of four tokens");
    let mut stream = tokenizer.stream();
    let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    assert_eq!(pieces, ["x", "", "", "", "𠜎", "y"]);
    // The model stops inside the character.
    let mut stream = tokenizer.stream();
    ids[..3].iter().for_each(|&id| drop(stream.push(id).unwrap()));
    assert_eq!(stream.finish().unwrap(), "\u{fffd}");
    assert_eq!(stream.finish().unwrap(), "");
}

/// Any order of any bytes, most of it invalid UTF-8: a stream must agree with decoding at once.
#[rstest]
#[case("tiny-llama")]
#[case("smollm2-135m")]
fn streaming_random_tokens_equals_decoding_them_at_once(#[case] model: &str) {
    let tokenizer = open(model);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64; // seed of a xorshift generator
    for _ in 0..300 {
        let ids: Vec<u32> = (0..40)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                // The first 300 entries hold all single bytes, where characters break.
                (random % 300) as u32
            })
            .collect();
        assert_eq!(streamed(&tokenizer, &ids), tokenizer.decode(&ids, true).unwrap(), "{ids:?}");
    }
}

#[test]
fn special_tokens_are_found_in_texts_and_left_out_of_streams() {
    let tokenizer = open("tiny-llama");
    let end = tokenizer.token_to_id("<|im_end|>").unwrap();
    let ids = tokenizer.encode("a<|im_end|>b", false).unwrap();
    assert!(ids.contains(&end));
    assert_eq!(streamed(&tokenizer, &ids), "ab");
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "a<|im_end|>b");
    assert_eq!(tokenizer.token_to_id("<|no_such_token|>"), None);
    // Not special, only unsplittable: it is text.
    assert_eq!(streamed(&tokenizer, &tokenizer.encode("<tool>", false).unwrap()), "<tool>");
}

#[test]
fn a_begin_token_is_added_where_the_model_wants_it() {
    let with = open("tiny-gpt2-split");
    let begin = with.token_to_id("<|endoftext|>").unwrap();
    let plain = with.encode("hello", false).unwrap();
    assert_eq!(with.encode("hello", true).unwrap(), [vec![begin], plain].concat());
    let without = open("tiny-llama");
    assert_eq!(without.encode("hello", true).unwrap(), without.encode("hello", false).unwrap());
}

#[test]
fn an_id_without_an_entry_is_an_error_that_names_it() {
    let tokenizer = open("tiny-llama");
    let padding = tokenizer.vocab_size() as u32; // the model's embedding has three more rows
    for id in [padding, padding + 2, u32::MAX] {
        assert!(matches!(tokenizer.decode(&[1, id], true), Err(Error::UnknownToken { token, .. }) if token == id));
        let mut stream = tokenizer.stream();
        let error = stream.push(id).unwrap_err().to_string();
        assert!(error.contains(&id.to_string()) && error.contains(&tokenizer.vocab_size().to_string()), "{error}");
        assert_eq!(stream.push(tokenizer.encode("a", false).unwrap()[0]).unwrap(), "a");
    }
}

/// Bytes that can never become a character are given out at once: a stream that kept them would grow with the text.
#[test]
fn hopeless_bytes_are_not_held_back() {
    let tokenizer = open("tiny-llama");
    let lone_continuation = tokenizer.token_to_id("Ģ").unwrap(); // the byte 0x80, of which no character begins
    let mut stream = tokenizer.stream();
    for _ in 0..20_000 {
        assert_eq!(stream.push(lone_continuation).unwrap(), "\u{fffd}");
    }
}

/// Not byte-level: spaces are `▁`, unknown characters are spelled in bytes, and the decoder strips the first space.
#[test]
fn other_decoders_stream_as_well() {
    let file = json("sentencepiece.json");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, file["tokenizer"].to_string()).unwrap();
    let tokenizer = Tokenizer::from_file(&path, None).unwrap();
    let ids: Vec<u32> = file["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let text = file["text"].as_str().unwrap();
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    let mut stream = tokenizer.stream();
    let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    assert!(pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{pieces:?}");
    assert_eq!(pieces.concat() + &stream.finish().unwrap(), text);
    // A byte that begins a character, and then something else.
    let mut stream = tokenizer.stream();
    let pieces = [ids[3], ids[0], ids[3]].map(|id| stream.push(id).unwrap()).concat() + &stream.finish().unwrap();
    assert_eq!(pieces, tokenizer.decode(&[ids[3], ids[0], ids[3]], true).unwrap());
}

#[test]
fn a_tokenizer_must_fit_the_vocabulary() {
    let file = json("sentencepiece.json");
    let folder = copy_of("sharded");
    let path = folder.path().join("tokenizer.json");
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let error = checkpoint.tokenizer().err().unwrap().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
    // 272 entries for 40 rows.
    std::fs::write(&path, file["tokenizer"].to_string()).unwrap();
    let error = checkpoint.tokenizer().err().unwrap().to_string();
    assert!(
        error.contains("tokenizer.json") && error.contains("model.embed_tokens.weight") && error.contains("40 rows"),
        "{error}"
    );
    // Far fewer entries than rows: another model's tokenizer.
    let error = Tokenizer::from_file(&path, Some(400)).err().unwrap().to_string();
    assert!(error.contains("272 entries") && error.contains("400 rows"), "{error}");
    assert!(Tokenizer::from_file(&path, Some(280)).is_ok(), "a few padded rows are normal");
    for broken in ["", "{}", "[]", "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}}", "\u{0}"]
    {
        std::fs::write(&path, broken).unwrap();
        let error = checkpoint.tokenizer().err().unwrap().to_string();
        assert!(error.contains("tokenizer.json: tokenizer: cannot be read"), "{error}");
    }
}
