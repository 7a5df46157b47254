//! Gets Metal source ready for C++ compilers other than Apple's.
//!
//! Metal's address spaces (`device`, `constant`, `threadgroup`, `thread`) are part of its types. Other compilers don't know them, and
//! most can go: preludes define them as empty macros. One can't: in `threadgroup float sums[32];` the word makes
//! memory, in `threadgroup float* sum` it only says where a pointer points to. Lowering finds the declarations, so that each
//! backend can write them its own way.
//!
//! Line `n` of what comes out is line `n` of what went in, so messages of compilers name the right line.

use std::ops::Range;

use crate::gpu::GpuKernel;
use crate::gpu::tokens::{SourceError, Token, TokenKind, tokenize};

/// `threadgroup T name[16][33];` in a kernel's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadgroupArray {
    /// The type of an element as written: `float`, `vec<T, 4>`.
    pub element: String,
    pub name: String,
    /// The lengths as written, with their brackets: `[16][33]`; empty for a single variable.
    pub lengths: String,
    /// Line of the body, from 1.
    pub line: usize,
}

impl ThreadgroupArray {
    /// The expression for the number of elements: `(16)*(33)`, and `1` for a single variable.
    pub fn n_elements(&self) -> String {
        let lengths = self.lengths.trim_matches(['[', ']']);
        if lengths.is_empty() { "1".to_owned() } else { format!("({})", lengths.replace("][", ")*(")) }
    }
}

/// A kernel's source after lowering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lowered {
    /// As written.
    pub header: String,
    /// As written.
    pub body: String,
    /// All threadgroup memory of the body, in order.
    pub threadgroup_arrays: Vec<ThreadgroupArray>,
    /// Bytes of the body with a statement that declares threadgroup memory, and which arrays it declares.
    declarations: Vec<(Range<usize>, Range<usize>)>,
}

impl Lowered {
    /// Finds the declarations of threadgroup memory.
    ///
    /// # Errors
    /// A declaration in another place than the body's top level, or one that can't be read; comments and strings
    /// that don't end.
    pub fn new(kernel: &GpuKernel) -> Result<Self, SourceError> {
        let tokens = tokenize(kernel.body)?;
        let mut lowered = Self {
            header: kernel.header.to_owned(),
            body: kernel.body.to_owned(),
            threadgroup_arrays: Vec::new(),
            declarations: Vec::new(),
        };
        let mut depth = 0_usize;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let text = token.text(kernel.body);
            match text {
                "{" | "(" => depth += 1,
                "}" | ")" => depth = depth.saturating_sub(1),
                _ => {}
            }
            let starts_statement = at == 0 || matches!(tokens[at - 1].text(kernel.body), ";" | "{" | "}" | ")");
            let starts_statement = starts_statement || tokens[at - 1].kind == TokenKind::Directive;
            if text == "threadgroup" && starts_statement {
                at = lowered.statement(&tokens, at, depth)?;
            } else {
                at += 1;
            }
        }
        Ok(lowered)
    }

    /// The body with `declaration` in place of each declared array. Line breaks inside a declaration are kept.
    pub fn body_with(&self, mut declaration: impl FnMut(&ThreadgroupArray) -> String) -> String {
        let mut result = String::with_capacity(self.body.len());
        let mut end = 0;
        for (bytes, arrays) in &self.declarations {
            result.push_str(self.body.get(end..bytes.start).unwrap_or_default());
            for array in self.threadgroup_arrays.get(arrays.clone()).unwrap_or_default() {
                result.push_str(&declaration(array));
            }
            let replaced = self.body.get(bytes.clone()).unwrap_or_default();
            result.extend(replaced.chars().filter(|&character| character == '\n'));
            end = bytes.end;
        }
        result.push_str(self.body.get(end..).unwrap_or_default());
        result
    }

    /// Reads the statement that begins with `threadgroup` at token `start`; the result is the first token after it, or after the word
    /// if the statement declares a pointer or a reference.
    fn statement(&mut self, tokens: &[Token], start: usize, depth: usize) -> Result<usize, SourceError> {
        let body = self.body.clone();
        let text = |at: usize| tokens.get(at).map_or("", |token| token.text(&body));
        let line = tokens[start].line;
        let refuse = |message: &str| Err(SourceError { line, message: message.to_owned() });

        let Some(name) = first_name(tokens, start + 1, &body) else { return Ok(start + 1) };
        if depth > 0 {
            return refuse("threadgroup memory is declared at the top level of a kernel's body, outside of all braces");
        }
        let element = source_of(tokens, start + 1..name, &body);
        let first = self.threadgroup_arrays.len();
        let mut at = name;
        loop {
            if tokens.get(at).is_none_or(|token| token.kind != TokenKind::Word) {
                return refuse("a declaration of threadgroup memory reads `threadgroup TYPE NAME[LENGTH];`");
            }
            let name = text(at).to_owned();
            at += 1;
            let lengths = at;
            while text(at) == "[" {
                at = closing_bracket(tokens, at, &body)
                    .ok_or_else(|| SourceError { line, message: format!("`threadgroup ... {name}[` is not closed") })?
                    + 1;
            }
            let lengths: String = (lengths..at).map(text).collect::<Vec<_>>().join(" ");
            let lengths = lengths.replace("[ ", "[").replace(" ]", "]").replace("] [", "][");
            self.threadgroup_arrays.push(ThreadgroupArray { element: element.clone(), name, lengths, line });
            match text(at) {
                "," => at += 1,
                ";" => break,
                "=" | "{" | "(" => return refuse("threadgroup memory can't be initialised where it is declared"),
                _ => return refuse("a declaration of threadgroup memory reads `threadgroup TYPE NAME[LENGTH];`"),
            }
        }
        let bytes = tokens[start].range.start..tokens[at].range.end;
        self.declarations.push((bytes, first..self.threadgroup_arrays.len()));
        Ok(at + 1)
    }
}

/// The token with the declared name, for `TYPE NAME [`, `TYPE NAME ;`, `TYPE NAME ,` or `TYPE NAME =`; `None` for pointers and references.
fn first_name(tokens: &[Token], start: usize, body: &str) -> Option<usize> {
    let mut angles = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.text(body) {
            "<" => angles += 1,
            ">" => angles = angles.saturating_sub(1),
            "*" | "&" if angles == 0 => return None,
            "[" | ";" | "," | "=" | "{" | "(" | ")" if angles == 0 => return (at > start + 1).then_some(at - 1),
            ";" => return None,
            _ => {}
        }
    }
    None
}

fn closing_bracket(tokens: &[Token], open: usize, body: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text(body) {
            "[" => depth += 1,
            "]" if depth == 1 => return Some(at),
            "]" => depth -= 1,
            ";" => return None,
            _ => {}
        }
    }
    None
}

/// Tokens as one line of source.
fn source_of(tokens: &[Token], range: Range<usize>, body: &str) -> String {
    let words = tokens.get(range).unwrap_or_default().iter().map(|token| token.text(body));
    words.collect::<Vec<_>>().join(" ").replace(": :", "::")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lower(body: &'static str) -> Result<Lowered, SourceError> {
        Lowered::new(&GpuKernel { name: "test", inputs: &[], outputs: &["out"], header: "", body, strided: false })
    }

    fn arrays(body: &'static str) -> Vec<(String, String, String, usize)> {
        let arrays = lower(body).unwrap().threadgroup_arrays;
        arrays
            .into_iter()
            .map(|array| (array.element.clone(), array.name.clone(), array.n_elements(), array.line))
            .collect()
    }

    fn array(element: &str, name: &str, n_elements: &str, line: usize) -> (String, String, String, usize) {
        (element.into(), name.into(), n_elements.into(), line)
    }

    #[test]
    fn declarations_are_found() {
        assert_eq!(arrays("threadgroup float sums[32];"), [array("float", "sums", "(32)", 1)]);
        assert_eq!(
            arrays("int a;\nthreadgroup vec<T, 4>\n  x[2 * N][M + 1], y;\n"),
            [array("vec < T , 4 >", "x", "(2 * N)*(M + 1)", 2), array("vec < T , 4 >", "y", "1", 2)]
        );
    }

    #[test]
    fn pointers_references_parameters_and_comments_are_not() {
        let body = "// threadgroup float a[3];\nthreadgroup float* p = q;\nthreadgroup T& r = *p;\n\
            auto f = [](threadgroup float* p) { return *p; };\nfoo((const threadgroup uint4*)p);";
        assert_eq!(arrays(body), []);
        assert_eq!(lower(body).unwrap().body_with(|_| "x".into()), body);
    }

    #[test]
    fn lines_stay_where_they_are() {
        let lowered = lower("a;\nthreadgroup float x[2], // two\n  y[3];\nb;").unwrap();
        let body = lowered.body_with(|array| format!("<{}{}>", array.name, array.lengths));
        assert_eq!(body, "a;\n<x[2]><y[3]>\n\nb;");
    }

    #[test]
    fn what_metal_refuses_is_refused() {
        let message = |body| lower(body).unwrap_err();
        assert_eq!(message("a;\nif (b) {\n threadgroup float x[2]; }").line, 3);
        assert!(message("threadgroup float x[2] = {0};").message.contains("initialised"));
        assert!(message("threadgroup float x[2 = 3;").message.contains("not closed"));
    }
}
