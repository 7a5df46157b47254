//! Formulas: `$inline$` and `$$display$$` LaTeX become MathML while the book is built.
//!
//! Browsers draw MathML themselves, so a page needs no script and no network. The LaTeX source
//! stays in each formula as an annotation, for copying and for screen readers.

use std::ops::Range;

use anyhow::{Result, anyhow};
use mdbook_preprocessor::book::Book;
use mdbook_preprocessor::{Preprocessor, PreprocessorContext};
use pulldown_cmark::{Event, Options, Parser};
use pulldown_latex::config::{DisplayMode, RenderConfig};
use pulldown_latex::{Parser as LatexParser, Storage, push_mathml};

pub struct MathMl;

impl Preprocessor for MathMl {
    fn name(&self) -> &str {
        "math"
    }

    fn run(&self, _: &PreprocessorContext, mut book: Book) -> mdbook_preprocessor::errors::Result<Book> {
        let mut first_error = None;
        book.for_each_chapter_mut(|chapter| match replace_formulas(&chapter.content) {
            Ok(content) => chapter.content = content,
            Err(error) => {
                first_error.get_or_insert(error.context(format!("page \"{}\"", chapter.name)));
            }
        });
        first_error.map_or(Ok(book), Err)
    }
}

/// Replaces every formula of a Markdown page; everything else stays as it is, byte by byte.
fn replace_formulas(markdown: &str) -> Result<String> {
    let mut output = String::with_capacity(markdown.len() * 2);
    let mut copied_to = 0;
    for (formula, display_mode, range) in formulas(markdown) {
        output.push_str(&markdown[copied_to..range.start]);
        output.push_str(&to_mathml(&formula, display_mode)?);
        copied_to = range.end;
    }
    output.push_str(&markdown[copied_to..]);
    Ok(output)
}

/// The formulas of a page in reading order. The Markdown parser finds them, so code blocks,
/// code spans, HTML and escaped dollar signs are left alone.
fn formulas(markdown: &str) -> Vec<(String, DisplayMode, Range<usize>)> {
    let options = Options::ENABLE_MATH | Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES;
    Parser::new_ext(markdown, options)
        .into_offset_iter()
        .filter_map(|(event, range)| match event {
            Event::InlineMath(latex) => Some((latex.to_string(), DisplayMode::Inline, range)),
            Event::DisplayMath(latex) => Some((latex.to_string(), DisplayMode::Block, range)),
            _ => None,
        })
        .collect()
}

fn to_mathml(latex: &str, display_mode: DisplayMode) -> Result<String> {
    let storage = Storage::new();
    // All events are collected first: the writer would print an error into the page instead.
    let events = LatexParser::new(latex, &storage)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| anyhow!("formula `{}`: {error}", latex.trim()))?;
    let config = RenderConfig { display_mode, annotation: Some(latex.trim()), ..RenderConfig::default() };
    let mut mathml = String::new();
    push_mathml(&mut mathml, events.into_iter().map(Ok::<_, std::fmt::Error>), config)?;
    let shielded = shield_from_markdown(&mathml);
    match tag_left_as_text(&shielded) {
        None => Ok(shielded),
        Some(text) => Err(anyhow!("formula `{}`: a tag of its MathML would be shown as text: {text}", latex.trim())),
    }
}

/// A tag that Markdown does not take for one, such as `<mo stretchy="true"minsize="2em">` without the blank.
fn tag_left_as_text(mathml: &str) -> Option<String> {
    let mut text = String::new();
    for event in Parser::new(mathml) {
        if let Event::Text(piece) = event {
            text.push_str(&piece);
        }
    }
    let at = ["<m", "</m", "<a", "</a"].iter().filter_map(|tag| text.find(tag)).min()?;
    Some(text[at..].chars().take(40).collect())
}

/// The formula goes back into Markdown, where its *text* would be read as Markdown again (a `*`
/// is emphasis, a line break may end the paragraph). Tags pass through untouched, so only
/// characters outside tags are written as character references.
fn shield_from_markdown(mathml: &str) -> String {
    let mut output = String::with_capacity(mathml.len() * 2);
    let mut in_tag = false;
    let mut in_value = false;
    let mut value_ended = false;
    for character in mathml.chars() {
        // pulldown-latex 0.8 writes `stretchy="true"minsize=".."` for \big and its like: a tag only with a blank between.
        if in_tag && value_ended && character.is_ascii_alphabetic() {
            output.push(' ');
        }
        value_ended = in_tag && in_value && character == '"';
        match character {
            '<' => in_tag = true,
            '>' => in_tag = false,
            '"' if in_tag => in_value = !in_value,
            _ => {}
        }
        match character {
            '\n' | '\r' => output.push(' '),
            '*' | '_' | '`' | '\\' | '[' | ']' | '(' | ')' | '!' | '~' | '|' | '\'' | '"' | '-' | '.' | '$' | '#'
            | ':' | '{' | '}' | '^'
                if !in_tag =>
            {
                output.push_str(&format!("&#{};", u32::from(character)));
            }
            _ => output.push(character),
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_and_display_formulas_become_mathml() {
        let page = replace_formulas("Scale by $1/\\sqrt{D}$.\n\n$$\ny = x\n$$\n").unwrap();
        assert!(page.starts_with("Scale by <math"), "{page}");
        assert!(page.contains("<msqrt>"), "{page}");
        assert!(page.contains("display=\"block\""), "{page}");
        assert!(page.ends_with("</math>\n"), "{page}");
    }

    #[test]
    fn code_and_escaped_dollars_stay_as_they_are() {
        let page = "`$HOME` costs \\$5\n\n```console\necho $PATH $HOME\n```\n";
        assert_eq!(replace_formulas(page).unwrap(), page);
    }

    #[test]
    fn formula_text_is_not_read_as_markdown_again() {
        let page = replace_formulas("$a * b_i * c$ and $[1, 2]$").unwrap();
        let html = {
            let mut html = String::new();
            pulldown_cmark::html::push_html(&mut html, Parser::new(&page));
            html
        };
        assert!(!html.contains("<em>"), "{html}");
        assert!(!html.contains("<a "), "{html}");
    }

    #[test]
    fn brackets_of_a_given_size_are_tags() {
        let page = replace_formulas("$$\n\\Big( x \\Big)\n$$\n").unwrap();
        assert!(page.contains("stretchy=\"true\" minsize="), "{page}");
        assert_eq!(
            tag_left_as_text("<mo stretchy=\"true\"minsize=\"2em\">&#40;</mo>").as_deref(),
            Some("<mo stretchy=\"true\"minsize=\"2em\">(")
        );
        assert_eq!(tag_left_as_text("<mi>a</mi><mo>&lt;</mo><mi>b</mi>"), None);
    }

    #[test]
    fn unknown_command_is_an_error_that_names_the_formula() {
        let error = replace_formulas("$\\nosuchcommand{x}$").unwrap_err().to_string();
        assert!(error.contains("\\nosuchcommand"), "{error}");
    }
}
