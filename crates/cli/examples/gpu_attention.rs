//! Attention on a GPU: the kernels of day 2.5 beside MLX's own fused attention.
//!
//! The sizes are those of Qwen2-7B: 28 query heads, 4 key-value heads, 128 numbers a head, bf16. Each round runs a chain of
//! calls, layer by layer with keys and values of their own (as in a model, they do not come from a cache of the GPU), each
//! with the previous answer as its query, several times through all layers in one evaluation; ours and MLX's in turns.
//! Printed are medians.
//!
//! `cargo run --release --package tiny-llm-cli --example gpu_attention -- --help`

use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use mlx_custom::gpu::GpuBackend;
use mlx_rs::fast::{ScaledDotProductAttentionMask, scaled_dot_product_attention};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Device, Dtype, random, transforms};
use serde::Serialize;
#[cfg(all(feature = "student", not(feature = "reference")))]
use tiny_llm as engine;
#[cfg(feature = "reference")]
use tiny_llm_reference as engine;

use engine::AttentionMask;
use engine::flash_attention::gpu::problem::Problem;
use engine::flash_attention::gpu::{KernelChoice, Tiles, choose_kernel, flash_attention_gpu_with};

#[derive(Debug, Parser)]
#[command(about = "Times attention on the GPU: ours and MLX's fused attention, in turns")]
struct Arguments {
    /// Only one query behind a context.
    #[arg(long, conflicts_with = "prefill")]
    decode: bool,
    /// Only many queries.
    #[arg(long)]
    prefill: bool,
    /// Only this many keys.
    #[arg(long)]
    keys: Option<i32>,
    /// Also try other numbers of splits and other tiles.
    #[arg(long)]
    sweep: bool,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    /// Small sizes, in the emulator: to try this program where there is no GPU.
    #[arg(long)]
    smoke: bool,
}

const ROUNDS: usize = 9;
/// Calls of one evaluation at least: so many that it does not count when the GPU waits for the first, and the processor for
/// the last.
const CALLS: usize = 224;
/// Two last places of bf16: |ours - MLX's| / (1 + |MLX's|).
const TOLERANCE: f32 = 0.016;

/// One problem, with a chain of layers.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    num_heads: i32,
    num_kv_heads: i32,
    head_dim: i32,
    query_len: i32,
    key_len: i32,
    layers: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    query_len: i32,
    key_len: i32,
    kernel: String,
    ours_us: f64,
    mlx_us: f64,
    /// How many times as fast as MLX.
    ratio: f64,
    gigabytes_per_s: f64,
    tflops_per_s: f64,
    max_difference: f32,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let backend = GpuBackend::current()?;
    if backend == GpuBackend::Emulator {
        ensure!(arguments.smoke, "this machine has no GPU that MLX can use: only --smoke runs here, in the emulator");
    } else {
        Device::set_default(&Device::gpu());
    }
    let both = !arguments.decode && !arguments.prefill;
    let qwen = Sizes { num_heads: 28, num_kv_heads: 4, head_dim: 128, query_len: 1, key_len: 0, layers: 28 };
    let mut problems = Vec::new();
    if arguments.smoke {
        let small = Sizes { num_heads: 4, num_kv_heads: 2, head_dim: 64, layers: 2, ..qwen };
        problems.extend([Sizes { key_len: 200, ..small }, Sizes { query_len: 70, key_len: 70, ..small }]);
    } else {
        if both || arguments.decode {
            problems.extend([1024, 2048, 8192, 32768].map(|key_len| Sizes { key_len, ..qwen }));
        }
        if both || arguments.prefill {
            let prompt = |len, layers| Sizes { query_len: len, key_len: len, layers, ..qwen };
            problems.extend([prompt(512, 28), prompt(2048, 16), prompt(8192, 4)]);
            problems.push(Sizes { query_len: 512, key_len: 8192, layers: 16, ..qwen });
        }
    }
    if !arguments.json {
        println!("{backend:?}; bf16, heads 28/4, head size 128; microseconds a call");
        println!(
            "{:>6} {:>6}  {:<76} {:>9} {:>9} {:>6} {:>7} {:>8} {:>9}",
            "L", "S", "kernel", "ours", "MLX", "ratio", "GB/s", "TFLOP/s", "max diff"
        );
    }
    problems.retain(|sizes| arguments.keys.is_none_or(|keys| sizes.key_len == keys));
    ensure!(!problems.is_empty(), "there is no measurement with {} keys", arguments.keys.unwrap_or_default());
    let mut worst = 0.0_f32;
    for sizes in problems {
        let layers = Layers::random(sizes)?;
        for choice in layers.choices(backend, arguments.sweep)? {
            let row = layers.measure(backend, choice)?;
            worst = worst.max(row.max_difference);
            if arguments.json {
                println!("{}", serde_json::to_string(&row)?);
            } else {
                println!(
                    "{:>6} {:>6}  {:<76} {:>9.1} {:>9.1} {:>6.2} {:>7.0} {:>8.1} {:>9.5}",
                    row.query_len,
                    row.key_len,
                    row.kernel,
                    row.ours_us,
                    row.mlx_us,
                    row.ratio,
                    row.gigabytes_per_s,
                    row.tflops_per_s,
                    row.max_difference
                );
            }
        }
    }
    ensure!(worst <= TOLERANCE, "an answer differs from MLX's by {worst}, more than {TOLERANCE}");
    Ok(())
}

/// Queries, and for each layer keys and values: parts of caches with room for more.
struct Layers {
    sizes: Sizes,
    query: Array,
    caches: Vec<(Array, Array)>,
}

impl Layers {
    fn random(sizes: Sizes) -> Result<Self> {
        let Sizes { num_heads, num_kv_heads, head_dim, query_len, key_len, layers } = sizes;
        let normal = |shape: &[i32]| -> Result<Array> {
            let array = random::normal::<f32>(shape, None, None, None)?.as_dtype(Dtype::Bfloat16)?;
            array.eval()?;
            Ok(array)
        };
        let capacity = (key_len / 256 + 1) * 256;
        let cache = || -> Result<Array> {
            let buffer = normal(&[1, num_kv_heads, capacity, head_dim])?;
            Ok(buffer.try_index((.., .., ..key_len))?)
        };
        let caches = (0..layers).map(|_| Ok((cache()?, cache()?))).collect::<Result<_>>()?;
        Ok(Self { sizes, query: normal(&[1, num_heads, query_len, head_dim])?, caches })
    }

    /// The engine's own choice, and others.
    fn choices(&self, backend: GpuBackend, sweep: bool) -> Result<Vec<KernelChoice>> {
        let (key, value) = &self.caches[0];
        let own = choose_kernel(&Problem::new(&self.query, key, value, None, &AttentionMask::Causal)?, backend);
        let mut choices = vec![own];
        if sweep {
            let others: Vec<KernelChoice> = match own {
                KernelChoice::Prefill { .. } | KernelChoice::PrefillWide { .. } => {
                    let wide = [4, 8].map(|simd_groups| KernelChoice::PrefillWide { simd_groups });
                    let is_wide = matches!(own, KernelChoice::PrefillWide { .. });
                    let tiles = [(4, 1, 32), (4, 1, 64), (8, 1, 64), (4, 2, 32), (4, 2, 64), (4, 2, 128), (8, 2, 64)]
                        .map(|(simd_groups, row_tiles, keys)| Tiles { simd_groups, row_tiles, keys })
                        .map(|tiles| KernelChoice::Prefill { tiles });
                    wide.into_iter().filter(|_| is_wide).chain(tiles).collect()
                }
                _ => [1, 8, 16, 33, 66, 99, 132].map(|splits| KernelChoice::Decode { splits }).into(),
            };
            choices.extend(others.into_iter().filter(|choice| *choice != own));
        }
        Ok(choices)
    }

    fn measure(&self, backend: GpuBackend, choice: KernelChoice) -> Result<Row> {
        let Sizes { num_heads, num_kv_heads, head_dim, query_len, key_len, layers } = self.sizes;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let ours = |query: &Array, key: &Array, value: &Array| -> Result<Array> {
            Ok(flash_attention_gpu_with(query, key, value, None, &AttentionMask::Causal, backend, choice)?)
        };
        let mlx = |query: &Array, key: &Array, value: &Array| -> Result<Array> {
            let mask = (query_len > 1).then_some(ScaledDotProductAttentionMask::Causal);
            Ok(scaled_dot_product_attention(query, key, value, scale, mask, None)?)
        };
        let (key, value) = &self.caches[0];
        let expected = mlx(&self.query, key, value)?.as_dtype(Dtype::Float32)?;
        let difference = ours(&self.query, key, value)?.as_dtype(Dtype::Float32)?.subtract(&expected)?.abs()?;
        let largest = difference.divide(expected.abs()?.add(Array::from_f32(1.0))?)?.max(false)?;
        let max_difference = largest.item_exact::<f32>();

        // Compiles, and warms up.
        self.chain(&ours)?;
        self.chain(&mlx)?;
        let (mut ours_s, mut mlx_s) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours_s.push(self.chain(&ours)?);
            mlx_s.push(self.chain(&mlx)?);
        }
        let calls = (layers * self.passes()) as f64;
        let [ours_s, mlx_s] = [ours_s, mlx_s].map(|seconds| median(seconds) / calls);
        // Query p sees p + S - L + 1 keys.
        let pairs = f64::from(query_len) * (f64::from(key_len) - f64::from(query_len - 1) / 2.0);
        let flops = 4.0 * f64::from(num_heads) * f64::from(head_dim) * pairs;
        let bytes = 2.0 * 2.0 * f64::from(head_dim) * f64::from(num_kv_heads * key_len + num_heads * query_len);
        Ok(Row {
            query_len,
            key_len,
            kernel: format!("{choice:?}"),
            ours_us: ours_s * 1e6,
            mlx_us: mlx_s * 1e6,
            ratio: mlx_s / ours_s,
            gigabytes_per_s: bytes / ours_s / 1e9,
            tflops_per_s: flops / ours_s / 1e12,
            max_difference,
        })
    }

    /// How often a chain goes through all layers. Tens of thousands of pairs of a query and a key keep a GPU busy by themselves.
    fn passes(&self) -> usize {
        let Sizes { query_len, layers, .. } = self.sizes;
        if query_len <= 2048 { CALLS.div_ceil(layers) } else { 4 }
    }

    /// Seconds for all layers, several times: each takes the previous one's answer as its query.
    fn chain(&self, attend: &impl Fn(&Array, &Array, &Array) -> Result<Array>) -> Result<f64> {
        let start = Instant::now();
        let mut query = self.query.clone();
        for _ in 0..self.passes() {
            for (key, value) in &self.caches {
                query = attend(&query, key, value)?;
            }
        }
        transforms::eval([&query])?;
        Ok(start.elapsed().as_secs_f64())
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
