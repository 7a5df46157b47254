//! Text to token ids and back, through the `tokenizers` crate.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tokenizers::DecoderWrapper;

use crate::decode_stream::DecodeStream;
use crate::error::{Error, Result};
use crate::json::read_text;

/// Embeddings are padded by a few rows to a round number. A tokenizer that lacks more than this part belongs to another model.
const MAX_PADDED_PART: f64 = 0.05;

/// A model's tokenizer, checked against the model's vocabulary.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    file: PathBuf,
    entries: usize,
    is_byte_level: bool,
}

impl Tokenizer {
    /// Opens a `tokenizer.json`. `vocab_size` is the number of rows of the model's embedding, if there is one to fit.
    ///
    /// # Errors
    /// If the file is not a tokenizer, or if it has ids that the model has no row for, or far fewer than the model has.
    pub fn from_file(file: &Path, vocab_size: Option<usize>) -> Result<Self> {
        Self::from_json(file, &read_text(file)?, vocab_size)
    }

    pub(crate) fn from_json(file: &Path, json: &str, vocab_size: Option<usize>) -> Result<Self> {
        let mut inner: tokenizers::Tokenizer =
            json.parse().map_err(|error| Error::tokenizer(file, format!("cannot be read: {error}")))?;
        // Saved settings of a training run; an engine must see the whole prompt and nothing else.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| Error::tokenizer(file, error.to_string()))?;
        let vocab = inner.get_vocab(true);
        let entries = vocab.len();
        if let Some(vocab_size) = vocab_size {
            check_fit(file, &vocab, vocab_size)?;
        }
        let is_byte_level = matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        Ok(Self { inner, file: file.to_owned(), entries, is_byte_level })
    }

    /// The ids of a text. `add_special` adds what the model wants around a text (for some, a token that begins it); special
    /// tokens written out in the text are always recognised, as the chat templates need.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, add_special);
        encoding
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|error| Error::tokenizer(&self.file, format!("cannot encode a text: {error}")))
    }

    /// The text of some ids. Bytes that are not UTF-8 become U+FFFD. `skip_special` leaves special tokens out.
    ///
    /// # Errors
    /// [`Error::UnknownToken`] for an id that has no entry.
    pub fn decode(&self, tokens: &[u32], skip_special: bool) -> Result<String> {
        for &token in tokens {
            self.text_of(token)?;
        }
        self.decode_known(tokens, skip_special)
    }

    /// Decodes one token after another, without special tokens. See [`DecodeStream`].
    pub fn stream(&self) -> DecodeStream<'_> {
        DecodeStream::new(self)
    }

    /// Number of tokens, special ones included. The model's vocabulary may be larger.
    pub fn vocab_size(&self) -> usize {
        self.entries
    }

    /// The id of a token given exactly as the tokenizer spells it, such as `<|im_end|>`.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The tokenizer's own spelling of an id.
    pub(crate) fn text_of(&self, token: u32) -> Result<String> {
        self.inner.id_to_token(token).ok_or(Error::UnknownToken { token, entries: self.entries })
    }

    pub(crate) fn decode_known(&self, tokens: &[u32], skip_special: bool) -> Result<String> {
        self.inner
            .decode(tokens, skip_special)
            .map_err(|error| Error::tokenizer(&self.file, format!("cannot decode: {error}")))
    }

    pub(crate) fn is_special(&self, text: &str) -> bool {
        self.inner.get_added_vocabulary().is_special_token(text)
    }

    pub(crate) fn is_byte_level(&self) -> bool {
        self.is_byte_level
    }
}

/// A tokenizer may know fewer tokens than the embedding has rows, because embeddings are padded, but never more.
fn check_fit(file: &Path, vocab: &HashMap<String, u32>, vocab_size: usize) -> Result<()> {
    if let Some((token, id)) = vocab.iter().filter(|(_, id)| **id as usize >= vocab_size).max_by_key(|(_, id)| **id) {
        return Err(Error::tokenizer(
            file,
            format!(
                "token {token:?} has id {id}, but the model's vocabulary (`model.embed_tokens.weight`) has {vocab_size} rows"
            ),
        ));
    }
    let missing = vocab_size.saturating_sub(vocab.len());
    if missing as f64 > MAX_PADDED_PART * vocab_size as f64 {
        return Err(Error::tokenizer(
            file,
            format!(
                "has {} entries, but the model's vocabulary (`model.embed_tokens.weight`) has {vocab_size} rows: it belongs to another model",
                vocab.len()
            ),
        ));
    }
    Ok(())
}

/// The bytes behind a byte-level token. Such tokenizers spell every byte as one printable character; a token with any other
/// character is an added token and stands for itself.
pub(crate) fn byte_level_bytes(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(|c| byte_of_char().get(&c).copied()).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// GPT-2's table: printable Latin-1 characters stand for their own byte, the other bytes for U+0100 onwards in order.
/// Source: `bytes_to_unicode` of the GPT-2 release.
fn byte_of_char() -> &'static HashMap<char, u8> {
    static TABLE: OnceLock<HashMap<char, u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let printable = (0..=u8::MAX).filter(|&byte| is_printable(byte)).map(|byte| (char::from(byte), byte));
        let shifted = (0..=u8::MAX).filter(|&byte| !is_printable(byte)).zip('\u{100}'..).map(|(byte, c)| (c, byte));
        printable.chain(shifted).collect()
    })
}
