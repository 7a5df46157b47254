//! Function signatures shown in chapters must be those of the reference.
//!
//! Chapters show signatures without bodies, so they cannot be compiled or included from a file.
//! They are compared with the sources of `reference/src` instead, leaving out white space and
//! comments: a signature that changes there fails the book's build until the chapter follows.
//! Chapters also show a few functions of the `checkpoint` crate, which learners call.

use std::path::Path;

use anyhow::{Context, Result, bail};
use mdbook_preprocessor::book::Book;
use mdbook_preprocessor::{Preprocessor, PreprocessorContext};
use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

/// Where the shown functions are defined, from the repository's root.
const SOURCES: [&str; 2] = ["reference/src", "crates/checkpoint/src"];

pub struct Signatures;

impl Preprocessor for Signatures {
    fn name(&self) -> &str {
        "signatures"
    }

    fn run(&self, context: &PreprocessorContext, mut book: Book) -> Result<Book> {
        let mut sources = String::new();
        for folder in SOURCES {
            append_sources(&context.root.join("..").join(folder), &mut sources)?;
        }
        let sources = compact(&sources);
        let mut unknown = Vec::new();
        book.for_each_chapter_mut(|chapter| {
            for signature in signatures_in(&chapter.content) {
                if !sources.contains(&compact(&signature)) {
                    unknown.push(format!("page \"{}\": {signature}", chapter.name));
                }
            }
        });
        if !unknown.is_empty() {
            bail!("signatures that the sources do not have (any more):\n      {}", unknown.join("\n      "));
        }
        Ok(book)
    }
}

/// Appends all Rust sources of a folder and the folders in it.
fn append_sources(folder: &Path, text: &mut String) -> Result<()> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("sources that chapters show are not at {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            append_sources(&path, text)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            text.push_str(&source);
        }
    }
    Ok(())
}

/// The signatures in the Rust code blocks of a page.
fn signatures_in(markdown: &str) -> Vec<String> {
    let mut signatures = Vec::new();
    let mut in_rust = false;
    for event in Parser::new(markdown) {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => {
                in_rust = language.starts_with("rust");
            }
            Event::End(TagEnd::CodeBlock) => in_rust = false,
            Event::Text(code) if in_rust => signatures.extend(signatures_in_code(&code)),
            _ => {}
        }
    }
    signatures
}

/// From each `fn` to its body, its semicolon, or whatever comes next where a chapter leaves both out.
fn signatures_in_code(code: &str) -> Vec<String> {
    let code = without_comments(code);
    let starts: Vec<usize> = code
        .match_indices("fn ")
        .map(|(start, _)| start)
        .filter(|&start| !code[..start].ends_with(char::is_alphanumeric))
        .collect();
    let next_starts = starts.iter().skip(1).copied().chain([code.len()]);
    starts
        .iter()
        .zip(next_starts)
        .map(|(&start, next)| {
            let until_next = &code[start..next];
            let end = ["{", ";", "}", "\n\n"].iter().filter_map(|stop| until_next.find(stop)).min();
            let signature = until_next[..end.unwrap_or(until_next.len())].trim();
            signature.strip_suffix("pub").unwrap_or(signature).trim().to_owned()
        })
        .collect()
}

/// Code without line comments and block comments.
fn without_comments(code: &str) -> String {
    let mut output = String::with_capacity(code.len());
    for line in code.lines() {
        let mut rest = line.split("//").next().unwrap_or_default();
        while let Some((before, comment)) = rest.split_once("/*") {
            output.push_str(before.trim_end());
            rest = comment.split_once("*/").map_or("", |(_, after)| after);
        }
        output.push_str(rest.trim_end());
        output.push('\n');
    }
    output
}

/// Code without comments, white space and trailing commas, so that layout does not matter.
fn compact(code: &str) -> String {
    let dense: String = without_comments(code).chars().filter(|character| !character.is_whitespace()).collect();
    dense.replace(",)", ")")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_and_comments_do_not_matter() {
        let shown = signatures_in(
            "```rust,ignore\nimpl X {\n    pub fn f( // given\n        &self,\n        x: &Array,\n    ) -> Result<Array>;\n}\n```\n",
        );
        assert_eq!(shown.len(), 1);
        let source = compact("    pub fn f(&self, x: &Array) -> Result<Array> {\n        todo!()\n    }");
        assert!(source.contains(&compact(&shown[0])), "{shown:?}");
    }

    #[test]
    fn signatures_without_semicolons_end_where_the_next_one_starts() {
        let shown = signatures_in_code(
            "impl X {\n    pub fn f(x: &Array /* [.., E] */) -> Result<Array>  // [V]\n    pub fn g() -> u32\n}\n",
        );
        assert_eq!(shown, ["fn f(x: &Array) -> Result<Array>", "fn g() -> u32"]);
    }

    #[test]
    fn another_argument_type_is_noticed() {
        let shown = signatures_in("```rust,ignore\nfn f(x: &[u32]) -> u32\n```\n");
        assert!(!compact("fn f(x: &[i32]) -> u32 {").contains(&compact(&shown[0])));
    }

    #[test]
    fn other_languages_are_left_alone() {
        assert!(signatures_in("```text\nfn f()\n```\n\nProse about fn g().\n").is_empty());
    }
}
