//! Quantized multiplication on the GPU: the engine's kernels and MLX's own, in turns, for day 2.3.
//!
//! For each shape and number of tokens it evaluates many calls at once, as a model's layers do, over several matrices that
//! together don't fit into a cache. Microseconds are those of one call, the median over the rounds; GB/s counts the
//! bytes of weights, activations and results, TFLOP/s two operations a weight and token.
//!
//! `cargo run --release --package tiny-llm-cli --example gpu_matmul -- --help`

mod sweep;
mod timing;
mod work;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use mlx_custom::gpu::GpuBackend;
use mlx_rs::{Device, DeviceType, Dtype};
use serde_json::{Value, json};
#[cfg(all(feature = "student", not(feature = "reference")))]
use tiny_llm as engine;
#[cfg(feature = "reference")]
use tiny_llm_reference as engine;

use crate::timing::Timings;
use crate::work::{Candidate, Work};

#[derive(Debug, Parser)]
#[command(about = "Times quantized multiplication on the GPU: ours and MLX's, in turns")]
struct Arguments {
    /// Matrices as OUTPUTSxINPUTS.
    #[arg(long, value_delimiter = ',', value_parser = shape,
          default_value = "18944x3584,3584x18944,3584x3584,152064x3584")]
    shapes: Vec<(usize, usize)>,
    /// Tokens.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32,64,128,512")]
    rows: Vec<usize>,
    #[arg(long, default_value_t = 4)]
    bits: usize,
    #[arg(long, default_value_t = 64)]
    group_size: usize,
    /// f32, f16 or bf16.
    #[arg(long, default_value = "bf16", value_parser = dtype)]
    dtype: Dtype,
    /// Calls evaluated at once; fewer when their results would take more than 2 GB.
    #[arg(long, default_value_t = 200)]
    calls: usize,
    /// Each call's input depends on the call before, which forbids that calls overlap. Square matrices only.
    #[arg(long)]
    chained: bool,
    /// Rounds; the first is not counted.
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// Bytes of weights to spread the calls over, in MB, so that caches do not keep them. 0: one matrix.
    #[arg(long, default_value_t = 400)]
    spread: usize,
    /// Try all ways to cut up the work of this kernel: matvec or tiled.
    #[arg(long)]
    sweep: Option<String>,
    /// Only candidates whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Writes all numbers to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let backend = GpuBackend::current()?;
    let device = Device::try_default()?.get_type()?;
    ensure!(
        backend == GpuBackend::Emulator || matches!(device, DeviceType::Gpu),
        "kernels would run on {backend:?}, but MLX's own operations on the CPU: this MLX has no GPU"
    );
    if backend == GpuBackend::Emulator {
        eprintln!("There is no GPU here: kernels run in the emulator, whose times mean nothing. Take small shapes.");
        Device::set_default(&Device::cpu());
    }
    let mut records = Vec::new();
    for &(outputs, inputs) in &arguments.shapes {
        for &tokens in &arguments.rows {
            let work = Work::new(&arguments, [outputs, inputs], tokens)?;
            let mut candidates = match arguments.sweep.as_deref() {
                None => work::usual_candidates(tokens),
                Some("matvec") => sweep::matvec(tokens),
                Some("tiled") => sweep::tiled(),
                Some(other) => bail!("there is nothing to sweep called `{other}`; choose matvec or tiled"),
            };
            if let Some(only) = &arguments.only {
                candidates.retain(|candidate| candidate.name == MLX || candidate.name.contains(only.as_str()));
            }
            let measured = timing::measure(&work, &candidates, arguments.rounds)?;
            println!(
                "\n{outputs} x {inputs}, {} bits, groups of {}, {:?}, {tokens} tokens, {} {} calls over {} matrices",
                arguments.bits,
                arguments.group_size,
                arguments.dtype,
                work.calls,
                if arguments.chained { "chained" } else { "independent" },
                work.matrices.len(),
            );
            println!(
                "{:<34} {:>10} {:>10} {:>9} {:>9} {:>8} {:>9}",
                "", "us", "lowest", "GB/s", "TFLOP/s", "x MLX", "error"
            );
            let mlx = measured.iter().find(|(candidate, _)| candidate.name == MLX).map(|(_, t)| t.median_us);
            let mut sorted: Vec<&(Candidate, Timings)> = measured.iter().collect();
            if arguments.sweep.is_some() {
                sorted.sort_by(|a, b| a.1.median_us.total_cmp(&b.1.median_us));
            }
            for (candidate, timings) in sorted {
                let seconds = timings.median_us * 1e-6;
                let (bytes, flops) = (work.bytes() / seconds * 1e-9, work.flops() / seconds * 1e-12);
                let ratio = mlx.map(|mlx| mlx / timings.median_us);
                println!(
                    "{:<34} {:>10.2} {:>10.2} {:>9.0} {:>9.1} {:>8.2} {:>9.1e}",
                    candidate.name,
                    timings.median_us,
                    timings.lowest_us,
                    bytes,
                    flops,
                    ratio.unwrap_or(f64::NAN),
                    timings.error
                );
                records.push(record(&arguments, &work, candidate, timings, ratio));
            }
        }
    }
    if let Some(path) = &arguments.json {
        let all = json!({ "backend": format!("{backend:?}"), "measurements": records });
        std::fs::write(path, serde_json::to_string_pretty(&all)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// MLX's own operation, which the others are compared with.
const MLX: &str = "mlx quantized_matmul";

fn record(arguments: &Arguments, work: &Work, candidate: &Candidate, timings: &Timings, ratio: Option<f64>) -> Value {
    json!({
        "outputs": work.outputs, "inputs": work.inputs, "tokens": work.tokens,
        "bits": arguments.bits, "group_size": arguments.group_size, "dtype": format!("{:?}", arguments.dtype),
        "calls": work.calls, "chained": arguments.chained, "matrices": work.matrices.len(),
        "name": candidate.name, "median_us": timings.median_us, "lowest_us": timings.lowest_us,
        "rounds_us": timings.rounds_us, "bytes": work.bytes(), "flops": work.flops(),
        "ratio_to_mlx": ratio, "error": timings.error,
    })
}

fn shape(text: &str) -> Result<(usize, usize)> {
    let (outputs, inputs) = text.split_once('x').context("a shape is OUTPUTSxINPUTS, such as 3584x3584")?;
    Ok((outputs.parse()?, inputs.parse()?))
}

fn dtype(text: &str) -> Result<Dtype> {
    match text {
        "f32" => Ok(Dtype::Float32),
        "f16" => Ok(Dtype::Float16),
        "bf16" => Ok(Dtype::Bfloat16),
        _ => bail!("there is no dtype `{text}`; choose f32, f16 or bf16"),
    }
}
