//! The shape of the model: every number that the engine needs and nothing that it does not use.

use std::path::Path;

use crate::error::{Error, Result};

/// Bytes that the rotary tables of a model may take: 131,072 positions with heads of 256, or 524,288 with heads of 64.
///
/// A file may name any number of positions, and the tables hold cosines and sines for all of them from the start.
const MAX_TABLE_BYTES: usize = 128 << 20;

/// A Qwen2-shaped decoder, from `config.json` or from GGUF metadata, already checked for consistency.
///
/// A llama without biases is described as well: it equals a Qwen2 whose q, k and v biases are zero.
/// Source: the Qwen2 technical report (arXiv 2407.10671) and the `Qwen2Config` of transformers.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// V: rows of the embedding; token ids are below it. The tokenizer may know fewer tokens.
    pub vocab_size: usize,
    /// E: width of the residual stream.
    pub hidden_size: usize,
    /// I: width of the MLP.
    pub intermediate_size: usize,
    /// Number of transformer blocks.
    pub num_hidden_layers: usize,
    /// H_q: query heads.
    pub num_attention_heads: usize,
    /// H_kv: key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// D: width of one head; even. Need not be E / H_q.
    pub head_dim: usize,
    /// Added to the mean square inside the root of RMSNorm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Longest sequence, in tokens: what the model was made for, but not more than fill 128 MiB with cosines and sines
    /// (262,144 positions for heads of 128). [`Summary`](crate::Summary) has the number in the file.
    pub max_position_embeddings: usize,
    /// Whether the output head is the embedding; if not, there is an `lm_head.weight`.
    pub tie_word_embeddings: bool,
    /// Whether q, k and v have a bias in the file. If not (llama), [`crate::Checkpoint::tensor`] supplies zeros.
    pub attention_bias: bool,
    /// Tokens that end the answer, without duplicates: from the generation config, the config and the tokenizer.
    pub eos_token_ids: Vec<u32>,
    /// Token that begins a sequence, if the model names one.
    pub bos_token_id: Option<u32>,
}

impl Config {
    /// Checks what the architecture demands of the numbers, so that no later code divides by zero or overflows MLX's i32 sizes.
    pub(crate) fn validate(&self, file: &Path) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
            ("num_attention_heads * head_dim", self.num_attention_heads.saturating_mul(self.head_dim)),
        ];
        for (name, size) in sizes {
            if size == 0 || i32::try_from(size).is_err() {
                return Err(Error::malformed(file, format!("{name} is {size}, outside 1..=2147483647")));
            }
        }
        let problem = if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            format!(
                "num_attention_heads {} is not a multiple of num_key_value_heads {}",
                self.num_attention_heads, self.num_key_value_heads
            )
        } else if !self.head_dim.is_multiple_of(2) {
            format!("head_dim {} is odd, so rotary pairs cannot be formed", self.head_dim)
        } else if !(self.rms_norm_eps >= 0.0 && self.rms_norm_eps.is_finite()) {
            format!("rms_norm_eps is {}, not a finite number from 0 on", self.rms_norm_eps)
        } else if !(self.rope_theta > 0.0 && self.rope_theta.is_finite()) {
            format!("rope_theta is {}, not a finite positive number", self.rope_theta)
        } else if let Some(id) =
            self.eos_token_ids.iter().chain(&self.bos_token_id).find(|&&id| id as usize >= self.vocab_size)
        {
            format!("special token id {id} is not below vocab_size {}", self.vocab_size)
        } else {
            return Ok(());
        };
        Err(Error::malformed(file, problem))
    }

    /// Lowers `max_position_embeddings` to what the rotary tables may hold, and returns what it was.
    pub(crate) fn bound_positions(&mut self) -> usize {
        // D / 2 cosines and as many sines, four bytes each.
        let most = (MAX_TABLE_BYTES / (4 * self.head_dim.max(1))).max(1);
        let in_file = self.max_position_embeddings;
        self.max_position_embeddings = in_file.min(most);
        in_file
    }

    /// Appends tokens that end the answer, leaving out the ones already there.
    pub(crate) fn add_eos(&mut self, ids: impl IntoIterator<Item = u32>) {
        for id in ids {
            if !self.eos_token_ids.contains(&id) {
                self.eos_token_ids.push(id);
            }
        }
    }
}
