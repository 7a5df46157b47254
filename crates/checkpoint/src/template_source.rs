//! A look at a chat template's source before it is compiled.

/// Bytes of a template; the largest in use have about 40,000.
const MAX_SOURCE: usize = 256 << 10;

/// Code that one tag may have outside its string literals. Templates in use stay below a third of it; the compiler is
/// recursive, and chains such as `not not not …` would take its stack.
const MAX_TAG_CODE: usize = 1500;

/// Branches that all conditions together may have: the compiler takes each as a level of nesting.
const MAX_BRANCHES: usize = 1000;

/// The filter that [`prepare`] puts behind what is assigned to a field of a namespace.
pub(crate) const STORABLE: &str = "storable";

/// Makes a template ready for the compiler: Jinja's line ends, no tag that would exhaust the compiler, `{% generation %}`, which
/// Jinja does not know, rewritten, and assignments to fields of namespaces guarded by the filter [`STORABLE`].
///
/// `{% generation %}` marks what the assistant wrote, for training, and prints its body: so does a condition that always holds.
pub(crate) fn prepare(source: &str) -> Result<String, String> {
    if source.len() > MAX_SOURCE {
        return Err(format!("it has {} bytes; at most {MAX_SOURCE} are expected of a template", source.len()));
    }
    // Jinja's lexer does this to the whole source, literals included.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut prepared = String::with_capacity(source.len());
    let mut rest = source.as_str();
    let mut branches = 0;
    while let Some(start) = rest.find(['{']).filter(|&start| start + 1 < rest.len()) {
        let (text, tag_and_rest) = rest.split_at(start);
        prepared.push_str(text);
        let line = || 1 + source[..source.len() - tag_and_rest.len()].matches('\n').count();
        let tag_len = match tag_and_rest.as_bytes()[1] {
            b'#' => end_of(tag_and_rest, "#}"),
            b'%' | b'{' => {
                let closing = if tag_and_rest.starts_with("{%") { "%}" } else { "}}" };
                let (len, code) = measure_tag(tag_and_rest, closing);
                if code > MAX_TAG_CODE {
                    return Err(format!("the tag on line {} is longer than {MAX_TAG_CODE} characters", line()));
                }
                len
            }
            _ => 1,
        };
        let (tag, after) = tag_and_rest.split_at(tag_len);
        branches += usize::from(content(tag).starts_with("elif"));
        if branches > MAX_BRANCHES {
            return Err(format!("line {} has one `elif` more than {MAX_BRANCHES}", line()));
        }
        prepared.push_str(&rewrite(tag));
        rest = after;
        if content(tag) == "raw" {
            // What stands inside is text, whatever it looks like.
            let (raw, after) = rest.split_at(start_of_endraw(rest));
            prepared.push_str(raw);
            rest = after;
        }
    }
    prepared.push_str(rest);
    Ok(prepared)
}

fn end_of(text: &str, closing: &str) -> usize {
    text.find(closing).map_or(text.len(), |position| position + closing.len())
}

/// Length of the tag at the start of the text, and how many of its characters are not inside string literals. As for the
/// compiler, a tag does not end inside brackets.
fn measure_tag(text: &str, closing: &str) -> (usize, usize) {
    let mut quote = None;
    let mut escaped = false;
    let mut code = 0;
    let mut brackets = 0;
    for (position, c) in text.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(mark) if c == mark => quote = None,
            Some(_) => {}
            None if brackets == 0 && text[position..].starts_with(closing) => return (position + closing.len(), code),
            None => {
                code += 1;
                match c {
                    '\'' | '"' => quote = Some(c),
                    '(' | '[' | '{' => brackets += 1,
                    ')' | ']' | '}' => brackets -= 1,
                    _ => {}
                }
            }
        }
    }
    (text.len(), code)
}

/// The bare content of a block tag: `generation` of `{%- generation -%}`; empty for other tags.
fn content(tag: &str) -> &str {
    let content = tag.strip_prefix("{%").and_then(|content| content.strip_suffix("%}")).unwrap_or_default();
    content.trim_matches(['-', '+']).trim()
}

fn rewrite(tag: &str) -> String {
    match content(tag) {
        "generation" => tag.replacen("generation", "if true", 1),
        "endgeneration" => tag.replacen("endgeneration", "endif", 1),
        content => guarded_assignment(content).map_or(tag.to_owned(), |guarded| tag.replacen(content, &guarded, 1)),
    }
}

/// `set ns.a = value` with its value filtered; `None` for any other tag. Namespaces are the only values that can change, so
/// that whatever grows from one step of a loop to the next goes through here.
fn guarded_assignment(content: &str) -> Option<String> {
    let is_target = |c: char| c.is_alphanumeric() || c.is_whitespace() || matches!(c, '_' | '.' | ',' | '(' | ')');
    let rest = content.strip_prefix("set")?;
    let end = rest.find(|c| !is_target(c)).filter(|&end| rest[..end].contains('.'))?;
    let (target, value) = rest.split_at(end);
    match value.strip_prefix('=') {
        Some(value) => Some(format!("set{target}=({value})|{STORABLE}")),
        None => value.starts_with('|').then(|| format!("{content}|{STORABLE}")),
    }
}

fn start_of_endraw(text: &str) -> usize {
    let ends_raw = |&(position, _): &(usize, &str)| {
        let tag = text[position + 2..].trim_start_matches(['-', '+']).trim_start();
        tag.strip_prefix("endraw").is_some_and(|end| end.trim_start().trim_start_matches(['-', '+']).starts_with("%}"))
    };
    text.match_indices("{%").find(ends_raw).map_or(text.len(), |(position, _)| position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_conditions() {
        let source = "a{%- generation -%}b{% endgeneration %}c{% raw %}{% generation %}{% endraw %}{# {% generation %} #}{{ '{% generation %}' }}";
        let prepared = "a{%- if true -%}b{% endif %}c{% raw %}{% generation %}{% endraw %}{# {% generation %} #}{{ '{% generation %}' }}";
        assert_eq!(prepare(source).unwrap(), prepared);
    }

    #[test]
    fn line_ends_are_those_of_jinja() {
        assert_eq!(prepare("a\r\n{{ 'b\r\nc' }}\rd\n\r\n").unwrap(), "a\n{{ 'b\nc' }}\nd\n\n");
    }

    #[test]
    fn assignments_to_namespaces_are_guarded() {
        for (source, prepared) in [
            ("{%- set ns.a = 1 -%}", "{%- set ns.a =( 1)|storable -%}"),
            ("{%set ns.a=b if c else d%}", "{%set ns.a=(b if c else d)|storable%}"),
            ("{% set ns.a, b = 1, 2 %}", "{% set ns.a, b =( 1, 2)|storable %}"),
            ("{% set(ns.a) = {'%}': {}} %}", "{% set(ns.a) =( {'%}': {}})|storable %}"),
            ("{% set ns.a | default(ns) %}", "{% set ns.a | default(ns)|storable %}"),
        ] {
            assert_eq!(prepare(source).unwrap(), prepared);
        }
        for other in ["{% set a = ns.b %}", "{% set ns.a %}", "{% settle ns.a %}", "{{ set }}", "{% set a = 'x.y' %}"] {
            assert_eq!(prepare(other).unwrap(), other);
        }
    }

    #[test]
    fn the_number_of_branches_and_of_bytes_is_limited() {
        let branches = |n: usize| format!("{{% if a %}}\n{}{{% endif %}}", "{% elif a %}".repeat(n));
        assert!(prepare(&branches(MAX_BRANCHES)).is_ok());
        assert!(prepare(&branches(MAX_BRANCHES + 1)).unwrap_err().contains("line 2"));
        assert!(prepare(&" ".repeat(MAX_SOURCE)).is_ok());
        assert!(prepare(&" ".repeat(MAX_SOURCE + 1)).unwrap_err().contains("bytes"));
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        for source in [
            "",
            "{",
            "{{",
            "{%",
            "{#",
            "{ { }}",
            "é{{ 'ü}}' }}{",
            "{{ \"a\\\"}}\" }}",
            "{% raw %}{{",
            "{{ '",
            "}}{{}}{%%}{##}",
        ] {
            assert_eq!(prepare(source).unwrap(), source);
        }
    }

    #[test]
    fn only_code_counts_towards_the_length_of_a_tag() {
        assert!(prepare(&format!("{{{{ '{}' }}}}", "-".repeat(100_000))).is_ok());
        assert!(prepare(&"{{ a }}".repeat(10_000)).is_ok());
        for tag in [format!("{{{{ {}1 }}}}", "-".repeat(2000)), format!("{{% if x{} %}}", ".a".repeat(2000))] {
            assert!(prepare(&format!("one\ntwo {tag}")).unwrap_err().contains("line 2"));
            // Quotes in comments and raw text must not hide it, nor brackets that close like a tag.
            assert!(prepare(&tag.replacen("{ ", "{ {1:{}} or ", 1)).is_err());
            assert!(prepare(&format!("{{# ' #}}{tag}")).is_err());
            assert!(prepare(&format!("{{% raw %}}{{{{ ' {{% endraw %}}{tag}")).is_err());
        }
    }
}
