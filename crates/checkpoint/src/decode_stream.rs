//! Decoding while the model still writes.

use crate::error::Result;
use crate::token_decoder::{fallback_byte, unfinished};
use crate::tokenizer::Tokenizer;

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
    /// Spellings of tokens; `tokens[..released]` gave text already and are kept as context for the rest.
    Window { tokens: Vec<String>, released: usize },
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

    /// The text that this token completes; empty if it ends inside a character, is special, or is padding of the vocabulary.
    ///
    /// # Errors
    /// [`crate::Error::UnknownToken`] for an id that the model does not have; the stream can go on after it.
    pub fn push(&mut self, token: u32) -> Result<String> {
        let text = self.tokenizer.text_of(token)?;
        let Some(text) = text.filter(|text| !self.tokenizer.is_special(text)) else { return Ok(String::new()) };
        match &mut self.state {
            State::Bytes(held) => {
                held.extend(self.tokenizer.bytes_of(token, &text));
                Ok(take_whole_characters(held))
            }
            State::Window { tokens, released } => {
                tokens.push(text);
                release_from_window(self.tokenizer, tokens, released, true)
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
                let rest = release_from_window(self.tokenizer, tokens, released, false);
                tokens.clear();
                *released = 0;
                rest
            }
        }
    }
}

/// Removes all bytes but an unfinished character at the end. Bytes that no continuation could mend become U+FFFD.
fn take_whole_characters(held: &mut Vec<u8>) -> String {
    let whole = held.len() - unfinished(held);
    let text = String::from_utf8_lossy(&held[..whole]).into_owned();
    held.drain(..whole);
    text
}

/// Decodes the tokens after `released` in the context of those before, unless a character may still be unfinished.
fn release_from_window(
    tokenizer: &Tokenizer,
    tokens: &mut Vec<String>,
    released: &mut usize,
    may_wait: bool,
) -> Result<String> {
    let all = tokenizer.decode_texts(tokens.clone())?;
    let waiting = tokens.len() - *released;
    if may_wait && all.ends_with(char::REPLACEMENT_CHARACTER) && is_unfinished(tokenizer, tokens, waiting) {
        return Ok(String::new());
    }
    let context = tokenizer.decode_texts(tokens[..*released].to_vec())?;
    // A decoder that changes its mind about what was given out must not swallow what follows.
    let common = context.chars().zip(all.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
    let new = all[common..].to_owned();
    tokens.drain(..*released);
    *released = tokens.len();
    Ok(new)
}

/// Whether the replacement character at the end may become another one. For most decoders only patience can tell.
fn is_unfinished(tokenizer: &Tokenizer, tokens: &[String], waiting: usize) -> bool {
    if !tokenizer.has_byte_fallback() {
        return waiting <= MAX_CHAR_LEN;
    }
    let mut bytes: Vec<u8> = tokens.iter().rev().map_while(|token| fallback_byte(token)).collect();
    bytes.reverse();
    unfinished(&bytes) > 0
}
