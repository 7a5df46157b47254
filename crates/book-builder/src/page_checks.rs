//! Checks on every page that mdBook itself only logs, or does not make.
//!
//! They run after mdBook has expanded `{{#include}}`, so they see what the reader would see.

use std::ops::Range;

use anyhow::bail;
use mdbook_preprocessor::book::Book;
use mdbook_preprocessor::{Preprocessor, PreprocessorContext};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag};

pub struct PageChecks;

impl Preprocessor for PageChecks {
    fn name(&self) -> &str {
        "page-checks"
    }

    fn run(&self, _: &PreprocessorContext, mut book: Book) -> mdbook_preprocessor::errors::Result<Book> {
        let mut problems = Vec::new();
        book.for_each_chapter_mut(|chapter| {
            for problem in problems_of(&chapter.content) {
                problems.push(format!("page \"{}\": {problem}", chapter.name));
            }
        });
        if !problems.is_empty() {
            bail!("{}", problems.join("\n      "));
        }
        Ok(book)
    }
}

fn problems_of(markdown: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (event, range) in Parser::new_ext(markdown, Options::ENABLE_TABLES).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) if language.is_empty() => {
                problems.push(format!("a code fence has no language: {}", excerpt(markdown, range)));
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Indented)) => {
                problems.push(format!("text indented by four spaces is shown as code: {}", excerpt(markdown, range)))
            }
            // mdBook logs a broken include and leaves the directive in the page.
            Event::Text(text) | Event::Html(text) if text.contains("{{#") => {
                problems.push(format!("an include was not expanded: {}", text.trim()));
            }
            _ => {}
        }
    }
    problems
}

/// The first line of the given part of a page that says something.
fn excerpt(markdown: &str, range: Range<usize>) -> &str {
    markdown[range]
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("```"))
        .unwrap_or("(empty)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tagged_fences_pass() {
        assert!(problems_of("Text\n\n```text\nplain\n```\n").is_empty());
    }

    #[test]
    fn untagged_fence_indented_code_and_broken_include_are_named() {
        let page = "```\nx = 1\n```\n\nparagraph\n\n    four spaces\n\n{{#include no/such/file.svg}}\n";
        let problems = problems_of(page);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].contains("x = 1"), "{problems:?}");
        assert!(problems[1].contains("four spaces"), "{problems:?}");
        assert!(problems[2].contains("no/such/file.svg"), "{problems:?}");
    }
}
