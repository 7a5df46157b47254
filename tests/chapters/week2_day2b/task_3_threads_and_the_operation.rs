//! Task 3: tiles, threads, and the operation, on the portable kernel.

use grader::cause::Diagnosis;
use grader::report::{Report, Status};
use grader::results::record;
use grader::{Fixture, Rng, check_rule, expect_error};
use mlx_custom::set_num_threads;
use mlx_rs::{Array, Dtype};
use rstest::rstest;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Mutex;
use tiny_llm::quantized::QuantizedMatrix;
use tiny_llm::quantized::kernel::{Portable, ROW_BLOCK};
use tiny_llm::quantized::matmul::{Precision, quantized_matmul_in, quantized_matmul_with};
use tiny_llm::quantized::tiles::for_each_tile;

use crate::quantized_matrices::{Format, Matrix, expect_rounded_once, expect_within, f32s, random_activations, rows};
use crate::{DAY, FLOATS, in_order, must};

fn multiply(x: &Array, matrix: &QuantizedMatrix, bias: Option<&Array>) -> tiny_llm::Result<Array> {
    quantized_matmul_with(&Portable, x, matrix, bias)
}

/// Every place of `[tokens, rows]` is in exactly one tile.
#[rstest]
fn a_tile_for_every_place(#[values(1, 2, 3, 7)] threads: usize) {
    set_num_threads(threads);
    for n_tokens in [0, 1, 2, 3, 4, 5, 127, 128, 129, 300] {
        for n_rows in [0, 1, 15, 16, 17, 31, 32, 33, 100, 576, 5000] {
            let tiles = Mutex::new(Vec::new());
            for_each_tile(n_tokens, n_rows, |tokens, rows, _| {
                let mut tiles = tiles.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                tiles.push((tokens, rows));
            });
            let tiles = tiles.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
            let what = format!("{n_tokens} tokens, {n_rows} rows, {threads} threads");
            let area: usize = tiles.iter().map(|(tokens, rows)| tokens.len() * rows.len()).sum();
            if area != n_tokens * n_rows {
                let how = if area < n_tokens * n_rows { "too few" } else { "too many" };
                let diagnosis = Diagnosis::mistake(&format!("{how} places in all tiles together"));
                let message = format!("{what}: {area} places in all tiles together, expected {}", n_tokens * n_rows);
                record(&what, &Report::plain(Status::Fail, message.clone(), diagnosis));
                panic!("{message}");
            }
            let corners: BTreeSet<_> = tiles.iter().map(|(tokens, rows)| (tokens.start, rows.start)).collect();
            assert_eq!(corners.len(), tiles.len(), "{what}: two tiles begin at the same place");
            for (i, (tokens, rows)) in tiles.iter().enumerate() {
                assert!(tokens.end <= n_tokens && rows.end <= n_rows, "{what}: a tile {tokens:?} x {rows:?}");
                let is_whole = rows.start % ROW_BLOCK == 0 && (rows.end % ROW_BLOCK == 0 || rows.end == n_rows);
                let seen = if is_whole { Ok(()) } else { Err(format!("{what}: a tile of the rows {rows:?}")) };
                check_rule(
                    "rows of tiles",
                    seen,
                    "looks like: rows are cut in the middle of a block; tiles take multiples of ROW_BLOCK, except at the end",
                );
                let overlaps = |(t, r): &(Range<usize>, Range<usize>)| {
                    t.start < tokens.end && tokens.start < t.end && r.start < rows.end && rows.start < r.end
                };
                assert!(!tiles[i + 1..].iter().any(overlaps), "{what}: {tokens:?} x {rows:?} overlaps another tile");
            }
        }
    }
    set_num_threads(2);
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
        "cancelling_bf16"
    )]
    name: &str,
    #[values(false, true)] other_memory_order: bool,
) {
    let fixture = Fixture::load(DAY);
    let case = fixture.case(&format!("operation/{name}"));
    let x = in_order(case.array("x"), other_memory_order);
    case.check(multiply(&x, &Matrix::of(case).in_mlx(), case.optional_array("bias").as_ref()));
}

/// Tokens and rows around the boundaries of tiles, against f64.
#[rstest]
fn sizes_around_tiles(#[values(1, 3, 4, 127, 128, 129, 130)] tokens: usize) {
    let mut rng = Rng::new(10);
    for outputs in [1, 15, 16, 17, 33, 100] {
        let format = Format { group_size: 32, bits: if outputs % 2 == 0 { 4 } else { 8 } };
        let matrix = Matrix::random(&mut rng, [outputs, 32], format, Dtype::Float16);
        let x = random_activations(&mut rng, tokens, 32);
        let got = must(multiply(&rows(&x, 32), &matrix.in_mlx(), None));
        assert_eq!(got.shape(), [tokens as i32, outputs as i32]);
        let what = format!("{tokens} tokens, {outputs} outputs, {format}");
        expect_within(&what, &f32s(&got), matrix.product(&x).into_iter());
    }
}

/// The plain product of day 2.2a rounds no activations; this one does.
#[test]
fn float32_activations_are_not_rounded() {
    let mut rng = Rng::new(15);
    let matrix = Matrix::random(&mut rng, [48, 512], Format { group_size: 64, bits: 4 }, Dtype::Bfloat16);
    let x = random_activations(&mut rng, 5, 512);
    let exact = matrix.product(&x);
    let error = |precision: Precision| {
        let (x, matrix) = (rows(&x, 512), matrix.in_mlx());
        let got = f32s(&must(match precision {
            Precision::Int16 => multiply(&x, &matrix, None),
            Precision::Float32 => quantized_matmul_in(precision, &x, &matrix, None),
        }));
        let squares = got.iter().zip(&exact).map(|(got, exact)| (f64::from(*got) - exact.value).powi(2));
        (squares.sum::<f64>() / exact.len() as f64).sqrt()
    };
    let (rounded, plain) = (error(Precision::Int16), error(Precision::Float32));
    assert!(plain < 0.2 * rounded, "errors: {plain:e} with f32 activations, {rounded:e} with 16-bit integers");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let mut rng = Rng::new(11);
    let matrix = Matrix::random(&mut rng, [333, 256], Format { group_size: 64, bits: 4 }, Dtype::Bfloat16).in_mlx();
    for tokens in [1, 3, 9] {
        let x = rows(&random_activations(&mut rng, tokens, 256), 256);
        let with = |threads: usize| {
            set_num_threads(threads);
            f32s(&must(multiply(&x, &matrix, None)))
        };
        let alone = with(1);
        for threads in [2, 3, 8] {
            assert_eq!(with(threads), alone, "{tokens} tokens with {threads} threads and with one");
        }
    }
    set_num_threads(2);
}

#[rstest]
fn what_is_not_finite_stays_with_its_token(#[values(f32::NAN, f32::INFINITY)] bad: f32, #[values(3, 9)] tokens: usize) {
    let mut rng = Rng::new(12);
    let matrix = Matrix::random(&mut rng, [40, 128], Format { group_size: 32, bits: 4 }, Dtype::Float16);
    let mut x = random_activations(&mut rng, tokens, 128);
    x[128 + 100] = bad;
    x[256..384].fill(0.0);
    let got = f32s(&must(multiply(&rows(&x, 128), &matrix.in_mlx(), None)));
    for (at, value) in got.into_iter().enumerate() {
        match at / 40 {
            1 => assert!(value.is_nan(), "output {} of the token with {bad} is {value}", at % 40),
            2 => assert_eq!(value, 0.0, "output {} of a token of zeros", at % 40),
            _ => assert!(value.is_finite(), "output {} of token {} beside one with {bad}", at % 40, at / 40),
        }
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let matrix =
        Matrix::random(&mut Rng::new(13), [6, 64], Format { group_size: 32, bits: 4 }, Dtype::Float32).in_mlx();
    let array = |shape: &[i32], dtype| must(Rng::new(14).array(shape, dtype));
    let run = |x: &Array, bias: Option<&Array>| {
        multiply(x, &matrix, bias).and_then(|out| Ok(out.eval().map(|()| out.shape().to_vec())?))
    };
    let x = array(&[2, 64], Dtype::Float32);
    assert_eq!(must(run(&x, Some(&array(&[6], Dtype::Float16)))), [2, 6], "x [2, 64] with a bias [6]");
    assert_eq!(must(run(&array(&[0, 64], Dtype::Float32), None)), [0, 6], "no tokens");
    expect_error(run(&array(&[2, 32], Dtype::Float32), None), "x [2, 32] for a matrix [6, 64]");
    expect_error(run(&array(&[], Dtype::Float32), None), "x without an axis");
    expect_error(run(&array(&[2, 64], Dtype::Int32), None), "x of dtype int32");
    expect_error(run(&x, Some(&array(&[5], Dtype::Float32))), "a bias [5] for 6 outputs");
    expect_error(run(&x, Some(&array(&[1, 6], Dtype::Float32))), "a bias [1, 6]");
    expect_error(run(&x, Some(&array(&[6], Dtype::Int32))), "a bias of dtype int32");
}

/// Sums beyond 65504 that the layer's bias brings back into f16's range.
#[test]
fn what_is_too_large_for_f16_stays_finite_inside() {
    let matrix = Matrix::with_largest_integers([3, 128], Format { group_size: 32, bits: 8 });
    let x = must(Array::from_slice(&[500.0_f32; 128], &[1, 128]).as_dtype(Dtype::Float16));
    let bias: Vec<f32> = matrix.product(&[500.0; 128]).iter().map(|product| (3000.0 - product.value) as f32).collect();
    let bias = Array::from_slice(&bias, &[3]);
    for value in f32s(&must(multiply(&x, &matrix.in_mlx(), Some(&bias)))) {
        assert!((value - 3000.0).abs() < 4.0, "100,000 and more, less as much: {value}, exactly 3000");
    }
}

#[rstest]
fn results_are_rounded_once(#[values(0, 1, 2)] dtype: usize) {
    let mut rng = Rng::new(17);
    let matrix = Matrix::random(&mut rng, [48, 512], Format { group_size: 64, bits: 4 }, Dtype::Bfloat16);
    let x = must(rows(&random_activations(&mut rng, 3, 512), 512).as_dtype(FLOATS[dtype]));
    let exact = matrix.product(&f32s(&x));
    let got = must(multiply(&x, &matrix.in_mlx(), None));
    assert_eq!(got.dtype(), FLOATS[dtype]);
    expect_rounded_once("a product", &got, exact.into_iter());
}
