//! Writing a model as the folder that mlx-lm reads: `config.json`, `model.safetensors`, tokenizer and chat template.
//!
//! A GGUF file's Q4_0, Q4_1 and Q8_0 matrices become MLX's affine ones with the same integers and scales (see
//! `gguf::affine`), so no weight is rounded again. The matrices of one file may differ in bits; `config.json` lists those
//! that differ from most.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::Dtype as FileDtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::gguf::{GgufFile, GgufTokenizer};
use crate::hf_text;
use crate::host_tensor::{ElementType, HostTensor};
use crate::mlx_quantization::QuantizationParams;
use crate::output::write_safetensors;

/// The tensors of the folder under their names, and how the matrices among them are quantized.
#[derive(Default)]
struct Contents<'a> {
    tensors: Vec<(String, HostTensor<'a>)>,
    /// By layer, such as `model.embed_tokens`.
    quantization: BTreeMap<String, QuantizationParams>,
}

/// Writes `gguf` to `folder`, which must not exist: it appears whole or not at all.
pub(crate) fn write(checkpoint: &Checkpoint, gguf: &GgufFile, folder: &Path) -> Result<()> {
    let exists = || Error::unsupported(folder, "exists already; give a folder that does not");
    // A link to nothing is something, too.
    let (Some(name), Err(_)) = (folder.file_name(), folder.symlink_metadata()) else { return Err(exists()) };
    let contents = contents(checkpoint, gguf)?;
    let config = config_json(checkpoint.config(), checkpoint.positions_in_file(), &contents.quantization);
    let text = gguf.tokenizer()?;

    // Without a slash at the end, which would turn a name beside the folder into one inside it.
    let folder = folder.with_file_name(name);
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|cause| Error::io(parent, cause))?;
    // A fresh name each time: nobody's folder is in the way, and two that write at once do not meet. It is deleted on error.
    let mut staging = tempfile::Builder::new();
    staging.prefix(".").suffix(".partial");
    #[cfg(unix)]
    staging.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777)); // less what the umask takes
    let staging = staging.tempdir_in(parent).map_err(|cause| Error::io(parent, cause))?;
    write_weights(&contents, &staging.path().join("model.safetensors"))?;
    write_json(&config, &staging.path().join("config.json"))?;
    write_text_files(&text, staging.path())?;
    match fs::rename(staging.path(), &folder) {
        Ok(()) => {
            // Its name is another now; there is nothing left to delete.
            let _ = staging.keep();
            Ok(())
        }
        // Another process was faster.
        Err(_) if folder.symlink_metadata().is_ok() => Err(exists()),
        Err(cause) => Err(Error::io(&folder, cause)),
    }
}

fn contents<'a>(checkpoint: &Checkpoint, gguf: &'a GgufFile) -> Result<Contents<'a>> {
    let mut contents = Contents::default();
    for (name, shape) in checkpoint.tensors() {
        let packed = if shape.len() == 2 { gguf.packed(&name) } else { None };
        match (packed, name.strip_suffix(".weight")) {
            (Some(packed), Some(layer)) => {
                contents.quantization.insert(layer.to_owned(), packed.params);
                contents.tensors.push((format!("{layer}.weight"), packed.packed));
                contents.tensors.push((format!("{layer}.scales"), packed.scales));
                contents.tensors.push((format!("{layer}.biases"), packed.biases));
            }
            _ => {
                let storage = gguf.storage(&name).unwrap_or_default();
                if shape.len() == 2 && !["F32", "F16", "BF16"].contains(&storage.as_str()) {
                    let problem = format!(
                        "is stored as {storage}, which has no exact equal in MLX's format; Q4_0, Q4_1 and Q8_0 have"
                    );
                    return Err(Error::tensor(gguf.path(), &name, problem));
                }
                let (tensor, _) = gguf.read(&name)?;
                contents.tensors.push((name, tensor));
            }
        }
    }
    Ok(contents)
}

/// `config.json`, with the parameters of most matrices as default and the others by name.
fn config_json(config: &Config, positions: usize, quantization: &BTreeMap<String, QuantizationParams>) -> Value {
    let (model_type, architecture) =
        if config.attention_bias { ("qwen2", "Qwen2ForCausalLM") } else { ("llama", "LlamaForCausalLM") };
    let mut json = json!({
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": shortest(config.rms_norm_eps),
        "rope_theta": shortest(config.rope_theta),
        "max_position_embeddings": positions,
        "tie_word_embeddings": config.tie_word_embeddings,
        "eos_token_id": config.eos_token_ids,
        "bos_token_id": config.bos_token_id,
    });
    let Some(default) = most_frequent(quantization.values().copied()) else { return json };
    let object =
        |params: QuantizationParams| json!({ "group_size": params.group_size, "bits": params.bits, "mode": "affine" });
    let mut section = object(default);
    for (layer, &params) in quantization.iter().filter(|(_, params)| **params != default) {
        section[layer] = object(params);
    }
    json["quantization"] = section;
    json
}

/// The number with the fewest digits that is this f32: `1e-5`, not the f64 beside it.
fn shortest(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

fn most_frequent(params: impl Iterator<Item = QuantizationParams>) -> Option<QuantizationParams> {
    let mut counts: Vec<(QuantizationParams, usize)> = Vec::new();
    for params in params {
        match counts.iter_mut().find(|(known, _)| *known == params) {
            Some((_, count)) => *count += 1,
            None => counts.push((params, 1)),
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(params, _)| params)
}

fn write_weights(contents: &Contents<'_>, file: &Path) -> Result<()> {
    let views = contents.tensors.iter().map(|(name, tensor)| {
        let dtype = match tensor.element {
            ElementType::F32 => FileDtype::F32,
            ElementType::F16 => FileDtype::F16,
            ElementType::Bf16 => FileDtype::BF16,
            ElementType::U32 => FileDtype::U32,
        };
        let view = TensorView::new(dtype, tensor.shape.clone(), tensor.bytes());
        view.map(|view| (name.as_str(), view)).map_err(|error| Error::tensor(file, name, error.to_string()))
    });
    write_safetensors(file, &views.collect::<Result<Vec<_>>>()?, &[("format", "mlx")])
}

fn write_text_files(text: &GgufTokenizer, folder: &Path) -> Result<()> {
    write_json(&text.tokenizer_json, &folder.join(hf_text::TOKENIZER))?;
    let mut config = Map::from_iter([("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"))]);
    config.extend(text.special_tokens.iter().map(|(name, token)| (name.clone(), json!(token))));
    write_json(&Value::Object(config), &folder.join(hf_text::TOKENIZER_CONFIG))?;
    match &text.chat_template {
        Some(template) => write_file(template, &folder.join(hf_text::TEMPLATE_FILE)),
        None => Ok(()),
    }
}

fn write_json(json: &Value, file: &Path) -> Result<()> {
    write_file(&format!("{json:#}\n"), file)
}

fn write_file(text: &str, file: &Path) -> Result<()> {
    fs::write(file, text).map_err(|source| Error::io(file, source))
}
