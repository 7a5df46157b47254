//! What a model on a GPU needs beside attention: the cache's append and the small fused kernels.

use grader::{Case, Fixture, Rng, Tolerance, check_close};
use mlx_custom::gpu::GpuBackend;
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};
use tiny_llm::fused::gpu::{
    GpuBlock, Heads, JoinedProjection, Positions, add_rms_norm_gpu, rms_norm_gpu, rope_qk_gpu, swiglu_gpu,
};
use tiny_llm::quantized::gpu::quantized_swiglu_gpu;
use tiny_llm::quantized::quantize;
use tiny_llm::{
    AttentionMask, Device, FullKvCache, GpuKvCache, KvCache, Linear, LogitsToKeep, Offset, Projection, QuantizedLinear,
    Qwen2Attention, Qwen2Model, Result, RmsNorm, RotaryEmbedding, Stage, SwiGluMlp, TransformerBlock, silu,
};

use crate::cached_model::{answer, forward_in_chunks, new_cache};
use crate::quantized_models::MODELS;
use crate::refusals::expect_invalid_argument;
use crate::tiled::must;
use crate::tiny_models;

/// Appends chunks of these lengths to a cache for the GPU, and compares what it fetches with one for the CPU. Keys and values
/// come side by side, or in two arrays.
pub fn check_cache(step: usize, chunks: &[i32], dtype: Dtype, joined: bool) {
    let mut rng = Rng::new(step as u64);
    let (mut on_gpu, mut on_cpu) = (must(GpuKvCache::with_step(step)), must(FullKvCache::with_step(step)));
    for &len in chunks {
        let [keys, values] = [(); 2].map(|()| must(rng.array(&[2, 3, len, 8], dtype)));
        let (got_keys, got_values) = must(if joined {
            on_gpu.update_and_fetch_joined(&must(concatenate(&[&keys, &values], 1)))
        } else {
            on_gpu.update_and_fetch(&keys, &values)
        });
        let (want_keys, want_values) = must(on_cpu.update_and_fetch(&keys, &values));
        let name = format!("after {len} more tokens of {chunks:?} in steps of {step}, {dtype:?}");
        check_close(&format!("keys {name}"), Ok::<_, String>(got_keys), &want_keys, Tolerance::EXACT);
        check_close(&format!("values {name}"), Ok::<_, String>(got_values), &want_values, Tolerance::EXACT);
        assert_eq!(on_gpu.offset(), on_cpu.offset());
        assert_eq!(on_gpu.capacity(), on_cpu.capacity());
    }
}

/// Where the numbers of an array lie. Nothing else uses them any more.
pub fn address(array: &Array) -> usize {
    must(array.eval());
    must(mlx_custom::gpu::synchronize());
    array.as_slice::<f32>().as_ptr() as usize
}

/// A case's norm, on every backend.
pub fn check_norm(name: &str) {
    let fixture = Fixture::load(crate::DAY);
    let case = fixture.case(&format!("norm/{name}"));
    let norm = RmsNorm::new(case.array("weight"), case.f32("eps"));
    for backend in GpuBackend::available() {
        if name.starts_with("residual") {
            let both = add_rms_norm_gpu(&case.array("x"), &case.array("residual"), &norm, backend);
            let (sum, normalized) = match both {
                Ok((sum, normalized)) => (Ok(sum), Ok(normalized)),
                Err(error) => (Err(error.to_string()), Err(error.to_string())),
            };
            case.check(normalized);
            case.check_named("sum", sum);
        } else {
            case.check(rms_norm_gpu(&case.array("x"), &norm, backend));
        }
    }
}

/// A table of a case's cosines and sines, as [`RotaryEmbedding`] makes it.
fn rope_of(case: &Case) -> Result<RotaryEmbedding> {
    let cosines = case.array("cos");
    RotaryEmbedding::new(2 * cosines.dim(1), cosines.dim(0), 10000.0, false)
}

/// A case's rotations, on every backend. Fixtures have query, key and value as arrays of their own.
pub fn check_rope(name: &str) {
    let fixture = Fixture::load(crate::DAY);
    let case = fixture.case(&format!("rope/{name}"));
    let offsets = case.i32s("offsets");
    let offset = if offsets.len() == 1 { Offset::Same(offsets[0]) } else { Offset::PerRow(&offsets) };
    let [query, key, value] = ["query", "key", "value"].map(|name| case.array(name));
    let projected = must(concatenate(&[&query, &key, &value], -1));
    let bias = (!name.starts_with("no_bias"))
        .then(|| must(concatenate(&["query_bias", "key_bias", "value_bias"].map(|name| case.array(name)), 0)));
    let rope = must(rope_of(case));
    let dim = rope.cos().dim(1) * 2;
    let [query_heads, key_value_heads] = [&query, &key].map(|array| array.dim(2) / dim);
    let heads = Heads { query: query_heads as usize, key_value: key_value_heads as usize, dim: dim as usize };
    let positions = must(Positions::new(&rope, offset, query.dim(0) as usize, query.dim(1) as usize));
    for backend in GpuBackend::available() {
        let [query, joined] = must(rope_qk_gpu(&projected, bias.as_ref(), heads, &positions, backend));
        case.check(Ok::<_, String>(query));
        case.check_named("key", joined.try_index((.., ..key_value_heads)));
        case.check_named("value", joined.try_index((.., key_value_heads..)));
    }
}

pub fn check_swiglu(name: &str) {
    let fixture = Fixture::load(crate::DAY);
    let case = fixture.case(&format!("swiglu/{name}"));
    let gate_up = must(concatenate(&[case.array("gate"), case.array("up")], -1));
    for backend in GpuBackend::available() {
        case.check(swiglu_gpu(&gate_up, backend));
    }
}

/// Against the plain layers, at sizes around those of threads and wide loads.
pub fn check_against_plain_layers(features: i32, dtype: Dtype) {
    let mut rng = Rng::new(features as u64);
    let mut array = |shape: &[i32]| must(rng.array(shape, dtype));
    let (x, residual, weight) = (array(&[2, features]), array(&[2, features]), array(&[features]));
    let norm = RmsNorm::new(weight, 1e-6);
    let sum = must(x.add(&residual));
    let (normalized, product) = (must(norm.forward(&sum)), must(must(silu(&x)).multiply(&residual)));
    // Two roundings in place of one: a last place, and half of another.
    let ulp = if dtype == Dtype::Float32 { 1e-6 } else { 0.008 };
    let tolerance = Tolerance { atol: ulp, rtol: 2.0 * ulp };
    for backend in GpuBackend::available() {
        let (got_sum, got) = must(add_rms_norm_gpu(&x, &residual, &norm, backend));
        check_close(&format!("sum of {features}"), Ok::<_, String>(got_sum), &sum, Tolerance::EXACT);
        check_close(&format!("norm of {features}, {dtype:?}"), Ok::<_, String>(got), &normalized, tolerance);
        let got = swiglu_gpu(&must(concatenate(&[&x, &residual], -1)), backend);
        check_close(&format!("swiglu of {features}, {dtype:?}"), got, &product, tolerance);
    }
}

/// A layer of kernels for the GPU against the plain layers on the same random weights, given these chunks of tokens.
pub fn check_block(chunks: &[i32], with_biases: bool) {
    const HEADS: [i32; 2] = [4, 2];
    const HEAD_DIM: i32 = 16;
    const FEATURES: i32 = 48;
    let mut rng = Rng::new(11);
    let mut array = |shape: &[i32]| must(must(rng.array(shape, Dtype::Float32)).multiply(Array::from_f32(0.3)));
    let [q_size, kv_size] = HEADS.map(|heads| heads * HEAD_DIM);
    let sizes = [q_size, kv_size, kv_size];
    let weights = sizes.map(|size| array(&[size, FEATURES]));
    let biases = with_biases.then(|| sizes.map(|size| array(&[size])));
    let norms = [(); 2].map(|()| RmsNorm::new(array(&[FEATURES]), 1e-6));
    let o_proj = Linear::new(array(&[FEATURES, q_size]), None);
    let [gate, up] = [(); 2].map(|()| Linear::new(array(&[40, FEATURES]), None));
    let down = Linear::new(array(&[FEATURES, 40]), None);

    let biased = |i: usize| Linear::new(weights[i].clone(), biases.as_ref().map(|biases| biases[i].clone()));
    let attention = Qwen2Attention::new(HEADS[0], HEADS[1], HEAD_DIM, biased(0), biased(1), biased(2), o_proj.clone());
    let mlp = SwiGluMlp::new(gate.clone(), up.clone(), down.clone());
    let plain = TransformerBlock::new(must(attention), mlp, norms[0].clone(), norms[1].clone());
    let on_gpu = GpuBlock {
        input_layernorm: norms[0].clone(),
        qkv: joined(weights.clone().map(|weight| Linear::new(weight, None))),
        qkv_bias: biases.map(|biases| must(concatenate(&biases, 0))),
        heads: Heads { query: HEADS[0] as usize, key_value: HEADS[1] as usize, dim: HEAD_DIM as usize },
        o_proj: o_proj.into(),
        post_attention_layernorm: norms[1].clone(),
        gate_up: joined([gate, up]),
        down_proj: down.into(),
    };
    let rope = must(RotaryEmbedding::new(HEAD_DIM, 64, 10000.0, false));
    let tolerance = Tolerance { atol: 1e-5, rtol: 1e-4 };
    // The layer takes any cache, one for the CPU as well, and none.
    let (mut cache, mut gpu_cache, mut cpu_cache) = (FullKvCache::new(), GpuKvCache::new(), FullKvCache::new());
    for &len in chunks {
        let x = array(&[2, len, FEATURES]);
        let mask = if len > 1 { AttentionMask::Causal } else { AttentionMask::None };
        let name = format!("{len} more tokens of {chunks:?}");
        let expected = must(plain.forward(&x, &rope, &mask, Some(&mut cache)));
        check_close(&name, on_gpu.forward(&x, &rope, &mask, Some(&mut gpu_cache)), &expected, tolerance);
        let got = on_gpu.forward(&x, &rope, &mask, Some(&mut cpu_cache));
        check_close(&format!("{name}, a cache for the CPU"), got, &expected, tolerance);
        let (got, expected) = (on_gpu.forward(&x, &rope, &mask, None), must(plain.forward(&x, &rope, &mask, None)));
        check_close(&format!("{name}, no cache"), got, &expected, tolerance);
    }
}

fn joined<const N: usize>(parts: [Linear; N]) -> JoinedProjection {
    let joined = must(JoinedProjection::new(parts.map(Projection::from).to_vec()));
    assert!(matches!(joined, JoinedProjection::One(_)), "{N} dense projections are one product");
    joined
}

/// Products side by side, of one matrix where the formats allow it, against one product after the other.
pub fn check_joined_projections() {
    let mut rng = Rng::new(12);
    let mut array = |shape: &[i32]| must(rng.array(shape, Dtype::Float32));
    let x = array(&[2, 3, 128]);
    let weights = [5, 3, 4].map(|outputs| array(&[outputs, 128]));
    let dense = |i: usize| Projection::from(Linear::new(weights[i].clone(), None));
    let quantized = |i: usize, group_size: usize, bits: usize| {
        let matrix = must(quantize(&weights[i], group_size, bits));
        Projection::from(QuantizedLinear::new(matrix, None)).on(Device::Gpu)
    };
    let biased = Projection::from(Linear::new(weights[0].clone(), Some(array(&[5]))));
    for (what, parts, is_one) in [
        ("4 bits", vec![quantized(0, 32, 4), quantized(1, 32, 4), quantized(2, 32, 4)], true),
        ("8 bits", vec![quantized(0, 64, 8), quantized(1, 64, 8)], true),
        ("dense", vec![dense(0), dense(1)], true),
        ("4 and 8 bits", vec![quantized(0, 32, 4), quantized(1, 32, 8)], false),
        ("other groups", vec![quantized(0, 32, 4), quantized(1, 64, 4)], false),
        ("dense and quantized", vec![dense(0), quantized(1, 32, 4)], false),
        ("with a bias", vec![biased, dense(1)], false),
    ] {
        let apart = must(parts.iter().map(|part| part.forward(&x)).collect::<Result<Vec<_>>>());
        let expected = must(concatenate(&apart, -1));
        let joined = must(JoinedProjection::new(parts));
        assert_eq!(matches!(joined, JoinedProjection::One(_)), is_one, "{what}: whether it is one product");
        check_close(what, joined.forward(&x), &expected, Tolerance { atol: 1e-5, rtol: 1e-5 });
    }
}

/// Gate, up and what is made of them: in the product's own kernel where there is one, against one kernel behind the other.
pub fn check_gated_products(intermediate: i32, dtype: Dtype) {
    let mut rng = Rng::new(13);
    let mut array = |shape: &[i32]| must(rng.array(shape, dtype));
    let quantized = |weight: &Array| {
        let matrix = must(quantize(weight, 32, 4));
        Projection::from(QuantizedLinear::new(matrix, None)).on(Device::Gpu)
    };
    let gate_up = must(JoinedProjection::new([(); 2].map(|()| quantized(&array(&[intermediate, 128]))).to_vec()));
    // Sums of the same numbers in another order, rounded; silu and the product round once more.
    let ulp = if dtype == Dtype::Float32 { 1e-5 } else { 0.01 };
    for backend in GpuBackend::available() {
        for leading in [&[1][..], &[3], &[2, 5], &[40]] {
            let x = array(&[leading, &[128]].concat());
            let expected = must(swiglu_gpu(&must(gate_up.forward(&x)), backend));
            let name = format!("{leading:?} tokens, {intermediate} gates, {dtype:?}, {backend:?}");
            let tolerance = Tolerance { atol: ulp, rtol: 2.0 * ulp };
            check_close(&name, gate_up.forward_swiglu(&x, backend), &expected, tolerance);
            let JoinedProjection::One(Projection::Quantized(joined)) = &gate_up else {
                panic!("{name}: gate and up are one matrix");
            };
            let has_kernel = must(quantized_swiglu_gpu(backend, &x, &joined.weight)).is_some();
            assert_eq!(has_kernel, dtype != Dtype::Float32 && leading != [40], "{name}: whether one kernel does it");
        }
        let odd = must(quantize(&array(&[5, 128]), 32, 4));
        if dtype != Dtype::Float32 {
            let refused = quantized_swiglu_gpu(backend, &array(&[1, 128]), &odd);
            expect_invalid_argument(refused, "five rows: gate and up of other lengths");
        }
    }
}

fn load(name: &str, dtype: Dtype) -> Result<Qwen2Model> {
    Qwen2Model::load_on(Device::Gpu, &tiny_models::open(name), dtype, Stage::Flash)
}

/// Logits of a tiny quantized model, without a cache and in chunks.
pub fn check_logits(model: &str, prompt: &str, chunks: &[i32]) {
    let fixture = Fixture::load(MODELS);
    let case = fixture.case(&format!("logits/{model}/{prompt}"));
    let ids = case.array("ids");
    let model = must(load(model, case.dtype()));
    case.check(model.forward(&ids, None, LogitsToKeep::All));
    case.check(forward_in_chunks(&model, &mut new_cache(&model), &ids, chunks));
}

/// As week 1's model: one cache for each layer, equally long, and logits of positions that there are.
pub fn check_model_refuses() {
    let model = must(load("tiny-qwen2-4bit", Dtype::Float32));
    let ids = Array::from_slice(&[3_u32, 1, 4], &[1, 3]);
    let kept = must(model.forward(&ids, None, LogitsToKeep::Last(2)));
    assert_eq!(kept.shape()[..2], [1, 2], "logits of the last two of three positions");
    let all = must(model.forward(&ids, None, LogitsToKeep::All));
    let tolerance = Tolerance { atol: 1e-4, rtol: 1e-4 };
    check_close("logits of the last two positions", Ok::<_, String>(kept), &must(all.try_index((.., 1..))), tolerance);
    for n in [0, 4] {
        let result = model.forward(&ids, None, LogitsToKeep::Last(n));
        expect_invalid_argument(result, &format!("logits of {n} of three positions"));
    }
    let row = must(ids.reshape(&[3]));
    expect_invalid_argument(model.forward(&row, None, LogitsToKeep::All), "tokens without a batch axis");
    let mut caches = new_cache(&model);
    must(model.forward(&ids, Some(&mut caches), LogitsToKeep::All));
    must(caches[1].rewind(1));
    let uneven = model.forward(&ids, Some(&mut caches), LogitsToKeep::All);
    expect_invalid_argument(uneven, "caches of three tokens and of two");
    caches.pop();
    expect_invalid_argument(model.forward(&ids, Some(&mut caches), LogitsToKeep::All), "a layer without a cache");
}

/// Greedy tokens.
pub fn check_generation(model: &str, prompt: &str) {
    let fixture = Fixture::load(MODELS);
    let case = fixture.case(&format!("greedy/{model}/{prompt}"));
    let (prompt, max_tokens) = (case.array("prompt"), case.i32("max_tokens") as usize);
    let generation = load(model, Dtype::Float32).and_then(|model| answer(&model, prompt.as_slice::<u32>(), max_tokens));
    case.check(generation.map(|generation| Array::from_slice(&generation.tokens, &[generation.tokens.len() as i32])));
}
