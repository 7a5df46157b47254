//! Task 5: layers on quantized matrices, and the model that consists of them.

use grader::{Fixture, expect_error};
use mlx_rs::{Array, Dtype};
use rstest::rstest;
use tiny_llm::Stage;
use tiny_llm::quantized::matmul::Precision;
use tiny_llm::quantized::{QuantizedEmbedding, QuantizedLinear};

use crate::cached_model::load;
use crate::quantized_matrices::{Format, Matrix, f32s};
use crate::quantized_models::{check_first_real_logits, check_generation, check_logits, check_logits_in_chunks};
use crate::{DAY, must, tiny_models};

#[rstest]
fn quantized_linear(#[values("vector_f32", "rows_f32", "batch_f32", "batch_f16", "eight_bits_bf16")] name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("operation/{name}"));
    let layer = QuantizedLinear::new(Matrix::of(case).in_mlx(), case.optional_array("bias"));
    let layer = layer.in_precision(Precision::Float32);
    case.check(layer.forward(&case.array("x")));
}

#[rstest]
fn embedding_rows(
    #[values("batch_f32", "vector_bf16", "scalar_f32", "eight_bits_f16", "eight_bits_f32")] name: &str,
    #[values(Dtype::Uint32, Dtype::Int32)] id_dtype: Dtype,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("look_up/{name}"));
    let embedding = QuantizedEmbedding::new(Matrix::of(case).in_mlx(), case.dtype());
    case.check(embedding.forward(&must(case.array("ids").as_dtype(id_dtype))));
}

#[rstest]
fn embedding_as_output_head(#[values("vector_f32", "batch_bf16")] name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("operation/{name}"));
    let embedding = QuantizedEmbedding::new(Matrix::of(case).in_mlx(), case.dtype());
    let embedding = embedding.in_precision(Precision::Float32);
    case.check(embedding.as_linear(&case.array("x")));
}

#[test]
fn embedding_refuses_what_is_no_token() {
    let matrix = Matrix::random(&mut grader::Rng::new(20), [5, 64], Format { group_size: 32, bits: 4 }, Dtype::Float16);
    let embedding = QuantizedEmbedding::new(matrix.in_mlx(), Dtype::Float32);
    let look_up = |ids: &Array| embedding.forward(ids).and_then(|x| Ok(x.eval().map(|()| x.shape().to_vec())?));
    assert_eq!(must(look_up(&Array::from_slice(&[4_u32, 0], &[2]))), [2, 64], "tokens 4 and 0 of 5");
    expect_error(look_up(&Array::from_slice(&[4_u32, 5], &[2])), "token 5 of a vocabulary of 5");
    expect_error(look_up(&Array::from_slice(&[-1_i32], &[1])), "token -1");
    expect_error(look_up(&Array::from_slice(&[i32::MIN], &[1])), "token -2147483648");
    let id = Array::from_slice(&[1_u32], &[1]);
    for dtype in [Dtype::Float32, Dtype::Float16, Dtype::Bfloat16, Dtype::Bool, Dtype::Int64, Dtype::Uint8] {
        // At once: before anything is computed.
        expect_error(embedding.forward(&must(id.as_dtype(dtype))), &format!("token ids of dtype {dtype:?}"));
    }
}

/// No id above 65,535 is cut to 16 bits.
#[test]
fn embedding_has_ids_above_65535() {
    let vocab = 65_536 + 3;
    let matrix =
        Matrix::random(&mut grader::Rng::new(21), [vocab, 32], Format { group_size: 32, bits: 4 }, Dtype::Float16);
    let embedding = QuantizedEmbedding::new(matrix.in_mlx(), Dtype::Float32);
    let got = f32s(&must(embedding.forward(&Array::from_slice(&[65_537_u32], &[1]))));
    for (column, got) in got.into_iter().enumerate() {
        let expected = matrix.weight(65_537, column);
        assert!((f64::from(got) - expected).abs() < 1e-5, "token 65537, number {column}: {got}, expected {expected}");
    }
}

/// Every matrix stays as the checkpoint has it: quantized where it is so, dense where it is not.
#[rstest]
fn load_keeps_the_form_of_every_matrix(#[values("tiny-qwen2-4bit", "tiny-qwen2-mixed")] name: &str) {
    let checkpoint = tiny_models::open(name);
    let printed = format!("{:?}", must(load(name, Dtype::Float32, Stage::Packed)));
    let mut from = 0;
    for (tensor, shape) in tiny_models::tensors(name).into_iter().filter(|(_, shape)| shape.len() == 2) {
        let (form, array) = match must(checkpoint.quantized(&tensor)) {
            Some(quantized) => ("quantized", quantized.packed),
            None => ("dense", must(checkpoint.tensor(&tensor, &shape, Some(Dtype::Float32)))),
        };
        let array = format!("{array:?}");
        match printed[from..].find(&array) {
            Some(at) => from += at + array.len(),
            None => panic!("{name}: {tensor}, which the checkpoint has in {form} form, is not in the model: {array}"),
        }
    }
}

#[rstest]
#[case("tiny-qwen2-4bit", "one_token_f32")]
#[case("tiny-qwen2-4bit", "one_row_f32")]
#[case("tiny-qwen2-4bit", "two_rows_f32")]
#[case("tiny-qwen2-4bit", "two_rows_bf16")]
#[case("tiny-qwen2-mixed", "one_row_f32")]
#[case("tiny-qwen2-mixed", "two_rows_f32")]
#[case("tiny-qwen2-mixed", "one_row_f16")]
fn logits(#[case] model: &str, #[case] prompt: &str) {
    check_logits(model, prompt, Stage::Packed);
}

#[rstest]
#[case("tiny-qwen2-4bit", "two_rows_f32", &[4, 1, 1, 3])]
#[case("tiny-qwen2-mixed", "one_row_f32", &[5, 1, 4])]
fn logits_with_a_cache(#[case] model: &str, #[case] prompt: &str, #[case] chunks: &[i32]) {
    check_logits_in_chunks(model, prompt, chunks, Stage::Packed);
}

#[rstest]
#[case("tiny-qwen2-4bit", "five_tokens")]
#[case("tiny-qwen2-mixed", "seven_tokens")]
fn generates_what_transformers_generates(#[case] model: &str, #[case] prompt: &str) {
    check_generation(model, prompt, Stage::Packed);
}

/// The built-in model on its own 4-bit weights: four tokens, since plain loops take a second for each call.
#[test]
fn real_smollm2_logits() {
    check_first_real_logits(4, Stage::Packed);
}
