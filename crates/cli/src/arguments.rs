//! The command line.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::engine::SamplerOptions;

/// An LLM engine built day by day: chat with it, complete text, compare its numbers with other engines.
#[derive(Debug, Parser)]
#[command(name = "tiny-llm", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Talk to an instruction-tuned model, using its own chat template.
    Chat(Chat),
    /// Continue a text, without a chat template.
    Generate(Generate),
    /// Write the logits for a text or for token ids to a safetensors file, to compare with another engine.
    Logits(Logits),
    /// Measure how well the model predicts a text file.
    Perplexity(Perplexity),
}

#[derive(Debug, Args)]
pub struct ModelArguments {
    /// A built-in model, a folder with config.json and safetensors, a .gguf file, or a hub id such as
    /// Qwen/Qwen2.5-0.5B-Instruct
    #[arg(long, short, value_name = "NAME", default_value = "smollm2-135m")]
    pub model: String,
    /// Precision of weights and activations [default: f32 on a CPU, bf16 on a GPU]
    #[arg(long, value_enum)]
    pub dtype: Option<DtypeArgument>,
    /// Where to compute [default: the GPU if MLX has one]
    #[arg(long, value_enum)]
    pub device: Option<DeviceArgument>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DtypeArgument {
    F32,
    F16,
    Bf16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DeviceArgument {
    Cpu,
    Gpu,
}

#[derive(Debug, Args)]
pub struct SamplingArguments {
    /// The most tokens to generate
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub max_tokens: usize,
    /// 0 always takes the most likely token; higher is more varied
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub temperature: f32,
    /// Choose among the K most likely tokens
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Choose among the most likely tokens that together have probability P
    #[arg(long, value_name = "P")]
    pub top_p: Option<f32>,
    /// Choose among tokens at least P times as likely as the most likely one
    #[arg(long, value_name = "P")]
    pub min_p: Option<f32>,
    /// Make tokens that occurred less likely; 1.1 is a usual value
    #[arg(long, value_name = "R")]
    pub repetition_penalty: Option<f32>,
    /// The same seed gives the same text
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Stop when this text appears; may be given several times
    #[arg(long = "stop", value_name = "TEXT")]
    pub stop_strings: Vec<String>,
}

impl SamplingArguments {
    /// # Errors
    /// When an option would silently have no effect.
    pub fn sampler_options(&self) -> Result<SamplerOptions> {
        let narrowing =
            [("--top-k", self.top_k.is_some()), ("--top-p", self.top_p.is_some()), ("--min-p", self.min_p.is_some())];
        if self.temperature == 0.0
            && let Some((name, _)) = narrowing.iter().find(|(_, is_given)| *is_given)
        {
            bail!("{name} needs a --temperature above 0; at 0 the most likely token is always taken");
        }
        Ok(SamplerOptions {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
        })
    }
}

#[derive(Debug, Args)]
pub struct Chat {
    /// Ask one question and exit; without it, a conversation starts (or the question is read from a pipe)
    pub question: Option<String>,
    /// Instructions that stand before the conversation
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    #[command(flatten)]
    pub sampling: SamplingArguments,
    #[command(flatten)]
    pub model: ModelArguments,
}

#[derive(Debug, Args)]
pub struct Generate {
    #[command(flatten)]
    pub input: Input,
    /// Print one JSON object with tokens, text, reason for stopping and timings
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub sampling: SamplingArguments,
    #[command(flatten)]
    pub model: ModelArguments,
}

/// A text or token ids, exactly one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Input {
    /// The text to work on
    #[arg(value_name = "TEXT")]
    pub text: Option<String>,
    /// Token ids to work on instead of a text, such as 1,2,3
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    pub tokens: Option<Vec<u32>>,
}

#[derive(Debug, Args)]
pub struct Logits {
    #[command(flatten)]
    pub input: Input,
    /// The file to write: tensors `logits` [L, V] (f32) and `tokens` [L] (u32)
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    pub model: ModelArguments,
}

#[derive(Debug, Args)]
pub struct Perplexity {
    /// The text file
    pub file: PathBuf,
    /// Length of the windows that the text is cut into; the first token of a window is not scored
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    pub context: usize,
    /// Use only so many tokens of the text
    #[arg(long, value_name = "TOKENS")]
    pub limit: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArguments,
}
