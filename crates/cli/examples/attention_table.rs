//! Time and memory of attention over long sequences: the plain path of day 1.3, MLX's own, and flash attention. A table
//! for day 2.4.
//!
//! The arrays have the sizes of one layer of SmolLM2-135M in f32: 9 query heads, 3 key-value heads, 64 numbers a head.
//! The memory is what the process needs at most beyond its inputs, so each measurement has a process of its own.
//!
//! `cargo run --release --package tiny-llm-cli --example attention_table`

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mlx_rs::fast::{ScaledDotProductAttentionMask, scaled_dot_product_attention};
use mlx_rs::{Array, Device, random};
use nix::sys::resource::{UsageWho, getrusage};
#[cfg(all(feature = "student", not(feature = "reference")))]
use tiny_llm as engine;
#[cfg(feature = "reference")]
use tiny_llm_reference as engine;

use engine::flash_attention::flash_attention;
use engine::{AttentionMask, scaled_dot_product_attention_grouped};

const HEADS: i32 = 9;
const KV_HEADS: i32 = 3;
const HEAD_DIM: i32 = 64;
const N_ROUNDS: usize = 5;

const KINDS: [&str; 3] = ["plain", "mlx", "flash"];
/// L and S: prompts, the last chunk of a long prompt, a decode step.
const SIZES: [(i32, i32); 6] = [(512, 512), (1024, 1024), (2048, 2048), (4096, 4096), (256, 4096), (1, 4096)];

fn main() -> Result<()> {
    Device::set_default(&Device::cpu());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => table(),
        [kind, query_len, key_len] => measure(kind, query_len.parse()?, key_len.parse()?),
        _ => bail!("takes no arguments"),
    }
}

fn table() -> Result<()> {
    println!("{:>6} {:>6}  {}", "L", "S", KINDS.map(|kind| format!("{kind:>24}")).concat());
    for (query_len, key_len) in SIZES {
        // In turns, so that a disturbance meets all three.
        let mut measured: [Vec<(f64, f64)>; 3] = Default::default();
        for _ in 0..N_ROUNDS {
            for (kind, measured) in KINDS.iter().zip(&mut measured) {
                measured.push(in_own_process(kind, query_len, key_len)?);
            }
        }
        let cells = measured.map(|runs| {
            let millis = median(runs.iter().map(|run| run.0).collect());
            let megabytes = median(runs.iter().map(|run| run.1).collect());
            format!("{millis:>11.2} ms {megabytes:>7.1} MB")
        });
        println!("{query_len:>6} {key_len:>6}  {}", cells.concat());
    }
    println!("medians of {N_ROUNDS} processes; causal, f32, {} threads", mlx_custom::num_threads());
    Ok(())
}

/// Milliseconds and megabytes.
fn in_own_process(kind: &str, query_len: i32, key_len: i32) -> Result<(f64, f64)> {
    let program = std::env::current_exe()?;
    let output = Command::new(program).args([kind, &query_len.to_string(), &key_len.to_string()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [millis, megabytes] => Ok((millis, megabytes)),
        _ => bail!("{kind} at L = {query_len}, S = {key_len}: {}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}

fn measure(kind: &str, query_len: i32, key_len: i32) -> Result<()> {
    let normal = |heads, len| -> Result<Array> {
        let array = random::normal::<f32>(&[1, heads, len, HEAD_DIM], None, None, None)?;
        array.eval()?;
        Ok(array)
    };
    let (query, key, value) = (normal(HEADS, query_len)?, normal(KV_HEADS, key_len)?, normal(KV_HEADS, key_len)?);
    let scale = 1.0 / (HEAD_DIM as f32).sqrt();
    let attend = |query: &Array, key: &Array, value: &Array| -> Result<()> {
        let causal = AttentionMask::Causal;
        let answer = match kind {
            "plain" => scaled_dot_product_attention_grouped(query, key, value, None, &causal)?,
            "mlx" => {
                let mask = Some(ScaledDotProductAttentionMask::Causal);
                scaled_dot_product_attention(query, key, value, scale, mask, None)?
            }
            "flash" => flash_attention(query, key, value, None, &causal)?,
            _ => bail!("{kind} is none of {KINDS:?}"),
        };
        Ok(answer.eval()?)
    };
    // Threads, caches and libraries are there before anything counts.
    let small = normal(HEADS, 1)?;
    attend(&small, &small, &small)?;
    let before = peak_bytes()?;
    attend(&query, &key, &value)?;
    let megabytes = (peak_bytes()? - before) as f64 / 1e6;

    let n_runs = if query_len == 1 { 50 } else { 3 };
    let millis = (0..n_runs).map(|_| {
        let start = Instant::now();
        attend(&query, &key, &value)?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    });
    println!("{} {megabytes}", median(millis.collect::<Result<_>>()?));
    Ok(())
}

/// The most memory that was resident at any time.
fn peak_bytes() -> Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("the system doesn't say how much memory is used")?;
    // macOS counts bytes, the others kilobytes.
    Ok(usage.max_rss() * if cfg!(target_os = "macos") { 1 } else { 1024 })
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
