//! Mistakes in the texts of kernels, without a build for each.
//!
//! A kernel is compiled when it runs, so the test binaries hold its text as it stands in the file. A mistake in it is
//! one in a copy of the binary. The copy must have the length of the original, so the build that is copied has room at
//! the end of each text: comments, which a mistake may use up.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::mutants::Mutant;
use crate::stubs::StubFile;

/// Whether a mutant's file is a text that binaries hold. macOS runs no binary that was changed after it was signed.
pub fn fits(mutant: &Mutant) -> bool {
    cfg!(not(target_os = "macos")) && mutant.file.extension().is_some_and(|extension| extension == "metal")
}

/// Adds room to the texts that `mutants` lengthen.
pub fn make_room(files: &mut [StubFile], mutants: &[&Mutant]) {
    for file in files {
        let longer = |mutant: &&&Mutant| mutant.file == file.path && fits(mutant);
        let lengths = mutants.iter().filter(longer).map(|m| m.replace.len().saturating_sub(m.find.len()));
        if let Some(longest) = lengths.max() {
            // A comment of its own, and what a copy ends its text with.
            file.text.push_str(&room(longest + 2 * room(0).len()));
        }
    }
}

const ROOM_BEGINS: &str = "\n//";

/// `length` bytes that end a text and mean nothing.
fn room(length: usize) -> String {
    format!("{ROOM_BEGINS}{}\n", " ".repeat(length.saturating_sub(ROOM_BEGINS.len() + 1)))
}

/// Where the texts of one binary stand.
pub struct Texts {
    binary: PathBuf,
    content: Vec<u8>,
}

impl Texts {
    pub fn of(binary: &Path) -> Result<Self> {
        let content = fs::read(binary).map_err(|e| Error::io("read", binary, &e))?;
        Ok(Self { binary: binary.to_owned(), content })
    }

    /// A copy of the binary with `mutant` in it; `text` is its file as it was built, and has room.
    pub fn copy_with(&self, mutant: &Mutant, text: &str, to: &Path) -> Result<()> {
        let mut changed = mutant.apply(text.trim_end())?;
        let left = text.len().checked_sub(changed.len()).filter(|left| *left > ROOM_BEGINS.len());
        let left =
            left.ok_or_else(|| Error::new(format!("{} has no room for {}", mutant.file.display(), mutant.id)))?;
        changed.push_str(&room(left));

        let places = places_of(text.as_bytes(), &self.content);
        if places.is_empty() {
            let (binary, file) = (self.binary.display(), mutant.file.display());
            return Err(Error::new(format!("{binary} does not hold the text of {file}")));
        }
        let failed = |e| Error::io("write", to, &e);
        fs::copy(&self.binary, to).map_err(failed)?;
        let mut copy = File::options().write(true).open(to).map_err(failed)?;
        for place in places {
            copy.seek(SeekFrom::Start(place as u64)).map_err(failed)?;
            copy.write_all(changed.as_bytes()).map_err(failed)?;
        }
        Ok(())
    }
}

/// Where `text` begins in `content`, without overlaps (Horspool, 1980): long texts are found in few steps.
fn places_of(text: &[u8], content: &[u8]) -> Vec<usize> {
    let mut places = Vec::new();
    let Some(last) = text.len().checked_sub(1) else { return places };
    let mut steps = [text.len(); 256];
    for (at, byte) in text[..last].iter().enumerate() {
        steps[usize::from(*byte)] = last - at;
    }
    let mut start = 0;
    while let Some(window) = content.get(start..start + text.len()) {
        if window == text {
            places.push(start);
            start += text.len();
        } else {
            start += steps[usize::from(window[last])];
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(find: &str, replace: &str) -> Mutant {
        Mutant {
            id: "m".to_owned(),
            file: PathBuf::from("src/kernels/a.metal"),
            find: find.to_owned(),
            replace: replace.to_owned(),
            description: String::new(),
            kills: vec!["1.1.1".to_owned()],
        }
    }

    #[test]
    fn texts_are_found_wherever_they_stand() {
        assert_eq!(places_of(b"ab", b"abcabab"), [0, 3, 5]);
        assert_eq!(places_of(b"aa", b"aaaaa"), [0, 2]);
        assert_eq!(places_of(b"abcd", b"zzabcabcdz"), [5]);
        assert!(places_of(b"abc", b"ab").is_empty());
        assert!(places_of(b"", b"ab").is_empty());
    }

    #[test]
    #[cfg(not(target_os = "macos"))]
    fn a_copy_has_the_mistake_in_every_text_and_keeps_its_length() {
        let folder = std::env::temp_dir().join(format!("text-mutants-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [longer, shorter, long_one] = [("x - m", "x - (m + 1)"), ("x - m", "x"), ("exp", &"y".repeat(99))]
            .map(|(find, replace)| mutant(find, replace));
        let mut files = [StubFile { path: longer.file.clone(), text: "exp(x - m);\n".to_owned() }];
        make_room(&mut files, &[&shorter, &longer]);
        let text = &files[0].text;
        assert!(text.starts_with("exp(x - m);\n\n//  ") && text.ends_with(" \n"), "{text}");

        let (binary, copy) = (folder.join("binary"), folder.join("copy"));
        let around = |text: &str| format!("\x7fELF\0{text}\0 and again {text}\0end");
        fs::write(&binary, around(text)).unwrap();
        let texts = Texts::of(&binary).unwrap();
        for mutant in [&longer, &shorter] {
            texts.copy_with(mutant, text, &copy).unwrap();
            let made = fs::read_to_string(&copy).unwrap();
            assert_eq!(made.len(), around(text).len());
            let expected = format!("exp({});", mutant.replace);
            assert_eq!(made.matches(&expected).count(), 2, "{made}");
            assert!(!made.contains("x - m)") && made.ends_with("\0end"));
        }
        let refused = |mutant: &Mutant, text: &str| texts.copy_with(mutant, text, &copy).unwrap_err().to_string();
        assert_eq!(refused(&long_one, text), "src/kernels/a.metal has no room for m");
        assert!(
            refused(&longer, &text.replace("exp", "sin")).ends_with("does not hold the text of src/kernels/a.metal")
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
