//! Wide tiles: products of four SIMD groups.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch, TemplateValue};
use mlx_rs::Dtype;

use crate::support::{array, assert_close, launch, noise, on_backends, on_every_backend, rounded, to_f32};

const TYPES: [Dtype; 2] = [Dtype::Float16, Dtype::Bfloat16];

/// The sum of `left(i) * right(i)`, in f64.
fn dot(n: usize, left: impl Fn(usize) -> f32, right: impl Fn(usize) -> f32) -> f32 {
    (0..n).map(|i| f64::from(left(i)) * f64::from(right(i))).sum::<f64>() as f32
}

#[test]
fn rows_times_rows() {
    let kernel = GpuKernel {
        name: "wide_scores",
        inputs: &["a", "b"],
        outputs: &["out"],
        header: "",
        body: include_str!("kernels/wide_scores.metal"),
        strided: false,
    };
    // Two blocks of 64 columns; a result of 128 columns; twice four SIMD groups.
    for (rows, n, k) in [(64, 64, 64), (64, 64, 128), (64, 128, 64), (128, 64, 64)] {
        let (a, b) = (noise(rows * k, 21), noise(n * k, 22));
        for dtype in TYPES {
            let (a_rounded, b_rounded) = (rounded(&a, dtype), rounded(&b, dtype));
            let value = |row: usize, column: usize| dot(k, |i| a_rounded[row * k + i], |i| b_rounded[column * k + i]);
            let forwards = (0..rows * n).map(|i| value(i / n, i % n));
            let expected: Vec<f32> = forwards.chain((0..rows * n).map(|i| value(i / n, n - 1 - i % n))).collect();
            let template = [
                ("T", TemplateValue::Dtype(dtype)),
                ("ROWS", TemplateValue::Int(rows as i32)),
                ("N", TemplateValue::Int(n as i32)),
                ("K", TemplateValue::Int(k as i32)),
            ];
            let outputs = [TensorType::new([2, rows, n], Dtype::Float32)];
            let [a, b] = [(&a, rows), (&b, n)].map(|(numbers, len)| array(numbers, &[len as i32, k as i32], dtype));
            let launch: Launch<'_> = launch(&template, &outputs, 2 * rows, 2 * rows);
            // Two tiles of 64 x 128 are more than Metal's 32 KiB.
            let fits = |backend: &GpuBackend| k == 64 || *backend != GpuBackend::Metal;
            let backends: Vec<GpuBackend> = GpuBackend::available().into_iter().filter(fits).collect();
            on_backends(&backends, &kernel, &[&a, &b], &launch, |backend, out| {
                let what = format!("{backend:?} {dtype:?} [{rows}, {k}] times [{n}, {k}]");
                assert_close(&to_f32(&out[0]), &expected, 1e-5, &what);
            });
        }
    }
}

#[test]
fn registers_times_rows() {
    let kernel = GpuKernel {
        name: "wide_values",
        inputs: &["a", "b"],
        outputs: &["out"],
        header: "",
        body: include_str!("kernels/wide_values.metal"),
        strided: false,
    };
    for n in [64, 128] {
        let (a, b) = (noise(64 * 128, 23), noise(128 * n, 24));
        for dtype in TYPES {
            let (a_rounded, b_rounded) = (rounded(&a, dtype), rounded(&b, dtype));
            let times = |i: usize| if i < 64 { 2.0 } else { 1.0 };
            let value = |row: usize, column: usize| {
                dot(128, |i| times(i) * a_rounded[row * 128 + i], |i| b_rounded[i * n + column])
            };
            let expected: Vec<f32> = (0..64 * n).map(|i| value(i / n, i % n)).collect();
            let template = [("T", TemplateValue::Dtype(dtype)), ("N", TemplateValue::Int(n as i32))];
            let outputs = [TensorType::new([64, n], Dtype::Float32)];
            let [a, b] = [array(&a, &[64, 128], dtype), array(&b, &[128, n as i32], dtype)];
            on_every_backend(&kernel, &[&a, &b], &launch(&template, &outputs, 128, 128), |backend, out| {
                let what = format!("{backend:?} {dtype:?} [64, 128] times [128, {n}]");
                assert_close(&to_f32(&out[0]), &expected, 1e-5, &what);
            });
        }
    }
}

/// The hardware takes the order of a row's pieces from the address.
#[test]
fn tiles_begin_at_multiples_of_1024_bytes_on_cuda() {
    let kernel = |body| GpuKernel { name: "wide", inputs: &[], outputs: &["out"], header: "", body, strided: false };
    let outputs = [TensorType::new([64], Dtype::Float16)];
    let source = |body| kernel(body).cuda_source(&[], &launch(&[], &outputs, 128, 128)).unwrap();
    let few = source(
        "threadgroup half a[3]; threadgroup half b[64 * (64 + WIDE_PADDING)]; TileAcc s[4]; wide_multiply_transposed<64, 64, 64>(s, b, 0, b);",
    );
    assert!(few.contains("__shared__ __align__(1024) half b"), "{few}");
    let many = source(
        "threadgroup half a[3]; threadgroup half b[256 * (128 + WIDE_PADDING)]; TileAcc s[8]; TileA<half> l[16]; wide_multiply_add<256, 128>(s, l, b);",
    );
    assert!(many.contains("extern __shared__ __align__(1024)"), "{many}");
    assert!(many.contains("threadgroup_start_2 = (threadgroup_end_1 + 1023) / 1024 * 1024"), "{many}");
    let others = source("threadgroup half a[3]; out[0] = half(0.0f);");
    assert!(others.contains("__shared__ __align__(16) half a"), "{others}");
}
