//! Tensors of every format, bit for bit against the values that other programs read from the same files.

#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod common;

use checkpoint::Checkpoint;
use common::{data, expected, to_f32};
use mlx_rs::{Dtype, ops};
use rstest::rstest;

#[rstest]
#[case::safetensors("sharded", "sharded/expected.safetensors")]
#[case::mlx_quantized("mlx-quantized", "mlx-quantized/expected.safetensors")]
#[case::gguf_llama("tiny-llama.gguf", "tiny-llama.expected.safetensors")]
#[case::gguf_qwen2("tiny-qwen2.gguf", "tiny-qwen2.expected.safetensors")]
#[case::gguf_first_part("tiny-llama-parts-00001-of-00003.gguf", "tiny-llama.expected.safetensors")]
#[case::gguf_other_part("tiny-llama-parts-00003-of-00003.gguf", "tiny-llama.expected.safetensors")]
#[case::gguf_q8("tiny-gpt2-split.gguf", "tiny-gpt2-split.expected.safetensors")]
fn every_tensor_has_exactly_the_expected_values(#[case] model: &str, #[case] values: &str) {
    let checkpoint = Checkpoint::open(&data(model)).unwrap();
    let expected = expected(values);
    assert!(expected.len() > 10);
    for (name, shape, values) in expected {
        let array = checkpoint.tensor(&name, &shape, Some(Dtype::Float32)).unwrap();
        assert_eq!(array.shape(), shape.iter().map(|&size| size as i32).collect::<Vec<_>>(), "{name}");
        assert_eq!(array.dtype(), Dtype::Float32, "{name}");
        assert!(to_f32(&array) == values, "{name} differs");
        assert!(checkpoint.has(&name), "{name}");
    }
}

#[rstest]
#[case("sharded", "model.embed_tokens.weight", Dtype::Bfloat16)]
#[case("sharded", "model.norm.weight", Dtype::Float32)]
#[case("sharded", "model.layers.0.mlp.up_proj.weight", Dtype::Float16)]
#[case("mlx-quantized", "model.embed_tokens.weight", Dtype::Bfloat16)]
#[case("mlx-quantized", "model.layers.0.self_attn.q_proj.weight", Dtype::Float32)]
#[case("mlx-quantized", "model.layers.0.self_attn.k_proj.weight", Dtype::Float16)]
#[case("mlx-quantized", "model.layers.0.self_attn.o_proj.weight", Dtype::Bfloat16)]
#[case("tiny-qwen2.gguf", "model.embed_tokens.weight", Dtype::Float16)]
#[case("tiny-qwen2.gguf", "model.norm.weight", Dtype::Float32)]
#[case("tiny-llama.gguf", "model.embed_tokens.weight", Dtype::Float32)] // Q4_0
fn without_a_dtype_the_stored_one_is_kept(#[case] model: &str, #[case] name: &str, #[case] dtype: Dtype) {
    let checkpoint = Checkpoint::open(&data(model)).unwrap();
    let shape = shape_of(model, name);
    assert_eq!(checkpoint.tensor(name, &shape, None).unwrap().dtype(), dtype);
    assert_eq!(checkpoint.tensor(name, &shape, Some(Dtype::Float16)).unwrap().dtype(), Dtype::Float16);
}

fn shape_of(model: &str, name: &str) -> Vec<usize> {
    let file = match model.strip_suffix(".gguf") {
        Some(stem) => format!("{stem}.expected.safetensors"),
        None => format!("{model}/expected.safetensors"),
    };
    expected(&file).into_iter().find(|(tensor, _, _)| tensor == name).unwrap().1
}

#[test]
fn a_quantized_weight_in_the_stored_type_is_rounded_once() {
    let checkpoint = Checkpoint::open(&data("mlx-quantized")).unwrap();
    let name = "model.embed_tokens.weight";
    let stored = to_f32(&checkpoint.tensor(name, &[40, 128], None).unwrap());
    let exact = to_f32(&checkpoint.tensor(name, &[40, 128], Some(Dtype::Float32)).unwrap());
    assert_ne!(stored, exact);
    assert!(stored.iter().zip(exact).all(|(&stored, exact)| stored == half::bf16::from_f32(exact).to_f32()));
}

/// Week 2 computes with the packed form: MLX must get the same weights from it as our own dequantization.
#[rstest]
#[case("model.embed_tokens", 64, 4)]
#[case("model.layers.0.self_attn.q_proj", 32, 8)]
#[case("model.layers.0.self_attn.k_proj", 128, 4)]
#[case("model.layers.0.self_attn.v_proj", 64, 8)]
#[case("model.layers.0.mlp.up_proj", 128, 8)]
#[case("model.layers.0.mlp.down_proj", 32, 4)]
fn packed_weights_are_what_mlx_expects(#[case] layer: &str, #[case] group_size: usize, #[case] bits: usize) {
    let name = format!("{layer}.weight");
    let checkpoint = Checkpoint::open(&data("mlx-quantized")).unwrap();
    let packed = checkpoint.quantized(&name).unwrap().unwrap();
    assert_eq!((packed.group_size, packed.bits), (group_size, bits));
    assert_eq!(packed.packed.dtype(), Dtype::Uint32);
    let [scales, biases] = [&packed.scales, &packed.biases].map(|part| part.as_dtype(Dtype::Float32).unwrap());
    let by_mlx = ops::dequantize(&packed.packed, &scales, &biases, group_size as i32, bits as i32).unwrap();
    let ours = checkpoint.tensor(&name, &shape_of("mlx-quantized", &name), Some(Dtype::Float32)).unwrap();
    assert!(to_f32(&by_mlx) == to_f32(&ours));
}

#[rstest]
#[case("sharded", "model.embed_tokens.weight")]
#[case("mlx-quantized", "model.layers.0.self_attn.o_proj.weight")]
#[case("mlx-quantized", "model.norm.weight")]
#[case("tiny-llama.gguf", "model.norm.weight")]
fn other_tensors_have_no_packed_form(#[case] model: &str, #[case] name: &str) {
    assert!(Checkpoint::open(&data(model)).unwrap().quantized(name).unwrap().is_none());
}

#[test]
fn a_llama_has_zero_biases_and_nothing_else_besides() {
    let checkpoint = Checkpoint::open(&data("tiny-llama.gguf")).unwrap();
    assert!(!checkpoint.config().attention_bias);
    for (module, len) in [("q_proj", 32), ("k_proj", 16), ("v_proj", 16)] {
        let name = format!("model.layers.1.self_attn.{module}.bias");
        assert!(checkpoint.has(&name));
        let bias = checkpoint.tensor(&name, &[len], None).unwrap();
        assert_eq!(to_f32(&bias), vec![0.0; len]);
        let weight = checkpoint.tensor(&name.replace(".bias", ".weight"), &[len, 32], None).unwrap();
        assert_eq!(bias.dtype(), weight.dtype());
        assert!(checkpoint.tensor(&name, &[len + 1], None).is_err());
    }
    for name in [
        "model.layers.2.self_attn.q_proj.bias",
        "model.layers.0.self_attn.o_proj.bias",
        "lm_head.weight",
        "model.norm.bias",
    ] {
        assert!(!checkpoint.has(name), "{name}");
        let error = checkpoint.tensor(name, &[32], None).unwrap_err().to_string();
        assert!(error.contains(name.trim_end_matches(".bias")) && error.contains("missing"), "{error}");
    }
}

#[test]
fn asking_for_the_wrong_thing_is_an_error_that_names_it() {
    let checkpoint = Checkpoint::open(&data("sharded")).unwrap();
    let name = "model.layers.0.mlp.up_proj.weight";
    let error = checkpoint.tensor(name, &[16, 24], None).unwrap_err().to_string();
    assert!(error.contains(name) && error.contains("[24, 16]") && error.contains("[16, 24]"), "{error}");
    assert!(error.contains("model-0000"), "{error}");
    let error = checkpoint.tensor(name, &[24, 16], Some(Dtype::Int32)).unwrap_err().to_string();
    assert!(error.contains(name) && error.contains("Int32"), "{error}");
}

#[test]
fn the_summary_counts_parameters_and_storage() {
    let checkpoint = Checkpoint::open(&data("mlx-quantized")).unwrap();
    let summary = checkpoint.summary().unwrap();
    let total: usize = expected("mlx-quantized/expected.safetensors").iter().map(|(_, _, values)| values.len()).sum();
    assert_eq!(summary.parameters, total as u64);
    assert_eq!(summary.storage["8-bit (group 128)"], 32 * 128);
    assert_eq!(summary.bytes_on_disk, data("mlx-quantized/model.safetensors").metadata().unwrap().len());
    let text = summary.to_string();
    assert!(text.contains("1 layers") && text.contains("4-bit (group 64)"), "{text}");
}
