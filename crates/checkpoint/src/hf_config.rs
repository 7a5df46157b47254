//! `config.json` of a Hugging Face folder.
//!
//! A field is either used, or known to be without influence on the forward pass, or refused by name: a model that would
//! be computed wrongly must not open.

use std::path::Path;

use serde_json::{Map, Value};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::untrusted::value as shown;

/// Fields that change the computation, with the only values under which they do not. Absent and `null` are fine as well.
const NEUTRAL: &[(&str, &[Value])] = &[
    ("mlp_bias", &[Value::Bool(false)]),
    ("use_mrope", &[Value::Bool(false)]),
    ("rope_interleaved", &[Value::Bool(false)]),
    ("is_encoder_decoder", &[Value::Bool(false)]),
    ("num_experts", &[]),
    ("num_local_experts", &[]),
    ("logit_scale", &[]),
    ("final_logit_softcapping", &[]),
    ("attn_logit_softcapping", &[]),
];

/// What transformers takes where `config.json` says nothing: from the defaults of its `Qwen2Config` and `LlamaConfig`.
const QWEN2_POSITIONS: usize = 32_768;
const LLAMA_POSITIONS: usize = 2_048;
const QWEN2_WINDOW: usize = 4_096;
const QWEN2_FIRST_SLIDING_LAYER: usize = 28;

/// Reads the model's shape. `eos_token_ids` has only what this file says, and `tie_word_embeddings` is false where it says
/// nothing: then the weights decide.
pub(crate) fn from_json(file: &Path, json: &Value) -> Result<Config> {
    let fields = Fields { file, map: json.as_object().ok_or_else(|| Error::malformed(file, "is not a JSON object"))? };
    let model_type = fields.text("model_type")?.ok_or_else(|| fields.missing("model_type"))?;
    let attention_bias = match model_type {
        "qwen2" => true,
        "llama" => false,
        other => {
            return Err(
                fields.refuse(&format!("model_type `{other}`"), "this engine runs `qwen2`, and `llama` without biases")
            );
        }
    };
    refuse_unsupported(&fields, attention_bias)?;
    refuse_sliding_layers(&fields, attention_bias)?;

    let hidden_size = fields.size("hidden_size")?;
    let num_attention_heads = fields.size("num_attention_heads")?;
    let head_dim = match fields.optional_size("head_dim")? {
        Some(head_dim) => head_dim,
        None if num_attention_heads > 0 && hidden_size.is_multiple_of(num_attention_heads) => {
            hidden_size / num_attention_heads
        }
        None => {
            return Err(Error::malformed(
                file,
                format!(
                    "hidden_size {hidden_size} is not a multiple of num_attention_heads {num_attention_heads}, and there is no head_dim"
                ),
            ));
        }
    };
    let num_key_value_heads = match fields.optional_size("num_key_value_heads")? {
        Some(heads) => heads,
        // transformers' defaults differ: llama means multi-head attention, while qwen2 has a number of its own.
        None if !attention_bias => num_attention_heads,
        None => return Err(fields.missing("num_key_value_heads")),
    };
    let config = Config {
        vocab_size: fields.size("vocab_size")?,
        hidden_size,
        intermediate_size: fields.size("intermediate_size")?,
        num_hidden_layers: fields.size("num_hidden_layers")?,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        rope_theta: rope_theta(&fields)?,
        max_position_embeddings: positions(&fields, attention_bias)?,
        tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        attention_bias,
        eos_token_ids: token_ids(file, "eos_token_id", &json["eos_token_id"])?,
        bos_token_id: token_ids(file, "bos_token_id", &json["bos_token_id"])?.first().copied(),
    };
    config.validate(file)?;
    Ok(config)
}

/// A field that holds one token id or a list of them; empty for `null` and absent.
pub(crate) fn token_ids(file: &Path, name: &str, value: &Value) -> Result<Vec<u32>> {
    let values = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(values) => values.as_slice(),
        single => std::slice::from_ref(single),
    };
    let ids = values.iter().map(|value| value.as_u64().and_then(|id| u32::try_from(id).ok()));
    ids.collect::<Option<_>>()
        .ok_or_else(|| Error::malformed(file, format!("{name} is {}, not a token id or a list of them", shown(value))))
}

/// The base of the rotary frequencies: `rope_theta`, or inside `rope_parameters` as transformers 5 writes it.
fn rope_theta(fields: &Fields) -> Result<f32> {
    const TRANSFORMERS_DEFAULT: f32 = 10_000.0;
    for name in ["rope_parameters", "rope_scaling"] {
        let Some(object) = fields.map.get(name).filter(|value| !value.is_null()) else { continue };
        let map =
            object.as_object().ok_or_else(|| Error::malformed(fields.file, format!("{name} is not an object")))?;
        let rope = Fields { file: fields.file, map };
        let kind = match rope.text("rope_type")? {
            Some(kind) => kind,
            None => rope.text("type")?.unwrap_or("default"),
        };
        let partial = rope.number("partial_rotary_factor")?.unwrap_or(1.0);
        // Some architectures list parameters per kind of layer; reading past them would take the default base.
        let is_nested = map.values().any(Value::is_object);
        if kind != "default" || partial != 1.0 || map.contains_key("factor") || is_nested {
            return Err(
                fields.refuse(&format!("{name} = {}", shown(object)), "only the default rotary embedding is supported")
            );
        }
        if let Some(theta) = rope.number("rope_theta")? {
            let outer = fields.number("rope_theta")?;
            if outer.is_some_and(|outer| outer != theta) {
                return Err(Error::malformed(
                    fields.file,
                    format!("rope_theta contradicts {name} = {}", shown(object)),
                ));
            }
            return Ok(theta);
        }
    }
    Ok(fields.number("rope_theta")?.unwrap_or(TRANSFORMERS_DEFAULT))
}

fn refuse_unsupported(fields: &Fields, is_qwen2: bool) -> Result<()> {
    for (name, neutral) in NEUTRAL {
        if let Some(value) = fields.map.get(*name).filter(|value| !value.is_null() && !neutral.contains(value)) {
            return Err(fields.refuse(&format!("{name} = {}", shown(value)), "the engine would compute something else"));
        }
    }
    if let Some(activation) = fields.text("hidden_act")?.filter(|&activation| activation != "silu") {
        return Err(fields.refuse(&format!("hidden_act `{activation}`"), "only `silu` is supported"));
    }
    if fields.flag("attention_bias")?.is_some_and(|bias| bias != is_qwen2) {
        let expected = if is_qwen2 { "qwen2 has q, k and v biases" } else { "llama is supported without biases" };
        return Err(fields.refuse(&format!("attention_bias = {}", !is_qwen2), expected));
    }
    if fields.number("partial_rotary_factor")?.is_some_and(|factor| factor != 1.0) {
        return Err(fields.refuse("partial_rotary_factor", "heads must be rotated whole"));
    }
    for name in ["torch_dtype", "dtype"] {
        if let Some(dtype) = fields.text(name)?
            && !["float32", "float16", "bfloat16"].contains(&dtype)
        {
            return Err(fields.refuse(&format!("{name} `{dtype}`"), "weights must be float32, float16 or bfloat16"));
        }
    }
    Ok(())
}

fn positions(fields: &Fields, is_qwen2: bool) -> Result<usize> {
    let default = if is_qwen2 { QWEN2_POSITIONS } else { LLAMA_POSITIONS };
    Ok(fields.optional_size("max_position_embeddings")?.unwrap_or(default))
}

/// Refuses a model in which a layer sees only the last tokens, and no other: many files name a window that no layer uses.
fn refuse_sliding_layers(fields: &Fields, is_qwen2: bool) -> Result<()> {
    // The newest place, and where it is given the only one that counts.
    if let Some(layers) = fields.map.get("layer_types").and_then(Value::as_array) {
        let other = layers.iter().find(|&layer| layer != "full_attention");
        return other.map_or(Ok(()), |other| {
            Err(fields.refuse(&format!("layer_types with {}", shown(other)), "every layer must be `full_attention`"))
        });
    }
    let is_null = fields.map.get("sliding_window").is_some_and(Value::is_null);
    let window = fields.optional_size("sliding_window")?;
    if !is_qwen2 {
        // Llama has no switch for a window, so one that is given is meant.
        let is_given = window.is_some();
        let why = "every layer must attend to the whole sequence";
        return if is_given { Err(fields.refuse("sliding_window", why)) } else { Ok(()) };
    }
    if fields.flag("use_sliding_window")? != Some(true) || is_null {
        return Ok(());
    }
    let window = window.unwrap_or(QWEN2_WINDOW);
    let first = fields.optional_size("max_window_layers")?.unwrap_or(QWEN2_FIRST_SLIDING_LAYER);
    let layers = fields.size("num_hidden_layers")?;
    // A window as long as the longest sequence hides nothing.
    if first >= layers || window >= positions(fields, is_qwen2)? {
        return Ok(());
    }
    let why = format!(
        "layers {first} to {} attend to the last {window} tokens only, and here every layer attends to all",
        layers - 1
    );
    Err(fields.refuse("use_sliding_window = true", &why))
}

/// Typed access to the fields of an object, with errors that name field and file.
struct Fields<'a> {
    file: &'a Path,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn missing(&self, name: &str) -> Error {
        Error::malformed(self.file, format!("the field {name} is missing"))
    }

    fn refuse(&self, what: &str, why: &str) -> Error {
        Error::unsupported(self.file, format!("{what} is not supported: {why}"))
    }

    /// A field converted by `convert`; `None` where it is absent or `null`.
    fn field<T>(&self, name: &str, kind: &str, convert: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => convert(value)
                .map(Some)
                .ok_or_else(|| Error::malformed(self.file, format!("{name} is {}, not {kind}", shown(value)))),
        }
    }

    fn optional_size(&self, name: &str) -> Result<Option<usize>> {
        self.field(name, "a size", |value| value.as_u64().and_then(|size| usize::try_from(size).ok()))
    }

    fn size(&self, name: &str) -> Result<usize> {
        self.optional_size(name)?.ok_or_else(|| self.missing(name))
    }

    fn number(&self, name: &str) -> Result<Option<f32>> {
        self.field(name, "a number", |value| value.as_f64().map(|number| number as f32))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.field(name, "true or false", Value::as_bool)
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>> {
        self.field(name, "a string", Value::as_str)
    }
}
