//! A look at a chat template's source before it is compiled.

/// Code that one tag may have outside its string literals. Templates in use stay below a third of it; the compiler, which
/// is recursive, needs more stack than a thread has for chains such as `not not not …` that are some times longer.
const MAX_TAG_CODE: usize = 1500;

/// Checks every tag, and rewrites `{% generation %}`, which Jinja does not know.
///
/// The tag marks what the assistant wrote, for training, and prints its body: so does a condition that always holds.
pub(crate) fn prepare(source: &str) -> Result<String, String> {
    let mut prepared = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find(['{']).filter(|&start| start + 1 < rest.len()) {
        let (text, tag_and_rest) = rest.split_at(start);
        prepared.push_str(text);
        let tag_len = match tag_and_rest.as_bytes()[1] {
            b'#' => end_of(tag_and_rest, "#}"),
            b'%' | b'{' => {
                let closing = if tag_and_rest.starts_with("{%") { "%}" } else { "}}" };
                let (len, code) = measure_tag(tag_and_rest, closing);
                if code > MAX_TAG_CODE {
                    let line = 1 + source[..source.len() - rest.len() + start].matches('\n').count();
                    return Err(format!("the tag on line {line} is longer than {MAX_TAG_CODE} characters"));
                }
                len
            }
            _ => 1,
        };
        let (tag, after) = tag_and_rest.split_at(tag_len);
        prepared.push_str(&rewrite(tag));
        rest = after;
        if keyword(tag) == "raw" {
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

/// Length of the tag at the start of the text, and how many of its characters are not inside string literals.
fn measure_tag(text: &str, closing: &str) -> (usize, usize) {
    let mut quote = None;
    let mut escaped = false;
    let mut code = 0;
    for (position, c) in text.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(mark) if c == mark => quote = None,
            Some(_) => {}
            None if text[position..].starts_with(closing) => return (position + closing.len(), code),
            None => {
                code += 1;
                if matches!(c, '\'' | '"') {
                    quote = Some(c);
                }
            }
        }
    }
    (text.len(), code)
}

/// The bare content of a block tag: `generation` of `{%- generation -%}`; empty for other tags.
fn keyword(tag: &str) -> &str {
    let content = tag.strip_prefix("{%").and_then(|content| content.strip_suffix("%}")).unwrap_or_default();
    content.trim_matches(['-', '+']).trim()
}

fn rewrite(tag: &str) -> String {
    match keyword(tag) {
        "generation" => tag.replacen("generation", "if true", 1),
        "endgeneration" => tag.replacen("endgeneration", "endif", 1),
        _ => tag.to_owned(),
    }
}

fn start_of_endraw(text: &str) -> usize {
    let ends_raw = |&(position, _): &(usize, &str)| {
        keyword(&text[position..position + end_of(&text[position..], "%}")]) == "endraw"
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
            // Quotes in comments and raw text must not hide it.
            assert!(prepare(&format!("{{# ' #}}{tag}")).is_err());
            assert!(prepare(&format!("{{% raw %}}{{{{ ' {{% endraw %}}{tag}")).is_err());
        }
    }
}
