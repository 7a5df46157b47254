//! Threadgroup memory, barriers, asynchronous copies, functions of a header.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch, TemplateValue};
use mlx_rs::{Array, Dtype};

use crate::support::{FLOATS, array, assert_close, launch, noise, on_every_backend, rounded, to_f32};

#[test]
fn transposition_through_a_tile() {
    let kernel = GpuKernel {
        name: "transpose",
        inputs: &["a"],
        outputs: &["out"],
        header: "",
        body: include_str!("kernels/transpose.metal"),
        strided: false,
    };
    for (rows, columns) in [(32, 32), (40, 70)] {
        let a: Vec<f32> = (0..rows * columns).map(|i| (i % 251) as f32).collect();
        let expected: Vec<f32> = (0..rows * columns).map(|i| a[i % rows * columns + i / rows]).collect();
        for (dtype, _) in FLOATS {
            let template = [
                ("T", TemplateValue::Dtype(dtype)),
                ("ROWS", TemplateValue::Int(rows as i32)),
                ("COLUMNS", TemplateValue::Int(columns as i32)),
            ];
            let outputs = [TensorType::new([columns, rows], dtype)];
            let grid = [columns.next_multiple_of(32), rows.div_ceil(32) * 8, 1];
            let launch = Launch { template: &template, outputs: &outputs, grid, threadgroup: [32, 8, 1], fill: None };
            let a = array(&a, &[rows as i32, columns as i32], dtype);
            on_every_backend(&kernel, &[&a], &launch, |backend, out| {
                assert_eq!(to_f32(&out[0]), expected, "{backend:?} {dtype:?} {rows}x{columns}");
            });
        }
    }
}

#[test]
fn sums_of_rows_with_several_outputs_and_a_header() {
    let kernel = GpuKernel {
        name: "row_sum",
        inputs: &["a"],
        outputs: &["sums", "means"],
        header: include_str!("kernels/row_sum_header.metal"),
        body: include_str!("kernels/row_sum.metal"),
        strided: false,
    };
    let (rows, n) = (3, 500);
    let a = noise(rows * n, 8);
    for (dtype, epsilon) in FLOATS {
        let template = [("T", TemplateValue::Dtype(dtype))];
        let outputs = [TensorType::new([rows], Dtype::Float32), TensorType::new([rows], dtype)];
        let sums: Vec<f32> = rounded(&a, dtype).chunks(n).map(|row| row.iter().sum()).collect();
        let means: Vec<f32> = sums.iter().map(|sum| sum / n as f32).collect();
        let a = array(&a, &[rows as i32, n as i32], dtype);
        on_every_backend(&kernel, &[&a], &launch(&template, &outputs, rows * 128, 128), |backend, out| {
            assert_close(&to_f32(&out[0]), &sums, 1e-5, &format!("{backend:?} {dtype:?} sums"));
            assert_close(&to_f32(&out[1]), &means, epsilon, &format!("{backend:?} {dtype:?} means"));
        });
    }
}

#[test]
fn asynchronous_copies_in_two_buffers() {
    let kernel = GpuKernel {
        name: "async_copy",
        inputs: &["a", "limit"],
        outputs: &["out"],
        header: "",
        body: include_str!("kernels/async_copy.metal"),
        strided: false,
    };
    let n_blocks = 7;
    let a: Vec<f32> = (0..128 * n_blocks).map(|i| (i * 37 % 1009) as f32).collect();
    for n_valid in [3, 7] {
        // Each thread reads what the thread on the other side of the group has copied.
        let at = |i: usize| 4 * (31 - i / 4) + i % 4;
        let expected: Vec<f32> = (0..128).map(|i| (0..n_valid).map(|block| a[128 * block + at(i)]).sum()).collect();
        let outputs = [TensorType::new([128], Dtype::Float32)];
        let (a, limit) = (Array::from_slice(&a, &[a.len() as i32]), Array::from_slice(&[n_valid as u32], &[1]));
        on_every_backend(&kernel, &[&a, &limit], &launch(&[], &outputs, 32, 32), |backend, out| {
            assert_eq!(to_f32(&out[0]), expected, "{backend:?} {n_valid}");
        });
    }
}

#[test]
fn streamed_loads_of_one_two_and_four_words() {
    let kernel = GpuKernel {
        name: "streamed",
        inputs: &["words"],
        outputs: &["out"],
        header: "",
        body: include_str!("kernels/streamed.metal"),
        strided: false,
    };
    let words: Vec<u32> = (0..8 * 96_u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
    let weigh = |words: &[u32]| {
        [(0, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7)]
            .iter()
            .fold(0_u32, |sum, &(i, weight)| sum.wrapping_add(words[i].wrapping_mul(weight)))
    };
    let expected: Vec<u32> = words.chunks(8).map(weigh).collect();
    let outputs = [TensorType::new([96], Dtype::Uint32)];
    let words = Array::from_slice(&words, &[words.len() as i32]);
    on_every_backend(&kernel, &[&words], &launch(&[], &outputs, 96, 32), |backend, out| {
        assert_eq!(out[0].as_slice::<u32>(), expected, "{backend:?}");
    });
}

static LARGE: GpuKernel = GpuKernel {
    name: "large_memory",
    inputs: &["a"],
    outputs: &["out"],
    header: "",
    body: include_str!("kernels/large_memory.metal"),
    strided: false,
};

#[test]
fn more_memory_than_cuda_gives_without_being_asked() {
    let a: Vec<f32> = (0..16 * 1024).map(|i| i as f32).collect();
    let template = [("ROWS", TemplateValue::Int(16))];
    let outputs = [TensorType::new([16, 1024], Dtype::Float32)];
    let launch = launch(&template, &outputs, 1024, 1024);
    let expected: Vec<f32> = a.iter().rev().map(|x| x + 6.0).collect();
    let a = Array::from_slice(&a, &[16, 1024]);
    for backend in GpuBackend::available() {
        let outputs = LARGE.launch_on(backend, &[&a], &launch);
        if backend == GpuBackend::Metal {
            assert!(outputs.unwrap_err().to_string().contains("65573 bytes of threadgroup memory"));
            continue;
        }
        let outputs = outputs.unwrap();
        outputs[0].eval().unwrap();
        assert_eq!(to_f32(&outputs[0]), expected, "{backend:?}");
    }
}

#[test]
fn the_cuda_source_asks_for_memory_only_where_it_must() {
    let outputs = [TensorType::new([16, 1024], Dtype::Float32)];
    let inputs = [TensorType::new([16, 1024], Dtype::Float32)];
    let source = |rows| {
        let template = [("ROWS", TemplateValue::Int(rows))];
        LARGE.cuda_source(&inputs, &launch(&template, &outputs, 1024, 1024)).map_err(|error| error.to_string())
    };
    let (small, large) = (source(8).unwrap(), source(16).unwrap());
    assert!(small.contains("__shared__ __align__(16) float rows[ROWS][1024];"), "{small}");
    assert!(!small.contains("extern __shared__"));
    assert!(large.contains("extern __shared__") && !large.contains("__shared__ __align__(16) float"), "{large}");
    assert!(source(64).unwrap_err().contains("bytes of threadgroup memory"));
}
