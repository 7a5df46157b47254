//! What an operation costs beyond its own work: a chain of 1000 small ones, beside a chain of MLX's own.
//!
//! `cargo run --release -p mlx-custom --example overhead`

use std::time::{Duration, Instant};

use mlx_custom::{CpuOperation, OperationError, Tensor, TensorMut, TensorType, apply};
use mlx_rs::error::Exception;
use mlx_rs::{Array, Device};

const CHAIN: usize = 1000;
const ROUNDS: usize = 51;

/// `x + 1`, f32.
struct Increment;

impl CpuOperation for Increment {
    fn name(&self) -> &'static str {
        "increment"
    }

    fn outputs(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
        Ok(inputs.to_vec())
    }

    fn run(&self, inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), OperationError> {
        for (y, x) in outputs[0].as_mut_slice::<f32>()?.iter_mut().zip(inputs[0].as_slice::<f32>()?) {
            *y = x + 1.0;
        }
        Ok(())
    }
}

/// The medians of building the graph and of evaluating it, per operation.
fn measure(mut step: impl FnMut(&Array) -> Result<Array, Exception>) -> Result<(Duration, Duration), Exception> {
    let mut build_times = Vec::new();
    let mut eval_times = Vec::new();
    for _ in 0..ROUNDS {
        let mut x = Array::from_slice(&[0.0_f32; 64], &[64]);
        let start = Instant::now();
        for _ in 0..CHAIN {
            x = step(&x)?;
        }
        build_times.push(start.elapsed());
        let start = Instant::now();
        x.eval()?;
        eval_times.push(start.elapsed());
        assert_eq!(x.as_slice::<f32>()[63], CHAIN as f32);
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2] / CHAIN as u32
    };
    Ok((median(&mut build_times), median(&mut eval_times)))
}

fn main() -> Result<(), Exception> {
    Device::set_default(&Device::cpu());
    let one = Array::from_slice(&[1.0_f32; 64], &[64]);
    println!("per operation, in a chain of {CHAIN} (median of {ROUNDS})");
    let (build, eval) = measure(|x| x.add(&one))?;
    println!("  MLX's add      build {build:>9.2?}   eval {eval:>9.2?}");
    let (build, eval) = measure(|x| apply(Increment, &[x]).map(|mut outputs| outputs.remove(0)))?;
    println!("  an operation   build {build:>9.2?}   eval {eval:>9.2?}");
    Ok(())
}
