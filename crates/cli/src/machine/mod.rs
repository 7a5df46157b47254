//! `tiny-llm machine`: what this machine could reach, measured.
//!
//! An engine that decodes is limited by memory: every weight is read for every token. An engine that prefills is limited
//! by arithmetic. The two rates measured here are those limits, so a benchmark can say which part of them was reached.

mod arithmetic;
mod bandwidth;
mod facts;
mod gpu;
mod together;

use std::num::NonZero;
use std::thread;

use anyhow::{Result, bail};
use mlx_custom::gpu::GpuBackend;

use crate::arguments::Machine as Arguments;
use crate::measurements::Machine;
use crate::output;

/// The work of a measurement grows with the threads, and more of them than processors only take turns.
const MOST_PER_PROCESSOR: usize = 4;

pub fn run(arguments: &Arguments) -> Result<()> {
    let machine = measure(threads(arguments.threads)?)?;
    if arguments.json {
        return output::json(&serde_json::to_value(&machine)?);
    }
    let mut lines = vec![
        format!("processor          {}, {} cores", machine.cpu, machine.cores),
        format!("SIMD               {}", machine.simd.join(", ")),
    ];
    if let Some(bytes) = machine.memory_bytes {
        lines.push(format!("memory             {:.1} GB", bytes as f64 / 1e9));
    }
    lines.push(format!("system             {}", machine.system));
    lines.push(format!("with {} threads", machine.threads));
    lines.push(format!("  reads memory at  {:.1} GB/s", machine.bandwidth / 1e9));
    lines.push(format!("  multiplies at    {:.1} GFLOP/s (f32, fused multiply-add)", machine.peak_flops / 1e9));
    output::line(&lines.join("\n"))
}

/// Measures with `threads` threads; takes about two seconds with one for each processor.
///
/// # Errors
/// When the system has no threads or no memory for it.
pub fn measure(threads: usize) -> Result<Machine> {
    Ok(Machine {
        cpu: facts::processor(),
        cores: available_cores(),
        simd: facts::simd(),
        system: facts::system(),
        memory_bytes: facts::memory_bytes(),
        threads,
        bandwidth: bandwidth::read(threads, facts::memory_bytes())?,
        peak_flops: arithmetic::peak(threads)?,
        is_gpu: false,
    })
}

/// The same for the GPU that MLX uses, whose rates are those of a copy and of a product of bf16 matrices.
///
/// # Errors
/// MLX cannot run on it, or it lacks the memory for 2.5 GB of arrays.
pub fn measure_gpu(threads: usize) -> Result<Machine> {
    Ok(Machine {
        cpu: format!("GPU ({}) beside {}", GpuBackend::current()?.word(), facts::processor()),
        cores: available_cores(),
        simd: facts::simd(),
        system: facts::system(),
        memory_bytes: facts::memory_bytes(),
        threads,
        bandwidth: gpu::bandwidth()?,
        peak_flops: gpu::peak_flops()?,
        is_gpu: true,
    })
}

/// The number of threads that was asked for, or one for each processor that this process may use.
///
/// # Errors
/// When there are none, or more than this machine can run usefully: then the system's scheduler would be measured.
pub fn threads(wanted: Option<usize>) -> Result<usize> {
    let cores = available_cores();
    let most = MOST_PER_PROCESSOR * cores;
    match wanted {
        Some(0) => bail!("--threads must be at least 1"),
        Some(threads) if threads > most => bail!(
            "--threads must be at most {most}, which is {MOST_PER_PROCESSOR} for each of the {cores} processors that this \
             program may use"
        ),
        Some(threads) => Ok(threads),
        None => Ok(cores),
    }
}

fn available_cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}
