//! What every kernel is tested with, on its own.

use std::ops::Range;

use grader::{Fixture, Rng, Tolerance, check_close, check_rule};
use mlx_rs::Dtype;
use tiny_llm::quantized::kernel::{Kernel, Portable, available_kernels};

use crate::quantized_matrices::{
    Format, Matrix, expect_within, f32s, formats, multiply, random_activations, rounded, rows,
};
use crate::{DAY, FLOATS};

/// The same f32 sums in another order.
const ORDER: Tolerance = Tolerance { atol: 1e-3, rtol: 1e-5 };

/// The kernels for this processor's instruction sets. Where there is none, tasks 4 and 5 have nothing to write.
pub fn vector_kernels() -> Vec<&'static dyn Kernel> {
    let kernels: Vec<_> =
        available_kernels().iter().copied().filter(|kernel| kernel.name() != Portable.name()).collect();
    if kernels.is_empty() {
        println!("no kernel for this processor's instruction set: it runs `portable`, and there is nothing to do");
    }
    kernels
}

/// Cases of the fixture: rows and tokens at once, and the rows once more in two parts.
pub fn check_cases(kernel: &dyn Kernel, names: &[&str]) {
    let fixture = Fixture::load(DAY);
    for name in names {
        let case = fixture.case(&format!("kernel/{name}"));
        let matrix = Matrix::of(case);
        let x = f32s(&case.array("x"));
        let (tokens, activations) = (x.len() / matrix.inputs, rounded(&matrix, &x));
        let whole = multiply(kernel, &matrix, &activations, 0..tokens, 0..matrix.outputs);
        case.check(Ok::<_, tiny_llm::Error>(rows(&whole, matrix.outputs)));
        let half = matrix.outputs / 2;
        for part in [0..half, half..matrix.outputs] {
            let got = multiply(kernel, &matrix, &activations, 0..tokens, part.clone());
            let expected: Vec<f32> =
                whole.chunks_exact(matrix.outputs).flat_map(|row| row[part.clone()].to_vec()).collect();
            let what = format!("{} {name}: rows {part:?} on their own", kernel.name());
            check_close(&what, Ok::<_, tiny_llm::Error>(rows(&got, part.len())), &rows(&expected, part.len()), ORDER);
        }
    }
}

/// Which shapes a sweep goes through, from those that need little to those that need everything.
#[derive(Debug, Clone, Copy)]
pub enum Shapes {
    /// A group is one or more chunks, and so is a row.
    WholeChunks,
    /// 4 bits in groups of 32: two groups in a chunk.
    HalfChunks,
    /// The same, and the row ends in half a chunk.
    HalfChunkAtTheEnd,
}

impl Shapes {
    fn contain(self, inputs: usize, format: Format) -> bool {
        let chunk = 256 / format.bits;
        let kind = match (format.group_size < chunk, inputs % chunk) {
            (false, _) => 0,
            (true, 0) => 1,
            (true, _) => 2,
        };
        inputs.is_multiple_of(format.group_size) && kind == self as usize
    }
}

/// Rows and inputs around every boundary, in the formats of these shapes, against f64.
pub fn sweep(kernel: &dyn Kernel, shapes: Shapes, token_ranges: &[Range<usize>]) {
    const INPUTS: [usize; 10] = [64, 128, 256, 512, 1088, 32, 96, 160, 288, 544];
    const ROWS: [Range<usize>; 9] = [0..1, 39..40, 0..5, 3..18, 0..16, 16..32, 1..18, 9..40, 7..40];
    let tokens = token_ranges.iter().map(|range| range.end).max().unwrap_or(1);
    let mut rng = Rng::new(8);
    for (number, inputs) in INPUTS.into_iter().enumerate() {
        for (format_number, format) in formats().filter(|format| shapes.contain(inputs, *format)).enumerate() {
            let dtype = FLOATS[(number + format_number) % 3];
            let matrix = Matrix::random(&mut rng, [40, inputs], format, dtype);
            let x = rounded(&matrix, &random_activations(&mut rng, tokens, inputs));
            let expected = matrix.product_of(&x);
            for (tokens, rows) in token_ranges.iter().flat_map(|tokens| ROWS.map(|rows| (tokens.clone(), rows))) {
                let what = format!(
                    "{}, {inputs} inputs, {format}, scales {dtype:?}, tokens {tokens:?}, rows {rows:?}",
                    kernel.name()
                );
                let places: Vec<usize> =
                    tokens.clone().flat_map(|token| rows.clone().map(move |row| token * 40 + row)).collect();
                let got = multiply(kernel, &matrix, &x, tokens, rows);
                expect_within(&what, &got, places.iter().map(|&place| expected[place]));
            }
        }
    }
}

/// All weights and all activations as large as they can be: sums must not overflow.
pub fn largest_integers(kernel: &dyn Kernel, tokens: usize) {
    for format in formats() {
        for sign in [1.0, -1.0] {
            let matrix = Matrix::with_largest_integers([17, 640], format);
            let x = rounded(&matrix, &vec![sign * 3.0; tokens * matrix.inputs]);
            let what = format!("{}, {format}, integers at the end of their range", kernel.name());
            let got = multiply(kernel, &matrix, &x, 0..tokens, 0..17);
            expect_within(&what, &got, matrix.product_of(&x).into_iter());
        }
    }
}

/// A token with a NaN has NaN in all its products; the others have none.
pub fn not_finite(kernel: &dyn Kernel, tokens: usize) {
    let mut rng = Rng::new(9);
    for format in formats() {
        let matrix = Matrix::random(&mut rng, [19, 384], format, Dtype::Bfloat16);
        let clean = random_activations(&mut rng, tokens, 384);
        let mut spoiled = clean.clone();
        spoiled[384 + 383] = f32::NAN;
        let run = |x: &[f32]| multiply(kernel, &matrix, &rounded(&matrix, x), 0..tokens, 0..19);
        for (at, (before, after)) in run(&clean).into_iter().zip(run(&spoiled)).enumerate() {
            let what = format!("{}, {format}: output {} of token {}", kernel.name(), at % 19, at / 19);
            match at / 19 {
                1 => assert!(after.is_nan(), "{what}, which has a NaN, is {after}"),
                _ => assert_eq!(before, after, "{what}, when token 1 has a NaN"),
            }
        }
    }
}

/// A scale or bias that is not finite spoils its row, and no other: neither the row before, which may end in half a
/// chunk, nor the one after.
pub fn spoiled_groups(kernel: &dyn Kernel, tokens: usize) {
    let mut rng = Rng::new(14);
    let sizes = || formats().flat_map(|format| [384, 160].map(|inputs| (format, inputs)));
    for (number, (format, inputs)) in sizes().filter(|(format, inputs)| inputs % format.group_size == 0).enumerate() {
        let clean = Matrix::random(&mut rng, [19, inputs], format, FLOATS[number % 3]);
        let x = rounded(&clean, &random_activations(&mut rng, tokens, inputs));
        let groups = inputs / format.group_size;
        let last = groups - 1;
        let before = multiply(kernel, &clean, &x, 0..tokens, 0..19);
        for (part, bad, row, group) in [
            ("scale", f32::NAN, 5, last),
            ("bias", f32::NAN, 18, last),
            ("scale", f32::INFINITY, 18, last),
            ("bias", f32::INFINITY, 0, last),
            ("scale", f32::NAN, 6, 0),
            ("scale", f32::INFINITY, 1, 0),
            ("bias", f32::NAN, 17, 0),
        ] {
            let spoiled = clean.with_spoiled_group(part, row * groups + group, bad);
            let after = multiply(kernel, &spoiled, &x, 0..tokens, 0..19);
            for (at, (before, after)) in before.iter().zip(after).enumerate() {
                let what = format!(
                    "{}, {inputs} inputs, {format}: output {} of token {}, when a {part} of row {row} is {bad}",
                    kernel.name(),
                    at % 19,
                    at / 19
                );
                if at % 19 == row {
                    assert!(!after.is_finite(), "{what}, is {after}");
                } else {
                    let seen = if after.is_finite() { Ok(()) } else { Err(format!("{what}, is {after}")) };
                    check_rule(
                        "what is not finite stays in its row",
                        seen,
                        "looks like: another row's groups enter a row's sum, if only times 0; the place after a row's last group \
                         belongs to that row, and its scale is 0",
                    );
                    assert_eq!(*before, after, "{what}");
                }
            }
        }
    }
}
