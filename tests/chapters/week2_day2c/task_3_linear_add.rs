//! Task 3: a projection that is added to the residual.

use grader::{Fixture, Rng, Tolerance, check_close, expect_error, strided};
use mlx_rs::{Array, Dtype};
use rstest::rstest;
use tiny_llm::Error;
use tiny_llm::fused::linear_add;
use tiny_llm::quantized::quantized_matmul;

use crate::quantized_matrices::{Format, Matrix, f32s};
use crate::{DAY, ROUNDING, must};

#[rstest]
fn linear_add_of_a_case(
    #[values(
        "decode_f32",
        "prefill_f32",
        "heads_f32",
        "heads_decode_f32",
        "heads_f16",
        "heads_bf16",
        "cancelling_f16",
        "cancelling_bf16"
    )]
    name: &str,
    #[values(false, true)] other_memory_order: bool,
    #[values(false, true)] somebody_looks: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("linear_add/{name}"));
    let order = |array: Array| if other_memory_order { must(strided(&array)) } else { array };
    let (x, residual) = (order(case.array("x")), case.array("residual"));
    let seen = somebody_looks.then(|| residual.clone());
    let out = linear_add(&x, &residual, &Matrix::of(case).in_mlx());
    drop(residual);
    case.check(out);
    if let Some(seen) = seen {
        let unchanged = "the residual, which somebody else still holds";
        check_close(unchanged, Ok::<_, Error>(seen), &case.array("residual"), Tolerance { atol: 0.0, rtol: 0.0 });
    }
}

#[rstest]
fn linear_add_is_what_the_plain_layers_compute(
    #[values(1, 31, 33, 300)] outputs: usize,
    #[values(1, 4, 130)] len: i32,
) {
    let mut rng = Rng::new(28);
    let matrix = Matrix::random(&mut rng, [outputs, 96], Format { group_size: 32, bits: 4 }, Dtype::Float32).in_mlx();
    let x = must(rng.array(&[2, 3, len, 32], Dtype::Float32));
    let residual = must(rng.array(&[2, len, outputs as i32], Dtype::Float32));
    let plain = || {
        let merged = x.swap_axes(1, 2)?.reshape(&[2, len, 96])?;
        Ok::<_, Error>(quantized_matmul(&merged, &matrix, None)?.add(&residual)?)
    };
    let what = format!("{len} tokens, {outputs} outputs");
    check_close(&what, linear_add(&x, &residual, &matrix), &must(plain()), ROUNDING);
}

#[test]
fn linear_add_refuses_what_does_not_fit() {
    let matrix =
        Matrix::random(&mut Rng::new(29), [8, 64], Format { group_size: 32, bits: 4 }, Dtype::Float16).in_mlx();
    let array = |shape: &[i32]| must(Rng::new(30).array(shape, Dtype::Float32));
    let run = |x: &Array, residual: &Array| {
        linear_add(x, residual, &matrix).and_then(|out| Ok(out.eval().map(|()| out.shape().to_vec())?))
    };
    assert_eq!(must(run(&array(&[1, 4, 3, 16]), &array(&[1, 3, 8]))), [1, 3, 8]);
    expect_error(run(&array(&[1, 3, 32]), &array(&[1, 3, 8])), "x [1, 3, 32] for 64 inputs");
    expect_error(run(&array(&[1, 3, 4, 16]), &array(&[1, 3, 8])), "3 heads of 16, and 4 tokens for a residual of 3");
    expect_error(run(&array(&[1, 3, 64]), &array(&[1, 3, 9])), "a residual of 9 for 8 outputs");
    expect_error(run(&array(&[3, 64]), &array(&[3, 8])), "no batch axis");
    let half = must(array(&[1, 3, 64]).as_dtype(Dtype::Float16));
    expect_error(run(&half, &array(&[1, 3, 8])), "x in float16 and a residual in float32");
}

/// Products beyond 65504 that the residual brings back into f16's range.
#[test]
fn what_is_too_large_for_f16_stays_finite_inside() {
    let matrix = Matrix::constant_rows(&[20.0; 4], 64, Format { group_size: 32, bits: 8 }).in_mlx();
    let x = must(Array::from_slice(&[78.0_f32; 64], &[1, 1, 64]).as_dtype(Dtype::Float16));
    let residual = must(Array::from_slice(&[-60_000.0_f32; 4], &[1, 1, 4]).as_dtype(Dtype::Float16));
    for value in f32s(&must(linear_add(&x, &residual, &matrix))) {
        assert!((value - 39_840.0).abs() < 40.0, "99,840 - 60,000: {value}, exactly 39840");
    }
}

#[rstest]
fn what_is_not_finite_stays_with_its_token(#[values(f32::NAN, f32::INFINITY)] bad: f32, #[values(3, 6)] len: usize) {
    let mut rng = Rng::new(34);
    let matrix = Matrix::random(&mut rng, [20, 64], Format { group_size: 32, bits: 4 }, Dtype::Float16).in_mlx();
    let mut x = f32s(&must(rng.array(&[1, len as i32, 64], Dtype::Float32)));
    x[64 + 40] = bad;
    let residual = must(rng.array(&[1, len as i32, 20], Dtype::Float32));
    let got = f32s(&must(linear_add(&Array::from_slice(&x, &[1, len as i32, 64]), &residual, &matrix)));
    for (at, value) in got.into_iter().enumerate() {
        assert_eq!(
            value.is_nan(),
            at / 20 == 1,
            "output {} of token {} is {value}; token 1 has {bad}",
            at % 20,
            at / 20
        );
    }
}
