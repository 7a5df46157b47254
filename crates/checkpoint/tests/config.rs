//! `config.json`: what is read, what has a default, and what is refused by name.

#![allow(clippy::unwrap_used)] // in a test's helpers, a panic is the report

mod common;

use checkpoint::{Checkpoint, Config, Error};
use common::{copy_of, data, edit_json, json_file};
use rstest::rstest;
use serde_json::{Value, json};

fn open_with(edit: impl FnOnce(&mut Value)) -> Result<Config, Error> {
    let folder = copy_of("sharded");
    edit_json(&folder.path().join("config.json"), edit);
    Checkpoint::open(folder.path()).map(|checkpoint| checkpoint.config().clone())
}

#[test]
fn every_field_is_read() {
    let config = open_with(|_| ()).unwrap();
    let expected = Config {
        vocab_size: 40,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 12,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        max_position_embeddings: 64,
        tie_word_embeddings: false,
        attention_bias: true,
        eos_token_ids: vec![3, 2], // the generation config's list first
        bos_token_id: Some(1),
    };
    assert_eq!(config, expected);
}

#[test]
fn gguf_metadata_give_the_same_fields() {
    let checkpoint = Checkpoint::open(&data("tiny-llama.gguf")).unwrap();
    let tokenizer = checkpoint.tokenizer().unwrap();
    let id = |token: &str| tokenizer.token_to_id(token).unwrap();
    let expected = Config {
        vocab_size: tokenizer.vocab_size() + 3,
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-5,
        rope_theta: 50_000.0,
        max_position_embeddings: 64,
        tie_word_embeddings: true,
        attention_bias: false,
        eos_token_ids: vec![id("<|im_end|>"), id("<|endoftext|>")],
        bos_token_id: Some(id("<|endoftext|>")),
    };
    assert_eq!(*checkpoint.config(), expected);
    let untied = Checkpoint::open(&data("tiny-qwen2.gguf")).unwrap();
    assert!(untied.config().attention_bias && !untied.config().tie_word_embeddings);
}

#[rstest]
#[case::theta_in_rope_parameters(json!({ "rope_theta": null, "rope_parameters": { "rope_type": "default", "rope_theta": 5e5 } }), 5e5)]
#[case::theta_in_both(json!({ "rope_theta": 5e5, "rope_parameters": { "rope_type": "default", "rope_theta": 5e5 } }), 5e5)]
#[case::theta_absent(json!({ "rope_theta": null }), 1e4)]
#[case::integer(json!({ "rope_theta": 1000000 }), 1e6)]
#[case::default_scaling(json!({ "rope_scaling": { "type": "default" } }), 1e4)]
fn rope_theta_may_stand_in_either_place(#[case] fields: Value, #[case] theta: f32) {
    assert_eq!(open_with(|config| merge(config, fields)).unwrap().rope_theta, theta);
}

fn merge(config: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else { panic!("fields of an object are needed") };
    config.as_object_mut().unwrap().extend(fields);
}

#[rstest]
#[case(json!({ "model_type": "qwen3" }), "model_type `qwen3`")]
#[case(json!({ "model_type": "mistral" }), "model_type `mistral`")]
#[case(json!({ "rope_scaling": { "rope_type": "llama3", "factor": 8.0 } }), "rope_scaling = ")]
#[case(json!({ "rope_scaling": { "type": "yarn", "factor": 4.0 } }), "rope_scaling = ")]
#[case(json!({ "rope_scaling": { "rope_type": "default", "factor": 4.0 } }), "rope_scaling = ")]
#[case(json!({ "rope_parameters": { "rope_type": "linear", "factor": 2.0, "rope_theta": 1e4 } }), "rope_parameters = ")]
#[case(json!({ "rope_parameters": { "rope_type": "default", "partial_rotary_factor": 0.5 } }), "rope_parameters = ")]
#[case(json!({ "rope_parameters": { "full_attention": { "rope_type": "default", "rope_theta": 1e6 } } }), "rope_parameters = ")]
#[case(json!({ "partial_rotary_factor": 0.5 }), "partial_rotary_factor")]
#[case(json!({ "use_sliding_window": true, "max_window_layers": 1, "sliding_window": 63 }), "layers 1 to 1 attend to the last 63 tokens only")]
#[case(json!({ "use_sliding_window": true, "max_window_layers": null, "sliding_window": 63, "num_hidden_layers": 29 }), "layers 28 to 28")]
#[case(json!({ "model_type": "llama", "sliding_window": 63 }), "sliding_window")]
#[case(json!({ "layer_types": ["full_attention", "sliding_attention"] }), "sliding_attention")]
#[case(json!({ "hidden_act": "gelu" }), "hidden_act `gelu`")]
#[case(json!({ "attention_bias": false }), "attention_bias = false")]
#[case(json!({ "model_type": "llama", "attention_bias": true }), "attention_bias = true")]
#[case(json!({ "model_type": "llama", "mlp_bias": true }), "mlp_bias = true")]
#[case(json!({ "model_type": "llama" }), "sliding_window")]
#[case(json!({ "torch_dtype": "float8_e4m3fn" }), "torch_dtype `float8_e4m3fn`")]
#[case(json!({ "dtype": "float64" }), "dtype `float64`")]
#[case(json!({ "rope_interleaved": true }), "rope_interleaved = true")]
#[case(json!({ "num_experts": 8 }), "num_experts = 8")]
#[case(json!({ "quantization_config": { "quant_method": "gptq", "bits": 4 } }), "quant_method `gptq`")]
#[case(json!({ "quantization": { "group_size": 64, "bits": 3 } }), "quantization = ")]
#[case(json!({ "quantization": { "group_size": 16, "bits": 4 } }), "quantization = ")]
#[case(json!({ "quantization": { "group_size": 32, "bits": 4, "mode": "mxfp4" } }), "mxfp4")]
#[case(json!({ "quantization": { "group_size": 64, "bits": 4, "lm_head": { "group_size": 64, "bits": 6 } } }), "lm_head = ")]
fn what_is_not_supported_is_refused_by_name(#[case] fields: Value, #[case] named: &str) {
    let error = open_with(|config| merge(config, fields)).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("config.json: ") && text.contains(named), "{text}");
}

#[rstest]
#[case(json!({ "vocab_size": null }), "vocab_size is missing")]
#[case(json!({ "model_type": null }), "model_type is missing")]
#[case(json!({ "hidden_size": -16 }), "hidden_size is -16")]
#[case(json!({ "hidden_size": "16" }), "hidden_size is \"16\"")]
#[case(json!({ "hidden_size": 1.5 }), "hidden_size is 1.5")]
#[case(json!({ "num_hidden_layers": 0 }), "num_hidden_layers is 0")]
#[case(json!({ "num_attention_heads": 0 }), "num_attention_heads is 0")]
#[case(json!({ "num_attention_heads": 0, "head_dim": null }), "num_attention_heads 0")]
#[case(json!({ "num_attention_heads": 3, "head_dim": null }), "not a multiple of num_attention_heads 3")]
#[case(json!({ "num_key_value_heads": 0 }), "num_key_value_heads is 0")]
#[case(json!({ "num_key_value_heads": 3 }), "not a multiple of num_key_value_heads 3")]
#[case(json!({ "num_key_value_heads": null }), "num_key_value_heads is missing")]
#[case(json!({ "head_dim": 7 }), "head_dim 7 is odd")]
#[case(json!({ "vocab_size": 1u64 << 40 }), "vocab_size is 1099511627776")]
#[case(json!({ "num_attention_heads": 1 << 20, "head_dim": 1 << 20 }), "num_attention_heads * head_dim")]
#[case(json!({ "rms_norm_eps": -1.0 }), "rms_norm_eps is -1")]
#[case(json!({ "rms_norm_eps": 1e300 }), "rms_norm_eps is inf")]
#[case(json!({ "rope_theta": 0 }), "rope_theta is 0")]
#[case(json!({ "rope_theta": 1e4, "rope_parameters": { "rope_theta": 2e4 } }), "rope_theta contradicts")]
#[case(json!({ "rope_scaling": "yarn" }), "rope_scaling is not an object")]
#[case(json!({ "eos_token_id": "</s>" }), "eos_token_id")]
#[case(json!({ "eos_token_id": [2, -1] }), "eos_token_id")]
#[case(json!({ "eos_token_id": 40 }), "special token id 40 is not below vocab_size 40")]
#[case(json!({ "bos_token_id": 4000 }), "special token id 4000")]
#[case(json!({ "tie_word_embeddings": 1 }), "tie_word_embeddings is 1")]
fn nonsense_is_refused_with_the_field(#[case] fields: Value, #[case] named: &str) {
    let error = open_with(|config| merge(config, fields)).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("config.json: ") && text.contains(named), "{text}");
}

/// What transformers and mlx-lm run with full attention in every layer.
#[rstest]
#[case::no_layer_slides(json!({ "use_sliding_window": true, "sliding_window": 16, "max_window_layers": 2 }))]
#[case::no_layer_slides_by_default(json!({ "use_sliding_window": true, "sliding_window": 16, "max_window_layers": null }))]
#[case::no_window(json!({ "use_sliding_window": true, "sliding_window": null, "max_window_layers": 0 }))]
#[case::a_window_for_everything(json!({ "use_sliding_window": true, "sliding_window": 64, "max_window_layers": 0 }))]
#[case::the_list_counts(json!({ "use_sliding_window": true, "sliding_window": 16, "max_window_layers": 0, "layer_types": ["full_attention", "full_attention"] }))]
#[case::a_head_of_its_own(json!({ "tie_word_embeddings": null }))]
#[case::an_override_for_no_layer(json!({ "quantization": { "group_size": 64, "bits": 4, "vision.proj": { "bits": 3 }, "x": "y" } }))]
fn what_changes_nothing_opens(#[case] fields: Value) {
    let config = open_with(|config| merge(config, fields)).unwrap();
    assert_eq!(config, open_with(|_| ()).unwrap());
}

#[test]
fn what_is_left_out_is_as_in_transformers() {
    let config = open_with(|config| merge(config, json!({ "max_position_embeddings": null }))).unwrap();
    assert_eq!(config.max_position_embeddings, 32_768); // Qwen2Config's default
    let tied = copy_of("mlx-quantized");
    let file = tied.path().join("config.json");
    edit_json(&file, |config| config["tie_word_embeddings"] = json!(null));
    assert_eq!(
        Checkpoint::open(tied.path()).unwrap().config(),
        Checkpoint::open(&data("mlx-quantized")).unwrap().config()
    );
}

/// MLX's `nn.quantize` takes 64 and 4 for what an object leaves out.
#[test]
fn quantization_parameters_have_defaults() {
    let folder = copy_of("mlx-quantized");
    let file = folder.path().join("config.json");
    let quantization = json_file(&file)["quantization"].clone();
    edit_json(&file, |config| {
        for (_, layer) in config["quantization"].as_object_mut().unwrap() {
            let Some(fields) = layer.as_object_mut() else { continue };
            if fields["group_size"] == 64 {
                fields.remove("group_size");
            }
            if fields["bits"] == 4 {
                fields.remove("bits");
            }
        }
        let top = config["quantization"].as_object_mut().unwrap();
        if top["group_size"] == 64 {
            top.remove("group_size");
        }
    });
    assert_ne!(json_file(&file)["quantization"], quantization);
    Checkpoint::open(folder.path()).unwrap();
}

/// A file may claim any number of positions, and the engine makes tables for all of them.
#[rstest]
#[case(1 << 21)]
#[case(1_010_000_000)]
#[case(i32::MAX as usize)]
fn positions_are_bounded_by_the_tables_that_they_take(#[case] positions: usize) {
    let folder = copy_of("sharded");
    edit_json(&folder.path().join("config.json"), |config| config["max_position_embeddings"] = json!(positions));
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let config = checkpoint.config();
    // Heads of 12 have 6 cosines and 6 sines at each position, of four bytes.
    let table_bytes = config.max_position_embeddings * config.head_dim * 4;
    assert!(table_bytes <= 128 << 20, "{table_bytes}");
    let summary = checkpoint.summary().unwrap().to_string();
    let is_bounded = config.max_position_embeddings < positions;
    assert_eq!(is_bounded, positions > 1 << 21);
    assert_eq!(summary.contains(&format!("(of the {positions} that it was made for)")), is_bounded, "{summary}");
}

/// The configuration says one thing and the weights another: the tensor is named.
#[rstest]
#[case(json!({ "num_hidden_layers": 3 }), "`model.layers.2.")]
#[case(json!({ "num_hidden_layers": 2147483647 }), "`model.layers.2.")]
#[case(json!({ "num_hidden_layers": 1 }), "`model.layers.1.")]
#[case(json!({ "hidden_size": 32 }), "`model.embed_tokens.weight`")]
#[case(json!({ "vocab_size": 41 }), "`model.embed_tokens.weight`")]
#[case(json!({ "head_dim": 8 }), "`model.layers.0.self_attn.q_proj.weight`")]
#[case(json!({ "num_key_value_heads": 2 }), "`model.layers.0.self_attn.k_proj.weight`")]
#[case(json!({ "intermediate_size": 23 }), "`model.layers.0.mlp.gate_proj.weight`")]
#[case(json!({ "model_type": "llama", "sliding_window": null }), "proj.bias`")]
fn a_config_that_contradicts_the_weights_names_the_tensor(#[case] fields: Value, #[case] tensor: &str) {
    let error = open_with(|config| merge(config, fields)).unwrap_err();
    assert!(matches!(error, Error::Tensor { .. }), "{error}");
    assert!(error.to_string().contains(tensor), "{error}");
}

#[test]
fn a_tied_model_may_carry_a_copy_of_its_head() {
    let config = open_with(|config| config["tie_word_embeddings"] = json!(true)).unwrap();
    assert!(config.tie_word_embeddings);
}

#[test]
fn end_tokens_come_from_three_places() {
    let folder = copy_of("sharded");
    edit_json(&folder.path().join("config.json"), |config| config["eos_token_id"] = json!([5, 3]));
    std::fs::write(
        folder.path().join("tokenizer_config.json"),
        json!({ "eos_token": { "content": "<e>" } }).to_string(),
    )
    .unwrap();
    let tokenizer = json!({ "added_tokens": [{ "id": 7, "content": "<e>" }, { "id": 8, "content": "<f>" }] });
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let eos = || Checkpoint::open(folder.path()).map(|checkpoint| checkpoint.config().eos_token_ids.clone());
    assert_eq!(eos().unwrap(), [3, 2, 5, 7]);
    edit_json(&folder.path().join("generation_config.json"), |json| json["eos_token_id"] = json!(9));
    assert_eq!(eos().unwrap(), [9, 5, 3, 7]);
    edit_json(&folder.path().join("generation_config.json"), |json| json["eos_token_id"] = json!(["x"]));
    assert!(eos().unwrap_err().to_string().contains("generation_config.json"));
    edit_json(&folder.path().join("generation_config.json"), |json| json["eos_token_id"] = json!(99));
    assert!(eos().unwrap_err().to_string().contains("99"));
}
