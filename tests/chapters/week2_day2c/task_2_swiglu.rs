//! Task 2: norm, gate and up projection, SiLU and product.

use grader::{Fixture, Rng, check_close, expect_error, strided};
use mlx_rs::{Array, Dtype};
use rstest::rstest;
use tiny_llm::fused::norm_swiglu;
use tiny_llm::quantized::{QuantizedMatrix, quantized_matmul};
use tiny_llm::{Error, RmsNorm, silu};

use crate::quantized_matrices::{Bounded, Format, Matrix, expect_rounded_once, f32s};
use crate::{DAY, FLOATS, ROUNDING, constant, must};

#[rstest]
fn norm_swiglu_of_a_case(
    #[values("decode_f32", "prefill_f32", "eight_bits_f32", "prefill_f16", "decode_bf16")] name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("norm_swiglu/{name}"));
    let x = if other_memory_order { must(strided(&case.array("x"))) } else { case.array("x") };
    let [gate, up] = ["gate_", "up_"].map(|part| Matrix::with_prefix(case, part).in_mlx());
    case.check(norm_swiglu(&x, &constant(&case.array("norm_weight")), case.f32("eps"), &gate, &up));
}

#[rstest]
fn norm_swiglu_is_what_the_plain_layers_compute(
    #[values(1, 31, 33, 300)] outputs: usize,
    #[values(1, 4, 130)] tokens: i32,
) {
    let mut rng = Rng::new(24);
    let format = Format { group_size: 64, bits: 4 };
    let [gate, up] = [(); 2].map(|()| Matrix::random(&mut rng, [outputs, 64], format, Dtype::Bfloat16).in_mlx());
    let x = must(rng.array(&[1, tokens, 64], Dtype::Float32));
    let norm_weight = must(rng.array(&[64], Dtype::Float32));
    let norm = RmsNorm::new(norm_weight.clone(), 0.1); // large enough to show
    let plain = || {
        let x = norm.forward(&x)?;
        Ok::<_, Error>(silu(&quantized_matmul(&x, &gate, None)?)?.multiply(quantized_matmul(&x, &up, None)?)?)
    };
    let fused = norm_swiglu(&x, &constant(&norm_weight), 0.1, &gate, &up);
    check_close(&format!("{tokens} tokens, {outputs} outputs"), fused, &must(plain()), ROUNDING);
}

/// For gates far below zero the exponential is infinite, and the product a zero, not a NaN.
#[test]
fn norm_swiglu_is_finite_in_the_tails() {
    let matrix = Matrix::with_largest_integers([64, 128], Format { group_size: 32, bits: 8 }).in_mlx();
    let ones = constant(&Array::from_slice(&[1.0_f32; 128], &[128]));
    for sign in [1.0_f32, -1.0] {
        let x = Array::from_slice(&[sign; 128], &[1, 1, 128]);
        let out = f32s(&must(norm_swiglu(&x, &ones, 1e-6, &matrix, &matrix)));
        let (first, last) = (out[0], out[63]);
        assert!(first.is_finite() && last.is_finite(), "gates of {sign} times hundreds to thousands: {first}, {last}");
        assert_eq!(last == 0.0, sign < 0.0, "silu of {sign} times thousands, times as much: {last}");
    }
}

#[test]
fn norm_swiglu_refuses_what_does_not_fit() {
    let matrix = |shape, format| Matrix::random(&mut Rng::new(25), shape, format, Dtype::Float16).in_mlx();
    let format = Format { group_size: 32, bits: 4 };
    let (gate, x) = (matrix([8, 64], format), must(Rng::new(26).array(&[2, 64], Dtype::Float32)));
    let norm = must(Rng::new(27).array(&[64], Dtype::Float32));
    let run = |x: &Array, norm: &Array, up: &QuantizedMatrix| {
        norm_swiglu(x, &constant(norm), 1e-6, &gate, up)
            .and_then(|out| Ok(out.eval().map(|()| out.shape().to_vec())?))
    };
    assert_eq!(must(run(&x, &norm, &gate)), [2, 8]);
    expect_error(run(&x, &norm, &matrix([9, 64], format)), "an up projection of 9 rows for a gate of 8");
    let other = matrix([8, 64], Format { group_size: 64, bits: 4 });
    expect_error(run(&x, &norm, &other), "an up projection of another format");
    expect_error(run(&must(x.reshape(&[4, 32])), &norm, &gate), "x [4, 32] for 64 inputs");
    expect_error(run(&must(x.as_dtype(Dtype::Int32)), &norm, &gate), "x of dtype int32");
    expect_error(run(&x, &must(norm.reshape(&[1, 64])), &gate), "a norm's weight [1, 64]");
}

/// Where `exp(-x)` overflows, SiLU is still a small negative number, and times a large one it counts.
#[test]
fn silu_is_not_zero_below_minus_88() {
    let mut rng = Rng::new(31);
    let format = Format { group_size: 32, bits: 8 };
    for target in [-80.0_f64, -87.0, -89.0, -92.0, -96.0] {
        let up = Matrix::random(&mut rng, [8, 64], format, Dtype::Float32);
        let ones = up.row_sums();
        let gate = Matrix::constant_rows(&[(target / 64.0) as f32; 8], 64, format);
        let x = Array::from_slice(&[1.0_f32; 64], &[1, 64]);
        let large = constant(&Array::from_slice(&[1.0_f32; 64], &[64]));
        let got = f32s(&must(norm_swiglu(&x, &large, 0.0, &gate.in_mlx(), &up.scaled(1e30).in_mlx())));
        for (got, up) in got.into_iter().zip(ones) {
            let expected = target * target.exp() * up * 1e30;
            let off = (f64::from(got) / expected - 1.0).abs();
            // Below f32's normal numbers a sigmoid has few bits left.
            let allowed = if target < -87.0 { 0.02 } else { 1e-3 };
            assert!(off < allowed, "silu({target}) times {:e}: {got:e}, exactly {expected:e}", up * 1e30);
        }
    }
}

/// Gate and up are not rounded to the 16 bits of the result before they meet.
#[rstest]
fn results_are_rounded_once(#[values(1, 2)] dtype: usize) {
    let mut rng = Rng::new(32);
    let format = Format { group_size: 32, bits: 4 };
    let [gate, up] = [(); 2].map(|()| Matrix::random(&mut rng, [200, 64], format, Dtype::Float16).scaled(0.25));
    let x = must(must(rng.array(&[3, 64], Dtype::Float32)).as_dtype(FLOATS[dtype]));
    let normed: Vec<f32> = f32s(&x)
        .chunks_exact(64)
        .flat_map(|row| {
            let root = (row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 64.0 + 1e-6).sqrt();
            row.iter().map(move |x| (f64::from(*x) / root) as f32).collect::<Vec<_>>()
        })
        .collect();
    let ones = constant(&Array::from_slice(&[1.0_f32; 64], &[64]));
    let got = must(norm_swiglu(&x, &ones, 1e-6, &gate.in_mlx(), &up.in_mlx()));
    let exact = gate.product(&normed).into_iter().zip(up.product(&normed)).map(|(gate, up)| {
        let silu = gate.value / (1.0 + (-gate.value).exp());
        // SiLU's slope is at most 1.1.
        let off = 1.1 * gate.off * up.value.abs() + silu.abs() * up.off + 1e-6 * (silu * up.value).abs();
        Bounded { value: silu * up.value, off }
    });
    expect_rounded_once("silu(gate) * up", &got, exact.collect::<Vec<_>>().into_iter());
}

/// An up projection beyond 65504 that a small gate brings back into f16's range.
#[test]
fn what_is_too_large_for_f16_stays_finite_inside() {
    let format = Format { group_size: 32, bits: 8 };
    let (gate, up) = (Matrix::constant_rows(&[0.001; 4], 64, format), Matrix::constant_rows(&[2000.0; 4], 64, format));
    let ones = constant(&Array::from_slice(&[1.0_f32; 64], &[64]));
    let x = must(Array::from_slice(&[3.0_f32; 64], &[1, 64]).as_dtype(Dtype::Float16));
    let got = f32s(&must(norm_swiglu(&x, &ones, 1e-6, &gate.in_mlx(), &up.in_mlx())));
    let expected = 0.064 / (1.0 + (-0.064_f64).exp()) * 128_000.0;
    for value in got {
        assert!((f64::from(value) / expected - 1.0).abs() < 2e-3, "silu(0.064) * 128000: {value}, exactly {expected}");
    }
}

#[rstest]
fn what_is_not_finite_stays_with_its_token(#[values(f32::NAN, f32::INFINITY)] bad: f32, #[values(3, 6)] tokens: usize) {
    let mut rng = Rng::new(33);
    let [gate, up] = [(); 2]
        .map(|()| Matrix::random(&mut rng, [20, 64], Format { group_size: 32, bits: 4 }, Dtype::Float16).in_mlx());
    let ones = constant(&Array::from_slice(&[1.0_f32; 64], &[64]));
    let mut x = f32s(&must(rng.array(&[tokens as i32, 64], Dtype::Float32)));
    x[64 + 40] = bad;
    let x = Array::from_slice(&x, &[tokens as i32, 64]);
    for (at, value) in f32s(&must(norm_swiglu(&x, &ones, 1e-6, &gate, &up))).into_iter().enumerate() {
        assert_eq!(
            value.is_nan(),
            at / 20 == 1,
            "output {} of token {} is {value}; token 1 has {bad}",
            at % 20,
            at / 20
        );
    }
}
