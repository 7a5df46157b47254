//! How much threadgroup memory a kernel declares.
//!
//! Sizes are expressions (`float tile[2 * N][M + 1]`) over template arguments and constants of the body. Backends must know the
//! sum before the kernel starts: CUDA has to be asked for more than 48 KB, Metal has 32 KB in all.

use std::collections::HashMap;

use mlx_rs::Dtype;

use crate::gpu::checks::element_type;
use crate::gpu::tokens::{Token, TokenKind, tokenize};
use crate::gpu::{Launch, Lowered, TemplateValue};

/// Arrays start at multiples of this many bytes, unless they hold wide tiles.
pub(crate) const ALIGNMENT: usize = 16;
/// Constants of the dialect itself that sizes may hold.
const DIALECT: [(&str, i64); 1] = [("WIDE_PADDING", 8)];

/// The bytes of all arrays together, each beginning at a multiple of `alignment`; `None` if a size isn't an expression that
/// this module can compute.
pub(crate) fn threadgroup_bytes(lowered: &Lowered, launch: &Launch<'_>, alignment: usize) -> Option<usize> {
    let names = constants(lowered, launch);
    let mut bytes = 0_usize;
    for array in &lowered.threadgroup_arrays {
        let n_elements = usize::try_from(evaluate(&array.n_elements(), &names)?).ok()?;
        let size = type_size(&array.element, launch)?.checked_mul(n_elements)?;
        bytes = bytes.next_multiple_of(alignment).checked_add(size)?;
    }
    Some(bytes)
}

/// Template arguments, and what `constexpr int NAME = EXPRESSION;` defines (also with `const`, and other types of integers).
fn constants<'a>(lowered: &'a Lowered, launch: &Launch<'a>) -> HashMap<&'a str, i64> {
    let mut names: HashMap<&str, i64> = DIALECT.into();
    for &(name, value) in launch.template {
        match value {
            TemplateValue::Int(value) => names.insert(name, value.into()),
            TemplateValue::Bool(value) => names.insert(name, value.into()),
            TemplateValue::Dtype(_) => None,
        };
    }
    for source in [&lowered.header, &lowered.body] {
        let tokens = tokenize(source).unwrap_or_default();
        for (at, token) in tokens.iter().enumerate() {
            let is_constant = matches!(token.text(source), "const" | "constexpr");
            let [Some(kind), Some(name), Some(equals)] = [1, 2, 3].map(|step| tokens.get(at + step)) else { continue };
            let is_integer = matches!(kind.text(source), "int" | "uint" | "short" | "ushort" | "size_t");
            if !is_constant || !is_integer || equals.text(source) != "=" {
                continue;
            }
            let end = tokens
                .iter()
                .skip(at)
                .find(|token| token.text(source) == ";")
                .map_or(source.len(), |end| end.range.start);
            let expression = source.get(equals.range.end..end).unwrap_or_default();
            if let Some(value) = evaluate(expression, &names) {
                names.entry(name.text(source)).or_insert(value);
            }
        }
    }
    names
}

/// The size of a type in bytes.
fn type_size(element: &str, launch: &Launch<'_>) -> Option<usize> {
    let template = launch.template.iter().find(|(name, _)| *name == element);
    if let Some((_, TemplateValue::Dtype(dtype))) = template {
        return element_type(*dtype);
    }
    let dtype = match element {
        "float" => Dtype::Float32,
        "half" => Dtype::Float16,
        "bfloat16_t" | "bfloat" => Dtype::Bfloat16,
        "uint" | "uint32_t" => Dtype::Uint32,
        "int" | "int32_t" => Dtype::Int32,
        "ushort" | "uint16_t" => Dtype::Uint16,
        "short" | "int16_t" => Dtype::Int16,
        "uchar" | "uint8_t" => Dtype::Uint8,
        "char" | "int8_t" => Dtype::Int8,
        "bool" => Dtype::Bool,
        "ulong" | "long" | "size_t" | "uint64_t" | "int64_t" => return Some(8),
        _ => return vector_size(element, launch),
    };
    element_type(dtype)
}

/// `float4` and `vec<T, 4>`.
fn vector_size(element: &str, launch: &Launch<'_>) -> Option<usize> {
    let compact = element.replace(' ', "");
    let (scalar, length) = match compact.strip_prefix("vec<").and_then(|rest| rest.strip_suffix('>')) {
        Some(inner) => inner.split_once(',')?,
        None => compact.split_at(compact.len().checked_sub(1)?),
    };
    let length = match length {
        "2" => 2,
        "3" | "4" => 4,
        _ => return None,
    };
    Some(type_size(scalar, launch)? * length)
}

/// The value of an expression of integers, with the operators `+ - * / % << >>`, brackets and names.
fn evaluate(expression: &str, names: &HashMap<&str, i64>) -> Option<i64> {
    let tokens = tokenize(expression).ok()?;
    let mut parser = Parser { expression, tokens: &tokens, at: 0, names };
    let value = parser.sum(0)?;
    (parser.at == tokens.len()).then_some(value)
}

struct Parser<'a> {
    expression: &'a str,
    tokens: &'a [Token],
    at: usize,
    names: &'a HashMap<&'a str, i64>,
}

impl Parser<'_> {
    fn next(&self) -> &str {
        self.tokens.get(self.at).map_or("", |token| token.text(self.expression))
    }

    /// Operators of at least this strength: 0 for shifts, 1 for sums, 2 for products.
    fn sum(&mut self, strength: usize) -> Option<i64> {
        let mut left = if strength == 2 { self.factor()? } else { self.sum(strength + 1)? };
        loop {
            let operator = match (strength, self.next()) {
                (0, shift @ ("<" | ">")) => shift.to_owned(),
                (1, sum @ ("+" | "-")) => sum.to_owned(),
                (2, product @ ("*" | "/" | "%")) => product.to_owned(),
                _ => return Some(left),
            };
            self.at += 1;
            if strength == 0 {
                // A shift is two symbols.
                if self.next() != operator {
                    return None;
                }
                self.at += 1;
            }
            let right = if strength == 2 { self.factor()? } else { self.sum(strength + 1)? };
            left = match operator.as_str() {
                "+" => left.checked_add(right)?,
                "-" => left.checked_sub(right)?,
                "*" => left.checked_mul(right)?,
                "/" => left.checked_div(right)?,
                "%" => left.checked_rem(right)?,
                "<" => left.checked_shl(right.try_into().ok()?)?,
                _ => left.checked_shr(right.try_into().ok()?)?,
            };
        }
    }

    fn factor(&mut self) -> Option<i64> {
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        let text = token.text(self.expression);
        match (token.kind, text) {
            (TokenKind::Number, _) => text.trim_end_matches(['u', 'U', 'l', 'L']).replace('\'', "").parse().ok(),
            (TokenKind::Word, _) => self.names.get(text).copied(),
            (_, "-") => self.factor()?.checked_neg(),
            (_, "(") => {
                let value = self.sum(0)?;
                let closed = self.next() == ")";
                self.at += 1;
                closed.then_some(value)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::GpuKernel;

    fn bytes(body: &'static str, template: &[(&'static str, TemplateValue)]) -> Option<usize> {
        let kernel = GpuKernel { name: "test", inputs: &[], outputs: &["out"], header: "", body, strided: false };
        let launch = Launch { template, outputs: &[], grid: [1; 3], threadgroup: [1; 3], fill: None };
        threadgroup_bytes(&Lowered::new(&kernel).unwrap(), &launch, ALIGNMENT)
    }

    #[test]
    fn sizes_of_types_and_arrays() {
        assert_eq!(
            bytes("threadgroup float a[32]; threadgroup half b[3], c; threadgroup uint4 d[2][5];", &[]),
            Some(128 + 16 + 16 + 160)
        );
        assert_eq!(bytes("out[0] = 1;", &[]), Some(0));
    }

    #[test]
    fn template_arguments_and_constants() {
        let template = [("T", TemplateValue::Dtype(Dtype::Bfloat16)), ("N", TemplateValue::Int(64))];
        let body =
            "constexpr int rows = 2 * N - (N >> 2); const uint stride = N + 8u;\nthreadgroup T a[rows * stride];";
        assert_eq!(bytes(body, &template), Some((128 - 16) * 72 * 2));
        assert_eq!(bytes("threadgroup vec<T, 4> a[N / 4 % 5];", &template), Some(8));
    }

    #[test]
    fn arrays_of_wide_tiles() {
        let body = "threadgroup half a[3]; threadgroup half b[64 * (64 + WIDE_PADDING)];";
        let kernel = GpuKernel { name: "test", inputs: &[], outputs: &["out"], header: "", body, strided: false };
        let launch = Launch { template: &[], outputs: &[], grid: [1; 3], threadgroup: [1; 3], fill: None };
        assert_eq!(threadgroup_bytes(&Lowered::new(&kernel).unwrap(), &launch, 1024), Some(1024 + 64 * 72 * 2));
    }

    #[test]
    fn what_is_no_constant_expression_is_unknown() {
        assert_eq!(bytes("threadgroup float a[f(3)];", &[]), None);
        assert_eq!(bytes("threadgroup float a[n];", &[]), None);
        assert_eq!(bytes("threadgroup Pair a[3];", &[]), None);
    }
}
