//! Attention by itself: the plain path of day 1.3, MLX's own, and flash attention of day 2.4.
//!
//! The sizes are those of SmolLM2-135M (9 query heads on 3 key-value heads) and Qwen2.5-0.5B (14 on 2), D = 64. Prefill
//! counts multiplications with addition, decode counts bytes of keys and values.
//!
//! `cargo bench --package tiny-llm-cli --bench attention`

use std::hint::black_box;

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
#[cfg(all(feature = "student", not(feature = "reference")))]
use tiny_llm as engine;
#[cfg(feature = "reference")]
use tiny_llm_reference as engine;

use engine::flash_attention::{Options, Variant, available_variants, flash_attention, flash_attention_with};
use engine::{AttentionMask, scaled_dot_product_attention_grouped};
use mlx_rs::fast::{ScaledDotProductAttentionMask, scaled_dot_product_attention};
use mlx_rs::{Array, Device, random};

const HEAD_DIM: i32 = 64;
const MODELS: [(&str, i32, i32); 2] = [("smollm2-135m", 9, 3), ("qwen2.5-0.5b", 14, 2)];

/// Query, key and value, evaluated.
struct Inputs([Array; 3]);

impl Inputs {
    fn new(num_heads: i32, num_kv_heads: i32, query_len: i32, key_len: i32) -> Self {
        let shapes = [
            [1, num_heads, query_len, HEAD_DIM],
            [1, num_kv_heads, key_len, HEAD_DIM],
            [1, num_kv_heads, key_len, HEAD_DIM],
        ];
        Self(shapes.map(|shape| evaluated(random::normal::<f32>(&shape, None, None, None))))
    }
}

/// A benchmark has nobody to report to.
fn evaluated<E: std::fmt::Display>(result: Result<Array, E>) -> Array {
    let evaluated = result.map_err(|error| error.to_string()).and_then(|array| match array.eval() {
        Ok(()) => Ok(array),
        Err(error) => Err(error.to_string()),
    });
    evaluated.unwrap_or_else(|error| panic!("{error}"))
}

/// The three, on the same inputs.
fn compare(group: &mut BenchmarkGroup<'_, WallTime>, parameter: &str, Inputs([query, key, value]): &Inputs) {
    let causal = AttentionMask::Causal;
    let id = |name: &str| BenchmarkId::new(name, parameter);
    group.bench_function(id("plain"), |b| {
        b.iter(|| evaluated(scaled_dot_product_attention_grouped(query, key, value, None, &causal)));
    });
    let scale = 1.0 / (HEAD_DIM as f32).sqrt();
    group.bench_function(id("mlx"), |b| {
        let mask = || Some(ScaledDotProductAttentionMask::Causal);
        b.iter(|| evaluated(scaled_dot_product_attention(query, key, value, scale, mask(), None)));
    });
    group.bench_function(id("flash"), |b| {
        b.iter(|| evaluated(flash_attention(query, key, value, None, &causal)));
    });
}

fn prefill(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prefill");
    for (model, num_heads, num_kv_heads) in MODELS {
        for len in [128, 1024, 4096] {
            let multiply_adds = 2 * HEAD_DIM as u64 * num_heads as u64 * (len as u64 * (len as u64 + 1) / 2);
            group.throughput(Throughput::Elements(multiply_adds)).sample_size(10);
            compare(&mut group, &format!("{model}/{len}"), &Inputs::new(num_heads, num_kv_heads, len, len));
        }
    }
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (model, num_heads, num_kv_heads) in MODELS {
        for len in [128, 1024, 4096, 32_768] {
            let bytes = 2 * 4 * (num_kv_heads * HEAD_DIM * len) as u64;
            group.throughput(Throughput::Bytes(bytes)).sample_size(20);
            compare(&mut group, &format!("{model}/{len}"), &Inputs::new(num_heads, num_kv_heads, 1, len));
        }
    }
    group.finish();
}

/// What the vector instructions bring.
fn variants(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("instruction sets");
    let Inputs([query, key, value]) = Inputs::new(9, 3, 512, 512);
    group.throughput(Throughput::Elements(2 * 64 * 9 * (512 * 513 / 2))).sample_size(10);
    for variant in available_variants() {
        let options = Options { variant, ..Options::default() };
        group.bench_function(Variant::name(variant), |b| {
            let attend =
                || flash_attention_with(&query, &key, &value, None, &AttentionMask::Causal, black_box(options));
            b.iter(|| evaluated(attend()));
        });
    }
    group.finish();
}

fn on_the_cpu(criterion: &mut Criterion) {
    Device::set_default(&Device::cpu());
    prefill(criterion);
    decode(criterion);
    variants(criterion);
}

criterion_group!(benches, on_the_cpu);
criterion_main!(benches);
