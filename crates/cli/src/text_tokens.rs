//! The tokens of a text of any length, of which only a part is in memory.
//!
//! A tokenizer takes a text as a whole, and needs some hundred bytes of memory for each of the text's. So a long text is cut
//! where it makes no difference: the tokens are those of the whole text.

use std::collections::VecDeque;
use std::io::Read;

use anyhow::{Context, Result, bail};
use checkpoint::Tokenizer;

/// Bytes that are tokenized at once.
const PIECE: usize = 64 << 10;
/// Bytes on both sides of a cut by which it is judged, and places that are tried.
const CONTEXT: usize = 256;
const TRIED: usize = 32;
/// Tokens at the end of a piece that could be others if the text went on.
const UNCERTAIN: usize = 64;

/// Reads a text and gives out its tokens.
pub struct TextTokens<'a, R> {
    input: R,
    tokenizer: &'a Tokenizer,
    piece: usize,
    /// Tokens that will be asked for at most.
    n_wanted: usize,
    /// Read, and not yet tokenized; what is behind `n_valid` is the beginning of a character.
    bytes: Vec<u8>,
    n_valid: usize,
    n_read: u64,
    is_at_end: bool,
    tokens: VecDeque<u32>,
}

impl<'a, R: Read> TextTokens<'a, R> {
    /// The first `limit` tokens of a text, or all of them.
    pub fn new(input: R, tokenizer: &'a Tokenizer, limit: Option<usize>) -> Self {
        Self {
            input,
            tokenizer,
            piece: PIECE,
            n_wanted: limit.unwrap_or(usize::MAX),
            bytes: Vec::new(),
            n_valid: 0,
            n_read: 0,
            is_at_end: false,
            tokens: VecDeque::new(),
        }
    }

    /// Bytes of the text that were read so far.
    pub fn n_read(&self) -> u64 {
        self.n_read
    }

    /// The next `n` tokens; fewer at the end.
    ///
    /// # Errors
    /// When the text cannot be read, is not UTF-8, or is refused by the tokenizer.
    pub fn next(&mut self, n: usize) -> Result<Vec<u32>> {
        let n = n.min(self.n_wanted);
        while self.tokens.len() < n && !self.is_done() {
            self.tokenize_more()?;
        }
        let window: Vec<u32> = self.tokens.drain(..n.min(self.tokens.len())).collect();
        self.n_wanted -= window.len();
        Ok(window)
    }

    fn is_done(&self) -> bool {
        self.is_at_end && self.bytes.is_empty()
    }

    fn tokenize_more(&mut self) -> Result<()> {
        while !self.is_at_end && self.n_valid < self.piece {
            self.read()?;
        }
        if self.is_at_end && self.n_valid < self.bytes.len() {
            bail!("the text ends in the middle of a character: it is not UTF-8");
        }
        let text = str::from_utf8(&self.bytes[..self.n_valid])?;
        let cut = if self.is_at_end { Some(text.len()) } else { safe_cut(self.tokenizer, text)? };
        if let Some(cut) = cut {
            self.tokens.extend(self.tokenizer.encode(&text[..cut], false)?);
            self.bytes.drain(..cut);
            self.n_valid -= cut;
            return Ok(());
        }
        // A tokenizer for which a text is one word. Enough of it is all the same if only a part is asked for.
        let n_missing = self.n_wanted.saturating_sub(self.tokens.len());
        if n_missing < self.n_valid {
            let tokens = self.tokenizer.encode(text, false)?;
            if tokens.len() >= n_missing.saturating_add(UNCERTAIN) {
                self.tokens.extend(&tokens[..n_missing]);
                self.bytes.clear();
                (self.n_valid, self.is_at_end) = (0, true);
                return Ok(());
            }
        }
        self.piece *= 2;
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let n_before = self.bytes.len();
        let n_read = (&mut self.input).take(PIECE as u64).read_to_end(&mut self.bytes)?;
        self.n_read += n_read as u64;
        self.is_at_end = n_read == 0;
        // What was read in front of this is valid, but for the beginning of a character.
        let start = self.n_valid.min(n_before);
        match str::from_utf8(&self.bytes[start..]) {
            Ok(_) => self.n_valid = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.n_valid = start + error.valid_up_to(),
            Err(error) => {
                let place = self.n_read - (self.bytes.len() - start - error.valid_up_to()) as u64;
                bail!("byte {place} is not UTF-8");
            }
        }
        Ok(())
    }
}

/// A place near the end of `text` where the tokenizer's answer does not depend on what is on the other side. `None` if
/// none is found.
fn safe_cut(tokenizer: &Tokenizer, text: &str) -> Result<Option<usize>> {
    let is_blank = |byte: u8| byte == b' ' || byte == b'\n';
    let bytes = text.as_bytes();
    // Between a word and a single blank, which is where most tokenizers cut first.
    let places = (CONTEXT..bytes.len().saturating_sub(CONTEXT)).rev().filter(|&i| {
        is_blank(bytes[i]) && bytes[i - 1].is_ascii_alphanumeric() && bytes[i + 1].is_ascii_alphanumeric()
    });
    for place in places.take(TRIED) {
        let start = text.floor_char_boundary(place - CONTEXT);
        let end = text.ceil_char_boundary(place + CONTEXT);
        let encode = |part: &str| tokenizer.encode(part, false).context("looking for a place to cut the text");
        let apart = [encode(&text[start..place])?, encode(&text[place..end])?].concat();
        if encode(&text[start..end])? == apart {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// A reader that gives a few bytes at a time, and counts them.
    struct Slow<'a> {
        text: &'a [u8],
        n_given: usize,
    }

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let n = buffer.len().min(4093).min(self.text.len() - self.n_given);
            buffer[..n].copy_from_slice(&self.text[self.n_given..][..n]);
            self.n_given += n;
            Ok(n)
        }
    }

    fn smollm2() -> Tokenizer {
        let path = checkpoint::registry::resolve("smollm2-135m").unwrap();
        checkpoint::Checkpoint::open(&path).unwrap().tokenizer().unwrap()
    }

    /// A tokenizer for which a text is one word: one token a character.
    fn one_word() -> Tokenizer {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokenizer.json");
        let vocab: String = (32..127_u8).map(|c| format!("{:?}: {},", char::from(c).to_string(), c - 32)).collect();
        // Each text gets a mark in front, so that a text in two pieces has two.
        let json = format!(
            r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "post_processor": null,
            "normalizer": {{"type": "Prepend", "prepend": "_"}}, "pre_tokenizer": null, "decoder": null,
            "model": {{"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": {{{}}}, "merges": []}}}}"#,
            vocab.trim_end_matches(',')
        );
        fs::write(&file, json).unwrap();
        Tokenizer::from_file(&file, None).unwrap()
    }

    fn text() -> String {
        let alice = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/text/alice.txt");
        let alice = fs::read_to_string(alice).unwrap();
        let repeated =
            format!("{alice}\n\n  Größe 大 👍 x=1;\n\n\n\t\r\n<|im_start|>").repeat(1 + 200_000 / alice.len());
        assert!(repeated.len() > 2 * PIECE);
        repeated
    }

    fn all(tokenizer: &Tokenizer, text: &str, limit: Option<usize>) -> Vec<u32> {
        let mut tokens = TextTokens::new(Slow { text: text.as_bytes(), n_given: 0 }, tokenizer, limit);
        let mut all = Vec::new();
        loop {
            let window = tokens.next(512).unwrap();
            if window.is_empty() {
                return all;
            }
            all.extend(window);
        }
    }

    #[test]
    fn pieces_have_the_tokens_of_the_whole() {
        let (tokenizer, text) = (smollm2(), text());
        let whole = tokenizer.encode(&text, false).unwrap();
        assert_eq!(all(&tokenizer, &text, None), whole);
        assert_eq!(all(&tokenizer, &text, Some(1000)), whole[..1000]);
        assert!(all(&tokenizer, "", None).is_empty());
    }

    #[test]
    fn a_tokenizer_that_cannot_be_cut_gets_the_whole() {
        let (tokenizer, text) = (one_word(), "a b ".repeat(PIECE));
        let whole = tokenizer.encode(&text, false).unwrap();
        assert_eq!(all(&tokenizer, &text, None), whole);
        assert_eq!(all(&tokenizer, &text, Some(10)), whole[..10]);
    }

    #[test]
    fn only_what_is_needed_is_read() {
        let text = text().repeat(4);
        for tokenizer in [smollm2(), one_word()] {
            let mut tokens = TextTokens::new(Slow { text: text.as_bytes(), n_given: 0 }, &tokenizer, Some(100));
            assert_eq!(tokens.next(512).unwrap().len(), 100);
            assert!(tokens.n_read() <= 2 * PIECE as u64, "{}", tokens.n_read());
            assert!(tokens.next(512).unwrap().is_empty());
        }
    }

    #[test]
    fn what_is_no_text_is_refused_where_it_is() {
        let tokenizer = smollm2();
        let error = |bytes: &[u8]| TextTokens::new(bytes, &tokenizer, None).next(512).unwrap_err().to_string();
        assert_eq!(error(b"ab\xffcd"), "byte 2 is not UTF-8");
        let long = [text().as_bytes(), b"\xff".as_slice()].concat();
        let mut tokens = TextTokens::new(Slow { text: &long, n_given: 0 }, &tokenizer, None);
        let error_of_long = loop {
            match tokens.next(512) {
                Ok(window) => assert!(!window.is_empty()),
                Err(error) => break error.to_string(),
            }
        };
        assert_eq!(error_of_long, format!("byte {} is not UTF-8", long.len() - 1));
        assert!(error("Größe".as_bytes().split_at(3).0).contains("middle of a character"));
    }
}
