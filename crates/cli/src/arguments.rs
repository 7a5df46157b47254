//! The command line.

use std::ffi::OsString;
use std::num::IntErrorKind;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::engine::{Sampler, SamplerOptions, Stage};

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
    /// Say what a model is and where its files are.
    Info(Info),
    /// Write a GGUF model as a folder for mlx-lm, its weights unchanged.
    Convert(Convert),
    /// Measure how fast the engine is. `cargo xtask bench` compares it with others.
    Bench(Bench),
    /// Measure what this machine could reach: memory bandwidth and arithmetic.
    Machine(Machine),
    /// Make tables and plots from a file that `cargo xtask bench` wrote.
    Report(Report),
}

#[derive(Debug, Args)]
pub struct ModelArguments {
    /// A built-in model, a folder with config.json and safetensors, a .gguf file, or a hub id such as
    /// Qwen/Qwen2.5-0.5B-Instruct
    #[arg(long, short, value_name = "NAME", default_value = "smollm2-135m")]
    pub model: OsString,
    /// Precision of weights and activations [default: f32 on a CPU, bf16 on a GPU]
    #[arg(long, value_enum)]
    pub dtype: Option<DtypeArgument>,
    /// Where to compute [default: the GPU if MLX has one]
    #[arg(long, value_enum)]
    pub device: Option<DeviceArgument>,
    /// How far the engine has come: dense, cached, quantized, fused or flash, each with the ones before it
    #[arg(long, default_value_t)]
    pub stage: Stage,
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
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub max_tokens: usize,
    /// 0 always takes the most likely token; higher is more varied
    #[arg(long, value_name = "T", default_value_t = 0.0, value_parser = number, allow_negative_numbers = true)]
    pub temperature: f32,
    /// Choose among the K most likely tokens
    #[arg(long, value_name = "K", value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub top_k: Option<usize>,
    /// Choose among the most likely tokens that together have probability P
    #[arg(long, value_name = "P", value_parser = number, allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Choose among tokens at least P times as likely as the most likely one
    #[arg(long, value_name = "P", value_parser = number, allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Make tokens that occurred less likely; 1.1 is a usual value
    #[arg(long, value_name = "R", value_parser = number, allow_negative_numbers = true)]
    pub repetition_penalty: Option<f32>,
    /// The same seed gives the same text
    #[arg(long, default_value_t = 0, value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub seed: u64,
    /// Stop when this text appears; may be given several times
    #[arg(long = "stop", value_name = "TEXT", allow_negative_numbers = true)]
    pub stop_strings: Vec<String>,
}

/// Below it there is nothing left to draw, and logits divided by it leave the range of f32.
const SMALLEST_TEMPERATURE: f32 = 1e-5;

impl SamplingArguments {
    /// What chooses the tokens. Options that make no sense are refused here, so this is called before a model is loaded.
    ///
    /// # Errors
    /// When an option is out of its range, or would silently have no effect.
    pub fn sampler(&self) -> Result<Sampler> {
        let options = self.options()?;
        // What the engine can do before the day of sampling is written.
        if options == (SamplerOptions { seed: options.seed, ..SamplerOptions::default() }) {
            return Ok(Sampler::greedy());
        }
        Ok(Sampler::from_options(&options)?)
    }

    fn options(&self) -> Result<SamplerOptions> {
        let narrowing =
            [("--top-k", self.top_k.is_some()), ("--top-p", self.top_p.is_some()), ("--min-p", self.min_p.is_some())];
        if self.temperature == 0.0
            && let Some((name, _)) = narrowing.iter().find(|(_, is_given)| *is_given)
        {
            bail!("{name} needs a --temperature above 0; at 0 the most likely token is always taken");
        }
        if self.temperature > 0.0 && self.temperature < SMALLEST_TEMPERATURE {
            bail!("--temperature must be 0 or at least {SMALLEST_TEMPERATURE:e}; 0 always takes the most likely token");
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

/// A whole number, with what is wrong with it in words of one who uses a program.
fn whole<T: FromStr<Err = std::num::ParseIntError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| match error.kind() {
        IntErrorKind::PosOverflow => "is too large".to_owned(),
        _ => "is not a whole number from 0".to_owned(),
    })
}

fn number(text: &str) -> Result<f32, String> {
    text.parse().map_err(|_| "is not a number".to_owned())
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
    #[arg(long, value_delimiter = ',', value_name = "IDS", value_parser = whole::<u32>, allow_hyphen_values = true)]
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
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub context: usize,
    /// Use only so many tokens of the text
    #[arg(long, value_name = "TOKENS", value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub limit: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArguments,
}

#[derive(Debug, Args)]
pub struct Info {
    /// As for every command
    #[arg(long, short, value_name = "NAME", default_value = "smollm2-135m")]
    pub model: OsString,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Convert {
    /// A built-in model or a .gguf file, with matrices in Q4_0, Q4_1, Q8_0 or floating point
    #[arg(long, short, value_name = "NAME", default_value = "smollm2-135m")]
    pub model: OsString,
    /// The folder to write; it must not exist
    #[arg(long, short, value_name = "FOLDER")]
    pub output: PathBuf,
}

#[derive(Debug, Args)]
pub struct Bench {
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub prompt_tokens: usize,
    /// Tokens to generate, always the most likely one; the first belongs to prefill
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub generate_tokens: usize,
    /// Measure so many times, after a warm-up
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub repeats: usize,
    /// Threads, at most four for each processor [default: one for each]
    #[arg(long, value_name = "N", value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Also measure decoding behind contexts of these lengths, such as 128,1024,4096
    #[arg(long, value_delimiter = ',', value_name = "LENGTHS", value_parser = whole::<usize>, allow_hyphen_values = true)]
    pub context_sweep: Vec<usize>,
    /// Also say how long each kind of operation took
    #[arg(long)]
    pub profile: bool,
    /// Print one JSON object per repetition
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArguments,
}

#[derive(Debug, Args)]
pub struct Machine {
    /// Threads, at most four for each processor [default: one for each]
    #[arg(long, value_name = "N", value_parser = whole::<usize>, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Report {
    /// measurements.json of a folder that `cargo xtask bench` wrote
    pub file: PathBuf,
    /// Write table.md and the plots into this folder
    #[arg(long, short, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
}
