//! Chat templates against the renderings of transformers.

#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod common;

use std::path::Path;

use checkpoint::{ChatTemplate, Checkpoint, Message};
use common::{copy_of, data, edit_json, json};
use rstest::rstest;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: checkpoint::BoundedAllocator = checkpoint::BoundedAllocator;

fn special_tokens(tokens: &Value) -> Vec<(String, String)> {
    let pairs = tokens.as_object().unwrap().iter();
    pairs.map(|(name, text)| (name.clone(), text.as_str().unwrap().to_owned())).collect()
}

#[test]
fn every_rendering_equals_that_of_transformers() {
    let file = json("chat_templates.json");
    let mut wrong = Vec::new();
    for case in file["cases"].as_array().unwrap() {
        let source = file["templates"][case["template"].as_str().unwrap()].as_str().unwrap();
        let template =
            ChatTemplate::new(Path::new("template"), source, special_tokens(&file["special_tokens"])).unwrap();
        let tools = Some(&case["tools"]).filter(|tools| !tools.is_null());
        let rendered =
            template.render_with_tools(&case["messages"], tools, case["add_generation_prompt"].as_bool().unwrap());
        let right = match (&rendered, case["expected"].as_str()) {
            (Ok(rendered), Some(expected)) => rendered == expected,
            (Err(_), None) => true,
            _ => false,
        };
        if !right {
            wrong.push(format!(
                "{}\n   ours: {rendered:?}\n theirs: {} {}",
                case["name"], case["expected"], case["error"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{} renderings differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn plain_messages_render_as_the_same_json_does() {
    let file = json("chat_templates.json");
    let source = file["templates"]["ChatML with tools"].as_str().unwrap();
    let template = ChatTemplate::new(Path::new("template"), source, Vec::new()).unwrap();
    let messages = [Message::new("system", "Be brief."), Message::new("user", "Hi {{ not a variable }}")];
    let json =
        json!([{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "Hi {{ not a variable }}" }]);
    let rendered = template.render(&messages, true).unwrap();
    assert_eq!(rendered, template.render_with_tools(&json, None::<&Value>, true).unwrap());
    assert!(rendered.ends_with("<|im_start|>assistant\n"));
}

#[test]
fn a_refusal_gives_the_templates_own_words_and_the_file() {
    let source = "{{ raise_exception('Only user messages, please') }}";
    let template = ChatTemplate::new(Path::new("some/template"), source, Vec::new()).unwrap();
    let error = template.render(&[], false).unwrap_err().to_string();
    assert_eq!(error, "some/template: chat template: Only user messages, please");
}

#[test]
fn a_broken_template_is_an_error_with_its_line() {
    for source in [
        "line one\n{% if %}",
        "{{ unclosed",
        "{% for x in %}",
        "{% endif %}",
        "{% generation %}",
        "{{ 'a' | nothing }}",
    ] {
        let template = ChatTemplate::new(Path::new("some/template"), source, Vec::new());
        let error = template.and_then(|template| template.render(&[], false)).unwrap_err().to_string();
        assert!(error.starts_with("some/template: chat template: "), "{error}");
    }
}

/// What a downloaded template may try. Without bounds each of these ended the process, or took minutes and gigabytes.
#[rstest]
// A namespace that holds itself, or holds very deep values: whatever walks through them takes stack for each level.
#[case::cycle_concatenated("{% set x = namespace() %}{% set x.x = x %}{{ x ~ '' }}")]
#[case::cycle_joined("{% set x = namespace() %}{% set x.x = [x] %}{{ [x] | join(',') }}")]
#[case::cycle_upper("{% set x = namespace() %}{% set x.x = {'a': (1, x)} %}{{ x | upper }}")]
#[case::cycle_by_a_block("{% set x = namespace() %}{% set x.x | default(x, true) %}{% endset %}{{ x | title }}")]
#[case::cycle_by_a_second_target("{% set x = namespace() %}{% set x.x, y = x, 1 %}{{ x | indent }}")]
#[case::cycle_raised("{% set x = namespace() %}{% set x.x = x %}{{ raise_exception(x) }}")]
#[case::cycles_compared(
    "{% set x = namespace() %}{% set x.x = x %}{% set y = namespace() %}{% set y.x = y %}{{ x == y }}"
)]
#[case::cycle_dumped("{% set x = namespace() %}{% set x.x = x %}{{ x | pprint }}{{ debug() }}")]
#[case::cycle_of_two("{% set x = namespace() %}{% set y = namespace(x=x) %}{% set x.y = y %}{{ {'a': 1, x: 2} }}")]
#[case::deep("{% set x = namespace(l=[]) %}{% for i in range(100000) %}{% set x.l = [x.l] %}{% endfor %}")]
#[case::deep_slices("{% set x = namespace(l=[1]) %}{% for i in range(99999) %}{% set x.l = [x.l[0:]] %}{% endfor %}")]
// Values that double.
#[case::doubled_text("{% set x = namespace(s='a') %}{% for i in range(99) %}{% set x.s = x.s ~ x.s %}{% endfor %}")]
#[case::doubled_list("{% set x = namespace(l=[1]) %}{% for i in range(99) %}{% set x.l = x.l + x.l %}{% endfor %}")]
#[case::doubled_lazily("{{ (REPEAT) | length }}")]
#[case::format("{{ '%1000000000d' | format(1) }}")]
#[case::indent("{{ 'a\nb' | indent(10000000000) }}")]
#[case::batch("{{ [1] | batch(10000000000, 0) | list }}")]
#[case::slice("{{ [1] | slice(1000000000) | list }}")]
#[case::replace("{% set a = 'a' * 100000 %}{{ a.replace('a', a) }}")]
#[case::output("{% set a = 'a' * 1000000 %}{% for i in range(10000) %}{{ a }}{% endfor %}")]
#[case::captured("{% set x %}{% for i in range(9000000) %}TEXT{% endfor %}{% endset %}")]
// Steps that are few and take long.
#[case::sorting("{% set l = range(100000) | list %}{% for i in range(100000) %}{% set m = l | sort %}{% endfor %}")]
fn a_hostile_template_is_an_error(#[case] source: &str) {
    let source = source.replace("TEXT", &"text".repeat(5000)).replace("REPEAT", &doubled("[1, 2]", 8));
    let template = ChatTemplate::new(Path::new("some/template"), &source, Vec::new());
    let first = template.as_ref().map_or_else(ToString::to_string, |template| {
        let error = template.render(&[], false).unwrap_err().to_string();
        // It does not get a second chance to take a thread.
        assert_eq!(template.render(&[], false).unwrap_err().to_string(), error);
        error
    });
    assert!(first.starts_with("some/template: chat template: "), "{first}");
    assert!(first.len() < 3000, "{first}");
}

/// `x + x` of `x + x` of …, in brackets.
fn doubled(text: &str, times: usize) -> String {
    (0..times).fold(text.to_owned(), |text, _| format!("({text} + {text})"))
}

/// Sources that take the compiler's stack or time.
#[test]
fn a_hostile_source_is_an_error() {
    for source in [
        format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(20_000)),
        format!("{{{{ {{1: {{}}}} or {}1 }}}}", "not ".repeat(50_000)),
        "{% raw %}".repeat(40_000),
        "{% raw %}".to_owned() + &"{%".repeat(120_000),
        "{%".repeat(100_000),
        "{% set ".repeat(30_000),
        "x".repeat(50 << 20),
    ] {
        assert!(ChatTemplate::new(Path::new("template"), &source, Vec::new()).is_err());
    }
}

/// As deep as a source of that size can nest, without a namespace.
#[test]
fn a_deep_value_that_a_source_spells_out_can_be_dropped() {
    let source = "{% set x = [] %}".to_owned() + &"{% set x=[x] %}".repeat(16_000);
    ChatTemplate::new(Path::new("template"), &source, Vec::new()).unwrap().render(&[], false).unwrap();
}

#[test]
fn a_template_that_does_not_end_or_grows_without_end_is_stopped() {
    let loops = "{% for i in range(100000) %}{% for i in range(100000) %}{% endfor %}{% endfor %}";
    let recursion = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
    let cycle = "{% set ns = namespace() %}{% set ns.a = [ns, ns] %}{{ ns }}";
    let cycle_in_json = "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns | tojson }}";
    let indent = "{{ [1] | tojson(indent=1000000000000) }}";
    let repetition = "{{ 'a' * 1000000000000 }}";
    for source in [loops, recursion, cycle, cycle_in_json, indent, repetition] {
        let template = ChatTemplate::new(Path::new("template"), source, Vec::new()).unwrap();
        assert!(template.render(&[], false).is_err());
    }
}

#[test]
fn deeply_nested_code_is_refused() {
    let deep = |open: &str, inner: &str, close: &str| open.repeat(100_000) + inner + &close.repeat(100_000);
    let sources = [
        format!("{{{{ {} }}}}", deep("(", "1", ")")),
        format!("{{{{ {} }}}}", deep("not ", "1", "")),
        format!("{{{{ {} }}}}", deep("[", "", "]")),
        format!("{{{{ x{} }}}}", ".a".repeat(100_000)),
        format!("{{{{ x{} }}}}", "|trim".repeat(100_000)),
        deep("{% if 1 %}", "", "{% endif %}"),
        deep("{{ ", "", ""),
    ];
    for source in sources {
        assert!(ChatTemplate::new(Path::new("template"), &source, Vec::new()).is_err());
    }
}

#[test]
fn strftime_now_writes_todays_date() {
    let render = |format: &str| {
        let source = format!("{{{{ strftime_now('{format}') }}}}");
        ChatTemplate::new(Path::new("template"), &source, Vec::new()).unwrap().render(&[], false)
    };
    let year: u32 = render("%Y").unwrap().parse().unwrap();
    assert!((2024..2200).contains(&year));
    let date = render("%d %b %Y").unwrap();
    assert!(date.len() == 11 && date.ends_with(&year.to_string()), "{date}");
    // The local time of a clock that knows no zone, and no directive at the end: src/python_text.rs has all others.
    assert_eq!(render("%z%Z100%").unwrap(), "100%");
}

#[test]
fn templates_are_found_where_hugging_face_puts_them() {
    let folder = copy_of("sharded");
    let config = folder.path().join("tokenizer_config.json");
    let open = || Checkpoint::open(folder.path()).unwrap();
    let render = || open().chat_template().and_then(|template| template.render(&[Message::new("user", "x")], false));

    assert!(render().unwrap_err().to_string().contains("the model has none"));
    std::fs::write(&config, json!({ "chat_template": "A{{ eos_token }}", "eos_token": "</s>" }).to_string()).unwrap();
    assert_eq!(render().unwrap(), "A</s>");
    let named = json!([{ "name": "tool_use", "template": "T" }, { "name": "default", "template": "D{{ bos_token }}" }]);
    edit_json(&config, |json| {
        *json = json!({ "chat_template": named, "bos_token": { "content": "<s>", "lstrip": false } })
    });
    assert_eq!(render().unwrap(), "D<s>");
    std::fs::write(
        folder.path().join("special_tokens_map.json"),
        json!({ "eos_token": "<e>", "bos_token": "no" }).to_string(),
    )
    .unwrap();
    std::fs::write(folder.path().join("chat_template.jinja"), "F{{ bos_token }}{{ eos_token }}").unwrap();
    assert_eq!(render().unwrap(), "F<s><e>");

    std::fs::remove_file(folder.path().join("chat_template.jinja")).unwrap();
    edit_json(&config, |json| json["chat_template"] = json!([{ "name": "tool_use", "template": "T" }]));
    assert!(render().unwrap_err().to_string().contains("`default`"));
    edit_json(&config, |json| json["chat_template"] = json!(7));
    assert!(render().unwrap_err().to_string().contains("tokenizer_config.json"));
}

#[test]
fn a_gguf_file_carries_its_template_and_special_tokens() {
    let template = Checkpoint::open(&data("tiny-llama.gguf")).unwrap().chat_template().unwrap();
    assert_eq!(template.render(&[Message::new("user", "hi")], true).unwrap(), "user: hi<|im_end|>");
}
