//! What a Hugging Face folder says about text besides `tokenizer.json`: special tokens, chat template, stop tokens.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use tokenizers::AddedToken;

use crate::error::{Error, Result};
use crate::files;
use crate::hf_config::token_ids;
use crate::json::{read_json_if_present, read_text};

pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
const GENERATION_CONFIG: &str = "generation_config.json";
pub(crate) const TEMPLATE_FILE: &str = "chat_template.jinja";

/// A chat template and the file that it comes from.
#[derive(Debug)]
pub(crate) struct TemplateSource {
    pub(crate) file: PathBuf,
    pub(crate) source: String,
}

/// The template: `chat_template.jinja` where there is one, else `chat_template` of `tokenizer_config.json`, which is a text
/// or a list of named texts, of which `default` is taken.
pub(crate) fn chat_template(folder: &Path) -> Result<Option<TemplateSource>> {
    let file = folder.join(TEMPLATE_FILE);
    if files::is_there(&file)? {
        return Ok(Some(TemplateSource { source: read_text(&file)?, file }));
    }
    let file = folder.join(TOKENIZER_CONFIG);
    let Some(config) = read_json_if_present(&file)? else { return Ok(None) };
    match &config["chat_template"] {
        Value::Null => Ok(None),
        Value::String(source) => Ok(Some(TemplateSource { file, source: source.clone() })),
        Value::Array(templates) => {
            let default = templates.iter().find(|template| template["name"] == "default");
            match default.and_then(|template| template["template"].as_str()) {
                Some(source) => Ok(Some(TemplateSource { source: source.to_owned(), file })),
                None => Err(Error::malformed(&file, "chat_template is a list without an entry named `default`")),
            }
        }
        other => Err(Error::malformed(&file, format!("chat_template is {other}, neither a text nor a list"))),
    }
}

/// `bos_token`, `eos_token` and so on as templates name them. A token is a text, or an object with a `content`.
pub(crate) fn special_tokens(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut tokens: Vec<(String, String)> = Vec::new();
    for file in [TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP] {
        let json = read_json_if_present(&folder.join(file))?.unwrap_or_default();
        for name in ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"] {
            let text = json[name].as_str().or_else(|| json[name]["content"].as_str());
            if let Some(text) = text.filter(|_| tokens.iter().all(|(known, _)| known != name)) {
                tokens.push((name.to_owned(), text.to_owned()));
            }
        }
    }
    Ok(tokens)
}

/// The end tokens that `generation_config.json` lists; chat models have more there than in `config.json`.
pub(crate) fn generation_eos(folder: &Path) -> Result<Vec<u32>> {
    let file = folder.join(GENERATION_CONFIG);
    match read_json_if_present(&file)? {
        Some(json) => token_ids(&file, "eos_token_id", &json["eos_token_id"]),
        None => Ok(Vec::new()),
    }
}

/// Tokens that `added_tokens_decoder` of `tokenizer_config.json` lists, by id. transformers adds those that `tokenizer.json`
/// lacks when it opens a folder.
pub(crate) fn added_tokens(folder: &Path) -> Result<Vec<(u32, AddedToken)>> {
    let file = folder.join(TOKENIZER_CONFIG);
    let config = read_json_if_present(&file)?.unwrap_or_default();
    let entries = config["added_tokens_decoder"].as_object().into_iter().flatten();
    let token = |(id, entry): (&String, &Value)| {
        let flag = |name: &str| entry[name].as_bool();
        let content = entry["content"].as_str()?;
        let is_special = flag("special").unwrap_or(false);
        let token = AddedToken::from(content, is_special)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!is_special));
        Some((id.parse().ok()?, token))
    };
    let tokens: Option<Vec<(u32, AddedToken)>> = entries.map(token).collect();
    let mut tokens =
        tokens.ok_or_else(|| Error::malformed(&file, "added_tokens_decoder is not a table of tokens by their ids"))?;
    tokens.sort_by_key(|(id, _)| *id);
    Ok(tokens)
}

/// The id of the tokenizer's own `eos_token`, found without building the tokenizer.
pub(crate) fn tokenizer_eos(folder: &Path) -> Result<Option<u32>> {
    #[derive(Deserialize)]
    struct Tokens {
        #[serde(default)]
        added_tokens: Vec<Token>,
    }
    #[derive(Deserialize)]
    struct Token {
        id: u32,
        content: String,
    }
    let file = folder.join(TOKENIZER);
    let tokens = special_tokens(folder)?;
    let is_there = files::is_there(&file)?;
    let Some((_, eos)) = tokens.iter().find(|(name, _)| name == "eos_token").filter(|_| is_there) else {
        return Ok(None);
    };
    let added: Tokens = serde_json::from_str(&read_text(&file)?)
        .map_err(|error| Error::tokenizer(&file, format!("cannot be read: {error}")))?;
    if let Some(token) = added.added_tokens.into_iter().find(|token| token.content == *eos) {
        return Ok(Some(token.id));
    }
    Ok(added_tokens(folder)?.into_iter().find(|(_, token)| token.content == *eos).map(|(id, _)| id))
}
