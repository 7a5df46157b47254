//! Task 4: the plain product as an operation on arrays.

use grader::{Fixture, Rng};
use mlx_rs::{Array, Dtype};
use rstest::rstest;
use tiny_llm::quantized::matmul::{Precision, quantized_matmul_in};

use crate::quantized_matrices::{Format, Matrix, expect_rounded_once, f32s, random_activations, rows};
use crate::{DAY, FLOATS, in_order, must};

fn plain(x: &Array, matrix: &Matrix, bias: Option<&Array>) -> tiny_llm::Result<Array> {
    quantized_matmul_in(Precision::Float32, x, &matrix.in_mlx(), bias)
}

#[rstest]
fn the_operation(
    #[values(
        "vector_f32",
        "rows_f32",
        "batch_f32",
        "batch_f16",
        "batch_bf16",
        "eight_bits_f32",
        "eight_bits_bf16",
        "cancelling_f16",
        "cancelling_bf16"
    )]
    name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("operation/{name}"));
    let x = in_order(case.array("x"), other_memory_order);
    case.check(plain(&x, &Matrix::of(case), case.optional_array("bias").as_ref()));
}

/// Products beyond 65504 that the layer's bias brings back into f16's range.
#[test]
fn what_is_too_large_for_f16_stays_finite_inside() {
    let matrix = Matrix::with_largest_integers([3, 128], Format { group_size: 32, bits: 8 });
    let x = must(Array::from_slice(&[500.0_f32; 128], &[1, 128]).as_dtype(Dtype::Float16));
    let products = matrix.product(&[500.0; 128]);
    assert!(products[2].value > 1e5, "this test's own numbers");
    let bias: Vec<f32> = products.iter().map(|product| (3000.0 - product.value) as f32).collect();
    let bias = Array::from_slice(&bias, &[3]);
    for value in f32s(&must(plain(&x, &matrix, Some(&bias)))) {
        assert!((value - 3000.0).abs() < 2.0, "100,000 and more, less as much: {value}, exactly 3000");
    }
}

/// The exact mode is exact: what is left is f32 arithmetic, and one rounding.
#[rstest]
fn results_are_rounded_once(#[values(0, 1, 2)] dtype: usize) {
    let mut rng = Rng::new(17);
    let matrix = Matrix::random(&mut rng, [48, 512], Format { group_size: 64, bits: 4 }, Dtype::Bfloat16);
    let x = must(rows(&random_activations(&mut rng, 3, 512), 512).as_dtype(FLOATS[dtype]));
    let exact = matrix.product(&f32s(&x));
    let got = must(plain(&x, &matrix, None));
    assert_eq!(got.dtype(), FLOATS[dtype]);
    expect_rounded_once("a product", &got, exact.into_iter().map(|bounded| bounded.scaled(0.25)));
}

#[test]
fn no_tokens_give_no_outputs() {
    let matrix = Matrix::random(&mut Rng::new(13), [6, 64], Format { group_size: 32, bits: 4 }, Dtype::Float32);
    let out = must(plain(&Array::from_slice(&[0.0_f32; 0], &[0, 64]), &matrix, None));
    must(out.eval());
    assert_eq!(out.shape(), [0, 6]);
}
