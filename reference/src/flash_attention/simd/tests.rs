//! Each variant by itself, against f64.

use super::*;

/// Numbers in (-1, 1), the same in every run.
fn numbers(n: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn assert_close(got: &[f32], expected: &[f64], what: &str) {
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        assert!((f64::from(got) - expected).abs() < 1e-5, "{what}: {got} instead of {expected} at {i}");
    }
}

struct Exp<'a>(&'a mut [f32]);

impl Kernel for Exp<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for x in self.0.chunks_exact_mut(S::LANES) {
            simd.store(exp(simd, simd.load(x)), x);
        }
    }
}

#[test]
fn exp_is_within_its_bound() {
    let inputs: Vec<f32> = (0..1 << 20).map(|i| -87.0 * i as f32 / (1 << 20) as f32).collect();
    for variant in available_variants() {
        let mut got = inputs.clone();
        variant.run(Exp(&mut got));
        for (&x, &got) in inputs.iter().zip(&got) {
            let expected = f64::from(x).exp();
            let error = (f64::from(got) - expected).abs() / f64::from(f32::EPSILON);
            assert!(error < 0.7, "{}: exp({x}) has error {error} * 2^-23", variant.name());
            let relative = error / expected;
            let bound = 1.2 + f64::from(-x);
            assert!(relative < bound, "{}: exp({x}) has relative error {relative} * 2^-23", variant.name());
        }
    }
}

#[test]
fn exp_of_what_is_not_a_score() {
    for variant in available_variants() {
        let mut x = [0.0; 16];
        x[..6].copy_from_slice(&[f32::NEG_INFINITY, f32::NAN, -87.5, -1e30, f32::MIN, -0.0]);
        variant.run(Exp(&mut x));
        assert!(x[1].is_nan());
        assert_eq!((x[0], x[2], x[3], x[4], x[5], x[6]), (0.0, 0.0, 0.0, 0.0, 1.0, 1.0), "{}", variant.name());
    }
}

struct Lanes<'a>(&'a [f32]);

impl Kernel for Lanes<'_> {
    type Output = (f32, f32, usize);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let x = simd.load(self.0);
        (simd.sum_of_lanes(x), simd.max_of_lanes(x), S::LANES)
    }
}

#[test]
fn lanes_are_summed_and_compared() {
    let x: Vec<f32> = (0..16).map(|i| ((i * 7) % 16) as f32 - 40.0).collect();
    for variant in available_variants() {
        let (sum, max, lanes) = variant.run(Lanes(&x));
        assert_eq!(sum, x[..lanes].iter().sum::<f32>(), "{}", variant.name());
        assert_eq!(max, x[..lanes].iter().copied().fold(f32::MIN, f32::max), "{}", variant.name());
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Which {
    Product,
    AddProduct,
    DotProducts,
}

/// A product of random matrices with gaps between their rows, and the same in f64.
struct Multiply(Which, Size);

impl Kernel for Multiply {
    type Output = (Vec<f32>, Vec<f64>);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let Self(which, Size { rows, mut depth, mut columns }) = self;
        if which == Which::DotProducts {
            depth = depth.next_multiple_of(S::LANES);
        } else {
            columns = columns.next_multiple_of(S::LANES);
        }
        let transposed = which == Which::DotProducts;
        let (left_stride, right_stride, out_stride) = (depth + 3, columns.max(depth) + 5, columns + 1);
        let left = numbers(rows * left_stride);
        let right = numbers(depth.max(columns) * right_stride + 1)[1..].to_vec();
        let before = numbers(rows * out_stride);
        let mut out = before.clone();
        let a = Matrix { data: &left, stride: left_stride };
        let b = Matrix { data: &right, stride: right_stride };
        let c = MatrixMut { data: &mut out, stride: out_stride };
        let size = Size { rows, depth, columns };
        match which {
            Which::Product => product(simd, a, b, c, size),
            Which::AddProduct => add_product(simd, a, b, c, size),
            Which::DotProducts => dot_products(simd, a, b, c, size, a),
        }
        // What lies between the rows must stay as it was.
        let mut expected: Vec<f64> = before.iter().map(|&x| f64::from(x)).collect();
        for i in 0..rows {
            for j in 0..columns {
                let b = |k: usize| if transposed { right[j * right_stride + k] } else { right[k * right_stride + j] };
                let dot: f64 = (0..depth).map(|k| f64::from(left[i * left_stride + k]) * f64::from(b(k))).sum();
                let sum = &mut expected[i * out_stride + j];
                *sum = if which == Which::AddProduct { *sum + dot } else { dot };
            }
        }
        (out, expected)
    }
}

#[test]
fn products_of_all_small_sizes() {
    for variant in available_variants() {
        for which in [Which::Product, Which::AddProduct, Which::DotProducts] {
            for rows in 1..=13 {
                for (depth, columns) in [(1, 1), (5, 17), (32, 9), (3, 40), (48, 6), (64, 7)] {
                    let (got, expected) = variant.run(Multiply(which, Size { rows, depth, columns }));
                    assert_close(&got, &expected, &format!("{}, {rows} x {depth} x {columns}", variant.name()));
                }
            }
        }
    }
}

struct TooShort;

impl Kernel for TooShort {
    type Output = ();

    fn run<S: Simd>(self, simd: S) {
        let short = vec![0.0; 2 * S::LANES - 1];
        let matrix = Matrix { data: &short, stride: S::LANES };
        let mut out = [0.0; 64];
        let out = MatrixMut { data: &mut out, stride: S::LANES };
        product(simd, matrix, matrix, out, Size { rows: 2, depth: 2, columns: S::LANES });
    }
}

#[test]
#[should_panic(expected = "with stride")]
fn a_product_does_not_read_beyond_its_matrices() {
    Variant::best().run(TooShort);
}
