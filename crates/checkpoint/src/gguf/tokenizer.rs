//! The tokenizer that GGUF metadata describe, written as the `tokenizer.json` that the `tokenizers` crate reads.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::gguf::header::Header;
use crate::gguf::metadata::Value;

// Token types of `tokenizer.ggml.token_type`.
const NORMAL: i64 = 1;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;

/// Tokens that end an answer in the families that are supported, whatever the metadata name as the one end token.
const END_OF_TURN_TEXTS: &[&str] = &["<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<｜end▁of▁sentence｜>"];

/// Begins a turn in the ChatML family.
const START_OF_TURN: &str = "<|im_start|>";

/// Splits a text into the pieces within which byte pairs are merged. `tokenizer.ggml.pre` names it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum PreTokenizer {
    Gpt2,
    SmolLm,
    Qwen2,
}

impl PreTokenizer {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "gpt-2" | "default" => Some(Self::Gpt2),
            "smollm" => Some(Self::SmolLm),
            // The others split as qwen2 does, as llama.cpp's converter found.
            "qwen2" | "deepseek-r1-qwen" | "kormo" | "megrez" => Some(Self::Qwen2),
            _ => None,
        }
    }

    fn normalizer(self) -> Json {
        if self == Self::Qwen2 { json!({ "type": "NFC" }) } else { Json::Null }
    }

    fn to_json(self) -> Json {
        let byte_level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
        match self {
            Self::Gpt2 => byte_level(true),
            Self::SmolLm => json!({
                "type": "Sequence",
                "pretokenizers": [{ "type": "Digits", "individual_digits": true }, byte_level(true)],
            }),
            Self::Qwen2 => {
                let words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}";
                let rest = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
                let pattern = json!({ "Regex": format!("{words}|{rest}") });
                json!({
                    "type": "Sequence",
                    "pretokenizers": [
                        { "type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false },
                        byte_level(false),
                    ],
                })
            }
        }
    }
}

/// What the metadata say about text.
#[derive(Debug)]
pub(crate) struct GgufTokenizer {
    /// In the format of `tokenizer.json`.
    pub(crate) tokenizer_json: Json,
    pub(crate) chat_template: Option<String>,
    /// `bos_token`, `eos_token` and so on, as templates name them.
    pub(crate) special_tokens: Vec<(String, String)>,
    /// What had to be guessed or put right.
    pub(crate) warnings: Vec<String>,
}

impl GgufTokenizer {
    pub(crate) fn from_header(file: &Path, header: &Header) -> Result<Self> {
        let metadata = Metadata { file, header };
        match metadata.text("tokenizer.ggml.model") {
            Some("gpt2") => {}
            Some(other) => {
                return Err(metadata.fault(format!("model `{other}` is not supported, only `gpt2` (byte-level BPE)")));
            }
            None => return Err(metadata.fault("metadata `tokenizer.ggml.model` is missing")),
        }
        let tokens = metadata.strings("tokenizer.ggml.tokens")?;
        let mut warnings = metadata.retyped(&tokens)?;
        let pre_tokenizer = match (metadata.text("tokenizer.ggml.pre"), metadata.text("general.architecture")) {
            (Some(name), _) => PreTokenizer::from_name(name).ok_or_else(|| {
                let known = "gpt-2, qwen2 with its relatives, and smollm are";
                metadata.fault(format!("pre-tokenizer `{name}` is not supported; {known}"))
            })?,
            // Old converters did not write it, and models of this architecture have only the one.
            (None, Some("qwen2")) => PreTokenizer::Qwen2,
            (None, _) => {
                warnings.push(
                    "metadata `tokenizer.ggml.pre` is missing: texts are split as GPT-2's are, which may give other \
                     tokens than the model was trained with; convert the model again"
                        .to_owned(),
                );
                PreTokenizer::Gpt2
            }
        };
        let special_tokens = metadata.special_tokens(&tokens)?;
        let tokenizer_json = json!({
            "version": "1.0",
            "added_tokens": metadata.added_tokens(&tokens)?,
            "normalizer": pre_tokenizer.normalizer(),
            "pre_tokenizer": pre_tokenizer.to_json(),
            "post_processor": metadata.post_processor(&special_tokens)?,
            "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
            "model": { "type": "BPE", "vocab": metadata.vocab(&tokens)?, "merges": metadata.merges()? },
        });
        let chat_template = metadata.text("tokenizer.chat_template").map(str::to_owned);
        Ok(Self { tokenizer_json, chat_template, special_tokens, warnings })
    }
}

/// All tokens after which generation stops: the named ends of sequence, turn and message, and ChatML's end markers.
pub(crate) fn end_of_generation_ids(file: &Path, header: &Header) -> Result<Vec<u32>> {
    let metadata = Metadata { file, header };
    let mut ids = Vec::new();
    for name in ["eos", "eot", "eom"] {
        ids.extend(metadata.token_id(name)?);
    }
    if header.metadata.contains_key("tokenizer.ggml.tokens")
        && header.metadata.contains_key("tokenizer.ggml.token_type")
    {
        let tokens = metadata.strings("tokenizer.ggml.tokens")?;
        let types = metadata.token_types(&tokens)?;
        let controls = tokens.iter().zip(types).enumerate().filter(|(_, (_, kind))| *kind == CONTROL);
        ids.extend(controls.filter(|(_, (text, _))| END_OF_TURN_TEXTS.contains(*text)).map(|(id, _)| id as u32));
    }
    let mut seen = HashSet::new();
    ids.retain(|id| seen.insert(*id));
    Ok(ids)
}

fn is_mistyped(kind: i64, token: &str) -> bool {
    [NORMAL, USER_DEFINED].contains(&kind) && (END_OF_TURN_TEXTS.contains(&token) || token == START_OF_TURN)
}

struct Metadata<'a> {
    file: &'a Path,
    header: &'a Header<'a>,
}

impl<'a> Metadata<'a> {
    fn fault(&self, problem: impl Into<String>) -> Error {
        Error::tokenizer(self.file, problem)
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.header.metadata.get(key).and_then(Value::as_str)
    }

    fn strings(&self, key: &str) -> Result<Vec<&'a str>> {
        let array = self.header.metadata.get(key).and_then(Value::as_array);
        let strings = array.map(|array| array.iter().map(|value| value.as_str()).collect::<Option<Vec<_>>>());
        strings.flatten().ok_or_else(|| self.fault(format!("metadata `{key}` is missing or not a list of strings")))
    }

    /// The types with those put right that [`Metadata::retyped`] warns of.
    fn token_types(&self, tokens: &[&str]) -> Result<Vec<i64>> {
        let mut types = self.stored_types()?;
        for (kind, token) in types.iter_mut().zip(tokens) {
            if is_mistyped(*kind, token) {
                *kind = CONTROL;
            }
        }
        Ok(types)
    }

    /// A warning for every token which ends or begins a turn and is not typed as such. Taken at its word, it would be printed
    /// as text, and fall into pieces in a prompt.
    fn retyped(&self, tokens: &[&str]) -> Result<Vec<String>> {
        let types = self.stored_types()?;
        let mistyped = types.into_iter().zip(tokens).filter(|(kind, token)| is_mistyped(*kind, token));
        let warning = |(kind, token): (i64, &&str)| {
            format!("token {token:?} has type {kind} and not that of a control token ({CONTROL}); it is taken as one")
        };
        Ok(mistyped.map(warning).collect())
    }

    fn stored_types(&self) -> Result<Vec<i64>> {
        let key = "tokenizer.ggml.token_type";
        let array = self.header.metadata.get(key).and_then(Value::as_array);
        let as_type = |value: Value| match value {
            Value::Signed(kind) => Some(kind),
            Value::Unsigned(kind) => i64::try_from(kind).ok(),
            _ => None,
        };
        let types = array.map(|array| array.iter().map(as_type).collect::<Option<Vec<_>>>());
        types.flatten().ok_or_else(|| self.fault(format!("metadata `{key}` is missing or not a list of integers")))
    }

    /// `tokenizer.ggml.<name>_token_id`, if present.
    fn token_id(&self, name: &str) -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let Some(value) = self.header.metadata.get(key.as_str()) else { return Ok(None) };
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.map(Some).ok_or_else(|| self.fault(format!("metadata `{key}` is not a token id")))
    }

    /// Token texts to ids. Unused entries only fill up the embedding: they have no text of their own.
    fn vocab(&self, tokens: &[&str]) -> Result<Map<String, Json>> {
        let types = self.token_types(tokens)?;
        if types.len() != tokens.len() {
            return Err(self.fault(format!("has {} tokens, but {} token types", tokens.len(), types.len())));
        }
        let mut vocab = Map::new();
        for (id, (&token, kind)) in tokens.iter().zip(types).enumerate() {
            if kind != UNUSED && vocab.insert(token.to_owned(), id.into()).is_some() {
                return Err(self.fault(format!("token {token:?} occurs twice")));
            }
        }
        Ok(vocab)
    }

    /// `"a b"` -> `["a", "b"]`. Spaces inside a token are written as another character, so there is exactly one.
    fn merges(&self) -> Result<Vec<[&'a str; 2]>> {
        let pair = |merge: &'a str| {
            let split = merge
                .split_once(' ')
                .filter(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains(' '));
            split.map(|(left, right)| [left, right]).ok_or_else(|| self.fault(format!("merge {merge:?} is not a pair")))
        };
        self.strings("tokenizer.ggml.merges")?.into_iter().map(pair).collect()
    }

    /// Tokens that are found in a text before it is split, control tokens among them.
    fn added_tokens(&self, tokens: &[&str]) -> Result<Vec<Json>> {
        let added = self.token_types(tokens)?.into_iter().zip(tokens).enumerate();
        let added = added.filter(|(_, (kind, _))| [CONTROL, USER_DEFINED].contains(kind));
        let to_json = |(id, (kind, content)): (usize, (i64, &&str))| {
            json!({
                "id": id, "content": content, "special": kind == CONTROL, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            })
        };
        Ok(added.map(to_json).collect())
    }

    fn special_tokens(&self, tokens: &[&str]) -> Result<Vec<(String, String)>> {
        let mut special_tokens = Vec::new();
        for (name, key) in [("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")] {
            if let Some(id) = self.token_id(key)? {
                let text = tokens.get(id as usize).ok_or_else(|| {
                    self.fault(format!("{key}_token_id is {id}, but there are {} tokens", tokens.len()))
                })?;
                special_tokens.push((format!("{name}_token"), (*text).to_owned()));
            }
        }
        Ok(special_tokens)
    }

    /// Puts the begin and end tokens around a text where the metadata ask for it.
    fn post_processor(&self, special_tokens: &[(String, String)]) -> Result<Json> {
        let flag = |key: &str| matches!(self.header.metadata.get(key), Some(Value::Bool(true)));
        let mut single = vec![json!({ "Sequence": { "id": "A", "type_id": 0 } })];
        let mut used = Map::new();
        for (name, key) in [("bos", "tokenizer.ggml.add_bos_token"), ("eos", "tokenizer.ggml.add_eos_token")] {
            if !flag(key) {
                continue;
            }
            let text =
                special_tokens.iter().find(|(special, _)| *special == format!("{name}_token")).map(|(_, text)| text);
            let (Some(text), Some(id)) = (text, self.token_id(name)?) else {
                return Err(self.fault(format!("`{key}` is set, but there is no {name} token")));
            };
            used.insert(text.clone(), json!({ "id": text, "ids": [id], "tokens": [text] }));
            let piece = json!({ "SpecialToken": { "id": text, "type_id": 0 } });
            if name == "bos" { single.insert(0, piece) } else { single.push(piece) }
        }
        if used.is_empty() {
            return Ok(Json::Null);
        }
        Ok(json!({ "type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": used }))
    }
}
