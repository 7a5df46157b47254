//! One thread per element: types, template arguments, edges of the grid.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuKernel, TemplateValue};
use mlx_rs::{Array, Dtype};

use crate::support::{FLOATS, array, assert_close, launch, noise, on_every_backend, rounded, to_f32};

static SCALE_ADD: GpuKernel = GpuKernel {
    name: "scale_add",
    inputs: &["a", "b"],
    outputs: &["out"],
    header: "",
    body: include_str!("kernels/scale_add.metal"),
    strided: false,
};

#[test]
fn every_type_and_length() {
    for (dtype, epsilon) in FLOATS {
        for n in [1, 2, 7, 8, 31, 33, 64, 1000] {
            let (a, b) = (noise(n, 1), noise(n, 2));
            let (a_array, b_array) = (array(&a, &[n as i32], dtype), array(&b, &[n as i32], dtype));
            let outputs = [TensorType::new([n], dtype)];
            for with_b in [true, false] {
                let template = [
                    ("T", TemplateValue::Dtype(dtype)),
                    ("FACTOR", TemplateValue::Int(3)),
                    ("WITH_B", TemplateValue::Bool(with_b)),
                ];
                let launch = launch(&template, &outputs, n.next_multiple_of(64), 64);
                let (a, b) = (rounded(&a, dtype), rounded(&b, dtype));
                let expected: Vec<f32> =
                    a.iter().zip(&b).map(|(a, b)| a * 3.0 + if with_b { *b } else { 0.0 }).collect();
                on_every_backend(&SCALE_ADD, &[&a_array, &b_array], &launch, |backend, out| {
                    assert_close(&to_f32(&out[0]), &expected, epsilon, &format!("{backend:?} {dtype:?} {n}"));
                });
            }
        }
    }
}

#[test]
fn arithmetic_in_small_types_and_mixed_with_others() {
    let kernel = GpuKernel {
        name: "arithmetic",
        inputs: &["a", "b"],
        outputs: &["sums", "mixes"],
        header: "",
        body: include_str!("kernels/arithmetic.metal"),
        strided: false,
    };
    let n = 64;
    let (a, b) = (noise(n, 3), noise(n, 4));
    for (dtype, epsilon) in FLOATS {
        let template = [("T", TemplateValue::Dtype(dtype))];
        let outputs = [TensorType::new([n], dtype), TensorType::new([n], Dtype::Float32)];
        let launch = launch(&template, &outputs, n, 32);
        let (a_array, b_array) = (array(&a, &[64], dtype), array(&b, &[64], dtype));
        let pairs: Vec<(f32, f32)> = rounded(&a, dtype).into_iter().zip(rounded(&b, dtype)).collect();
        let sums: Vec<f32> = pairs
            .iter()
            .map(|&(x, y)| {
                let mixed = 3.0 * x + y;
                let sum = if x < y && mixed > x { x.max(y) - x.min(y) * 3.0 } else { (x + y) * x };
                sum + 2.0 * x
            })
            .collect();
        let mixes: Vec<f32> = pairs.iter().map(|&(x, y)| (3.0 * x + y) / 4.0).collect();
        on_every_backend(&kernel, &[&a_array, &b_array], &launch, |backend, out| {
            // Four roundings of numbers up to 8.
            assert_close(&to_f32(&out[0]), &sums, 16.0 * epsilon, &format!("{backend:?} {dtype:?} sums"));
            assert_close(&to_f32(&out[1]), &mixes, 4.0 * f32::EPSILON, &format!("{backend:?} {dtype:?} mixes"));
        });
    }
}

#[test]
fn scalars_and_a_filled_output() {
    let kernel = GpuKernel {
        name: "fill",
        inputs: &["a"],
        outputs: &["out"],
        header: "",
        body: include_str!("kernels/fill.metal"),
        strided: false,
    };
    let template = [("T", TemplateValue::Dtype(Dtype::Float32))];
    let outputs = [TensorType::new([64], Dtype::Float32)];
    let mut launch = launch(&template, &outputs, 32, 32);
    launch.fill = Some(-2.5);
    let expected: Vec<f32> = (0..64).map(|i| if i % 2 == 0 { 10.0 + (i / 2) as f32 } else { -2.5 }).collect();
    on_every_backend(&kernel, &[&Array::from_f32(10.0)], &launch, |backend, out| {
        assert_eq!(to_f32(&out[0]), expected, "{backend:?}");
    });
}

#[test]
fn the_same_kernel_again_and_with_other_arguments() {
    let outputs = [TensorType::new([32], Dtype::Float32)];
    let a = array(&noise(32, 5), &[32], Dtype::Float32);
    for factor in [1, 2, 1, 3, 2] {
        let template = [
            ("T", TemplateValue::Dtype(Dtype::Float32)),
            ("FACTOR", TemplateValue::Int(factor)),
            ("WITH_B", TemplateValue::Bool(false)),
        ];
        let expected: Vec<f32> = to_f32(&a).iter().map(|x| x * factor as f32).collect();
        on_every_backend(&SCALE_ADD, &[&a, &a], &launch(&template, &outputs, 32, 32), |backend, out| {
            assert_eq!(to_f32(&out[0]), expected, "{backend:?} {factor}");
        });
    }
}
