//! Kernels with few words.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch};
use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype};

/// A kernel with input `x` and output `out`.
pub const fn kernel(name: &'static str, body: &'static str) -> GpuKernel {
    GpuKernel { name, inputs: &["x"], outputs: &["out"], header: "", body, strided: false }
}

/// How a test starts a kernel: one output, threads along x.
#[derive(Clone)]
pub struct Start {
    pub threads: usize,
    pub threadgroup: usize,
    pub n_out: usize,
    pub dtype: Dtype,
    pub fill: Option<f32>,
}

impl Start {
    pub fn new(threads: usize, threadgroup: usize, n_out: usize) -> Self {
        Self { threads, threadgroup, n_out, dtype: Dtype::Float32, fill: None }
    }

    pub fn filled(self, value: f32) -> Self {
        Self { fill: Some(value), ..self }
    }

    pub fn of(self, dtype: Dtype) -> Self {
        Self { dtype, ..self }
    }

    /// The evaluated output, or the error.
    pub fn run(&self, kernel: &GpuKernel, inputs: &[&Array]) -> Result<Array, Exception> {
        let launch = Launch {
            template: &[],
            outputs: &[TensorType::new([self.n_out], self.dtype)],
            grid: [self.threads, 1, 1],
            threadgroup: [self.threadgroup, 1, 1],
            fill: self.fill,
        };
        let out = kernel.launch_on(GpuBackend::Emulator, inputs, &launch)?.remove(0);
        out.eval()?;
        Ok(out)
    }

    /// The text of what the emulator found.
    #[track_caller]
    pub fn finding(&self, kernel: &GpuKernel, inputs: &[&Array]) -> String {
        match self.run(kernel, inputs) {
            Ok(_) => panic!("{}: nothing was found", kernel.name),
            // mlx-c puts the place where it noticed behind.
            Err(error) => error.what().split(" at /").next().unwrap().to_owned(),
        }
    }
}

/// `0, 1, 2, ...`
pub fn counting(n: usize) -> Array {
    let numbers: Vec<f32> = (0..n).map(|i| i as f32).collect();
    Array::from_slice(&numbers, &[n as i32])
}

/// The error must begin with this.
#[track_caller]
pub fn assert_begins(text: &str, expected: &str) {
    assert!(text.starts_with(expected), "\n  found    {text}\n  expected {expected} ...");
}
