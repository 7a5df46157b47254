//! Day 1.5: embedding, transformer block, the whole model from a checkpoint.

mod concatenating_cache;
mod real_logits;
mod tiny_models;

use checkpoint::{Checkpoint, Message, registry};
use concatenating_cache::{ConcatenatingCache, concatenating_caches};
use grader::{Case, Fixture, check_tokens, expect_error};
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};
use real_logits::check_logits;
use rstest::rstest;
use tiny_llm::{
    AttentionMask, Embedding, LanguageModel, Linear, LogitsToKeep, Qwen2Attention, Qwen2Model, Result, RmsNorm,
    RotaryEmbedding, SwiGluMlp, TransformerBlock,
};
use tiny_models::open;

const DAY: &str = "week1_day5";

// ---------------------------------------------------------------------------------- task 1: embedding

#[rstest]
fn task_1_embedding_rows(
    #[values("batch_f32", "square_f32", "scalar_f32", "three_axes_f16", "batch_bf16")] name: &str,
    #[values(Dtype::Uint32, Dtype::Int32)] id_dtype: Dtype,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("embedding/{name}"));
    let run = || Embedding::new(case.array("weight")).forward(&case.array("ids").as_dtype(id_dtype)?);
    case.check(run());
}

#[test]
fn task_1_embedding_refuses_ids_that_are_not_integers() {
    let weight = Array::from_iter((0..6).map(|i| i as f32), &[3, 2]);
    let ids = Array::from_slice(&[0.0_f32, 2.0], &[2]);
    expect_error(Embedding::new(weight).forward(&ids), "token ids of dtype float32");
}

#[rstest]
fn task_1_embedding_as_output_head(
    #[values("batch_f32", "square_f32", "vector_f32", "batch_f16", "square_bf16")] name: &str,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("as_linear/{name}"));
    case.check(Embedding::new(case.array("weight")).as_linear(&case.array("x")));
}

#[test]
fn task_1_embedding_as_output_head_refuses_another_width() {
    let weight = Array::from_iter((0..6).map(|i| i as f32), &[3, 2]);
    let x = Array::from_iter((0..3).map(|i| i as f32), &[1, 3]);
    expect_error(Embedding::new(weight).as_linear(&x), "x [1, 3] with an embedding [3, 2]");
}

// -------------------------------------------------------------------------- task 2: transformer block

#[rstest]
fn task_2_transformer_block(
    #[values("one_row_f32", "two_rows_f32", "one_token_f32", "no_mask_f32", "two_rows_f16", "two_rows_bf16")]
    name: &str,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("block/{name}"));
    let mask = if name.starts_with("no_mask") { AttentionMask::None } else { AttentionMask::Causal };
    let run = || block(case)?.forward(&case.array("x"), &block_rope(case)?, &mask, None);
    case.check(run());
}

/// Causal attention with everything that came before in the cache: two steps give what one gives.
#[test]
fn task_2_transformer_block_passes_the_cache_on() {
    let fixture = Fixture::load(DAY);
    let case = fixture.case("block/two_rows_f32");
    let run = || {
        let (block, rope, x) = (block(case)?, block_rope(case)?, case.array("x"));
        let mut cache = ConcatenatingCache::default();
        let first = block.forward(&x.try_index((.., ..3))?, &rope, &AttentionMask::Causal, Some(&mut cache))?;
        let rest = block.forward(&x.try_index((.., 3..))?, &rope, &AttentionMask::Causal, Some(&mut cache))?;
        Ok::<_, tiny_llm::Error>(concatenate(&[first, rest], 1)?)
    };
    case.check(run());
}

fn block(case: &Case) -> Result<TransformerBlock> {
    let biased = |name: &str| {
        Linear::new(
            case.array(&format!("self_attn.{name}.weight")),
            Some(case.array(&format!("self_attn.{name}.bias"))),
        )
    };
    let plain = |name: &str| Linear::new(case.array(&format!("{name}.weight")), None);
    let norm = |name: &str| RmsNorm::new(case.array(&format!("{name}.weight")), case.f32("eps"));
    let self_attn = Qwen2Attention::new(
        case.i32("num_heads"),
        case.i32("num_kv_heads"),
        case.i32("head_dim"),
        biased("q_proj"),
        biased("k_proj"),
        biased("v_proj"),
        plain("self_attn.o_proj"),
    )?;
    let mlp = SwiGluMlp::new(plain("mlp.gate_proj"), plain("mlp.up_proj"), plain("mlp.down_proj"));
    Ok(TransformerBlock::new(self_attn, mlp, norm("input_layernorm"), norm("post_attention_layernorm")))
}

fn block_rope(case: &Case) -> Result<RotaryEmbedding> {
    RotaryEmbedding::new(case.i32("head_dim"), case.i32("max_positions"), case.f32("rope_theta"), false)
}

// -------------------------------------------------------------------------- task 3: load a checkpoint

#[rstest]
fn task_3_load_takes_the_sizes_from_the_config(
    #[values("tiny-qwen2-tied", "tiny-qwen2-untied", "tiny-qwen2-bf16", "tiny-llama")] name: &str,
) {
    let model = load(name, Dtype::Float32).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(LanguageModel::vocab_size(&model), 96, "vocab_size of {name}");
    assert_eq!(
        LanguageModel::max_positions(&model),
        128,
        "max_position_embeddings of {name} (the length of the RoPE table)"
    );
}

/// The parts of a model are private, but all of them print themselves: what was loaded is read off `{model:?}`.
#[rstest]
fn task_3_load_reads_every_tensor_into_its_place(
    #[values("tiny-qwen2-tied", "tiny-qwen2-untied", "tiny-qwen2-bf16", "tiny-llama")] name: &str,
    #[values(Dtype::Float32, Dtype::Bfloat16)] dtype: Dtype,
) {
    let model = load(name, dtype).unwrap_or_else(|error| panic!("{name}: {error}"));
    let printed = format!("{model:?}");
    let mut from = 0;
    for (tensor, shape) in tiny_models::tensors(name) {
        let array = open(name).tensor(&tensor, &shape, Some(dtype)).unwrap_or_else(|error| panic!("{tensor}: {error}"));
        let array = format!("{array:?}");
        match printed[from..].find(&array) {
            Some(at) => from += at + array.len(),
            None if printed.contains(&array) => panic!("{name}: {tensor} is in the model, but not where it belongs"),
            None => panic!("{name}: {tensor} is not in the model as {dtype:?}: {array}"),
        }
    }
    let checkpoint = open(name);
    let config = checkpoint.config();
    let (head_dim, positions) = (config.head_dim as i32, config.max_position_embeddings as i32);
    let rope = RotaryEmbedding::new(head_dim, positions, config.rope_theta, false);
    let rope = format!("{:?}", rope.unwrap_or_else(|error| panic!("{name}: {error}")));
    assert_eq!(
        printed.matches(&rope).count(),
        1,
        "{name}: one rotation table for the whole model, of {head_dim} dimensions, {positions} positions, and base {}",
        config.rope_theta
    );
    if !checkpoint.has("lm_head.weight") {
        assert!(
            printed.contains("lm_head: None"),
            "{name}: the output head is tied to the embedding, so there is no lm_head"
        );
    }
}

#[test]
fn task_3_load_refuses_weights_that_are_not_floating_point() {
    // First what must work, so that an empty solution does not pass.
    load("tiny-qwen2-tied", Dtype::Float16).unwrap_or_else(|error| panic!("{error}"));
    expect_error(load("tiny-qwen2-tied", Dtype::Int32), "weights of dtype int32");
}

fn load(name: &str, dtype: Dtype) -> Result<Qwen2Model> {
    Qwen2Model::load(&open(name), dtype)
}

// ------------------------------------------------------------------------------- task 4: forward pass

#[rstest]
#[case("tiny-qwen2-tied", "one_row_f32")]
#[case("tiny-qwen2-tied", "two_rows_f32")]
#[case("tiny-qwen2-tied", "two_rows_bf16")]
#[case("tiny-qwen2-untied", "one_token_f32")]
#[case("tiny-qwen2-untied", "one_row_f32")]
#[case("tiny-qwen2-untied", "two_rows_f32")]
#[case("tiny-qwen2-untied", "one_row_f16")]
#[case("tiny-qwen2-bf16", "one_row_f32")]
#[case("tiny-qwen2-bf16", "two_rows_f32")]
#[case("tiny-qwen2-bf16", "one_row_bf16")]
#[case("tiny-llama", "one_row_f32")]
#[case("tiny-llama", "two_rows_f32")]
fn task_4_logits(#[case] model: &str, #[case] prompt: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("logits/{model}/{prompt}"));
    let run = || load(model, case.dtype())?.forward(&case.array("ids"), None, LogitsToKeep::All);
    case.check(run());
}

#[rstest]
#[case("tiny-qwen2-tied", "two_rows_f32_last_1")]
#[case("tiny-qwen2-untied", "two_rows_f32_last_3")]
fn task_4_logits_of_the_last_positions(#[case] model: &str, #[case] prompt: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("logits/{model}/{prompt}"));
    let run = || load(model, case.dtype())?.forward(&case.array("ids"), None, LogitsToKeep::Last(case.i32("keep")));
    case.check(run());
}

/// Stage by stage: the first one that fails is where the model goes wrong.
#[rstest]
fn task_4_hidden_states(
    #[values("tiny-qwen2-tied/two_rows_f32", "tiny-qwen2-untied/two_rows_f32", "tiny-qwen2-bf16/one_row_bf16")]
    run: &str,
) {
    let fixture = Fixture::load(DAY);
    let stages =
        ["embedding", "block_0", "block_1", "final_norm"].map(|stage| fixture.case(&format!("hidden/{run}/{stage}")));
    let (model, _) = run.split_once('/').unwrap_or((run, ""));
    let states = load(model, stages[0].dtype()).and_then(|model| model.hidden_states(&stages[0].array("ids")));
    let states = states.unwrap_or_else(|error| panic!("hidden_states: {error}"));
    assert_eq!(states.len(), 4, "hidden states of a model of 2 layers: the embeddings, 2 blocks, the final norm");
    for (case, state) in stages.iter().zip(states) {
        case.check(Ok::<_, tiny_llm::Error>(state));
    }
}

/// Prefill of a few tokens and then one at a time: the cache's offset moves the rotation and the mask along.
#[rstest]
#[case("tiny-qwen2-tied", "two_rows_f32", &[7])]
#[case("tiny-qwen2-tied", "two_rows_f32", &[3, 1, 1, 1, 1])]
#[case("tiny-qwen2-untied", "two_rows_f32", &[2, 4, 1])]
fn task_4_logits_with_a_cache(#[case] model: &str, #[case] prompt: &str, #[case] steps: &[i32]) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("logits/{model}/{prompt}"));
    let run = || {
        let (model, ids) = (load(model, case.dtype())?, case.array("ids"));
        let mut cache = concatenating_caches(2);
        let (mut start, mut logits) = (0, Vec::new());
        for len in steps {
            let step = ids.try_index((.., start..start + len))?;
            logits.push(model.forward(&step, Some(&mut cache), LogitsToKeep::All)?);
            start += len;
        }
        Ok::<_, tiny_llm::Error>(concatenate(&logits, 1)?)
    };
    case.check(run());
}

#[test]
fn task_4_forward_refuses_what_it_cannot_compute() {
    let model = load("tiny-qwen2-tied", Dtype::Float32).unwrap_or_else(|error| panic!("{error}"));
    let ids = |shape: &[i32]| {
        let n: i32 = shape.iter().product();
        Array::from_iter((0..n).map(|i| i as u32 % 96), shape)
    };
    let evaluate = |result: Result<Array>| {
        let logits = result?;
        logits.eval()?;
        Ok::<_, tiny_llm::Error>(logits.shape().to_vec())
    };
    let forward = |shape: &[i32], keep| evaluate(model.forward(&ids(shape), None, keep));
    // The longest sequence that fits works; one token more has no position.
    assert_eq!(
        forward(&[1, 128], LogitsToKeep::Last(1)).ok(),
        Some(vec![1, 1, 96]),
        "128 tokens, as many as positions"
    );
    expect_error(forward(&[1, 129], LogitsToKeep::Last(1)), "129 tokens for a model of 128 positions");
    expect_error(forward(&[4], LogitsToKeep::All), "token ids [4] without a batch axis");
    expect_error(forward(&[1, 2, 2], LogitsToKeep::All), "token ids [1, 2, 2]");
    expect_error(forward(&[1, 4], LogitsToKeep::Last(5)), "the last 5 of 4 positions");
    expect_error(forward(&[1, 4], LogitsToKeep::Last(0)), "the last 0 positions");
    let mut one_cache = concatenating_caches(1);
    let logits = model.forward(&ids(&[1, 4]), Some(&mut one_cache), LogitsToKeep::All);
    expect_error(evaluate(logits), "1 cache for 2 layers");
}

/// The built-in model itself, against transformers' LlamaForCausalLM in f32; the first run downloads it.
#[test]
fn task_4_real_smollm2_logits() {
    let path = registry::resolve("smollm2-135m").unwrap_or_else(|error| panic!("the built-in model: {error}"));
    let checkpoint = Checkpoint::open(&path).unwrap_or_else(|error| panic!("{error}"));
    let model = Qwen2Model::load(&checkpoint, Dtype::Float32).unwrap_or_else(|error| panic!("{error}"));
    let tokenizer = checkpoint.tokenizer().unwrap_or_else(|error| panic!("{error}"));
    let fixture = Fixture::load("real_smollm2");
    for name in ["english", "code", "multilingual", "chat", "paragraph"] {
        let case = fixture.case(&format!("logits/{name}"));
        let text = case.str("text");
        let ids = case.array("ids");
        let encoded = tokenizer.encode(&text, false).unwrap_or_else(|error| panic!("{name}: {error}"));
        check_tokens(&format!("tokens of the prompt {name}"), &encoded, ids.as_slice::<u32>());
        let decoded = tokenizer.decode(&encoded, false).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(decoded, text, "decoding the tokens of {name}");
        if case.has("question") {
            let question = [Message::new("user", case.str("question"))];
            let rendered = checkpoint.chat_template().and_then(|template| template.render(&question, true));
            assert_eq!(rendered.unwrap_or_else(|error| panic!("{error}")), text, "the rendered chat template");
        }

        let logits = model.forward(&Array::from_slice(&encoded, &[1, encoded.len() as i32]), None, LogitsToKeep::All);
        let logits =
            logits.and_then(|logits| Ok(logits.try_index(0)?)).unwrap_or_else(|error| panic!("{name}: {error}"));
        check_logits(case, &logits);
    }
}
