//! Running a kernel on every backend, and arrays of each type.

use half::{bf16, f16};
use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch, TemplateValue};
use mlx_rs::{Array, Dtype};

/// The types of floating-point numbers, with the relative error of one rounding.
pub const FLOATS: [(Dtype, f32); 3] =
    [(Dtype::Float32, f32::EPSILON), (Dtype::Float16, 1.0 / 1024.0), (Dtype::Bfloat16, 1.0 / 128.0)];

/// A launch of `threads` in groups of `group` along x.
pub fn launch<'a>(
    template: &'a [(&'static str, TemplateValue)],
    outputs: &'a [TensorType],
    threads: usize,
    group: usize,
) -> Launch<'a> {
    Launch { template, outputs, grid: [threads, 1, 1], threadgroup: [group, 1, 1], fill: None }
}

/// Hands the evaluated outputs of each backend to `check`.
pub fn on_every_backend(
    kernel: &GpuKernel,
    inputs: &[&Array],
    launch: &Launch<'_>,
    check: impl Fn(GpuBackend, &[Array]),
) {
    on_backends(&GpuBackend::available(), kernel, inputs, launch, check);
}

/// The same for some of the backends.
pub fn on_backends(
    backends: &[GpuBackend],
    kernel: &GpuKernel,
    inputs: &[&Array],
    launch: &Launch<'_>,
    check: impl Fn(GpuBackend, &[Array]),
) {
    for &backend in backends {
        let outputs = kernel.launch_on(backend, inputs, launch).unwrap();
        assert_eq!(outputs.len(), launch.outputs.len(), "{backend:?}");
        for (output, expected) in outputs.iter().zip(launch.outputs) {
            output.eval().unwrap_or_else(|error| panic!("{backend:?}: {error}"));
            let shape: Vec<usize> = output.shape().iter().map(|&len| len as usize).collect();
            assert_eq!((shape, output.dtype()), (expected.shape.clone(), expected.dtype), "{backend:?}");
        }
        check(backend, &outputs);
    }
}

/// Numbers in this type, rounded.
pub fn array(values: &[f32], shape: &[i32], dtype: Dtype) -> Array {
    match dtype {
        Dtype::Float32 => Array::from_slice(values, shape),
        Dtype::Float16 => Array::from_slice(&values.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>(), shape),
        Dtype::Bfloat16 => Array::from_slice(&values.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>(), shape),
        _ => panic!("{dtype:?} is no type of these tests"),
    }
}

/// What [`array`] makes of the numbers, back in f32.
pub fn rounded(values: &[f32], dtype: Dtype) -> Vec<f32> {
    match dtype {
        Dtype::Float16 => values.iter().map(|&x| f16::from_f32(x).to_f32()).collect(),
        Dtype::Bfloat16 => values.iter().map(|&x| bf16::from_f32(x).to_f32()).collect(),
        _ => values.to_vec(),
    }
}

pub fn to_f32(array: &Array) -> Vec<f32> {
    match array.dtype() {
        Dtype::Float32 => array.as_slice::<f32>().to_vec(),
        Dtype::Float16 => array.as_slice::<f16>().iter().map(|x| x.to_f32()).collect(),
        Dtype::Bfloat16 => array.as_slice::<bf16>().iter().map(|x| x.to_f32()).collect(),
        dtype => panic!("{dtype:?} is no type of these tests"),
    }
}

/// Numbers from -1 to 1 that look random and are the same every time.
pub fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

/// Equal up to `tolerance`, relative to the number and to 1.
pub fn assert_close(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (at, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs();
        assert!(error <= tolerance * expected.abs().max(1.0), "{what}: element {at} is {got}, expected {expected}");
    }
}
