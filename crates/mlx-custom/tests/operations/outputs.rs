use mlx_custom::{TensorMut, TensorType, apply};
use mlx_rs::{Array, Dtype};

use crate::support::{Closure, Outcome, counting, f32_type};

/// Quotient and remainder of f32 numbers, as f32 and u32.
fn divide(x: &Array, divisor: u32) -> Vec<Array> {
    let types = [f32_type(&[6]), TensorType::new([6], Dtype::Uint32)];
    let operation = Closure::new(types, move |inputs, outputs| {
        let x = inputs[0].as_slice::<f32>()?;
        let [quotients, remainders] = outputs else { return Err("two outputs".into()) };
        let (quotients, remainders) = (quotients.as_mut_slice::<f32>()?, remainders.as_mut_slice::<u32>()?);
        for ((x, quotient), remainder) in x.iter().zip(quotients).zip(remainders) {
            *quotient = (*x as u32 / divisor) as f32;
            *remainder = *x as u32 % divisor;
        }
        Ok(())
    });
    apply(operation, &[x]).unwrap()
}

#[test]
fn two_outputs_of_different_types() {
    let outputs = divide(&counting(&[6]), 4);
    assert_eq!(outputs[0].as_slice::<f32>(), [0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
    assert_eq!(outputs[1].as_slice::<u32>(), [0, 1, 2, 3, 0, 1]);
}

#[test]
fn each_output_can_be_the_one_that_is_asked_for() {
    for wanted in 0..2 {
        let mut outputs = divide(&counting(&[6]), 3);
        let kept = outputs.swap_remove(wanted); // the other array is dropped before anything ran
        drop(outputs);
        kept.eval().unwrap();
        match wanted {
            0 => assert_eq!(kept.as_slice::<f32>(), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
            _ => assert_eq!(kept.as_slice::<u32>(), [0, 1, 2, 0, 1, 2]),
        }
    }
}

#[test]
fn outputs_feed_later_operations() {
    let outputs = divide(&counting(&[6]), 4);
    let back = outputs[0].multiply(Array::from_f32(4.0)).unwrap();
    let back = back.add(outputs[1].as_type::<f32>().unwrap()).unwrap();
    assert_eq!(back.as_slice::<f32>(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn no_inputs_a_scalar_output_and_an_empty_one() {
    let fill = |_: &[mlx_custom::Tensor<'_>], outputs: &mut [TensorMut<'_>]| -> Outcome {
        if outputs[1].shape() != [3, 0] || outputs[1].n_elements() != 0 {
            return Err("wrong shape".into());
        }
        outputs[0].as_mut_slice::<f32>()?[0] = 5.0;
        outputs[1].as_mut_slice::<f32>()?.fill(1.0);
        Ok(())
    };
    let outputs = apply(Closure::new([f32_type(&[]), f32_type(&[3, 0])], fill), &[]).unwrap();
    assert_eq!(outputs[0].item_exact::<f32>(), 5.0);
    outputs[1].eval().unwrap();
    assert_eq!(outputs[1].shape(), [3, 0]);
}

#[test]
fn more_tensors_than_fit_without_allocating() {
    let inputs: Vec<Array> = (0..20).map(|i| Array::from_slice(&[i as f32], &[1, 1, 1])).collect();
    let types: Vec<TensorType> = (0..20).map(|_| f32_type(&[1, 1, 1])).collect();
    let operation = Closure::new(types, |inputs, outputs| {
        for (x, y) in inputs.iter().zip(outputs) {
            y.as_mut_slice::<f32>()?[0] = x.as_slice::<f32>()?[0] + 0.5;
        }
        Ok(())
    });
    let outputs = apply(operation, &inputs.iter().collect::<Vec<_>>()).unwrap();
    for (i, output) in outputs.iter().enumerate() {
        assert_eq!(output.item_exact::<f32>(), i as f32 + 0.5);
    }
}

#[test]
fn impossible_outputs_are_refused_when_the_graph_is_built() {
    let message = |types: Vec<TensorType>| {
        let operation = Closure::new(types, |_, _| Ok(()));
        apply(operation, &[]).unwrap_err().what().to_owned()
    };
    assert_eq!(message(vec![]), "closure: an operation needs at least one output");
    assert!(message(vec![f32_type(&[1 << 40])]).contains("too large"));
    assert!(message(vec![f32_type(&[1 << 30; 3])]).contains("too large"));
}

#[test]
fn an_output_for_which_there_is_no_memory_is_an_error() {
    let operation = Closure::new([f32_type(&[1 << 30, 1 << 20])], |_, _| Ok(()));
    let error = operation.apply1(&[]).unwrap().eval().unwrap_err();
    assert!(error.what().contains("closure"), "{error}");
    // The stream goes on.
    assert_eq!(divide(&counting(&[6]), 4)[1].as_slice::<u32>(), [0, 1, 2, 3, 0, 1]);
}

#[test]
#[cfg(debug_assertions)]
fn a_forgotten_element_shows_in_debug_builds() {
    let operation = Closure::new([f32_type(&[2])], |_, outputs| {
        outputs[0].as_mut_slice::<f32>()?[0] = 1.0;
        Ok(())
    });
    let y = operation.apply1(&[]).unwrap();
    y.eval().unwrap();
    assert_eq!(y.as_slice::<f32>()[0], 1.0);
    assert!(y.as_slice::<f32>()[1].is_nan());
}
