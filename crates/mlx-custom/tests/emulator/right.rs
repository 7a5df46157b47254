//! Kernels that are right: no finding, and the numbers of plain Rust.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch, TemplateValue};
use mlx_rs::{Array, Dtype};

use crate::support::{Start, counting, kernel};

#[test]
fn a_norm_over_rows() {
    let norm = GpuKernel {
        name: "norm",
        inputs: &["x", "w"],
        outputs: &["out"],
        header: "",
        body: "
        threadgroup float part[8];
        uint row = threadgroup_position_in_grid.x, t = thread_position_in_threadgroup.x;
        float sum = 0.0f;
        for (uint i = t; i < N; i += 256) {
          float value = x[row * N + i];
          sum += value * value;
        }
        sum = simd_sum(sum);
        if (thread_index_in_simdgroup == 0) part[simdgroup_index_in_threadgroup] = sum;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        float total = 0.0f;
        for (uint i = 0; i < 8; i++) total += part[i];
        float factor = metal::precise::rsqrt(total / N + 1e-6f);
        for (uint i = t; i < N; i += 256) out[row * N + i] = T(x[row * N + i] * factor * w[i]);",
        strided: false,
    };
    let (rows, n) = (5, 896);
    let x: Vec<f32> = (0..rows * n).map(|i| (i as f32 * 0.37).sin()).collect();
    let w: Vec<f32> = (0..n).map(|i| 1.0 + i as f32 / n as f32).collect();
    let inputs = [Array::from_slice(&x, &[rows, n]), Array::from_slice(&w, &[n])];
    let launch = Launch {
        template: &[("N", TemplateValue::Int(n)), ("T", TemplateValue::Dtype(Dtype::Float32))],
        outputs: &[TensorType::new([rows as usize, n as usize], Dtype::Float32)],
        grid: [256 * rows as usize, 1, 1],
        threadgroup: [256, 1, 1],
        fill: None,
    };
    let out = norm.launch_on(GpuBackend::Emulator, &[&inputs[0], &inputs[1]], &launch).unwrap();
    let out = out[0].as_slice::<f32>();
    for row in 0..rows as usize {
        let numbers = &x[row * n as usize..(row + 1) * n as usize];
        let mean = numbers.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / f64::from(n);
        for (i, &number) in numbers.iter().enumerate() {
            let expected = f64::from(number) / (mean + 1e-6).sqrt() * f64::from(w[i]);
            let got = f64::from(out[row * n as usize + i]);
            assert!((got - expected).abs() < 1e-5 * (1.0 + expected.abs()), "row {row}, {i}: {got} and {expected}");
        }
    }
}

#[test]
fn positions_in_three_dimensions() {
    let positions = kernel(
        "positions",
        "
        uint3 p = thread_position_in_grid, all = threads_per_grid;
        uint3 inside = thread_position_in_threadgroup, size = threads_per_threadgroup;
        uint3 group = threadgroup_position_in_grid, groups = threadgroups_per_grid;
        uint at = (p.z * all.y + p.y) * all.x + p.x;
        bool right = p.x == group.x * size.x + inside.x && p.y == group.y * size.y + inside.y &&
            p.z == group.z * size.z + inside.z && all.x == groups.x * size.x && all.z == groups.z * size.z &&
            thread_index_in_threadgroup == (inside.z * size.y + inside.y) * size.x + inside.x &&
            simdgroup_index_in_threadgroup == thread_index_in_threadgroup / 32 &&
            thread_index_in_simdgroup == thread_index_in_threadgroup % 32 && threads_per_simdgroup == 32 &&
            simdgroups_per_threadgroup == (size.x * size.y * size.z + 31) / 32;
        out[at] = right ? x[0] * at : -1.0f;",
    );
    // With and without fibers.
    for header in ["", "// simd_"] {
        let kernel = GpuKernel { header, ..positions };
        let launch = Launch {
            template: &[],
            outputs: &[TensorType::new([8 * 8 * 12], Dtype::Float32)],
            grid: [8, 8, 12],
            threadgroup: [4, 2, 4],
            fill: None,
        };
        let out = kernel.launch_on(GpuBackend::Emulator, &[&Array::from_slice(&[1.0_f32], &[1])], &launch).unwrap();
        assert_eq!(out[0].as_slice::<f32>(), counting(8 * 8 * 12).as_slice::<f32>());
    }
}

#[test]
fn operations_of_a_simd_group() {
    let operations = kernel(
        "operations",
        "
        uint lane = thread_index_in_simdgroup;
        device float* to = out + 10 * thread_position_in_grid.x;
        float value = x[thread_position_in_grid.x];
        to[0] = simd_sum(value);
        to[1] = simd_max(value);
        to[2] = simd_min(value);
        to[3] = simd_shuffle(value, ushort(31 - lane));
        to[4] = simd_shuffle_xor(value, 5);
        to[5] = simd_shuffle_down(value, lane < 30 ? 2 : 0);
        to[6] = simd_broadcast(value, 7);
        to[7] = simd_any(lane == 3) && !simd_any(lane == 32) ? 1.0f : 0.0f;
        to[8] = simd_all(lane < 32) && !simd_all(lane < 31) ? 1.0f : 0.0f;
        to[9] = simd_sum(half(lane)) + float(simd_max(int(lane))) + simd_shuffle(float4(value), 1).w;",
    );
    let out = Start::new(64, 64, 640).run(&operations, &[&counting(64)]).unwrap();
    for (thread, row) in out.as_slice::<f32>().chunks(10).enumerate() {
        let (first, lane) = (thread / 32 * 32, thread % 32);
        let down = if lane < 30 { lane + 2 } else { lane };
        let other = |lane: usize| (first + lane) as f32;
        let sum = (32 * first + 496) as f32;
        let last = 496.0 + 31.0 + other(1);
        let expected =
            [sum, other(31), other(0), other(31 - lane), other(lane ^ 5), other(down), other(7), 1.0, 1.0, last];
        assert_eq!(row, expected, "thread {thread}");
    }
}

#[test]
fn strided_inputs_as_they_lie() {
    let gather = GpuKernel {
        strided: true,
        ..kernel(
            "gather",
            "
        uint row = thread_position_in_grid.y, column = thread_position_in_grid.x;
        out[row * x_shape[1] + column] = x[row * x_strides[0] + column * x_strides[1]] + (x_ndim - 2);",
        )
    };
    let x = counting(12).reshape(&[3, 4]).unwrap();
    let launch = |shape: [usize; 2]| (TensorType::new(shape, Dtype::Float32), [shape[1], shape[0], 1]);
    let (outputs, grid) = launch([4, 3]);
    let launch = Launch { template: &[], outputs: &[outputs], grid, threadgroup: [1, 1, 1], fill: None };
    let transposed = x.transpose().unwrap();
    let out = gather.launch_on(GpuBackend::Emulator, &[&transposed], &launch).unwrap();
    assert_eq!(out[0].as_slice::<f32>(), [0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]);
}

#[test]
fn memory_used_again_after_barriers() {
    // A loop over tiles, as in a matrix product, with both barriers; two-dimensional memory; a function with pointers.
    let tiled = GpuKernel {
        header: "
        inline void fill(threadgroup float* row, const device float* from, uint n) {
          for (uint i = 0; i < n; i++) row[i] = from[i];
        }",
        ..kernel(
            "tiled",
            "
        threadgroup float tile[8][9];
        threadgroup float total;
        uint t = thread_index_in_threadgroup;
        float sum = 0.0f;
        for (uint k = 0; k < 64; k += 8) {
          if (t < 8) fill(tile[t], x + t * 64 + k, 8);
          threadgroup_barrier(mem_flags::mem_threadgroup);
          for (uint i = 0; i < 8; i++) sum += tile[i][t % 8] * tile[t / 8][i];
          if (t == 0) total = k == 0 ? 1.0f : total + 1.0f;
          threadgroup_barrier(mem_flags::mem_threadgroup);
        }
        out[t] = sum * 0.0f + total;",
        )
    };
    let out = Start::new(64, 64, 64).run(&tiled, &[&counting(512)]).unwrap();
    assert!(out.as_slice::<f32>().iter().all(|&value| value == 8.0));
}

#[test]
fn vectors_and_wide_loads() {
    let wide = kernel(
        "vectors",
        "
        threadgroup float4 tile[8];
        uint t = thread_index_in_threadgroup;
        const device float4* wide = (const device float4*)x;
        tile[t] = wide[t] * 2.0f + float4(1.0f, 0.0f, 0.0f, 0.0f);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        float4 other = tile[7 - t];
        float2 pair(other.x, other[1]);
        uint bits = as_type<uint>(pair.x);
        half4 halves = half4(other);
        out[4 * t] = as_type<float>(bits);
        out[4 * t + 1] = float(halves.y);
        out[4 * t + 2] = dot(other, float4(0.0f, 0.0f, 1.0f, 0.0f));
        out[4 * t + 3] = tile[7 - t].w;",
    );
    let out = Start::new(8, 8, 32).run(&wide, &[&counting(32)]).unwrap();
    for (t, row) in out.as_slice::<f32>().chunks(4).enumerate() {
        let first = 8.0 * (7 - t) as f32;
        assert_eq!(row, [first + 1.0, first + 2.0, first + 4.0, first + 6.0]);
    }
}

#[test]
fn several_types_and_outputs() {
    let mixed = GpuKernel {
        name: "mixed_types",
        inputs: &["a", "b", "c"],
        outputs: &["sum", "words"],
        header: "constant float offsets[2] = {0.5f, 1.5f};",
        body: "
        uint i = thread_position_in_grid.x;
        sum[i] = bfloat16_t(float(a[i]) + float(b[i]) + offsets[i % 2]);
        words[i] = uint(c[i]) << 8 | (i & 0xff);",
        strided: false,
    };
    let a = counting(8).as_dtype(Dtype::Float16).unwrap();
    let b = counting(8).as_dtype(Dtype::Bfloat16).unwrap();
    let c = Array::from_slice(&[1_u8, 2, 3, 4, 5, 6, 7, 255], &[8]);
    let launch = Launch {
        template: &[],
        outputs: &[TensorType::new([8], Dtype::Bfloat16), TensorType::new([8], Dtype::Uint32)],
        grid: [8, 1, 1],
        threadgroup: [8, 1, 1],
        fill: None,
    };
    let out = mixed.launch_on(GpuBackend::Emulator, &[&a, &b, &c], &launch).unwrap();
    let sums = out[0].as_dtype(Dtype::Float32).unwrap();
    assert_eq!(sums.as_slice::<f32>(), [0.5, 3.5, 4.5, 7.5, 8.5, 11.5, 12.5, 15.5]);
    assert_eq!(out[1].as_slice::<u32>()[7], 255 << 8 | 7);
}

#[test]
fn a_barrier_that_cannot_be_seen_in_the_text() {
    let hidden = GpuKernel {
        header: "#define JOIN(a, b) a##b\n#define MEET JOIN(threadgroup_bar, rier)(mem_flags::mem_threadgroup)",
        ..kernel(
            "hidden",
            "threadgroup float tile[64];
        uint t = thread_index_in_threadgroup;
        tile[t] = x[t];
        MEET;
        out[t] = tile[63 - t];",
        )
    };
    let out = Start::new(64, 64, 64).run(&hidden, &[&counting(64)]).unwrap();
    assert_eq!((out.as_slice::<f32>()[0], out.as_slice::<f32>()[63]), (63.0, 0.0));
}

#[test]
fn simd_groups_with_memory_of_their_own() {
    // Each SIMD group reverses its numbers in its part of the memory, three times, with no threadgroup barrier.
    let reverse = kernel(
        "reverse",
        "threadgroup float tile[4][32];
        uint t = thread_index_in_threadgroup, lane = thread_index_in_simdgroup;
        threadgroup float* mine = tile[simdgroup_index_in_threadgroup];
        float value = x[t];
        for (uint i = 0; i < 3; i++) {
          mine[lane] = value;
          simdgroup_barrier(mem_flags::mem_threadgroup);
          value = mine[31 - lane];
          simdgroup_barrier(mem_flags::mem_threadgroup);
        }
        out[t] = value;",
    );
    let out = Start::new(128, 128, 128).run(&reverse, &[&counting(128)]).unwrap();
    let expected: Vec<f32> = (0..128).map(|t| (t / 32 * 32 + 31 - t % 32) as f32).collect();
    assert_eq!(out.as_slice::<f32>(), expected);
}

#[test]
fn more_threadgroups_than_processors_and_1024_threads() {
    let sums = kernel(
        "many",
        "threadgroup float part[32];
        uint t = thread_index_in_threadgroup;
        float sum = simd_sum(x[thread_position_in_grid.x]);
        if (thread_index_in_simdgroup == 0) part[simdgroup_index_in_threadgroup] = sum;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (simdgroup_index_in_threadgroup == 0) {
          sum = simd_sum(part[t]);
          if (t == 0) out[threadgroup_position_in_grid.x] = sum;
        }",
    );
    let n_groups = 37;
    let x = Array::from_slice(&vec![1.0_f32; n_groups * 1024], &[(n_groups * 1024) as i32]);
    let out = Start::new(n_groups * 1024, 1024, n_groups).run(&sums, &[&x]).unwrap();
    assert!(out.as_slice::<f32>().iter().all(|&sum| sum == 1024.0));
}
