//! Task 5: the block, and the model of such blocks.

use grader::Fixture;
use mlx_rs::Dtype;
use rstest::rstest;
use tiny_llm::{LogitsToKeep, Stage};

use crate::cached_model::load;
use crate::quantized_models::{MODELS, check_generation, check_logits, check_logits_in_chunks, check_real_logits};
use crate::{DAY, must};

/// Cases that know the mistakes of a block.
#[rstest]
fn a_model_of_blocks(#[values("one_row_f32", "two_rows_f32")] prompt: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("logits/tiny-qwen2-4bit/{prompt}"));
    let run =
        || load("tiny-qwen2-4bit", case.dtype(), Stage::Fused)?.forward(&case.array("ids"), None, LogitsToKeep::All);
    case.check(run());
}

/// The mixed model's second block cannot be fused: its query and key matrices differ in format.
#[test]
fn blocks_are_fused_where_formats_allow() {
    let n_fused = |name: &str, stage| {
        let printed = format!("{:?}", must(load(name, Dtype::Float32, stage)));
        printed.matches("FusedBlock").count()
    };
    assert_eq!(n_fused("tiny-qwen2-4bit", Stage::Quantized), 0, "fused blocks at the stage before");
    assert_eq!(n_fused("tiny-qwen2-4bit", Stage::Fused), 2, "fused blocks of tiny-qwen2-4bit");
    assert_eq!(n_fused("tiny-qwen2-mixed", Stage::Fused), 1, "fused blocks of tiny-qwen2-mixed");
    let fixture = Fixture::load(MODELS);
    let case = fixture.case("logits/tiny-qwen2-mixed/one_row_f32");
    let model = must(load("tiny-qwen2-mixed", Dtype::Float32, Stage::Fused));
    case.check(model.forward(&case.array("ids"), None, LogitsToKeep::All));
}

#[rstest]
#[case("tiny-qwen2-4bit", "one_token_f32")]
#[case("tiny-qwen2-4bit", "one_row_f32")]
#[case("tiny-qwen2-4bit", "two_rows_f32")]
#[case("tiny-qwen2-4bit", "two_rows_bf16")]
#[case("tiny-qwen2-mixed", "two_rows_f32")]
#[case("tiny-qwen2-mixed", "one_row_f16")]
fn logits(#[case] model: &str, #[case] prompt: &str) {
    check_logits(model, prompt, Stage::Fused);
}

#[rstest]
#[case("tiny-qwen2-4bit", "two_rows_f32", &[4, 1, 1, 3])]
#[case("tiny-qwen2-4bit", "one_row_f32", &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1])]
#[case("tiny-qwen2-mixed", "one_row_f32", &[5, 1, 4])]
fn logits_with_a_cache(#[case] model: &str, #[case] prompt: &str, #[case] chunks: &[i32]) {
    check_logits_in_chunks(model, prompt, chunks, Stage::Fused);
}

#[rstest]
#[case("tiny-qwen2-4bit", "five_tokens")]
#[case("tiny-qwen2-mixed", "seven_tokens")]
fn generates_what_transformers_generates(#[case] model: &str, #[case] prompt: &str) {
    check_generation(model, prompt, Stage::Fused);
}

#[test]
fn real_smollm2_logits() {
    check_real_logits(Stage::Fused);
}
