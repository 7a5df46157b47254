//! What every way to multiply on a GPU is tested with.

use grader::{Fixture, Rng};
use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch, TemplateValue};
use mlx_rs::{Array, Dtype};
use tiny_llm::quantized::QuantizedMatrix;
use tiny_llm::quantized::gpu::dequantize::DEQUANTIZE;
use tiny_llm::quantized::gpu::matvec::MATVEC;
use tiny_llm::quantized::gpu::{GpuMatmul, quantized_matmul_gpu_on};

use crate::quantized_matrices::{Bounded, Format, Matrix, f32s, random_activations};
use crate::{DAY, must};

/// A case of the fixture, as it is and with x in another order in memory.
pub fn check_multiply(kind: GpuMatmul, name: &str) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("multiply/{name}"));
    let (matrix, bias) = (Matrix::of(case).in_mlx(), case.optional_array("bias"));
    let x = case.array("x");
    for backend in GpuBackend::available() {
        case.check(quantized_matmul_gpu_on(backend, kind, &x, &matrix, bias.as_ref()));
        if x.ndim() > 1 {
            case.check(quantized_matmul_gpu_on(backend, kind, &must(grader::strided(&x)), &matrix, bias.as_ref()));
        }
    }
}

/// Products of all combinations of tokens, outputs and numbers of groups, against f64.
pub fn sweep(kind: GpuMatmul, format: Format, dtype: Dtype, tokens: &[usize], outputs: &[usize], groups: &[usize]) {
    sweep_with(&format!("{kind:?}"), format, dtype, tokens, outputs, groups, |backend, x, matrix| {
        quantized_matmul_gpu_on(backend, kind, x, matrix, None)
    });
}

/// [`sweep`] with any way to multiply.
pub fn sweep_with(
    name: &str,
    format: Format,
    dtype: Dtype,
    tokens: &[usize],
    outputs: &[usize],
    groups: &[usize],
    multiply: impl Fn(GpuBackend, &Array, &QuantizedMatrix) -> tiny_llm::Result<Array>,
) {
    let mut rng = Rng::new(8);
    for &n_groups in groups {
        for &outputs in outputs {
            let matrix = Matrix::random(&mut rng, [outputs, n_groups * format.group_size], format, dtype);
            for &tokens in tokens {
                let x = random_activations(&mut rng, tokens, matrix.inputs);
                let x = Array::from_slice(&x, &[tokens as i32, matrix.inputs as i32]);
                let x = must(x.as_dtype(dtype));
                for backend in GpuBackend::available() {
                    let what = format!(
                        "{name} on {backend:?}, {tokens} x {} to {outputs}, {format:?}, {dtype:?}",
                        matrix.inputs
                    );
                    let got = must(multiply(backend, &x, &matrix.in_mlx()));
                    assert_eq!(got.shape(), [tokens as i32, outputs as i32], "{what}");
                    assert_eq!(got.dtype(), dtype, "{what}");
                    expect_products(&what, &f32s(&got), &products(&matrix, &f32s(&x), dtype));
                }
            }
        }
    }
}

/// `[M, N]` in f64, and how far an answer may be from it.
///
/// The terms are added in f32 in any order, within groups as `v = 1 + integer / 2^bits`, whose sums are up to `2^bits` larger
/// than the result's; a matrix unit takes weights that are rounded to `dtype`; the result is rounded to it once.
pub fn products(matrix: &Matrix, x: &[f32], dtype: Dtype) -> Vec<Bounded> {
    let ulp = match dtype {
        Dtype::Float32 => f64::from(f32::EPSILON),
        Dtype::Float16 => 2.0_f64.powi(-10),
        _ => 2.0_f64.powi(-7),
    };
    let weights = matrix.weights();
    let mut all = Vec::new();
    for x in x.chunks_exact(matrix.inputs) {
        for row in weights.chunks_exact(matrix.inputs) {
            let terms = || x.iter().zip(row).map(|(x, weight)| f64::from(*x) * weight);
            let size: f64 = terms().map(f64::abs).sum();
            // Rounding errors have both signs: they grow as the root of their number.
            let squares: f64 = terms().map(|term| term * term).sum::<f64>().sqrt();
            let value: f64 = terms().sum();
            let off = 64.0 * f64::from(f32::EPSILON) * size + 2.0 * ulp * squares + 0.51 * ulp * value.abs();
            all.push(Bounded { value, off });
        }
    }
    all
}

#[track_caller]
fn expect_products(what: &str, got: &[f32], expected: &[Bounded]) {
    assert_eq!(got.len(), expected.len(), "{what}: numbers in the result");
    for (at, (got, Bounded { value, off })) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*got) - value).abs();
        assert!(error <= *off, "{what}: number {at} is {got}, exactly {value}; off by {error:e}, allowed are {off:e}");
    }
}

/// A token with a NaN or an infinity has nothing finite in its products; the others have.
pub fn not_finite(kind: GpuMatmul, tokens: usize, dtype: Dtype) {
    let matrix = Matrix::random(&mut Rng::new(9), [19, 96], Format { group_size: 32, bits: 4 }, Dtype::Float32);
    for number in [f32::NAN, f32::INFINITY] {
        let mut x = random_activations(&mut Rng::new(10), tokens, 96);
        x[96 + 70] = number;
        let x = must(Array::from_slice(&x, &[tokens as i32, 96]).as_dtype(dtype));
        for backend in GpuBackend::available() {
            let got = must(quantized_matmul_gpu_on(backend, kind, &x, &matrix.in_mlx(), None));
            for (at, value) in f32s(&got).into_iter().enumerate() {
                let (token, output) = (at / 19, at % 19);
                // An infinity in x may give NaN: the sum of x is subtracted.
                let is_right = if number.is_nan() { value.is_nan() } else { !value.is_finite() };
                assert!(
                    if token == 1 { is_right } else { value.is_finite() },
                    "{backend:?}, {kind:?}, {number} in x at token 1: output {output} of token {token} is {value}"
                );
            }
        }
    }
}

const WORDS: [u32; 5] = [0, u32::MAX, 0x7654_3210, 0xFEDC_BA98, 0x8001_F00F];

/// `(got, expected)` of every integer in some words, with the learner's `packed_integer`.
pub fn packed_integers(bits: i32) -> Vec<(u32, u32)> {
    const BODY: &str = "const uint i = thread_position_in_grid.x;\n\
        const uint per_word = 32 / BITS;\n\
        if (i < uint(words_shape[0]) * per_word) { values[i] = packed_integer<BITS>(words[i / per_word], i % per_word); }\n";
    let kernel = GpuKernel { name: "test_packed_integer", body: BODY, ..word_kernel(DEQUANTIZE.header) };
    let expected = integers(bits).into_iter();
    launch(kernel, bits, Dtype::Uint32).as_slice::<u32>().iter().copied().zip(expected).collect()
}

/// `(got, expected)` of `1 + integer / 2^bits`, with the learner's `one_plus_fraction`.
pub fn one_plus_fractions(bits: i32) -> Vec<(f32, f32)> {
    const BODY: &str = "const uint i = thread_position_in_grid.x;\n\
        const uint per_word = 32 / BITS;\n\
        if (i < uint(words_shape[0]) * per_word) { values[i] = one_plus_fraction<BITS>(words[i / per_word], i % per_word); }\n";
    let kernel = GpuKernel { name: "test_one_plus_fraction", body: BODY, ..word_kernel(MATVEC.header) };
    let steps = (1 << bits) as f32;
    let expected = integers(bits).into_iter().map(|integer| 1.0 + integer as f32 / steps);
    launch(kernel, bits, Dtype::Float32).as_slice::<f32>().iter().copied().zip(expected).collect()
}

fn integers(bits: i32) -> Vec<u32> {
    let of_word = |word: u32| (0..32).step_by(bits as usize).map(move |shift| word >> shift & ((1 << bits) - 1));
    WORDS.into_iter().flat_map(of_word).collect()
}

fn word_kernel(header: &'static str) -> GpuKernel {
    GpuKernel { name: "", inputs: &["words"], outputs: &["values"], header, body: "", strided: false }
}

fn launch(kernel: GpuKernel, bits: i32, dtype: Dtype) -> Array {
    let words = Array::from_slice(&WORDS, &[WORDS.len() as i32]);
    let shape = vec![WORDS.len() * 32 / bits as usize];
    let launch = Launch {
        template: &[("BITS", TemplateValue::Int(bits))],
        outputs: &[TensorType { shape, dtype }],
        grid: [64, 1, 1],
        threadgroup: [32, 1, 1],
        fill: None,
    };
    let values = must(kernel.launch(&[&words], &launch)).remove(0);
    must(values.eval());
    values
}
