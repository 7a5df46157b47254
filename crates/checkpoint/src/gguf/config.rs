//! The model's shape from GGUF metadata.

use std::path::Path;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::gguf::header::Header;
use crate::gguf::metadata::Value;
use crate::gguf::tokenizer::end_of_generation_ids;
use crate::untrusted::value as shown;

/// The values of `general.architecture` that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    Llama,
    Qwen2,
}

impl Architecture {
    fn prefix(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
        }
    }

    /// llama.cpp rotates llama's heads in interleaved pairs, so its converter reorders the rows of q and k; not so for Qwen2.
    pub(crate) fn permutes_rows(self) -> bool {
        self == Self::Llama
    }
}

/// `has_head` says whether there is an `output.weight`, in this part of the file or in another.
pub(crate) fn from_header(file: &Path, header: &Header, has_head: bool) -> Result<(Config, Architecture)> {
    let architecture = match header.metadata.get("general.architecture").and_then(Value::as_str) {
        Some("llama") => Architecture::Llama,
        Some("qwen2") => Architecture::Qwen2,
        Some(other) => {
            let problem = format!(
                "architecture `{}` is not supported: this engine runs `qwen2`, and `llama` without biases",
                shown(other)
            );
            return Err(Error::unsupported(file, problem));
        }
        None => return Err(Error::malformed(file, "metadata `general.architecture` is missing")),
    };
    let fields = Fields { file, header, prefix: architecture.prefix() };
    refuse_unsupported(&fields)?;

    let hidden_size = fields.required_size("embedding_length")?;
    let num_attention_heads = fields.required_size("attention.head_count")?;
    let head_dim = match fields.size("attention.key_length")? {
        Some(head_dim) => head_dim,
        None => hidden_size.checked_div(num_attention_heads).unwrap_or(0),
    };
    let tokens = header.metadata.get("tokenizer.ggml.tokens").and_then(Value::as_array);
    let vocab_size = match fields.size("vocab_size")? {
        Some(vocab_size) => vocab_size,
        None => {
            let tokens =
                tokens.ok_or_else(|| Error::malformed(file, "has neither a vocab_size nor tokenizer.ggml.tokens"))?;
            tokens.len as usize
        }
    };
    let bos = header.metadata.get("tokenizer.ggml.bos_token_id").and_then(Value::as_u64);
    let config = Config {
        vocab_size,
        hidden_size,
        intermediate_size: fields.required_size("feed_forward_length")?,
        num_hidden_layers: fields.required_size("block_count")?,
        num_attention_heads,
        num_key_value_heads: fields.size("attention.head_count_kv")?.unwrap_or(num_attention_heads),
        head_dim,
        rms_norm_eps: fields
            .number("attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| fields.missing("attention.layer_norm_rms_epsilon"))?,
        rope_theta: fields.number("rope.freq_base")?.unwrap_or(10_000.0),
        max_position_embeddings: fields.required_size("context_length")?,
        tie_word_embeddings: !has_head,
        attention_bias: architecture == Architecture::Qwen2,
        eos_token_ids: end_of_generation_ids(file, header)?,
        bos_token_id: bos.and_then(|id| u32::try_from(id).ok()),
    };
    config.validate(file)?;
    for name in ["attention.value_length", "rope.dimension_count"] {
        if let Some(size) = fields.size(name)?.filter(|&size| size != head_dim) {
            return Err(fields.refuse(name, &format!("{size}, while the head size is {head_dim}")));
        }
    }
    Ok((config, architecture))
}

fn refuse_unsupported(fields: &Fields) -> Result<()> {
    for name in ["expert_count", "attention.sliding_window"] {
        if let Some(value) = fields.size(name)?.filter(|&value| value != 0) {
            return Err(fields.refuse(name, &value.to_string()));
        }
    }
    if let Some(kind) = fields.get("rope.scaling.type").and_then(Value::as_str)
        && kind != "none"
    {
        return Err(fields.refuse("rope.scaling.type", &shown(kind)));
    }
    for name in ["rope.scaling.factor", "rope.scale_linear", "logit_scale"] {
        if let Some(value) = fields.number(name)?.filter(|&value| value != 1.0 && value != 0.0) {
            return Err(fields.refuse(name, &value.to_string()));
        }
    }
    Ok(())
}

/// Typed access to `<architecture>.<name>`, with errors that name key and file.
struct Fields<'a> {
    file: &'a Path,
    header: &'a Header<'a>,
    prefix: &'static str,
}

impl Fields<'_> {
    fn get(&self, name: &str) -> Option<&Value<'_>> {
        self.header.metadata.get(format!("{}.{name}", self.prefix).as_str())
    }

    fn missing(&self, name: &str) -> Error {
        Error::malformed(self.file, format!("metadata `{}.{name}` is missing", self.prefix))
    }

    fn refuse(&self, name: &str, value: &str) -> Error {
        Error::unsupported(self.file, format!("metadata `{}.{name}` = {value} is not supported", self.prefix))
    }

    fn wrong_type(&self, name: &str, kind: &str) -> Error {
        Error::malformed(self.file, format!("metadata `{}.{name}` is not {kind}", self.prefix))
    }

    fn size(&self, name: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.map(Some).ok_or_else(|| self.wrong_type(name, "a size"))
    }

    fn required_size(&self, name: &str) -> Result<usize> {
        self.size(name)?.ok_or_else(|| self.missing(name))
    }

    fn number(&self, name: &str) -> Result<Option<f32>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_f64().map(|number| Some(number as f32)).ok_or_else(|| self.wrong_type(name, "a number"))
    }
}
