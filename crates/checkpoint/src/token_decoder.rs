//! From the spellings of tokens to text: the tokenizer's own decoder, with two differences.
//!
//! `ByteFallback` of the library gives up a whole run of bytes for one that is wrong. Here the wrong byte alone becomes U+FFFD, as
//! in SentencePiece; a text that is streamed could not take back the characters before it. And an added token of a byte-level
//! tokenizer stands for itself, whatever letters it has.

use std::collections::HashMap;
use std::sync::OnceLock;

use tokenizers::{Decoder, DecoderWrapper};

pub(crate) fn decode(decoder: Option<&DecoderWrapper>, tokens: Vec<String>) -> Result<String, String> {
    match decoder {
        Some(decoder) => Ok(decode_chain(decoder, tokens)?.concat()),
        None => Ok(tokens.join(" ")),
    }
}

fn decode_chain(decoder: &DecoderWrapper, tokens: Vec<String>) -> Result<Vec<String>, String> {
    match decoder {
        DecoderWrapper::Sequence(steps) => {
            steps.get_decoders().iter().try_fold(tokens, |tokens, step| decode_chain(step, tokens))
        }
        DecoderWrapper::ByteFallback(_) => Ok(bytes_to_text(tokens)),
        other => other.decode_chain(tokens).map_err(|error| error.to_string()),
    }
}

pub(crate) fn has_byte_fallback(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::Sequence(steps) => steps.get_decoders().iter().any(has_byte_fallback),
        decoder => matches!(decoder, DecoderWrapper::ByteFallback(_)),
    }
}

fn bytes_to_text(tokens: Vec<String>) -> Vec<String> {
    let mut texts = Vec::with_capacity(tokens.len());
    let mut run = Vec::new();
    for token in tokens {
        match fallback_byte(&token) {
            Some(byte) => run.push(byte),
            None => {
                texts.extend(run_to_text(&run));
                run.clear();
                texts.push(token);
            }
        }
    }
    texts.extend(run_to_text(&run));
    texts
}

fn run_to_text(run: &[u8]) -> Option<String> {
    let replacement = |bytes: &[u8]| "\u{fffd}".repeat(bytes.len());
    let text = run.utf8_chunks().map(|chunk| chunk.valid().to_owned() + &replacement(chunk.invalid())).collect();
    (!run.is_empty()).then_some(text)
}

/// The byte that a token such as `<0x0A>` stands for.
pub(crate) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>').filter(|digits| digits.len() == 2)?;
    u8::from_str_radix(digits, 16).ok()
}

/// How many bytes at the end are the beginning of a character that more bytes may complete.
pub(crate) fn unfinished(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last().map(|chunk| chunk.invalid()).unwrap_or_default();
    let may_continue = std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none());
    if may_continue { last.len() } else { 0 }
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
