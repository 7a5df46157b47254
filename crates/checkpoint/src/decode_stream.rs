//! Decoding while the model still writes.

use crate::error::Result;
use crate::tokenizer::{Tokenizer, byte_level_bytes};

/// A character has at most this many bytes in UTF-8, so at most as many tokens.
const MAX_CHAR_LEN: usize = 4;

/// Turns tokens into text as they come. All pieces together equal [`Tokenizer::decode`] of all tokens without special ones.
///
/// A character whose bytes are spread over several tokens is held back until it is complete, so a piece is never broken and
/// never contains a replacement character that a later token would have mended. The cost of a token does not depend on how
/// many went before.
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    state: State,
}

enum State {
    /// Byte-level tokenizers (GPT-2's, Qwen's, SmolLM's): a token is a row of bytes. Holds the start of a character.
    Bytes(Vec<u8>),
    /// Any other tokenizer, where a token's text may depend on the one before it.
    ///
    /// `tokens[..released]` gave text already and are kept as context for the rest.
    Window { tokens: Vec<u32>, released: usize },
}

impl<'a> DecodeStream<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        let state = if tokenizer.is_byte_level() {
            State::Bytes(Vec::new())
        } else {
            State::Window { tokens: Vec::new(), released: 0 }
        };
        Self { tokenizer, state }
    }

    /// The text that this token completes; empty if it ends inside a character, or is special.
    ///
    /// # Errors
    /// [`crate::Error::UnknownToken`] for an id that has no entry; the stream can go on after it.
    pub fn push(&mut self, token: u32) -> Result<String> {
        let text = self.tokenizer.text_of(token)?;
        if self.tokenizer.is_special(&text) {
            return Ok(String::new());
        }
        match &mut self.state {
            State::Bytes(held) => {
                held.extend(byte_level_bytes(&text));
                Ok(take_whole_characters(held))
            }
            State::Window { tokens, released } => {
                tokens.push(token);
                release_from_window(self.tokenizer, tokens, released, MAX_CHAR_LEN)
            }
        }
    }

    /// What is still held back: a broken character, as U+FFFD. The stream is empty afterwards.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn finish(&mut self) -> Result<String> {
        match &mut self.state {
            State::Bytes(held) => Ok(String::from_utf8_lossy(&std::mem::take(held)).into_owned()),
            State::Window { tokens, released } => {
                let rest = release_from_window(self.tokenizer, tokens, released, 0);
                tokens.clear();
                *released = 0;
                rest
            }
        }
    }
}

/// Removes all bytes but an unfinished character at the end. Bytes that no continuation could mend become U+FFFD.
fn take_whole_characters(held: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut unfinished = 0;
    let mut chunks = held.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        if chunks.peek().is_none() && may_continue(chunk.invalid()) {
            unfinished = chunk.invalid().len();
        } else if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    held.drain(..held.len() - unfinished);
    text
}

/// Whether these bytes, at the end of the input, are the beginning of a character.
fn may_continue(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// Decodes the tokens after `released` in the context of those before. A replacement character at the end may be an
/// unfinished character, unless more than `patience` tokens wait already.
fn release_from_window(
    tokenizer: &Tokenizer,
    tokens: &mut Vec<u32>,
    released: &mut usize,
    patience: usize,
) -> Result<String> {
    let context = tokenizer.decode_known(&tokens[..*released], true)?;
    let all = tokenizer.decode_known(tokens, true)?;
    let waiting = tokens.len() - *released;
    if waiting <= patience && all.ends_with(char::REPLACEMENT_CHARACTER) {
        return Ok(String::new());
    }
    let new = all.strip_prefix(context.as_str()).unwrap_or_default().to_owned();
    tokens.drain(..*released);
    *released = tokens.len();
    Ok(new)
}
