//! The profile counts runs. One test: the counters are the process's.

use mlx_custom::{CpuOperation, OperationError, Tensor, TensorMut, TensorType, apply, set_profiling, take_profile};
use mlx_rs::Array;

struct Negate;

impl CpuOperation for Negate {
    fn name(&self) -> &'static str {
        "negate"
    }

    fn outputs(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
        Ok(inputs.to_vec())
    }

    fn run(&self, inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), OperationError> {
        let y = outputs[0].as_mut_slice::<f32>()?;
        for (y, x) in y.iter_mut().zip(inputs[0].as_slice::<f32>()?) {
            *y = -x;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
        Ok(())
    }
}

#[test]
fn runs_are_counted_while_it_is_on() {
    let x = Array::from_slice(&[1.0_f32; 256], &[256]);
    let negate_twice = || apply(Negate, &[&apply(Negate, &[&x]).unwrap()[0]]).unwrap()[0].clone();

    negate_twice().eval().unwrap();
    assert!(take_profile().is_empty(), "measured although it is off");

    set_profiling(true);
    let unused = negate_twice();
    assert!(take_profile().is_empty(), "nothing has run yet");
    unused.eval().unwrap();
    let profile = take_profile();
    let negate = profile["negate"];
    assert_eq!((profile.len(), negate.calls), (1, 2));
    assert!(negate.time.as_millis() >= 4, "{:?}", negate.time);
    assert!(take_profile().is_empty(), "taken");

    set_profiling(false);
    negate_twice().eval().unwrap();
    assert!(take_profile().is_empty(), "off again");
}
