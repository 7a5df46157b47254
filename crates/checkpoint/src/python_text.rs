//! Values as Python would write them: chat templates were written for Python, and models were trained on what it printed.
//!
//! One difference remains: a tuple, such as an item of a dictionary, prints as a list. Templates unpack them instead.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{ErrorKind, Output, State};

/// Prints a value as `{{ value }}` does in Python's Jinja: `None`, `True`, and `repr` inside lists and dictionaries.
pub(crate) fn format(out: &mut Output, _state: &mut State, value: &Value) -> Result<(), minijinja::Error> {
    out.write_str(&str(value)?)?;
    Ok(())
}

/// Python's `str(value)`.
pub(crate) fn str(value: &Value) -> Result<String, minijinja::Error> {
    match value.kind() {
        ValueKind::String => Ok(value.to_string()),
        _ => {
            check_extent(value, &|_| false)?;
            Ok(repr(value))
        }
    }
}

/// Refuses a value that is too large or too deep to be printed or kept, and one that has, at any depth, what is `excluded`.
pub(crate) fn check_extent(value: &Value, excluded: &dyn Fn(&Value) -> bool) -> Result<(), minijinja::Error> {
    fn visit(value: &Value, depth: usize, budget: &mut usize, excluded: &dyn Fn(&Value) -> bool) -> bool {
        let Some(left) = budget.checked_sub(1).filter(|_| depth <= MAX_DEPTH && !excluded(value)) else { return false };
        *budget = left;
        let is_map = value.kind() == ValueKind::Map;
        if !matches!(value.kind(), ValueKind::Map | ValueKind::Seq | ValueKind::Iterable) {
            return true;
        }
        let mut children = value.try_iter().into_iter().flatten();
        children.all(|child| {
            let child = if is_map { value.get_item(&child).unwrap_or_default() } else { child };
            visit(&child, depth + 1, budget, excluded)
        })
    }
    let mut budget = MAX_VALUES;
    if visit(value, 0, &mut budget, excluded) {
        return Ok(());
    }
    let problem = format!(
        "a value of more than {MAX_DEPTH} levels or {MAX_VALUES} values cannot be printed or stored, nor a namespace inside one"
    );
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, problem))
}

const MAX_DEPTH: usize = 100;
const MAX_VALUES: usize = 1_000_000;
/// More spaces per level than any reader of JSON wants.
const MAX_INDENT: usize = 100;

/// Python's `repr(value)`.
fn repr(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::String => quote(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<_> = value.try_iter().into_iter().flatten().map(|item| repr(&item)).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Map => {
            let item = |key: Value| {
                let item = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", repr(&key), repr(&item))
            };
            let items: Vec<_> = value.try_iter().into_iter().flatten().map(item).collect();
            format!("{{{}}}", items.join(", "))
        }
        _ => value.to_string(),
    }
}

/// Single quotes, unless the text has single quotes and no double ones.
fn quote(text: &str) -> String {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::from(mark);
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c == mark => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push(mark);
    quoted
}

/// `json.dumps(value, ensure_ascii=False)`: transformers replaces Jinja's own filter, which escapes for HTML.
pub(crate) fn tojson(value: &Value, kwargs: Kwargs) -> Result<String, minijinja::Error> {
    let ensure_ascii = kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort_keys = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let indent = kwargs.get::<Option<usize>>("indent")?;
    let separators = kwargs.get::<Option<Vec<String>>>("separators")?;
    kwargs.assert_all_used()?;
    if indent.is_some_and(|indent| indent > MAX_INDENT) {
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, "tojson: the indent is too large"));
    }
    check_extent(value, &|_| false)?;
    // With an indent, a line ends after the comma, and Python leaves out the space.
    let item_separator = if indent.is_some() { "," } else { ", " }.to_owned();
    let separators = separators.unwrap_or_else(|| vec![item_separator, ": ".to_owned()]);
    let Ok([item_separator, key_separator]) = <[String; 2]>::try_from(separators) else {
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, "tojson: separators must be a pair"));
    };
    let json: serde_json::Value = serde_json::to_value(value)
        .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let mut writer = JsonWriter { out: String::new(), ensure_ascii, sort_keys, indent, item_separator, key_separator };
    writer.value(&json, 1);
    Ok(writer.out)
}

/// Python's `json.dumps`, whose spacing differs from serde_json's.
struct JsonWriter {
    out: String,
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<usize>,
    item_separator: String,
    key_separator: String,
}

impl JsonWriter {
    fn value(&mut self, value: &serde_json::Value, depth: usize) {
        match value {
            serde_json::Value::Array(items) => {
                self.items(depth, '[', ']', items, |writer, item| writer.value(item, depth + 1));
            }
            serde_json::Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                if self.sort_keys {
                    entries.sort_by_key(|(key, _)| key.as_str());
                }
                self.items(depth, '{', '}', &entries, |writer, (key, value)| {
                    writer.string(key);
                    let separator = writer.key_separator.clone();
                    writer.out.push_str(&separator);
                    writer.value(value, depth + 1);
                });
            }
            serde_json::Value::String(text) => self.string(text),
            scalar => self.out.push_str(&scalar.to_string()),
        }
    }

    fn items<T>(&mut self, depth: usize, open: char, close: char, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.out.push(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                let separator = self.item_separator.clone();
                self.out.push_str(&separator);
            }
            self.new_line(depth);
            write(self, item);
        }
        if !items.is_empty() {
            self.new_line(depth - 1);
        }
        self.out.push(close);
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.push_str(&" ".repeat(indent * depth));
        }
    }

    fn string(&mut self, text: &str) {
        let quoted = serde_json::Value::from(text).to_string();
        for c in quoted.chars() {
            if self.ensure_ascii && !c.is_ascii() {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    self.out.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                self.out.push(c);
            }
        }
    }
}

/// What `strftime` of Python 3 writes on Linux in the C locale for a `datetime` without a time zone.
pub(crate) fn strftime(format: &str, time: &jiff::Zoned) -> Result<String, jiff::Error> {
    let mut written = String::new();
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        written.push_str(&rest[..start]);
        let directive = &rest[start + 1..];
        let is_flag = |c: char| matches!(c, '-' | '_' | '^' | '#') || c.is_ascii_digit();
        let flags = &directive[..directive.find(|c| !is_flag(c)).unwrap_or(directive.len())];
        // C's locale has no other era and no other digits.
        let unmodified = directive[flags.len()..].strip_prefix(['E', 'O']).unwrap_or(&directive[flags.len()..]);
        let expanded = match unmodified.chars().next() {
            Some('c') => "%a %b %e %H:%M:%S %Y".to_owned(),
            Some('x') => "%m/%d/%y".to_owned(),
            Some('X') => "%H:%M:%S".to_owned(),
            Some('r') => "%I:%M:%S %p".to_owned(),
            Some('f') if directive.starts_with('f') => "%6f".to_owned(),
            Some('z' | 'Z') => String::new(),
            Some(letter) if "aAbBCdDeFgGhHIjklmMnpPRsStTuUVwWyY%".contains(letter) => format!("%{flags}{letter}"),
            // What is no directive stands for itself.
            _ => {
                written.push('%');
                rest = directive;
                continue;
            }
        };
        let text = jiff::fmt::strtime::format(&expanded, time)?;
        written.push_str(&if flags.contains('^') { text.to_uppercase() } else { text });
        rest = &unmodified[1..];
    }
    written.push_str(rest);
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_python_writes_them() {
        let cases: serde_json::Value = serde_json::from_str(include_str!("../tests/data/strftime.json")).unwrap();
        for case in cases.as_array().unwrap() {
            let (format, expected) = (case["format"].as_str().unwrap(), case["expected"].as_str().unwrap());
            let time: jiff::civil::DateTime = case["time"].as_str().unwrap().parse().unwrap();
            let time = time.to_zoned(jiff::tz::TimeZone::UTC).unwrap();
            assert_eq!(strftime(format, &time).unwrap(), expected, "{format:?} at {time}");
        }
    }
}
