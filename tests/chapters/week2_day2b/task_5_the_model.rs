//! Task 5: the layers and the model on the kernel that `chat` and `bench` take.

use grader::Fixture;
use rstest::rstest;
use tiny_llm::Stage;
use tiny_llm::quantized::{QuantizedEmbedding, QuantizedLinear};

use crate::DAY;
use crate::quantized_matrices::Matrix;
use crate::quantized_models::{check_generation, check_logits, check_logits_in_chunks, check_real_logits};

#[rstest]
fn quantized_linear(#[values("rows_f32", "batch_f32", "batch_f16", "eight_bits_bf16")] name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("operation/{name}"));
    case.check(QuantizedLinear::new(Matrix::of(case).in_mlx(), case.optional_array("bias")).forward(&case.array("x")));
}

#[rstest]
fn embedding_as_output_head(#[values("vector_f32", "batch_bf16")] name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("operation/{name}"));
    case.check(QuantizedEmbedding::new(Matrix::of(case).in_mlx(), case.dtype()).as_linear(&case.array("x")));
}

#[rstest]
#[case("tiny-qwen2-4bit", "one_token_f32")]
#[case("tiny-qwen2-4bit", "two_rows_f32")]
#[case("tiny-qwen2-4bit", "two_rows_bf16")]
#[case("tiny-qwen2-mixed", "two_rows_f32")]
#[case("tiny-qwen2-mixed", "one_row_f16")]
fn logits(#[case] model: &str, #[case] prompt: &str) {
    check_logits(model, prompt, Stage::Quantized);
}

#[rstest]
#[case("tiny-qwen2-4bit", "two_rows_f32", &[4, 1, 1, 3])]
#[case("tiny-qwen2-mixed", "one_row_f32", &[5, 1, 4])]
fn logits_with_a_cache(#[case] model: &str, #[case] prompt: &str, #[case] chunks: &[i32]) {
    check_logits_in_chunks(model, prompt, chunks, Stage::Quantized);
}

#[test]
fn generates_what_transformers_generates() {
    check_generation("tiny-qwen2-4bit", "five_tokens", Stage::Quantized);
}

/// The built-in model on its own 4-bit weights.
#[test]
fn real_smollm2_logits() {
    check_real_logits(Stage::Quantized);
}
