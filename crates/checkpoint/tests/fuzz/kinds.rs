//! What is damaged, and what a caller does with it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use checkpoint::{ChatTemplate, Checkpoint, Message, Tokenizer};
use fastrand::Rng;
use serde_json::{Value, json};

use crate::common::{copy_of, data, json as json_of};
use crate::damage;

pub struct Kind {
    pub name: &'static str,
    /// Of the suite; about as many as take four seconds.
    pub runs: u64,
    /// Where one run may hold more than usual.
    pub max_held_bytes: Option<usize>,
    pub prepare: fn() -> Subject,
}

const fn kind(name: &'static str, runs: u64, prepare: fn() -> Subject) -> Kind {
    Kind { name, runs, max_held_bytes: None, prepare }
}

/// What runs, and so has the bounds of a program: some more than `checkpoint` gives it.
const fn program(name: &'static str, runs: u64, max_held_bytes: usize, prepare: fn() -> Subject) -> Kind {
    Kind { name, runs, max_held_bytes: Some(max_held_bytes), prepare }
}

pub const KINDS: &[Kind] = &[
    kind("safetensors", 1_500, || folder("sharded", SHARD, first_bytes(4_000))),
    kind("safetensors entries", 1_500, || folder("mlx-quantized", "model.safetensors", safetensors_header)),
    kind("index", 1_000, || folder("sharded", "model.safetensors.index.json", json_file)),
    kind("config", 2_000, || folder("sharded", "config.json", json_file)),
    kind("quantization", 1_500, || folder("mlx-quantized", "config.json", json_file)),
    kind("generation config", 500, || folder("sharded", "generation_config.json", json_file)),
    kind("gguf start", 1_500, || gguf("tiny-llama.gguf", |_| 0..900)),
    kind("gguf header", 1_000, || gguf("tiny-qwen2.gguf", |bytes| 0..tensors_of(bytes).end)),
    kind("gguf tensors", 2_000, || gguf("tiny-llama.gguf", tensors_of)),
    kind("gguf tokenizer", 1_000, || gguf("tiny-gpt2-split.gguf", tokenizer_of)),
    kind("gguf parts", 1_000, gguf_parts),
    kind("tokenizer config", 500, || text_folder("tokenizer_config.json", json_file)),
    kind("tokenizer", 1_000, || text_folder("tokenizer.json", tokenizer_json)),
    program("tokenizer parts", 200, 600 << 20, tokenizer_parts),
    program("chat template", 1_500, 300 << 20, || template(damaged_template)),
    program("template program", 400, 300 << 20, || template(|_, rng| statements(rng))),
];

const SHARD: &str = "model-00001-of-00002.safetensors";

/// A model with one file that is damaged again and again.
pub struct Subject {
    pub target: PathBuf,
    /// Writes the damaged file and returns what an error has to name.
    pub damage: Box<dyn Fn(&mut Rng) -> PathBuf>,
    /// Does everything that a caller may do.
    pub load: Box<dyn Fn() -> Result<(), String>>,
    /// Deleted at the end.
    _folder: tempfile::TempDir,
}

type Damage = fn(&[u8], &mut Rng) -> Vec<u8>;

fn subject(
    folder: tempfile::TempDir,
    file: &str,
    damage: impl Fn(&[u8], &mut Rng) -> Vec<u8> + 'static,
    load: impl Fn(&Path) -> Result<(), String> + 'static,
) -> Subject {
    let target = folder.path().join(file);
    let original = std::fs::read(&target).unwrap();
    let (damaged, place) = (target.clone(), folder.path().to_owned());
    let loaded = target.clone();
    Subject {
        target,
        damage: Box::new(move |rng| {
            std::fs::write(&damaged, damage(&original, rng)).unwrap();
            place.clone()
        }),
        load: Box::new(move || load(&loaded)),
        _folder: folder,
    }
}

fn folder(fixture: &str, file: &str, damage: impl Fn(&[u8], &mut Rng) -> Vec<u8> + 'static) -> Subject {
    subject(copy_of(fixture), file, damage, |target| use_all_of(target.parent().unwrap()))
}

/// A folder with a tokenizer and a chat template.
fn text_folder(file: &str, damage: Damage) -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    Checkpoint::open(&data("tiny-gpt2-split.gguf")).unwrap().write_mlx_folder(&model).unwrap();
    let file = format!("model/{file}");
    subject(folder, &file, damage, |target| use_all_of(target.parent().unwrap()))
}

fn gguf(fixture: &str, range: fn(&[u8]) -> Range<usize>) -> Subject {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(data(fixture), folder.path().join("model.gguf")).unwrap();
    let damage = move |original: &[u8], rng: &mut Rng| {
        let mut bytes = original.to_vec();
        damage::bytes(&mut bytes, range(original), rng);
        bytes
    };
    subject(folder, "model.gguf", damage, use_all_of)
}

/// The second of three parts is damaged; the third is the one that is opened.
fn gguf_parts() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let part = |number: usize| format!("tiny-llama-parts-{number:05}-of-00003.gguf");
    for number in 1..=3 {
        std::fs::copy(data(&part(number)), folder.path().join(part(number))).unwrap();
    }
    let damage = |original: &[u8], rng: &mut Rng| {
        let mut bytes = original.to_vec();
        damage::bytes(&mut bytes, 0..tensors_of(original).end, rng);
        bytes
    };
    subject(folder, &part(2), damage, move |target| use_all_of(&target.with_file_name(part(3))))
}

/// Where the entries of the tensors stand in a GGUF file.
fn tensors_of(bytes: &[u8]) -> Range<usize> {
    let is_name = |at: &usize| {
        let here = &bytes[*at..];
        here.starts_with(b"token_embd.w") || here.starts_with(b"output") || here.starts_with(b"blk.")
    };
    let first = (0..bytes.len()).find(is_name).unwrap();
    let last = (0..bytes.len()).rfind(is_name).unwrap();
    first - 8..last + 60
}

fn tokenizer_of(bytes: &[u8]) -> Range<usize> {
    let key = b"tokenizer.ggml.model";
    let start = bytes.windows(key.len()).position(|window| window == key).unwrap();
    start - 8..tensors_of(bytes).start
}

fn first_bytes(len: usize) -> impl Fn(&[u8], &mut Rng) -> Vec<u8> {
    move |original, rng| {
        let mut bytes = original.to_vec();
        damage::bytes(&mut bytes, 0..len, rng);
        bytes
    }
}

fn json_file(original: &[u8], rng: &mut Rng) -> Vec<u8> {
    damage::json(&serde_json::from_slice(original).unwrap(), rng)
}

/// The header as JSON, with its right length in front, so that the entries are what is tried.
fn safetensors_header(original: &[u8], rng: &mut Rng) -> Vec<u8> {
    let len = u64::from_le_bytes(original[..8].try_into().unwrap()) as usize;
    let (header, data) = original[8..].split_at(len);
    let header = json_file(header, rng);
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), data].concat()
}

/// Everything that a caller may do with a model; the first error, if there is one.
fn use_all_of(path: &Path) -> Result<(), String> {
    let text = |error: checkpoint::Error| error.to_string();
    let checkpoint = Checkpoint::open(path).map_err(text)?;
    assert!(!checkpoint.summary().map_err(text)?.to_string().is_empty());
    for (name, shape) in checkpoint.tensors() {
        checkpoint.tensor(&name, &shape, None).map_err(text)?;
        checkpoint.quantized(&name).map_err(text)?;
    }
    let has_tokenizer = path.is_file() || path.join("tokenizer.json").exists();
    if has_tokenizer {
        use_tokenizer(&checkpoint.tokenizer().map_err(text)?)?;
        let template = checkpoint.chat_template().map_err(text)?;
        template.render(&[Message::new("user", "hi")], true).map_err(text)?;
    }
    Ok(())
}

fn use_tokenizer(tokenizer: &Tokenizer) -> Result<(), String> {
    let text = |error: checkpoint::Error| error.to_string();
    for question in ["", "Hello, wörld! 123<|im_end|>  \n\u{1f980}", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
        let ids = tokenizer.encode(question, true).map_err(text)?;
        // An id that a damaged tokenizer makes and does not know is an error without a file: it is met while generating.
        let _ = tokenizer.decode(&ids, true);
        let mut stream = tokenizer.stream();
        let _ = ids.iter().try_for_each(|&id| stream.push(id).map(drop));
    }
    Ok(())
}

/// A byte-level tokenizer, damaged among the parts other than its vocabulary, which are few and matter more.
fn tokenizer_json(original: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut tokenizer: Value = serde_json::from_slice(original).unwrap();
    if rng.u8(0..4) == 0 {
        return damage::json(&tokenizer, rng);
    }
    let model = tokenizer["model"].take();
    let damaged = damage::json(&tokenizer, rng);
    let Ok(mut damaged) = serde_json::from_slice::<Value>(&damaged) else { return damaged };
    if let Some(fields) = damaged.as_object_mut()
        && fields.get("model").is_none_or(Value::is_null)
    {
        fields.insert("model".to_owned(), model);
    }
    damaged.to_string().into_bytes()
}

/// Tokenizers put together from all parts that the format knows, with the settings that are at the edge.
fn tokenizer_parts() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = json_of("sentencepiece.json")["tokenizer"].clone();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let damage = |original: &[u8], rng: &mut Rng| {
        let mut tokenizer: Value = serde_json::from_slice(original).unwrap();
        for place in ["normalizer", "pre_tokenizer", "post_processor", "decoder"] {
            if rng.u8(0..3) == 0 {
                tokenizer[place] = part(place, rng);
            }
        }
        for (name, values) in [
            ("continuing_subword_prefix", json!(["##", "", "x".repeat(300)])),
            ("end_of_word_suffix", json!(["</w>", ""])),
            ("unk_token", json!(["<unk>", "nothing", null])),
            ("dropout", json!([0.5, 1.0, 2.0, -1.0])),
            ("merges", json!([[["H", "e"]], [["nothing", "e"]], ["H e"], [["H", "e", "l"]]])),
        ] {
            if rng.u8(0..12) == 0 {
                tokenizer["model"][name] = one_of(&values, rng);
            }
        }
        tokenizer.to_string().into_bytes()
    };
    subject(folder, "tokenizer.json", damage, |target| {
        use_tokenizer(&Tokenizer::from_file(target, None).map_err(|error| error.to_string())?)
    })
}

fn one_of(values: &Value, rng: &mut Rng) -> Value {
    let values = values.as_array().unwrap();
    values[rng.usize(0..values.len())].clone()
}

/// A normalizer, pre-tokenizer, post-processor or decoder; sometimes a sequence of some, or of many of one.
fn part(place: &str, rng: &mut Rng) -> Value {
    let (list, field) = match place {
        "normalizer" => (NORMALIZERS, "normalizers"),
        "pre_tokenizer" => (PRE_TOKENIZERS, "pretokenizers"),
        "post_processor" => (POST_PROCESSORS, "processors"),
        _ => (DECODERS, "decoders"),
    };
    let one = |rng: &mut Rng| serde_json::from_str::<Value>(list[rng.usize(0..list.len())]).unwrap();
    match rng.u8(0..4) {
        0 => {
            let few: Vec<_> = (0..rng.usize(0..4)).map(|_| one(rng)).collect();
            json!({ "type": "Sequence", field: few })
        }
        1 if rng.u8(0..8) == 0 => {
            let same = vec![one(rng); rng.usize(5..25)];
            json!({ "type": "Sequence", field: same })
        }
        _ => one(rng),
    }
}

const NORMALIZERS: &[&str] = &[
    r#"{"type":"NFC"}"#,
    r#"{"type":"NFKD"}"#,
    r#"{"type":"Lowercase"}"#,
    r#"{"type":"Strip","strip_left":true,"strip_right":true}"#,
    r#"{"type":"StripAccents"}"#,
    r#"{"type":"Prepend","prepend":"▁"}"#,
    r#"{"type":"Prepend","prepend":""}"#,
    r#"{"type":"ByteLevel"}"#,
    r#"{"type":"Nmt"}"#,
    r#"{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}"#,
    r#"{"type":"Replace","pattern":{"String":" "},"content":"▁"}"#,
    r#"{"type":"Replace","pattern":{"String":""},"content":"x"}"#,
    r#"{"type":"Replace","pattern":{"Regex":"^"},"content":"x"}"#,
    r#"{"type":"Replace","pattern":{"Regex":"\\b"},"content":""}"#,
    r#"{"type":"Replace","pattern":{"Regex":"a"},"content":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#,
    r#"{"type":"Replace","pattern":{"Regex":"(a*)*b"},"content":"x"}"#,
    r#"{"type":"Precompiled","precompiled_charsmap":""}"#,
    r#"{"type":"Precompiled","precompiled_charsmap":"AAAA"}"#,
    r#"{"type":"Precompiled","precompiled_charsmap":"/////w=="}"#,
    r#"{"type":"Precompiled","precompiled_charsmap":"BAAAAAECAwQFBgcI"}"#,
];

const PRE_TOKENIZERS: &[&str] = &[
    r#"{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}"#,
    r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}"#,
    r#"{"type":"BertPreTokenizer"}"#,
    r#"{"type":"Whitespace"}"#,
    r#"{"type":"WhitespaceSplit"}"#,
    r#"{"type":"Digits","individual_digits":true}"#,
    r#"{"type":"Punctuation","behavior":"MergedWithPrevious"}"#,
    r#"{"type":"UnicodeScripts"}"#,
    r#"{"type":"CharDelimiterSplit","delimiter":"a"}"#,
    r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"#,
    r#"{"type":"FixedLength","length":3}"#,
    r#"{"type":"FixedLength","length":0}"#,
    r#"{"type":"Split","pattern":{"Regex":"\\b"},"behavior":"Isolated","invert":false}"#,
    r#"{"type":"Split","pattern":{"Regex":"^"},"behavior":"Removed","invert":true}"#,
    r#"{"type":"Split","pattern":{"String":""},"behavior":"Contiguous","invert":false}"#,
];

const POST_PROCESSORS: &[&str] = &[
    r#"{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}"#,
    r#"{"type":"BertProcessing","sep":["</s>",2],"cls":["<s>",1]}"#,
    r#"{"type":"RobertaProcessing","sep":["</s>",2],"cls":["<s>",1],"trim_offsets":true,"add_prefix_space":true}"#,
    r#"{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{}}"#,
    r#"{"type":"TemplateProcessing","single":[{"Sequence":{"id":"B","type_id":0}}],"pair":[],"special_tokens":{}}"#,
    r#"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[X]","type_id":0}}],"pair":[],"special_tokens":{}}"#,
    r#"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"s","type_id":0}}],"pair":[],"special_tokens":{"s":{"id":"s","ids":[1,4000000000],"tokens":["a","b"]}}}"#,
];

const DECODERS: &[&str] = &[
    r#"{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}"#,
    r#"{"type":"ByteFallback"}"#,
    r#"{"type":"Fuse"}"#,
    r#"{"type":"Strip","content":" ","start":1,"stop":0}"#,
    r#"{"type":"Strip","content":"e","start":18446744073709551615,"stop":5}"#,
    r#"{"type":"Replace","pattern":{"String":""},"content":"x"}"#,
    r#"{"type":"Replace","pattern":{"Regex":"^"},"content":"x"}"#,
    r###"{"type":"WordPiece","prefix":"##","cleanup":true}"###,
    r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"#,
    r#"{"type":"BPEDecoder","suffix":"</w>"}"#,
    r#"{"type":"CTC","pad_token":"<pad>","word_delimiter_token":"|","cleanup":true}"#,
];

fn template(damage: Damage) -> Subject {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("chat_template.jinja"), "{{ messages }}").unwrap();
    subject(folder, "chat_template.jinja", damage, |target| {
        let text = |error: checkpoint::Error| error.to_string();
        let source = String::from_utf8_lossy(&std::fs::read(target).unwrap()).into_owned();
        let special = vec![("bos_token".to_owned(), "<s>".to_owned()), ("eos_token".to_owned(), "</s>".to_owned())];
        let template = ChatTemplate::new(target, &source, special).map_err(text)?;
        let conversation = [Message::new("system", "Be \u{1b}[31mshort."), Message::new("user", "hi\n")];
        template.render(&conversation, true).map_err(text)?;
        let messages =
            json!([{ "role": "user", "content": null, "tool_calls": [{ "name": "f", "arguments": { "x": 1 } }] }]);
        template.render_with_tools(&messages, Some(&json!([{ "name": "f" }])), false).map_err(text).map(drop)
    })
}

/// One of the templates of the other tests, with bytes changed or with a piece of another one in its middle.
fn damaged_template(_: &[u8], rng: &mut Rng) -> Vec<u8> {
    let templates = json_of("chat_templates.json")["templates"].clone();
    let one = |rng: &mut Rng| {
        let templates = templates.as_object().unwrap();
        templates.values().nth(rng.usize(0..templates.len())).unwrap().as_str().unwrap().as_bytes().to_vec()
    };
    let mut bytes = one(rng);
    if rng.bool() {
        let other = one(rng);
        let from = rng.usize(0..other.len());
        let piece = other[from..(from + rng.usize(1..80)).min(other.len())].to_vec();
        let at = rng.usize(0..=bytes.len());
        bytes.splice(at..at, piece);
    } else {
        let all = 0..bytes.len();
        damage::bytes(&mut bytes, all, rng);
    }
    bytes
}

/// A template of statements that make values grow, nest or contain themselves, and of filters that walk over them.
fn statements(rng: &mut Rng) -> Vec<u8> {
    let mut source = String::from("{% set ns = namespace(x='ab', y=[1, 2], n=3) %}");
    for _ in 0..rng.usize(1..4) {
        source += &statement(rng, 0);
    }
    source.into_bytes()
}

fn statement(rng: &mut Rng, depth: usize) -> String {
    let target = ["ns.x", "ns.y", "ns.n"][rng.usize(0..3)];
    match rng.u8(0..8) {
        0..=2 => format!("{{% set {target} = {} %}}", expression(rng, 0)),
        3 if depth < 3 => {
            let times = [3, 40, 1_000, 100_000][rng.usize(0..4)];
            format!("{{% for i in range({times}) %}}{}{{% endfor %}}", statement(rng, depth + 1))
        }
        4 if depth < 3 => format!("{{% if {} %}}{}{{% endif %}}", expression(rng, 0), statement(rng, depth + 1)),
        5 if depth < 2 => {
            format!(
                "{{% macro m(a) %}}{{{{ a }}}}{}{{% endmacro %}}{{{{ m({}) }}}}",
                statement(rng, depth + 1),
                expression(rng, 0)
            )
        }
        6 => format!("{{{{ raise_exception({}) }}}}", expression(rng, 1)),
        _ => format!("{{{{ {} }}}}", expression(rng, 0)),
    }
}

fn expression(rng: &mut Rng, depth: usize) -> String {
    const LEAVES: [&str; 11] =
        ["ns", "ns.x", "ns.y", "ns.n", "messages", "tools", "'ab'", "7", "10 ** 10", "range(1000)", "undefined"];
    const FILTERS: [&str; 22] = [
        "upper",
        "length",
        "list",
        "sort",
        "string",
        "tojson",
        "pprint",
        "join(ns.x)",
        "replace('a', ns.x)",
        "indent(10 ** 9)",
        "batch(10 ** 9, 0)",
        "slice(10 ** 8)",
        "escape",
        "safe",
        "title",
        "trim",
        "reverse",
        "sum",
        "items",
        "tojson(indent=100000)",
        "map('string')",
        "first",
    ];
    if depth > 3 {
        return LEAVES[rng.usize(0..LEAVES.len())].to_owned();
    }
    let mut inner = || expression(rng, depth + 1);
    let (a, b) = (inner(), inner());
    match rng.u8(0..11) {
        0 => format!("({a} ~ {b})"),
        1 => format!("({a} + {b})"),
        2 => format!("({a} * 1000)"),
        3 => format!("[{a}, {b}]"),
        4 => format!("{{'k': {a}, 'l': {b}}}"),
        5 => format!("({a} == {b})"),
        6 => format!("({a})[{b}]"),
        7 => format!("('%' ~ '100000000d')|format({a})"),
        8 | 9 => format!("({a})|{}", FILTERS[rng.usize(0..FILTERS.len())]),
        _ => LEAVES[rng.usize(0..LEAVES.len())].to_owned(),
    }
}
