//! Inputs that aren't row-major.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuKernel, TemplateValue};
use mlx_rs::{Array, Dtype};

use crate::support::{launch, on_every_backend};

const STRIDES: GpuKernel = GpuKernel {
    name: "strides",
    inputs: &["a"],
    outputs: &["out", "told"],
    header: "",
    body: include_str!("kernels/strides.metal"),
    strided: true,
};

/// `[2, 3, 4]` with the last two axes swapped: `[2, 4, 3]`.
fn swapped() -> (Array, Vec<i32>) {
    let numbers: Vec<i32> = (0..24).collect();
    let array = Array::from_slice(&numbers, &[2, 3, 4]).swap_axes(1, 2).unwrap();
    array.eval().unwrap();
    let expected = (0..24).map(|i| i / 12 * 12 + i % 3 * 4 + i / 3 % 4).collect();
    (array, expected)
}

#[test]
fn a_strided_kernel_sees_the_strides() {
    let (a, expected) = swapped();
    let template: [(&'static str, TemplateValue); 0] = [];
    let outputs = [TensorType::new([2, 4, 3], Dtype::Int32), TensorType::new([8], Dtype::Int32)];
    on_every_backend(&STRIDES, &[&a], &launch(&template, &outputs, 32, 32), |backend, out| {
        assert_eq!(out[0].as_slice::<i32>(), expected, "{backend:?}");
        assert_eq!(out[1].as_slice::<i32>(), [2, 4, 3, 12, 1, 4, 3, 3], "{backend:?}");
    });
}

#[test]
fn other_kernels_get_a_row_major_copy() {
    let (a, expected) = swapped();
    let kernel = GpuKernel { name: "strides_of_a_copy", strided: false, ..STRIDES };
    let outputs = [TensorType::new([2, 4, 3], Dtype::Int32), TensorType::new([8], Dtype::Int32)];
    on_every_backend(&kernel, &[&a], &launch(&[], &outputs, 32, 32), |backend, out| {
        assert_eq!(out[0].as_slice::<i32>(), expected, "{backend:?}");
        assert_eq!(out[1].as_slice::<i32>()[3..6], [12, 3, 1], "{backend:?}");
    });
}
