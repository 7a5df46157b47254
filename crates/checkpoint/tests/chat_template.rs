//! Chat templates against the renderings of transformers.

#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod common;

use std::path::Path;

use checkpoint::{ChatTemplate, Checkpoint, Message};
use common::{copy_of, data, edit_json, json};
use serde_json::{Value, json};

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
    assert!(render("%!").is_err());
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
