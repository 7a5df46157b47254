//! Attention on a GPU: the kernels of day 2.5 beside MLX's own fused attention.
//!
//! The sizes are those of Qwen2-7B: 28 query heads, 4 key-value heads, 128 numbers a head, bf16. Each round runs a chain of
//! calls, one for each of 28 layers with keys and values of their own (as in a model, they do not come from a cache of
//! the GPU), each with the previous answer as its query, in one evaluation; ours and MLX's in turns. Printed are medians.
//!
//! `cargo run --release --package tiny-llm-cli --example gpu_attention -- [decode] [prefill] [sweep] [json]`
//!
//! `sweep` also tries other numbers of splits and other tiles. Without a GPU only `smoke` makes sense: small sizes, in the
//! emulator.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
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

const ROUNDS: usize = 9;
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
    let words: Vec<String> = std::env::args().skip(1).collect();
    let known = ["decode", "prefill", "sweep", "json", "smoke"];
    if let Some(unknown) = words.iter().find(|word| !known.contains(&word.as_str())) {
        bail!("`{unknown}` is none of {}", known.join(", "));
    }
    let has = |word: &str| words.iter().any(|other| other == word);
    let backend = GpuBackend::current()?;
    let is_smoke = has("smoke");
    if backend == GpuBackend::Emulator {
        ensure!(is_smoke, "this machine has no GPU that MLX can use: only `smoke` runs here, in the emulator");
    } else {
        Device::set_default(&Device::gpu());
    }
    let both = !has("decode") && !has("prefill");
    let qwen = Sizes { num_heads: 28, num_kv_heads: 4, head_dim: 128, query_len: 1, key_len: 0, layers: 28 };
    let mut problems = Vec::new();
    if is_smoke {
        let small = Sizes { num_heads: 4, num_kv_heads: 2, head_dim: 64, layers: 2, ..qwen };
        problems.extend([Sizes { key_len: 200, ..small }, Sizes { query_len: 70, key_len: 70, ..small }]);
    } else {
        if both || has("decode") {
            problems.extend([1024, 2048, 8192, 32768].map(|key_len| Sizes { key_len, ..qwen }));
        }
        if both || has("prefill") {
            let prompt = |len, layers| Sizes { query_len: len, key_len: len, layers, ..qwen };
            problems.extend([prompt(512, 28), prompt(2048, 16), prompt(8192, 4)]);
            problems.push(Sizes { query_len: 512, key_len: 8192, layers: 16, ..qwen });
        }
    }
    if !has("json") {
        println!("{backend:?}; bf16, heads 28/4, head size 128; microseconds a call");
        println!(
            "{:>6} {:>6}  {:<76} {:>9} {:>9} {:>6} {:>7} {:>8} {:>9}",
            "L", "S", "kernel", "ours", "MLX", "ratio", "GB/s", "TFLOP/s", "max diff"
        );
    }
    let mut worst = 0.0_f32;
    for sizes in problems {
        let layers = Layers::random(sizes)?;
        for choice in layers.choices(backend, has("sweep"))? {
            let row = layers.measure(backend, choice)?;
            worst = worst.max(row.max_difference);
            if has("json") {
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
                    [(4, 1, 32), (4, 1, 64), (8, 1, 64), (4, 2, 32), (4, 2, 64), (4, 2, 128), (8, 2, 64)]
                        .map(|(simd_groups, row_tiles, keys)| Tiles { simd_groups, row_tiles, keys })
                        .map(|tiles| KernelChoice::Prefill { tiles })
                        .into()
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
        let [ours_s, mlx_s] = [ours_s, mlx_s].map(|seconds| median(seconds) / layers as f64);
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

    /// Seconds for all layers: each takes the previous one's answer as its query.
    fn chain(&self, attend: &impl Fn(&Array, &Array, &Array) -> Result<Array>) -> Result<f64> {
        let start = Instant::now();
        let mut query = self.query.clone();
        for (key, value) in &self.caches {
            query = attend(&query, key, value)?;
        }
        transforms::eval([&query])?;
        Ok(start.elapsed().as_secs_f64())
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
