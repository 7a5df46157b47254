//! Encodings against the Hugging Face tokenizers library, and decoding token by token.

#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod common;

use checkpoint::{Checkpoint, Error, Tokenizer, registry};
use common::{copy_of, data, json};
use rstest::rstest;
use serde_json::{Value, json};

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

/// As in transformers and mlx-lm: such a row was never trained, but a sampler may pick it.
#[test]
fn an_id_in_the_padded_part_of_the_vocabulary_has_no_text() {
    let tokenizer = open("tiny-llama");
    let padding = tokenizer.vocab_size() as u32; // the model's embedding has three more rows
    let a = tokenizer.encode("a", false).unwrap()[0];
    for id in [padding, padding + 2] {
        assert_eq!(tokenizer.decode(&[a, id, a], false).unwrap(), "aa");
        let mut stream = tokenizer.stream();
        assert_eq!([a, id, a].map(|id| stream.push(id).unwrap()), ["a", "", "a"]);
    }
}

#[test]
fn an_id_beyond_the_vocabulary_is_an_error_that_names_it() {
    let tokenizer = open("tiny-llama");
    let rows = tokenizer.vocab_size() as u32 + 3;
    for id in [rows, u32::MAX] {
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

/// One wrong byte among bytes becomes U+FFFD and takes nothing with it; the library gives up all bytes around it.
#[test]
fn a_wrong_fallback_byte_costs_itself_only() {
    let tokenizer = from_json(&json("sentencepiece.json")["tokenizer"]);
    let hello = tokenizer.token_to_id("Hello").unwrap();
    let bytes = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte) + 3).collect::<Vec<u32>>();
    for (ids, text) in [
        ([vec![hello], bytes(b"\xff")].concat(), "Hello\u{fffd}"),
        (bytes(b"\xc3\xa9\xc3"), "é\u{fffd}"),
        (bytes(b"\xc3\xa9\xff\xc3\xa9"), "é\u{fffd}é"),
        ([bytes(b"\xe2\x82"), vec![hello]].concat(), "\u{fffd}\u{fffd}Hello"),
        (
            [bytes(b"\xff\xff\xff\xff\xff\xf0\x9f\xa6"), vec![hello], bytes(b"\xc3\xa9")].concat(),
            concat!("\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}", "\u{fffd}\u{fffd}\u{fffd}", "Helloé"),
        ),
    ] {
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), text, "{ids:?}");
        assert_eq!(streamed(&tokenizer, &ids), text, "{ids:?}");
    }
    // Every order of bytes: the pieces of a stream are the text.
    for n in 0..4096_u32 {
        let picks = [0x41, 0xc3, 0xa9, 0xff, 0xe2, 0x82, 0xac, 0xf0];
        let ids: Vec<u32> = (0..4).flat_map(|i| bytes(&[picks[(n >> (3 * i)) as usize % 8]])).collect();
        assert_eq!(streamed(&tokenizer, &ids), tokenizer.decode(&ids, true).unwrap(), "{ids:?}");
    }
}

/// A tokenizer from the value of its JSON.
fn from_json(json: &Value) -> Tokenizer {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json.to_string()).unwrap();
    Tokenizer::from_file(file.path(), None).unwrap()
}

/// A byte-level tokenizer of a few letters; `Ã` and `©` are the bytes of `é`.
fn byte_level(added: Value, dropout: Value) -> Value {
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let vocab = json!({ "a": 0, "b": 1, "Ã": 2, "©": 3, "Ġ": 4, "ab": 5, "Ã©": 6 });
    json!({
        "version": "1.0", "added_tokens": added, "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": { "type": "BPE", "dropout": dropout, "vocab": vocab, "merges": [["a", "b"], ["Ã", "©"]] },
    })
}

fn added_token(id: u32, content: &str) -> Value {
    json!({
        "id": id, "content": content, "special": false, "normalized": false,
        "single_word": false, "lstrip": false, "rstrip": false,
    })
}

/// Their letters are no spellings of bytes, even where they could be.
#[test]
fn added_tokens_of_a_byte_level_tokenizer_stand_for_themselves() {
    let added = json!([added_token(7, "<é>"), added_token(8, "ü"), added_token(9, "Ġx")]);
    let tokenizer = from_json(&byte_level(added, Value::Null));
    for (ids, text) in [
        (vec![7], "<é>"),
        (vec![0, 8, 1], "aüb"),
        (vec![9], "Ġx"),
        (vec![6, 7, 4, 0], "é<é> a"),
        (vec![2, 8, 3], "\u{fffd}ü\u{fffd}"),
    ] {
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        assert_eq!(streamed(&tokenizer, &ids), text);
    }
}

#[test]
fn a_saved_dropout_is_off() {
    let tokenizer = from_json(&byte_level(json!([]), json!(1.0)));
    assert_eq!(tokenizer.encode("abé", false).unwrap(), [5, 6]);
}

/// The ids are those of transformers, which adds such tokens when it opens a folder.
#[test]
fn tokens_that_only_the_tokenizer_config_knows_are_added() {
    let folder = copy_of("sharded"); // 40 rows
    let vocab: serde_json::Map<String, Value> =
        ('a'..='z').chain('A'..='M').zip(0..39).map(|(c, i)| (c.into(), i.into())).collect();
    let mut tokenizer = byte_level(json!([]), Value::Null);
    tokenizer["model"]["vocab"] = vocab.into();
    tokenizer["model"]["merges"] = json!([]);
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let tool = json!({ "content": "<|tool|>", "special": true, "normalized": false });
    let known = json!({ "content": "bc", "special": false });
    let config = |decoder: Value| {
        let config = json!({ "eos_token": "<|tool|>", "added_tokens_decoder": decoder });
        std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        Checkpoint::open(folder.path()).unwrap()
    };
    let checkpoint = config(json!({ "39": tool, "99": known }));
    let tokenizer = checkpoint.tokenizer().unwrap();
    assert_eq!(tokenizer.encode("a<|tool|>b", false).unwrap(), [0, 39, 1]);
    assert_eq!(tokenizer.decode(&[0, 39, 1], true).unwrap(), "ab");
    assert_eq!(tokenizer.decode(&[0, 39, 1], false).unwrap(), "a<|tool|>b");
    assert!(checkpoint.config().eos_token_ids.contains(&39));
    assert_eq!(tokenizer.encode("bc", false).unwrap(), [1, 2], "there is no row 99");
    let folder_without = config(json!({}));
    assert!(!folder_without.config().eos_token_ids.contains(&39));
    assert!(folder_without.tokenizer().unwrap().encode("a<|tool|>b", false).unwrap().len() > 3);
    std::fs::write(
        folder.path().join("tokenizer_config.json"),
        json!({ "eos_token": "<|tool|>", "added_tokens_decoder": { "x": tool } }).to_string(),
    )
    .unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer_config.json") && error.contains("added_tokens_decoder"), "{error}");
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
