//! Day 1.5: embedding, transformer block, the whole model from a checkpoint.

mod concatenating_cache;
mod named;
mod real_logits;
mod refusals;
mod tiny_models;

use std::collections::BTreeMap;

use checkpoint::{Checkpoint, Message, registry};
use concatenating_cache::{ConcatenatingCache, concatenating_caches};
use grader::{Case, Fixture, check_tokens, expect_error};
use mlx_rs::Dtype::{Bfloat16, Float16, Float32};
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};
use named::{check_equal, check_that, fail, without_panic};
use real_logits::check_logits;
use refusals::expect_invalid_argument;
use rstest::rstest;
use tiny_llm::{
    AttentionMask, Embedding, KvCache, LanguageModel, Linear, LogitsToKeep, Offset, Qwen2Attention, Qwen2Model, Result,
    RmsNorm, RotaryEmbedding, Stage, SwiGluMlp, TransformerBlock,
};
use tiny_models::{Reconfigured, open};

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

/// 16 bits don't count a vocabulary: Qwen2's has 151,936 tokens.
#[test]
fn task_1_embedding_finds_rows_above_65535() {
    let vocab = 70_000;
    let weight = Array::from_iter((0..2 * vocab).map(|i| i as f32), &[vocab, 2]); // row i is 2i, 2i + 1
    let ids = [65_535_u32, 65_536, 69_999];
    let row_of = |id: u32| [(2 * id) as f32, (2 * id + 1) as f32];
    let rows = Embedding::new(weight).forward(&Array::from_slice(&ids, &[3])).and_then(|rows| {
        rows.eval()?;
        Ok(rows.as_slice::<f32>().to_vec())
    });
    let rows = rows.unwrap_or_else(|error| panic!("rows {ids:?} of a table with {vocab} rows: {error}"));
    check_equal(
        &format!("rows {ids:?} of a table with {vocab} rows"),
        &rows,
        &ids.map(row_of).concat(),
        &[(ids.map(|id| row_of(id % 65_536)).concat(), "looks like: token ids were cut to 16 bits")],
    );
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
        check_equal(
            "where the cache stands after the block read 3 tokens",
            &cache.offset(),
            &Offset::Same(3),
            &[
                (Offset::Same(0), "looks like: the cache is not passed on to the attention (`None` in its place?)"),
                (Offset::Same(6), "looks like: the attention runs twice and appends its keys to the cache each time"),
            ],
        );
        let rest = block.forward(&x.try_index((.., 3..))?, &rope, &AttentionMask::Causal, Some(&mut cache))?;
        Ok::<_, tiny_llm::Error>(concatenate(&[first, rest], 1)?)
    };
    case.check(run());
}

#[test]
fn task_2_transformer_block_passes_errors_on() {
    let fixture = Fixture::load(DAY);
    let case = fixture.case("block/one_row_f32");
    let run = |len: i32| {
        let x = Array::from_iter((0..24 * len).map(|i| (i % 7) as f32), &[1, len, 24]);
        let y = block(case)?.forward(&x, &block_rope(case)?, &AttentionMask::Causal, None)?;
        y.eval()?;
        Ok::<_, tiny_llm::Error>(y)
    };
    run(32).unwrap_or_else(|error| panic!("32 tokens with a rotation table of 32 positions: {error}"));
    expect_error(run(33), "33 tokens with a rotation table of 32 positions (the attention's own error)");
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
#[case::tied_f32("tiny-qwen2-tied", Float32)]
#[case::tied_bf16("tiny-qwen2-tied", Bfloat16)]
#[case::untied_f32("tiny-qwen2-untied", Float32)]
#[case::untied_bf16("tiny-qwen2-untied", Bfloat16)]
#[case::bf16_f32("tiny-qwen2-bf16", Float32)]
#[case::bf16_bf16("tiny-qwen2-bf16", Bfloat16)]
#[case::llama_f32("tiny-llama", Float32)]
#[case::llama_f16("tiny-llama", Float16)]
fn task_3_load_reads_every_tensor_into_its_place(#[case] name: &str, #[case] dtype: Dtype) {
    let model = load(name, dtype).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (checkpoint, printed) = (open(name), format!("{model:?}"));
    check_head(name, &checkpoint, &printed);
    let read = |tensor: &str, shape: &[usize], dtype: Option<Dtype>| {
        let array = checkpoint.tensor(tensor, shape, dtype).unwrap_or_else(|error| panic!("{tensor}: {error}"));
        format!("{array:?}")
    };
    let shape_of: BTreeMap<String, Vec<usize>> = tiny_models::tensors(name).into_iter().collect();
    let of_layer_0 = |tensor: &str| read(&tensor.replace(".layers.1.", ".layers.0."), &shape_of[tensor], Some(dtype));
    let mut from = 0;
    for (tensor, shape) in tiny_models::tensors(name) {
        let array = read(&tensor, &shape, Some(dtype));
        let case = format!("{name} in {dtype:?}, the tensor {tensor}");
        match printed[from..].find(&array) {
            Some(at) => from += at + array.len(),
            None if printed.contains(&array) => {
                let cause = format!("looks like: {tensor} is in the model, but not where it belongs");
                fail(&case, "it stands elsewhere in the model", Some(&cause));
            }
            None => {
                let others = [Float32, Float16, Bfloat16].into_iter().filter(|&other| other != dtype);
                let found = others.into_iter().find(|&other| {
                    let array = read(&tensor, &shape, Some(other));
                    printed.contains(&array)
                });
                let cause = match found {
                    Some(other) => format!(
                        "looks like: a tensor was loaded as {other:?} instead of the dtype that \
                     was asked for: Some(dtype)"
                    ),
                    None if tensor.contains(".layers.1.") && printed.matches(&of_layer_0(&tensor)).count() > 1 => {
                        "looks like: every layer has layer 0's weights; the layer's index is missing in the \
                         name"
                            .to_owned()
                    }
                    None => format!("looks like: {tensor} is not in the model"),
                };
                fail(&case, "the model does not hold it", Some(&cause));
            }
        }
    }
}

/// `eps` stands in every norm; it comes from the config, and so does all that the rotation depends on.
#[rstest]
fn task_3_load_takes_eps_and_rotation_from_the_config(
    #[values("tiny-qwen2-tied", "tiny-qwen2-untied", "tiny-llama")] name: &str,
) {
    let printed = format!("{:?}", load(name, Float32).unwrap_or_else(|error| panic!("{name}: {error}")));
    let checkpoint = open(name);
    let config = checkpoint.config();
    let right = format!("{:?}", config.rms_norm_eps);
    let eps_of_norms: Vec<&str> =
        printed.split("eps: ").skip(1).map(|rest| rest.split([' ', ',', '}']).next().unwrap_or_default()).collect();
    let other = eps_of_norms.iter().find(|&&eps| eps != right);
    let cause = other.map(|eps| format!("looks like: RMSNorm uses eps {eps}; the config's rms_norm_eps is {right}"));
    let case = format!("{name}: the eps of its {} norms", 2 * config.num_hidden_layers + 1);
    check_that(
        &case,
        eps_of_norms == vec![right.as_str(); 2 * config.num_hidden_layers + 1],
        || format!("got {eps_of_norms:?}, expected {right} in each"),
        cause.as_deref(),
    );

    let (dims, positions, base) = (config.head_dim as i32, config.max_position_embeddings as i32, config.rope_theta);
    let has = |dims: i32, positions: i32, base: f32, traditional: bool| {
        let rope = RotaryEmbedding::new(dims, positions, base, traditional);
        rope.is_ok_and(|rope| printed.contains(&format!("{rope:?}")))
    };
    let from_hidden = (config.hidden_size / config.num_attention_heads) as i32;
    let cause = if has(dims, positions, 10_000.0, false) {
        format!("looks like: RoPE uses the base 10000; the config's rope_theta is {base}")
    } else if has(dims, positions, base, true) {
        "looks like: RoPE pairs neighbours (traditional: true); Qwen2 pairs i with i + D/2 (traditional: false)"
            .to_owned()
    } else if has(from_hidden, positions, base, false) {
        format!(
            "looks like: RoPE rotates hidden_size / num_attention_heads = {from_hidden} dimensions; the config's \
             head_dim is {dims}"
        )
    } else {
        "the rotation table has not the length and dimensions of the config (max_position_embeddings, head_dim, \
         rope_theta)"
            .to_owned()
    };
    check_that(
        &format!("{name}: the rotation table"),
        has(dims, positions, base, false),
        || format!("expected RotaryEmbedding::new({dims}, {positions}, {base:?}, false)"),
        Some(&cause),
    );
}

/// The config says which head a model has, whatever else lies in its file.
#[test]
fn task_3_load_chooses_the_head_by_the_config() {
    let tied = Reconfigured::new("tiny-qwen2-untied", &[("tie_word_embeddings", "true")]);
    let printed = Qwen2Model::load(&tied.open(), Float32).map(|model| format!("{model:?}"));
    let printed = printed.unwrap_or_else(|error| panic!("a tied model whose file has an lm_head.weight: {error}"));
    let head = open("tiny-qwen2-untied").tensor("lm_head.weight", &[96, 48], Some(Float32));
    let head = head.map(|head| format!("{head:?}")).unwrap_or_else(|error| panic!("{error}"));
    let cause = if printed.contains(&head) {
        "looks like: the head is chosen by whether the file has an lm_head.weight; tie_word_embeddings decides"
    } else {
        TIED_HEAD
    };
    check_that(
        "a model whose config says tie_word_embeddings: true, and whose file has an lm_head.weight all the same",
        printed.contains("lm_head: None"),
        || "expected no lm_head".to_owned(),
        Some(cause),
    );
}

const TIED_HEAD: &str =
    "looks like: the model has a head of its own, although tie_word_embeddings is true; then lm_head is `None`";

#[test]
fn task_3_load_makes_a_model_of_week_1() {
    let model = load("tiny-qwen2-tied", Float32).unwrap_or_else(|error| panic!("{error}"));
    let cause = "looks like: another stage than Stage::Dense, which is week 1";
    check_equal("the stage of a model from Qwen2Model::load", &model.stage(), &Stage::Dense, &[(model.stage(), cause)]);
    assert!(model.new_cache().is_none(), "week 1's model has no cache");
    let printed = format!("{model:?}");
    assert!(printed.contains("device: Cpu"), "week 1's model computes on the CPU: `device: Device::Cpu`");
}

#[test]
fn task_3_load_refuses_weights_that_are_not_floating_point() {
    // First what must work, so that an empty solution does not pass.
    load("tiny-qwen2-tied", Dtype::Float16).unwrap_or_else(|error| panic!("{error}"));
    let what = "weights of dtype int32";
    let cause = "looks like: an error of `Checkpoint::tensor` is unwrapped; it is returned with `?`";
    expect_error(without_panic(what, |_| Some(cause.to_owned()), || load("tiny-qwen2-tied", Dtype::Int32)), what);
}

/// The head that the config asks for.
#[track_caller]
fn check_head(name: &str, checkpoint: &Checkpoint, printed: &str) {
    let is_tied = checkpoint.config().tie_word_embeddings;
    let cause = if is_tied {
        TIED_HEAD
    } else {
        "looks like: the embedding table serves as the output head, although tie_word_embeddings is false (use \
         lm_head.weight)"
    };
    let message = || format!("tie_word_embeddings is {is_tied}");
    check_that(&format!("{name}: the output head"), printed.contains("lm_head: None") == is_tied, message, Some(cause));
}

fn load(name: &str, dtype: Dtype) -> Result<Qwen2Model> {
    Qwen2Model::load(&open(name), dtype)
}

// ------------------------------------------------------------------------------- task 4: forward pass

#[rstest]
#[case::tied_one_row_f32("tiny-qwen2-tied", "one_row_f32")]
#[case::tied_two_rows_f32("tiny-qwen2-tied", "two_rows_f32")]
#[case::tied_two_rows_bf16("tiny-qwen2-tied", "two_rows_bf16")]
#[case::untied_one_token_f32("tiny-qwen2-untied", "one_token_f32")]
#[case::untied_one_row_f32("tiny-qwen2-untied", "one_row_f32")]
#[case::untied_two_rows_f32("tiny-qwen2-untied", "two_rows_f32")]
#[case::untied_one_row_f16("tiny-qwen2-untied", "one_row_f16")]
#[case::bf16_one_row_f32("tiny-qwen2-bf16", "one_row_f32")]
#[case::bf16_two_rows_f32("tiny-qwen2-bf16", "two_rows_f32")]
#[case::bf16_one_row_bf16("tiny-qwen2-bf16", "one_row_bf16")]
#[case::llama_one_row_f32("tiny-llama", "one_row_f32")]
#[case::llama_two_rows_f32("tiny-llama", "two_rows_f32")]
fn task_4_logits(#[case] model: &str, #[case] prompt: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("logits/{model}/{prompt}"));
    let run = || load(model, case.dtype())?.forward(&case.array("ids"), None, LogitsToKeep::All);
    case.check(run());
}

#[rstest]
#[case::tied_two_rows_f32_last_1("tiny-qwen2-tied", "two_rows_f32_last_1")]
#[case::untied_two_rows_f32_last_3("tiny-qwen2-untied", "two_rows_f32_last_3")]
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
    check_states(states.len());
    for (case, state) in stages.iter().zip(states) {
        case.check(Ok::<_, tiny_llm::Error>(state));
    }
}

#[track_caller]
fn check_states(n_states: usize) {
    let cause = "looks like: the embeddings or the final norm's output are missing; there are N + 2 states";
    check_equal(
        "hidden states of a model of 2 layers: embeddings, 2 blocks, final norm",
        &n_states,
        &4,
        &[(3, cause), (2, cause)],
    );
}

/// Prefill of a few tokens and then one at a time: the cache's offset moves the rotation and the mask along.
#[rstest]
#[case::tied_at_once("tiny-qwen2-tied", "two_rows_f32", &[7])]
#[case::tied_token_by_token("tiny-qwen2-tied", "two_rows_f32", &[3, 1, 1, 1, 1])]
#[case::untied_in_pieces("tiny-qwen2-untied", "two_rows_f32", &[2, 4, 1])]
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
            check_offsets(&cache, start);
        }
        Ok::<_, tiny_llm::Error>(concatenate(&logits, 1)?)
    };
    case.check(run());
}

/// Where the caches of two layers stand after so many tokens.
#[track_caller]
fn check_offsets(cache: &[Box<dyn KvCache>], n_tokens: i32) {
    let both = |first, second| vec![Offset::Same(first), Offset::Same(second)];
    check_equal(
        &format!("where the caches of layers 0 and 1 stand after {n_tokens} tokens"),
        &cache.iter().map(|cache| cache.offset()).collect::<Vec<_>>(),
        &both(n_tokens, n_tokens),
        &[
            (both(0, 0), "looks like: the caches are not passed on to the layers (`None` in their place?)"),
            (both(2 * n_tokens, 0), "looks like: all layers use layer 0's cache; layer i has cache i"),
            (both(0, 2 * n_tokens), "looks like: all layers use the last layer's cache; layer i has cache i"),
            (both(n_tokens, 0), "looks like: only layer 0 has a cache; layer i has cache i"),
        ],
    );
}

/// `Last(n)` counts in this call's tokens, whatever the cache holds.
#[test]
fn task_4_last_positions_with_a_cache() {
    let fixture = Fixture::load(DAY);
    let case = fixture.case("logits/tiny-qwen2-untied/two_rows_f32_last_3");
    let (model, ids) =
        (load("tiny-qwen2-untied", Float32).unwrap_or_else(|error| panic!("{error}")), case.array("ids"));
    let mut cache = concatenating_caches(2);
    let mut step = |from: i32, to: i32, keep: i32| {
        let logits = model.forward(&ids.try_index((.., from..to))?, Some(&mut cache), LogitsToKeep::Last(keep))?;
        logits.eval()?;
        Ok::<_, tiny_llm::Error>(logits)
    };
    let prefill =
        step(0, 3, 1).unwrap_or_else(|error| panic!("the last position of a first call of 3 tokens: {error}"));
    assert_eq!(prefill.shape(), [2, 1, 96], "the logits of the last position of a first call of 3 tokens");
    case.check(step(3, 7, 3));
    expect_invalid_argument(step(0, 2, 3), "the last 3 positions of a call of 2 tokens, with 7 tokens in the cache");
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
    expect_invalid_argument(forward(&[4], LogitsToKeep::All), "token ids [4] without a batch axis");
    expect_invalid_argument(forward(&[1, 2, 2], LogitsToKeep::All), "token ids [1, 2, 2]");
    for n in [5, 0, -1, i32::MIN, i32::MAX] {
        expect_invalid_argument(forward(&[1, 4], LogitsToKeep::Last(n)), &format!("the last {n} of 4 positions"));
    }
    for n_caches in [0, 1, 3] {
        let mut caches = concatenating_caches(n_caches);
        let logits = model.forward(&ids(&[1, 4]), Some(&mut caches), LogitsToKeep::All);
        expect_invalid_argument(evaluate(logits), &format!("{n_caches} caches for 2 layers"));
    }
    let hidden_states = |shape: &[i32]| {
        let states = model.hidden_states(&ids(shape))?;
        states.iter().try_for_each(|state| state.eval())?;
        Ok::<_, tiny_llm::Error>(states.len())
    };
    check_states(hidden_states(&[1, 4]).unwrap_or_else(|error| panic!("hidden_states: {error}")));
    expect_invalid_argument(hidden_states(&[4]), "token ids [4] without a batch axis, for hidden_states");
    expect_error(hidden_states(&[1, 129]), "129 tokens for a model of 128 positions, for hidden_states");
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
