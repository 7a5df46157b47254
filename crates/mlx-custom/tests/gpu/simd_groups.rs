//! Functions in which the 32 threads of a SIMD group take part.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuKernel, TemplateValue};
use mlx_rs::{Array, Dtype};

use crate::support::{FLOATS, array, launch, on_every_backend, to_f32};

static SIMD: GpuKernel = GpuKernel {
    name: "simd",
    inputs: &["a"],
    outputs: &["out"],
    header: "",
    body: include_str!("kernels/simd.metal"),
    strided: false,
};

/// What one lane gets, from the numbers of its group.
type Lane<'a> = &'a dyn Fn(&[f32], usize) -> f32;

/// What the kernel should give, for whole numbers small enough to be exact in every type.
fn expected(a: &[f32]) -> Vec<f32> {
    let per_lane = |f: Lane<'_>| -> Vec<f32> {
        a.chunks(32).flat_map(|group| (0..32).map(|lane| f(group, lane)).collect::<Vec<_>>()).collect()
    };
    let rows: [Lane<'_>; 10] = [
        &|group, _| group.iter().sum(),
        &|group, _| group.iter().copied().fold(f32::MIN, f32::max),
        &|group, _| group.iter().copied().fold(f32::MAX, f32::min),
        &|group, lane| group[31 - lane],
        &|group, lane| group[lane ^ 5],
        &|group, lane| group[if lane < 29 { lane + 3 } else { lane }],
        &|group, _| group[7],
        &|group, _| f32::from(u8::from(group.iter().any(|&x| x > 30.0))),
        &|group, _| f32::from(u8::from(group.iter().all(|&x| x > -1.0))),
        &|group, lane| group[lane.saturating_sub(1)],
    ];
    rows.iter().flat_map(|&row| per_lane(row)).collect()
}

#[test]
fn reductions_and_shuffles_of_floats() {
    // The second group has a number above 30, the third one below 0; sums stay under 256, which bfloat16 counts exactly to.
    let a: Vec<f32> = (0..96)
        .map(|i| match i {
            40 => 31.0,
            70 => -3.0,
            _ => (i * 7 % 11 % 8) as f32,
        })
        .collect();
    let expected = expected(&a);
    for (dtype, _) in FLOATS {
        let template = [("T", TemplateValue::Dtype(dtype))];
        let outputs = [TensorType::new([10, 96], dtype)];
        on_every_backend(&SIMD, &[&array(&a, &[96], dtype)], &launch(&template, &outputs, 96, 96), |backend, out| {
            assert_eq!(to_f32(&out[0]), expected, "{backend:?} {dtype:?}");
        });
    }
}

#[test]
fn reductions_and_shuffles_of_integers() {
    let a: Vec<i32> = (0..64).map(|i| i * 1_000_003 % 4001 - 500).collect();
    let expected = expected(&a.iter().map(|&x| x as f32).collect::<Vec<_>>());
    let template = [("T", TemplateValue::Dtype(Dtype::Int32))];
    let outputs = [TensorType::new([10, 64], Dtype::Int32)];
    let a = Array::from_slice(&a, &[64]);
    on_every_backend(&SIMD, &[&a], &launch(&template, &outputs, 64, 32), |backend, out| {
        let got: Vec<f32> = out[0].as_slice::<i32>().iter().map(|&x| x as f32).collect();
        assert_eq!(got, expected, "{backend:?}");
    });
}
