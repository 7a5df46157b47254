//! Errors while the graph is still being queued, on the thread that uses MLX first: it would be a special one if
//! `native/bridge.cpp` didn't see to it that it isn't. So this test has a process of its own.

#![allow(clippy::unwrap_used)] // helpers of tests may panic as tests do

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mlx_custom::{CpuOperation, OperationError, Tensor, TensorMut, TensorType, apply};
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Dtype};

/// One number: 1 more than the input, or an error.
struct Step {
    fails: bool,
}

impl CpuOperation for Step {
    fn name(&self) -> &'static str {
        "step"
    }

    fn outputs(&self, _: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
        Ok(vec![TensorType::new([1], Dtype::Float32)])
    }

    fn run(&self, inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), OperationError> {
        if self.fails {
            return Err("on purpose".into());
        }
        // Half in place, if MLX allows: nothing may be added twice.
        let before = match outputs[0].holds_input() {
            true => outputs[0].as_mut_slice::<f32>()?[0],
            false => inputs[0].as_slice::<f32>()?[0],
        };
        outputs[0].as_mut_slice::<f32>()?[0] = before + 1.0;
        Ok(())
    }

    fn reuses(&self) -> &[(usize, usize)] {
        &[(0, 0)]
    }
}

fn step(x: &Array, fails: bool) -> Array {
    apply(Step { fails }, &[x]).unwrap().remove(0)
}

/// Many evaluations of two long chains, of which one fails at its first step, while MLX is still queueing the
/// steps that come after.
fn fail_again_and_again() {
    const LENGTH: usize = 60;
    for round in 0..150 {
        let start = Array::from_slice(&[0.0_f32], &[1]);
        let chain = |start| (1..LENGTH).fold(start, |x, _| step(&x, false));
        let (bad, good) = (chain(step(&start, true)), chain(step(&start, false)));
        let error = eval([&bad, &good]).unwrap_err();
        assert!(error.what().contains("step: on purpose"), "{error}");
        // Nothing stands still, half done or wrong.
        good.eval().unwrap();
        assert_eq!(good.as_slice::<f32>(), [LENGTH as f32], "round {round}");
        bad.eval().unwrap();
        assert!(bad.as_slice::<f32>()[0].is_nan(), "round {round}");
    }
}

#[test]
fn errors_do_not_add_up_to_a_standstill() {
    let (done, finished) = mpsc::channel();
    let worker = thread::spawn(move || {
        fail_again_and_again();
        let _ = done.send(());
    });
    match finished.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("an evaluation waits for ever"),
        _ => worker.join().unwrap(),
    }
}
