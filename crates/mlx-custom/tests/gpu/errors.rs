//! One clear message for each mistake, on every backend the same.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch, TemplateValue};
use mlx_rs::{Array, Dtype};

const COPY: GpuKernel = GpuKernel {
    name: "copy",
    inputs: &["a"],
    outputs: &["out"],
    header: "",
    body: "out[thread_position_in_grid.x] = a[thread_position_in_grid.x];",
    strided: false,
};

/// The message of a launch of 64 threads in groups of 32, changed by `change`.
fn message(kernel: GpuKernel, n_inputs: usize, change: impl Fn(&mut Launch<'_>)) -> String {
    let a = Array::from_slice(&[0.0_f32; 64], &[64]);
    let outputs = [TensorType::new([64], Dtype::Float32)];
    let mut launch = Launch { template: &[], outputs: &outputs, grid: [64, 1, 1], threadgroup: [32, 1, 1], fill: None };
    change(&mut launch);
    let inputs = vec![&a; n_inputs];
    let messages = GpuBackend::available().into_iter().map(|backend| {
        let error = kernel.launch_on(backend, &inputs, &launch).expect_err("the launch should be refused");
        error.to_string()
    });
    let messages: Vec<String> = messages.collect();
    assert!(messages.windows(2).all(|pair| pair[0] == pair[1]), "{messages:?}");
    messages[0].clone()
}

#[track_caller]
fn assert_has(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn grids() {
    let m = message(COPY, 1, |launch| launch.grid = [65, 1, 1]);
    assert_has(&m, &["copy", "65", "multiple of the threadgroup's 32", "start 96"]);
    let m = message(COPY, 1, |launch| launch.threadgroup = [32, 0, 1]);
    assert_has(&m, &["at least 1"]);
    let m = message(COPY, 1, |launch| (launch.grid, launch.threadgroup) = ([64, 64, 1], [64, 32, 1]));
    assert_has(&m, &["2048 threads", "1024"]);
    let m = message(COPY, 1, |launch| launch.grid = [64, 70000, 1]);
    assert_has(&m, &["along y", "65535"]);
}

#[test]
fn counts_and_names() {
    assert_has(&message(COPY, 2, |_| ()), &["takes 1 inputs (a), got 2"]);
    assert_has(&message(COPY, 1, |launch| launch.outputs = &[]), &["has 1 outputs (out), the launch describes 0"]);
    let twice = message(COPY, 1, |launch| launch.template = &[("a", TemplateValue::Int(1))]);
    assert_has(&twice, &["are called a"]);
    let no_name = GpuKernel { name: "two words", ..COPY };
    assert_has(&message(no_name, 1, |_| ()), &["two words", "is no name"]);
}

#[test]
fn types_and_shapes() {
    let double = [TensorType::new([64], Dtype::Float64)];
    let a = Array::from_slice(&[0.0_f32; 64], &[64]);
    let launch = Launch { template: &[], outputs: &double, grid: [64, 1, 1], threadgroup: [32, 1, 1], fill: None };
    let error = COPY.launch(&[&a], &launch).expect_err("no doubles").to_string();
    assert_has(&error, &["output out is Float64", "Float32"]);
    let empty = [TensorType::new([2, 0], Dtype::Float32)];
    let error = COPY.launch(&[&a], &Launch { outputs: &empty, ..launch }).expect_err("nothing to do").to_string();
    assert_has(&error, &["[2, 0]"]);
}

#[test]
fn simd_groups_are_whole() {
    let kernel = GpuKernel { body: "out[0] = simd_sum(a[0]);", ..COPY };
    let m = message(kernel, 1, |launch| (launch.grid, launch.threadgroup) = ([60, 1, 1], [20, 1, 1]));
    assert_has(&m, &["SIMD groups", "20 is no multiple of 32"]);
}

#[test]
fn what_is_not_written_says_so() {
    let kernel = GpuKernel { body: "// before\ntodo!(\"week 2 day 3 task 1: copy - see book 2.3\");\n", ..COPY };
    assert_has(&message(kernel, 1, |_| ()), &["not yet implemented: week 2 day 3 task 1: copy - see book 2.3"]);
    let header = GpuKernel { header: "todo!(\"week 2 day 3 task 2: load\");", ..COPY };
    assert_has(&message(header, 1, |_| ()), &["not yet implemented: week 2 day 3 task 2: load"]);
}

#[test]
fn declarations_of_threadgroup_memory_name_their_line() {
    let kernel = GpuKernel { body: "int x = 0;\nif (x == 0) {\n  threadgroup float sums[32];\n}\nout[0] = 1;", ..COPY };
    assert_has(&message(kernel, 1, |_| ()), &["copy.metal:3", "top level"]);
}

#[test]
fn a_body_that_does_not_compile_is_an_error_of_eval() {
    let kernel = GpuKernel { name: "broken", body: "int x = 0;\nout[x] = no_such_name;", ..COPY };
    let a = Array::from_slice(&[0.0_f32; 64], &[64]);
    let outputs = [TensorType::new([64], Dtype::Float32)];
    let launch = Launch { template: &[], outputs: &outputs, grid: [64, 1, 1], threadgroup: [32, 1, 1], fill: None };
    for backend in GpuBackend::available() {
        let result = kernel.launch_on(backend, &[&a], &launch).and_then(|out| out[0].eval());
        let message = result.expect_err("it should not compile").to_string();
        assert_has(&message, &["no_such_name"]);
    }
}
