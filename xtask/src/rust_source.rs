//! Where the functions of a Rust file begin and end.
//!
//! No parser: tokens and brackets are enough to find a body, once strings, comments, characters and lifetimes are told
//! apart.

use std::ops::Range;

use crate::error::{Error, Result};

/// A function with a body. Offsets are bytes of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// Of the word `fn`.
    pub start: usize,
    /// With its braces.
    pub body: Range<usize>,
    pub is_const: bool,
    /// Its result is `impl Trait`, or contains one.
    pub returns_impl: bool,
    /// Marked `#[inline(always)]`.
    pub is_inlined: bool,
}

/// The functions that stand in no other function, in their order. What a `macro_rules!` would make is left out.
///
/// # Errors
/// A literal or comment has no end, or a bracket has no partner.
pub fn functions(source: &str) -> Result<Vec<Function>> {
    let tokens = tokens(source)?;
    let brackets = Brackets::of(&tokens)?;
    let mut functions = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        if tokens[index].is("macro_rules") && tokens.get(index + 1).is_some_and(|token| token.is("!")) {
            // macro_rules ! name { ... }
            index = brackets.behind(index + 3).unwrap_or(index + 1);
            continue;
        }
        match function(&tokens, &brackets, index) {
            Some((function, next)) => {
                functions.push(function);
                index = next;
            }
            None => index += 1,
        }
    }
    Ok(functions)
}

/// The function whose `fn` is the token `index`, and the token behind its body.
fn function(tokens: &[Token<'_>], brackets: &Brackets, index: usize) -> Option<(Function, usize)> {
    let name = tokens.get(index + 1).filter(|name| name.kind == Kind::Word)?; // not `fn(f32) -> f32`, a type
    if !tokens[index].is("fn") {
        return None;
    }
    let mut n_angles = 0; // open ones: in a signature every `<` is a bracket
    let mut in_result = false;
    let mut returns_impl = false;
    let mut next = index + 2;
    loop {
        let token = tokens.get(next)?;
        let arrow_head = token.is(">") && tokens[next - 1].end == token.start && tokens[next - 1].is("-");
        match token.text {
            ";" if n_angles == 0 => return None, // declared in a trait or an extern block
            "{" if n_angles == 0 => break,
            "<" => n_angles += 1,
            ">" if arrow_head => in_result |= n_angles == 0,
            ">" => n_angles -= 1,
            "where" if n_angles == 0 => in_result = false,
            _ if token.kind != Kind::Symbol => returns_impl |= in_result && token.is("impl"),
            _ => {}
        }
        // What stands in brackets is skipped, but for a result such as `(impl Trait, u32)`.
        match brackets.behind(next) {
            Some(behind) => {
                returns_impl |= in_result && tokens[next..behind].iter().any(|token| token.is("impl"));
                next = behind;
            }
            None => next += 1,
        }
    }
    let behind = brackets.behind(next)?;
    let body = tokens[next].start..tokens[behind - 1].end;
    let function = Function {
        name: name.text.to_owned(),
        start: tokens[index].start,
        body,
        is_const: is_const(tokens, index),
        returns_impl,
        is_inlined: is_inlined(tokens, index),
    };
    Some((function, behind))
}

/// Whether `const` stands before the `fn` at `index`, perhaps with other qualifiers between them.
fn is_const(tokens: &[Token<'_>], index: usize) -> bool {
    let qualifiers = tokens[..index].iter().rev();
    let mut before = qualifiers.skip_while(|token| {
        token.kind == Kind::Literal || ["async", "unsafe", "safe", "extern"].iter().any(|word| token.is(word))
    });
    before.next().is_some_and(|token| token.is("const"))
}

/// Whether `#[inline(always)]` stands among what is said before the `fn` at `index`.
fn is_inlined(tokens: &[Token<'_>], index: usize) -> bool {
    let ends_another_item = |token: &Token<'_>| token.kind == Kind::Symbol && [";", "{", "}"].contains(&token.text);
    let start = tokens[..index].iter().rposition(ends_another_item).map_or(0, |end| end + 1);
    let wanted = ["inline", "(", "always", ")"];
    tokens[start..index]
        .windows(wanted.len())
        .any(|window| window.iter().zip(wanted).all(|(token, text)| token.is(text)))
}

/// For each opening bracket the token behind its partner.
struct Brackets(Vec<Option<usize>>);

impl Brackets {
    fn of(tokens: &[Token<'_>]) -> Result<Self> {
        let mut behind = vec![None; tokens.len()];
        let mut open = Vec::new();
        for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Symbol) {
            let opening = match token.text {
                "(" | "[" | "{" => {
                    open.push(index);
                    continue;
                }
                ")" => "(",
                "]" => "[",
                "}" => "{",
                _ => continue,
            };
            match open.pop() {
                Some(partner) if tokens[partner].text == opening => behind[partner] = Some(index + 1),
                _ => return Err(Error::new(format!("the `{}` at byte {} closes nothing", token.text, token.start))),
            }
        }
        match open.pop() {
            Some(index) => {
                Err(Error::new(format!("the `{}` at byte {} is never closed", tokens[index].text, tokens[index].start)))
            }
            None => Ok(Self(behind)),
        }
    }

    fn behind(&self, opening: usize) -> Option<usize> {
        self.0.get(opening).copied().flatten()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A name, a keyword, a number or a part of one.
    Word,
    /// A string, a character or a lifetime.
    Literal,
    /// One character of punctuation.
    Symbol,
}

#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    start: usize,
    end: usize,
}

impl Token<'_> {
    fn is(&self, text: &str) -> bool {
        self.kind != Kind::Literal && self.text == text
    }
}

/// Everything but white space and comments.
fn tokens(source: &str) -> Result<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = source[at..].chars().next() {
        let rest = &source[at..];
        let (kind, length) = if first.is_whitespace() {
            (None, Some(first.len_utf8()))
        } else if rest.starts_with("//") {
            (None, Some(rest.find('\n').unwrap_or(rest.len())))
        } else if rest.starts_with("/*") {
            (None, block_comment(rest))
        } else if let Some(length) = prefixed_literal(rest) {
            (Some(Kind::Literal), length)
        } else if first == '\'' {
            (Some(Kind::Literal), Some(character_or_lifetime(rest)))
        } else if is_word(first) {
            let prefix = if rest.starts_with("r#") { 2 } else { 0 }; // r#type, a name
            (Some(Kind::Word), Some(prefix + word_length(&rest[prefix..])))
        } else {
            (Some(Kind::Symbol), Some(first.len_utf8()))
        };
        let Some(length) = length else {
            return Err(Error::new(format!("what begins at byte {at} never ends")));
        };
        let end = at + length;
        if let Some(kind) = kind {
            tokens.push(Token { kind, text: &source[at..end], start: at, end });
        }
        at = end;
    }
    Ok(tokens)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word_length(text: &str) -> usize {
    text.find(|c| !is_word(c)).unwrap_or(text.len())
}

/// The length of the comment that the text begins with; comments nest.
fn block_comment(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut at = 0;
    loop {
        let rest = text.get(at..)?;
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest.chars().next()?.len_utf8();
        }
    }
}

/// The length of a string of any kind, or of a byte `b'x'`, if the text begins with one: `Some(None)` if it never ends.
fn prefixed_literal(text: &str) -> Option<Option<usize>> {
    let prefix = text.find(|c: char| !c.is_ascii_lowercase())?;
    let rest = &text[prefix..];
    match &text[..prefix] {
        "" | "b" | "c" if rest.starts_with('"') => Some(quoted(rest, '"').map(|length| prefix + length)),
        "b" if rest.starts_with('\'') => Some(quoted(rest, '\'').map(|length| prefix + length)),
        "r" | "br" | "cr" => {
            let n_hashes = rest.len() - rest.trim_start_matches('#').len();
            let content = rest[n_hashes..].strip_prefix('"')?; // else r#type, a name
            let end = format!("\"{}", "#".repeat(n_hashes));
            Some(content.find(&end).map(|length| prefix + n_hashes + 1 + length + end.len()))
        }
        _ => None,
    }
}

/// The length of a literal between two quotes, in which a backslash takes the next character's meaning.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if character == quote {
            return Some(at + 1);
        }
    }
    None
}

/// `'x'` and `'\n'` are characters, `'x` and `'static` lifetimes or labels.
fn character_or_lifetime(text: &str) -> usize {
    let mut characters = text.chars().skip(1);
    match (characters.next(), characters.next()) {
        (Some('\\'), _) => quoted(text, '\'').unwrap_or(1),
        (Some(character), Some('\'')) => 2 + character.len_utf8(),
        _ => 1 + word_length(&text[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name and body of each function.
    fn found(source: &str) -> Vec<(String, &str)> {
        functions(source).unwrap().into_iter().map(|f| (f.name, &source[f.body])).collect()
    }

    fn bodies(source: &str) -> Vec<&str> {
        found(source).into_iter().map(|(_, body)| body).collect()
    }

    #[test]
    fn the_functions_of_modules_impls_and_traits_are_found() {
        let source = "fn a() { 1 }\nmod m { impl S { pub fn b(&self) -> u8 { 2 } } }\n\
            trait T { fn declared(&self); fn given(&self) {} }\nextern \"C\" { fn c(); }\n";
        let expected = [("a", "{ 1 }"), ("b", "{ 2 }"), ("given", "{}")].map(|(name, body)| (name.to_owned(), body));
        assert_eq!(found(source), expected);
    }

    #[test]
    fn only_the_outermost_function_counts_and_a_type_is_none() {
        assert_eq!(
            bodies("fn a(f: fn(u8) -> u8) { fn b() { } let c = || { f(1) }; b() }"),
            ["{ fn b() { } let c = || { f(1) }; b() }"]
        );
        assert_eq!(bodies("struct S { f: fn(u8) -> u8 }\nfn r#match() {}"), ["{}"]);
    }

    #[test]
    fn braces_in_literals_and_comments_do_not_count() {
        for inside in [
            "\"}\"",
            "\"\\\"}\"",
            "r\"}\\\"",
            "r#\"}\"}\"#",
            "br##\"}\"#}\"##",
            "b\"}\"",
            "c\"}\"",
            "'}'",
            "b'}'",
            "'\\''; '}'",
            "'\\u{7d}'",
            "// }\n",
            "/* } /* } */ } */",
            "'ä'; '}'",
        ] {
            let source = format!("fn a() {{ {inside} }} fn b() {{}}");
            assert_eq!(bodies(&source), [format!("{{ {inside} }}").as_str(), "{}"], "{inside}");
        }
    }

    #[test]
    fn lifetimes_and_labels_are_no_characters() {
        let source = "fn a<'a, 'b>(x: &'a str, y: &'b str) -> &'a str { 'outer: loop { break 'outer x } } fn b() {}";
        assert_eq!(bodies(source), ["{ 'outer: loop { break 'outer x } }", "{}"]);
    }

    #[test]
    fn a_signature_may_hold_braces_and_arrows() {
        let source =
            "fn a<const N: usize, F: Fn(u8) -> [u8; { 1 + 1 }]>(f: F) -> A<{ N + 1 }>\nwhere\n    F: Copy,\n{ 7 }";
        assert_eq!(bodies(source), ["{ 7 }"]);
        let compared = "fn a(x: u8) -> Vec<Vec<u8>> { if x < 3 { b() } else { c::<u8>() } } fn d() {}";
        assert_eq!(bodies(compared).len(), 2);
    }

    #[test]
    fn const_functions_and_opaque_results_are_marked() {
        let flags = |source: &str| {
            let function = &functions(source).unwrap()[0];
            (function.is_const, function.returns_impl)
        };
        assert_eq!(flags("pub fn a() {}"), (false, false));
        assert_eq!(flags("pub(crate) const fn a() {}"), (true, false));
        assert_eq!(flags("const unsafe extern \"C\" fn a() {}"), (true, false));
        assert_eq!(flags("const X: u8 = 1; fn a() {}"), (false, false));
        assert_eq!(flags("fn a(x: &impl T) -> u8 where u8: Into<u16> {}"), (false, false));
        assert_eq!(flags("fn a() -> impl Iterator<Item = u8> {}"), (false, true));
        assert_eq!(flags("fn a() -> Option<(u8, impl T)> {}"), (false, true));
        assert_eq!(flags("fn a() -> (u8, impl T) {}"), (false, true));
        assert_eq!(flags("fn a<F: Fn() -> u8>(f: F, x: impl T) -> u8 {}"), (false, false));
    }

    #[test]
    fn functions_that_are_always_inlined_are_marked() {
        let source = "#[inline(always)]\nfn a() {}\n#[inline]\nfn b() {}\nimpl A {\n#[inline(always)] // why\n\
            #[allow(unused)]\npub(crate) unsafe fn c() {} fn d() {} }\n";
        let marked: Vec<bool> = functions(source).unwrap().iter().map(|function| function.is_inlined).collect();
        assert_eq!(marked, [true, false, true, false]);
    }

    #[test]
    fn functions_that_a_macro_makes_are_left_out() {
        assert_eq!(bodies("macro_rules! m { ($t:ty) => { fn a() {} } }\nm! {}\nfn b() { m!() }"), ["{ m!() }"]);
    }

    #[test]
    fn what_never_ends_is_an_error() {
        for source in ["fn a() {", "fn a() }", "fn a() { ( }", "\"", "/* /* */", "r#\"\"", "b'"] {
            assert!(functions(source).is_err(), "{source}");
        }
    }
}
