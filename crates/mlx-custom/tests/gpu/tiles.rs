//! Matrix tiles of 16x16.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuKernel, Launch, TemplateValue};
use mlx_rs::Dtype;

use crate::support::{FLOATS, array, assert_close, launch, noise, on_every_backend, rounded, to_f32};

/// `[m, k] x [k, n]`, in f64.
fn product(a: &[f32], b: impl Fn(usize, usize) -> f32, [m, k, n]: [usize; 3]) -> Vec<f32> {
    let dot = |row: usize, column: usize| -> f64 {
        (0..k).map(|i| f64::from(a[row * k + i]) * f64::from(b(i, column))).sum()
    };
    (0..m * n).map(|i| dot(i / n, i % n) as f32).collect()
}

#[test]
fn products_of_matrices() {
    let kernel = GpuKernel {
        name: "matmul_tiles",
        inputs: &["a", "b"],
        outputs: &["out"],
        header: "",
        body: include_str!("kernels/matmul_tiles.metal"),
        strided: false,
    };
    let sizes @ [m, k, n] = [32, 96, 64];
    let (a, b) = (noise(m * k, 9), noise(k * n, 10));
    for (dtype, epsilon) in FLOATS {
        let (a_rounded, b_rounded) = (rounded(&a, dtype), rounded(&b, dtype));
        let a_array = array(&a, &[m as i32, k as i32], dtype);
        for transposed in [false, true] {
            let shape = if transposed { [n as i32, k as i32] } else { [k as i32, n as i32] };
            let b_array = array(&b, &shape, dtype);
            let template = [
                ("T", TemplateValue::Dtype(dtype)),
                ("K", TemplateValue::Int(k as i32)),
                ("N", TemplateValue::Int(n as i32)),
                ("TRANSPOSED", TemplateValue::Bool(transposed)),
            ];
            let outputs = [TensorType::new([m, n], dtype)];
            let launch = Launch {
                template: &template,
                outputs: &outputs,
                grid: [n, m / 16, 1],
                threadgroup: [32, 1, 1],
                fill: None,
            };
            let element = |i: usize, j: usize| b_rounded[if transposed { j * k + i } else { i * n + j }];
            let expected = product(&a_rounded, element, sizes);
            on_every_backend(&kernel, &[&a_array, &b_array], &launch, |backend, out| {
                let what = format!("{backend:?} {dtype:?} transposed: {transposed}");
                assert_close(&to_f32(&out[0]), &expected, (4.0 * epsilon).max(1e-5), &what);
            });
        }
    }
}

#[test]
fn operands_from_registers() {
    let kernel = GpuKernel {
        name: "register_tiles",
        inputs: &["a", "b"],
        outputs: &["out"],
        header: "",
        body: include_str!("kernels/register_tiles.metal"),
        strided: false,
    };
    let (a, b) = (noise(16 * 16, 14), noise(8 * 16, 15));
    for dtype in [Dtype::Float16, Dtype::Bfloat16] {
        let (a_rounded, b_rounded) = (rounded(&a, dtype), rounded(&b, dtype));
        let outputs = [TensorType::new([16, 8], Dtype::Float32)];
        let launch = Launch {
            template: &[("T", TemplateValue::Dtype(dtype))],
            outputs: &outputs,
            grid: [32, 1, 1],
            threadgroup: [32, 1, 1],
            fill: None,
        };
        let once = product(&a_rounded, |k, n| b_rounded[n * 16 + k], [16, 16, 8]);
        let expected: Vec<f32> = once.iter().map(|number| 2.0 * number).collect();
        on_every_backend(
            &kernel,
            &[&array(&a, &[16, 16], dtype), &array(&b, &[8, 16], dtype)],
            &launch,
            |backend, out| {
                assert_close(&to_f32(&out[0]), &expected, 1e-5, &format!("{backend:?} {dtype:?}"));
            },
        );
    }
}

#[test]
fn softmax_between_two_products() {
    let kernel = GpuKernel {
        name: "attention_tiles",
        inputs: &["q", "k", "v"],
        outputs: &["out", "stats"],
        header: "",
        body: include_str!("kernels/attention_tiles.metal"),
        strided: false,
    };
    let n_keys = 31; // of 32: the last is masked out
    let (q, k, v) = (noise(16 * 16, 11), noise(32 * 16, 12), noise(32 * 16, 13));
    for (dtype, epsilon) in FLOATS {
        let [q, k, v] = [&q, &k, &v].map(|values| rounded(values, dtype));
        let scores = product(&q, |i, j| k[j * 16 + i], [16, 16, 32]);
        let mut weights = vec![0.0; 16 * 32];
        let (mut sums, mut right_sums) = (Vec::new(), Vec::new());
        for (row, weights) in scores.chunks(32).zip(weights.chunks_mut(32)) {
            let largest = row[..n_keys].iter().copied().fold(f32::MIN, f32::max);
            for (weight, score) in weights.iter_mut().zip(&row[..n_keys]) {
                *weight = (score - largest).exp();
            }
            sums.push(weights.iter().sum::<f32>());
            right_sums.push(weights[16..].iter().sum::<f32>());
        }
        let mut expected = product(&weights, |i, j| v[i * 16 + j], [16, 32, 16]);
        for (row, sum) in expected.chunks_mut(16).zip(&sums) {
            row.iter_mut().for_each(|x| *x /= sum);
        }
        let template = [("T", TemplateValue::Dtype(dtype))];
        let outputs = [TensorType::new([16, 16], Dtype::Float32), TensorType::new([16, 3], Dtype::Float32)];
        let [q, k, v] = [(q, 16), (k, 32), (v, 32)].map(|(values, rows)| array(&values, &[rows, 16], dtype));
        on_every_backend(&kernel, &[&q, &k, &v], &launch(&template, &outputs, 32, 32), |backend, out| {
            let what = format!("{backend:?} {dtype:?}");
            // The weights are rounded to the type before the second product.
            assert_close(&to_f32(&out[0]), &expected, epsilon.max(1e-5), &what);
            for (row, stats) in to_f32(&out[1]).chunks(3).enumerate() {
                assert_close(stats, &[0.0, sums[row], right_sums[row]], 1e-5, &format!("{what}, row {row}"));
            }
        });
    }
}
