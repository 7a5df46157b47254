//! What a start of a GPU kernel costs the processor: building the graph and evaluating it, for a kernel that does nothing.
//!
//! ```console
//! cargo run --release -p mlx-custom --example launch_cost
//! ```

use std::time::Instant;

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch};
use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype};

static KERNEL: GpuKernel = GpuKernel {
    name: "add_one",
    inputs: &["x"],
    outputs: &["y"],
    header: "",
    body: "uint i = thread_position_in_grid.x;\ny[i] = x[i] + 1.0f;",
    strided: false,
};

const CALLS: usize = 200;

fn ours(x: &Array) -> Result<Array, Exception> {
    let outputs = [TensorType::new([32], Dtype::Float32)];
    let launch = Launch { template: &[], outputs: &outputs, grid: [32, 1, 1], threadgroup: [32, 1, 1], fill: None };
    KERNEL.launch(&[x], &launch)?.pop().ok_or_else(|| Exception::custom("one output"))
}

fn measure(name: &str, one: Array, step: impl Fn(&Array) -> Result<Array, Exception>) -> Result<(), Exception> {
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..20 {
        let start = Instant::now();
        let mut x = one.clone();
        for _ in 0..CALLS {
            x = step(&x)?;
        }
        let built = start.elapsed().as_secs_f64();
        x.eval()?;
        let evaluated = start.elapsed().as_secs_f64() - built;
        best = (best.0.min(built), best.1.min(evaluated));
    }
    let us = |seconds: f64| seconds * 1e6 / CALLS as f64;
    println!("{name:<24} graph {:6.2} µs, evaluation {:6.2} µs a call", us(best.0), us(best.1));
    Ok(())
}

fn main() -> Result<(), Exception> {
    println!("{:?}, chains of {CALLS} calls, fastest of 20", GpuBackend::current()?);
    let x = Array::from_slice(&[0.0_f32; 32], &[32]);
    let one = Array::from_f32(1.0);
    measure("a kernel of our own", x.clone(), ours)?;
    measure("MLX's add", x, |x| x.add(&one))
}
