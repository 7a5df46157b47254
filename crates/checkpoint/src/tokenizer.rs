//! Text to token ids and back, through the `tokenizers` crate.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokenizers::{AddedToken, DecoderWrapper, ModelWrapper};

use crate::bounded::{self, Bounds};
use crate::decode_stream::DecodeStream;
use crate::error::{Error, Result};
use crate::json::read_text;
use crate::token_decoder::{self, byte_level_bytes};

/// Embeddings are padded by a few rows to a round number. A tokenizer that lacks more than this part belongs to another model.
const MAX_PADDED_PART: f64 = 0.05;

/// What building a tokenizer, or a step of it, may use for so many bytes of input: several times what real ones need.
fn bounds(input: usize) -> Bounds {
    Bounds {
        time: Duration::from_secs(60 + input as u64 / 50_000),
        bytes: (512 << 20) + input.saturating_mul(1000),
        stack: 16 << 20,
    }
}

/// A model's tokenizer, checked against the model's vocabulary.
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    file: PathBuf,
    entries: usize,
    /// Rows of the model's embedding, where there is one. Those beyond the tokenizer's entries are padding.
    rows: Option<usize>,
    /// Ids of tokens that were added to the model's own vocabulary; their text stands for itself.
    added: HashSet<u32>,
    is_byte_level: bool,
    warnings: Vec<String>,
}

impl Tokenizer {
    /// Opens a `tokenizer.json`. `vocab_size` is the number of rows of the model's embedding, if there is one to fit.
    ///
    /// # Errors
    /// If the file is not a tokenizer, or if it has ids that the model has no row for, or far fewer than the model has.
    pub fn from_file(file: &Path, vocab_size: Option<usize>) -> Result<Self> {
        Self::from_json(file, read_text(file)?, Vec::new(), vocab_size)
    }

    /// `more` are tokens with the ids that they must get, known from another file; those that fit nowhere are left out.
    pub(crate) fn from_json(
        file: &Path,
        json: String,
        more: Vec<(u32, AddedToken)>,
        vocab_size: Option<usize>,
    ) -> Result<Self> {
        let (inner, vocab) = bounded::run(bounds(json.len()), move || build(&json, more))
            .and_then(|built| built)
            .map_err(|problem| Error::tokenizer(file, format!("cannot be read: {problem}")))?;
        let entries = vocab.len();
        if let Some(vocab_size) = vocab_size {
            check_fit(file, &vocab, vocab_size)?;
        }
        let is_byte_level = matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        let added = inner.get_added_tokens_decoder().into_keys().collect();
        Ok(Self {
            inner: Arc::new(inner),
            file: file.to_owned(),
            entries,
            rows: vocab_size,
            added,
            is_byte_level,
            warnings: Vec::new(),
        })
    }

    pub(crate) fn with_warnings(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }

    /// What had to be guessed or put right to build it: to be shown to whoever uses the model.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The ids of a text. `add_special` adds what the model wants around a text (for some, a token that begins it); special
    /// tokens written out in the text are always recognised, as the chat templates need.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let (inner, text, bounds) = (Arc::clone(&self.inner), text.to_owned(), bounds(text.len()));
        let encode = move || {
            let encoding = inner.encode_fast(text, add_special);
            encoding.map(|encoding| encoding.get_ids().to_vec()).map_err(|error| error.to_string())
        };
        bounded::run(bounds, encode)
            .and_then(|ids| ids)
            .map_err(|problem| Error::tokenizer(&self.file, format!("cannot encode a text: {problem}")))
    }

    /// The text of some ids. Bytes that are not UTF-8 become U+FFFD. `skip_special` leaves special tokens out. An id in the
    /// padded part of the model's vocabulary has no text.
    ///
    /// # Errors
    /// [`Error::UnknownToken`] for an id that neither the tokenizer nor the model's vocabulary has.
    pub fn decode(&self, tokens: &[u32], skip_special: bool) -> Result<String> {
        let mut texts = Vec::with_capacity(tokens.len());
        for &token in tokens {
            let text = self.text_of(token)?;
            texts.extend(text.filter(|text| !(skip_special && self.is_special(text))).map(|text| (token, text)));
        }
        if self.is_byte_level {
            let bytes: Vec<u8> = texts.iter().flat_map(|(token, text)| self.bytes_of(*token, text)).collect();
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        self.decode_texts(texts.into_iter().map(|(_, text)| text).collect())
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

    /// The tokenizer's own spelling of an id, or `None` for padding of the model's vocabulary.
    pub(crate) fn text_of(&self, token: u32) -> Result<Option<String>> {
        let is_padding = self.rows.is_some_and(|rows| (token as usize) < rows);
        match self.inner.id_to_token(token) {
            None if !is_padding => Err(Error::UnknownToken { token, entries: self.entries }),
            text => Ok(text),
        }
    }

    /// The bytes of a token of a byte-level tokenizer.
    pub(crate) fn bytes_of(&self, token: u32, text: &str) -> Vec<u8> {
        if self.added.contains(&token) { text.as_bytes().to_vec() } else { byte_level_bytes(text) }
    }

    /// The text of tokens, given by their spellings, of a tokenizer that is not byte-level.
    pub(crate) fn decode_texts(&self, texts: Vec<String>) -> Result<String> {
        let inner = Arc::clone(&self.inner);
        let len = texts.iter().map(String::len).sum();
        bounded::run(bounds(len), move || token_decoder::decode(inner.get_decoder(), texts))
            .and_then(|text| text)
            .map_err(|problem| Error::tokenizer(&self.file, format!("cannot decode: {problem}")))
    }

    pub(crate) fn is_special(&self, text: &str) -> bool {
        self.inner.get_added_vocabulary().is_special_token(text)
    }

    pub(crate) fn is_byte_level(&self) -> bool {
        self.is_byte_level
    }

    pub(crate) fn has_byte_fallback(&self) -> bool {
        self.inner.get_decoder().is_some_and(token_decoder::has_byte_fallback)
    }
}

/// The tokenizer and its vocabulary.
fn build(json: &str, more: Vec<(u32, AddedToken)>) -> Result<(tokenizers::Tokenizer, HashMap<String, u32>), String> {
    let mut inner: tokenizers::Tokenizer = json.parse().map_err(|error: tokenizers::Error| error.to_string())?;
    // Saved settings of a training run; an engine must see the whole prompt and nothing else, and the same at each run.
    inner.with_padding(None);
    inner.with_truncation(None).map_err(|error| error.to_string())?;
    if let ModelWrapper::BPE(bpe) = inner.get_model()
        && bpe.dropout.is_some()
    {
        let mut bpe = bpe.clone();
        bpe.dropout = None;
        inner.with_model(bpe);
    }
    for (id, token) in more {
        // The library gives a new token the next id, so any other cannot be had.
        let gets = inner.token_to_id(&token.content).or_else(|| u32::try_from(inner.get_vocab_size(true)).ok());
        let is_known = inner.get_added_tokens_decoder().contains_key(&id);
        if gets == Some(id) && !is_known {
            inner.add_tokens([token]).map_err(|error| error.to_string())?;
        }
    }
    let vocab = inner.get_vocab(true);
    Ok((inner, vocab))
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
