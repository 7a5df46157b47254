//! Measurements as they are kept: one JSON file of many runs, and what is made of it.
//!
//! `cargo xtask bench` writes the file, `tiny-llm report` reads it. A run is one repetition by one engine; engines take
//! turns, so that a machine that slows down slows all of them. Ratios are ratios of medians.

pub mod plots;
pub mod report;
pub mod statistics;
pub mod summary;
pub mod tables;
pub mod work;

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context, Result, bail};
use checkpoint::untrusted;
use serde::{Deserialize, Serialize};

/// The version of the file's format that this program writes and reads.
pub const FORMAT: u32 = 1;

/// From a nanosecond, the unit of clocks, to thirty years.
const SECONDS: RangeInclusive<f64> = 1e-9..=1e9;
/// Tokens, bytes or operations a second: from one in thirty years to a thousand times the fastest machine of 2026.
const RATES: RangeInclusive<f64> = 1e-9..=1e21;

/// Everything that was measured by one call of `cargo xtask bench`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurements {
    pub format: u32,
    /// UTC, such as `2026-01-31 23:59`.
    pub date: String,
    /// The commit that was measured; `-dirty` when files had changes.
    pub commit: String,
    /// The command that does it again.
    pub command: String,
    pub machine: Machine,
    pub model: Model,
    pub runs: Vec<Run>,
}

/// The machine, as `tiny-llm machine` sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    /// Instruction sets that matter here, such as `avx2`.
    pub simd: Vec<String>,
    pub system: String,
    pub memory_bytes: Option<u64>,
    /// Threads that the two rates below were measured with.
    pub threads: usize,
    /// What reading a buffer larger than every cache reaches; on a GPU, copying one.
    pub bandwidth: f64,
    /// What fused multiply-adds in registers reach, in f32; one of them is two operations. On a GPU, a product of bf16 matrices.
    pub peak_flops: f64,
    /// Whether these are a GPU's.
    #[serde(default)]
    pub is_gpu: bool,
}

/// The model's shape, from which [`work`] counts operations and bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub name: String,
    pub description: String,
    pub parameters: u64,
    pub vocab_size: u64,
    pub hidden_size: u64,
    pub num_hidden_layers: u64,
    pub num_attention_heads: u64,
    pub num_key_value_heads: u64,
    pub head_dim: u64,
    pub tie_word_embeddings: bool,
}

/// One repetition by one engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// `reference`, `student`, `llama.cpp` or `mlx-lm`.
    pub engine: String,
    pub version: String,
    /// How far our own engine has come; other engines have no stages.
    #[serde(default)]
    pub stage: Option<String>,
    /// Our own engine's kernel for quantized weights, and in the learner's crate who wrote it; none for a model without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    pub prompt_tokens: usize,
    pub generate_tokens: usize,
    pub threads: usize,
    /// The prompt and the first token: the time to the first token.
    pub prefill_seconds: f64,
    /// Each later token.
    pub token_seconds: Vec<f64>,
    #[serde(default)]
    pub context_sweep: Vec<SweepPoint>,
    /// The weights in the form in which this engine reads them.
    pub weight_bytes: u64,
    /// Of them, what one token needs: not the embedding, which is a look-up, unless it is the output head as well.
    pub weight_bytes_per_token: u64,
    /// Bytes of one stored key or value; 0 for an engine without a cache.
    pub cache_dtype_bytes: u64,
    #[serde(default)]
    pub peak_memory_bytes: Option<u64>,
    #[serde(default)]
    pub profile: Option<Profile>,
    /// What the engine's own clock says, which leaves out whatever surrounds it.
    #[serde(default)]
    pub own_clock: Option<OwnClock>,
}

/// The speed of decoding behind a context of some length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    pub context: usize,
    pub decode_tokens_per_second: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OwnClock {
    pub prefill_tokens_per_second: f64,
    pub decode_tokens_per_second: f64,
}

/// Where the time of one repetition went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    pub prefill: Phase,
    pub decode: Phase,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// All of it; what the operations do not account for went to MLX's own operations, its graph and sampling.
    pub seconds: f64,
    pub operations: Vec<OperationTime>,
}

/// One kind of operation of `mlx-custom`, summed over its calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationTime {
    pub name: String,
    pub calls: u64,
    pub seconds: f64,
}

impl Run {
    pub fn decode_tokens_per_second(&self) -> f64 {
        self.token_seconds.len() as f64 / self.token_seconds.iter().sum::<f64>()
    }

    /// The engine with its stage, as tables and plots call it.
    pub fn label(&self) -> String {
        match &self.stage {
            Some(stage) => format!("{}, {stage}", self.engine),
            None => self.engine.clone(),
        }
    }
}

/// Reads a file of measurements; one that would lead to meaningless tables is refused.
///
/// # Errors
/// When the file cannot be read, is not of this format, holds no runs or runs without decoded tokens, or has a time or a rate
/// that cannot have been measured: an axis for 1e308 has no end.
pub fn read(file: &Path) -> Result<Measurements> {
    let about = untrusted::path(file);
    let context = || format!("reading {about}");
    let text = fs::read_to_string(file).with_context(context)?;
    let format: Format = serde_json::from_str(&text).with_context(context)?;
    if format.format != FORMAT {
        bail!("{about} has format {}, but this program reads format {FORMAT}", format.format);
    }
    let measurements: Measurements = serde_json::from_str(&text).with_context(context)?;
    if measurements.runs.is_empty() {
        bail!("{about} holds no runs");
    }
    let is_timed = |run: &&Run| {
        let mut seconds = run.token_seconds.iter().chain([&run.prefill_seconds]);
        !run.token_seconds.is_empty() && seconds.all(|seconds| SECONDS.contains(seconds))
    };
    if let Some(run) = measurements.runs.iter().find(|run| !is_timed(run)) {
        let label = untrusted::one_line(&run.label());
        bail!(
            "{about}: a run of {label} has no times, or times that no clock gives ({:e} to {:e} s)",
            SECONDS.start(),
            SECONDS.end()
        );
    }
    let speeds =
        measurements.runs.iter().flat_map(|run| &run.context_sweep).map(|point| point.decode_tokens_per_second);
    let own_clocks = measurements.runs.iter().filter_map(|run| run.own_clock);
    let own_speeds = own_clocks.flat_map(|clock| [clock.prefill_tokens_per_second, clock.decode_tokens_per_second]);
    let rates = [measurements.machine.bandwidth, measurements.machine.peak_flops];
    if let Some(rate) = rates.into_iter().chain(speeds).chain(own_speeds).find(|rate| !RATES.contains(rate)) {
        bail!("{about}: {rate:e} a second is no rate that can be measured");
    }
    Ok(measurements)
}

/// Read first: a file of another format need not have the other fields.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Small hand-made measurements for the tests of tables and plots.
#[cfg(test)]
pub mod examples {
    use super::*;

    pub fn run(engine: &str, stage: Option<&str>, prefill_seconds: f64, token_seconds: f64) -> Run {
        Run {
            engine: engine.to_owned(),
            version: "1".to_owned(),
            stage: stage.map(str::to_owned),
            kernel: None,
            prompt_tokens: 128,
            generate_tokens: 5,
            threads: 2,
            prefill_seconds,
            token_seconds: vec![token_seconds; 4],
            context_sweep: vec![
                SweepPoint { context: 128, decode_tokens_per_second: 1.0 / token_seconds },
                SweepPoint { context: 1024, decode_tokens_per_second: 0.5 / token_seconds },
            ],
            weight_bytes: 100_000_000,
            weight_bytes_per_token: 90_000_000,
            cache_dtype_bytes: 4,
            peak_memory_bytes: Some(150_000_000),
            profile: None,
            own_clock: None,
        }
    }

    pub fn measurements(runs: Vec<Run>) -> Measurements {
        Measurements {
            format: FORMAT,
            date: "2026-01-31 23:59".to_owned(),
            commit: "0123456".to_owned(),
            command: "cargo xtask bench".to_owned(),
            machine: Machine {
                cpu: "A processor".to_owned(),
                cores: 2,
                simd: vec!["avx2".to_owned()],
                system: "linux".to_owned(),
                memory_bytes: Some(8 << 30),
                threads: 2,
                bandwidth: 40e9,
                peak_flops: 200e9,
                is_gpu: false,
            },
            model: Model {
                name: "a-model".to_owned(),
                description: "100 parameters".to_owned(),
                parameters: 134_515_008,
                vocab_size: 49_152,
                hidden_size: 576,
                num_hidden_layers: 30,
                num_attention_heads: 9,
                num_key_value_heads: 3,
                head_dim: 64,
                tie_word_embeddings: true,
            },
            runs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Measurements> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("measurements.json");
        fs::write(&file, text).unwrap();
        read(&file)
    }

    #[test]
    fn what_was_written_is_read() {
        let written = examples::measurements(vec![examples::run("llama.cpp", None, 0.25, 0.01)]);
        let text = serde_json::to_string(&written).unwrap();
        assert_eq!(read_text(&text).unwrap(), written);
    }

    #[test]
    fn a_driver_may_leave_out_what_it_does_not_know_and_add_more() {
        let line = r#"{"engine": "x", "version": "1", "prompt_tokens": 8, "generate_tokens": 3, "threads": 1, "prefill_seconds": 2.0,
            "token_seconds": [0.5, 0.5], "weight_bytes": 10, "weight_bytes_per_token": 8, "cache_dtype_bytes": 2, "system": "unknown field"}"#;
        let run: Run = serde_json::from_str(line).unwrap();
        assert_eq!(run.decode_tokens_per_second(), 2.0);
        assert_eq!((run.label().as_str(), run.peak_memory_bytes), ("x", None));
    }

    #[test]
    fn files_without_meaning_are_refused() {
        let refused = |measurements: &Measurements| {
            read_text(&serde_json::to_string(measurements).unwrap()).unwrap_err().to_string()
        };
        assert!(refused(&examples::measurements(vec![])).contains("no runs"));
        let mut later = examples::measurements(vec![]);
        later.format = 7;
        assert!(refused(&later).contains("has format 7"));
        let mut run = examples::run("x", Some("flash"), 0.25, 0.01);
        run.token_seconds.clear();
        assert!(refused(&examples::measurements(vec![run])).contains("a run of x, flash has no times"));
        for seconds in [0.0, -1.0, 1e-320, 1e308] {
            let run = examples::run("x", None, seconds, 0.01);
            assert!(refused(&examples::measurements(vec![run])).contains("a run of x has no times"), "{seconds}");
            let mut run = examples::run("x", None, 0.25, 0.01);
            run.token_seconds[1] = seconds;
            assert!(refused(&examples::measurements(vec![run])).contains("a run of x has no times"), "{seconds}");
        }
        for rate in [0.0, -1.0, 1e-320, 1e308] {
            let mut all = examples::measurements(vec![examples::run("x", None, 0.25, 0.01)]);
            all.runs[0].context_sweep[0].decode_tokens_per_second = rate;
            assert!(refused(&all).contains("is no rate that can be measured"), "{rate}");
            let mut all = examples::measurements(vec![examples::run("x", None, 0.25, 0.01)]);
            all.machine.bandwidth = rate;
            assert!(refused(&all).contains("is no rate that can be measured"), "{rate}");
        }
        assert!(read_text("{").is_err());
    }
}
