//! Vectors, bits, functions.

use half::{bf16, f16};
use mlx_custom::TensorType;
use mlx_custom::gpu::GpuKernel;
use mlx_rs::{Array, Dtype};

use crate::support::{assert_close, launch, noise, on_every_backend, to_f32};

#[test]
fn vectors_and_wide_loads() {
    let kernel = GpuKernel {
        name: "vectors",
        inputs: &["a"],
        outputs: &["floats", "bits", "brains"],
        header: "",
        body: include_str!("kernels/vectors.metal"),
        strided: false,
    };
    let n = 32;
    let a: Vec<f16> = noise(8 * n, 6).into_iter().map(f16::from_f32).collect();
    let outputs = [
        TensorType::new([n, 4], Dtype::Float32),
        TensorType::new([n, 2], Dtype::Uint32),
        TensorType::new([n, 4], Dtype::Bfloat16),
    ];
    let (mut floats, mut bits, mut brains) = (Vec::new(), Vec::new(), Vec::new());
    for eight in a.chunks(8) {
        let result: Vec<f32> = [0.5, 2.0, 0.5, 4.0]
            .into_iter()
            .enumerate()
            .map(|(i, factor)| eight[i].to_f32() * factor + 1.0 - (i + 1) as f32)
            .collect();
        let word = |i: usize| u32::from(eight[2 * i].to_bits()) | u32::from(eight[2 * i + 1].to_bits()) << 16;
        bits.push((0..4).map(|i| (word(i) >> 4 & 15) << (4 * i)).sum::<u32>());
        bits.push(eight[6].to_f32().to_bits() ^ (-result[2]).to_bits());
        floats.extend(result);
        brains.extend(eight[4..7].iter().map(|x| bf16::from_f32(x.to_f32())));
        brains.push(bf16::from_f32(1.5));
    }
    let a = Array::from_slice(&a, &[8 * n as i32]);
    on_every_backend(&kernel, &[&a], &launch(&[], &outputs, n, 32), |backend, out| {
        assert_eq!(to_f32(&out[0]), floats, "{backend:?}");
        assert_eq!(out[1].as_slice::<u32>(), bits, "{backend:?}");
        assert_eq!(out[2].as_slice::<bf16>(), brains, "{backend:?}");
    });
}

#[test]
fn functions() {
    let kernel = GpuKernel {
        name: "math",
        inputs: &["a"],
        outputs: &["out"],
        header: "",
        body: include_str!("kernels/math.metal"),
        strided: false,
    };
    let n = 64;
    let a: Vec<f32> = noise(n, 7).iter().map(|x| 3.0 * x).collect();
    let functions: [fn(f32) -> f32; 20] = [
        f32::exp,
        f32::exp2,
        f32::exp,
        |x| (x.abs() + 0.25).ln(),
        |x| (x.abs() + 0.25).ln(),
        |x| 1.0 / (x.abs() + 0.25).sqrt(),
        |x| (x.abs() + 0.25).sqrt(),
        |x| x.max(0.5),
        |x| x.min(0.5),
        |x| x.clamp(-1.0, 1.0),
        |x| x.mul_add(x.abs() + 0.25, 1.0),
        |x| if x < 0.0 { x.abs() + 0.25 } else { x },
        f32::floor,
        f32::sin,
        f32::cos,
        f32::abs,
        f32::exp,
        |_| 0.0,
        |_| 1.0,
        |_| 1.0,
    ];
    let expected: Vec<f32> = functions.iter().flat_map(|function| a.iter().map(|&x| function(x))).collect();
    let outputs = [TensorType::new([20, n], Dtype::Float32)];
    let a = Array::from_slice(&a, &[n as i32]);
    on_every_backend(&kernel, &[&a], &launch(&[], &outputs, n, 32), |backend, out| {
        assert_close(&to_f32(&out[0]), &expected, 4e-6, &format!("{backend:?}"));
    });
}
