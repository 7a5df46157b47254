use half::{bf16, f16};
use mlx_custom::{Element, OperationError, TensorType, apply};
use mlx_rs::{Array, ArrayElement, Dtype};

use crate::support::{Closure, counting, f32_type};

/// Reverses a vector of three, and sees the type that it should.
fn check_reversed<T: Element + ArrayElement + PartialEq + std::fmt::Debug>(x: &Array, values: [T; 3]) {
    let operation = Closure::new([TensorType::new([3], <T as Element>::DTYPE)], |inputs, outputs| {
        if inputs[0].dtype() != <T as Element>::DTYPE || outputs[0].dtype() != <T as Element>::DTYPE {
            return Err("the wrong type arrived".into());
        }
        let y = outputs[0].as_mut_slice::<T>()?;
        y.copy_from_slice(inputs[0].as_slice::<T>()?);
        y.reverse();
        Ok(())
    });
    let y = operation.apply1(&[x]).unwrap();
    assert_eq!(y.dtype(), <T as Element>::DTYPE);
    assert_eq!(y.as_slice::<T>(), [values[2], values[1], values[0]]);
}

#[test]
fn every_element_type_arrives_and_returns() {
    macro_rules! check {
        ($($values:expr),* $(,)?) => { $(check_reversed(&Array::from_slice(&$values, &[3]), $values);)* };
    }
    check!(
        [1.5_f32, -2.0, f32::MAX],
        [1.5, -2.0, 65504.0].map(f16::from_f32),
        [1.5, -2.0, 1e38].map(bf16::from_f32),
        [1_u32, 2, u32::MAX],
        [-1_i32, 2, i32::MIN],
        [1_u8, 2, 255],
    );
}

#[test]
fn other_types_are_refused_when_the_graph_is_built() {
    let do_nothing = || Closure::new([f32_type(&[2])], |_, _| Ok(()));
    for dtype in [Dtype::Bool, Dtype::Int64, Dtype::Uint16, Dtype::Int8, Dtype::Float64, Dtype::Complex64] {
        let x = counting(&[2]).as_dtype(dtype).unwrap();
        let error = do_nothing().apply1(&[&counting(&[2]), &x]).unwrap_err();
        assert!(error.what().starts_with("closure: input 1 is "), "{error}");
        assert!(error.what().contains(&format!("{dtype:?}")), "{error}");

        let operation = Closure::new([f32_type(&[2]), TensorType::new([2], dtype)], |_, _| Ok(()));
        let error = apply(operation, &[]).unwrap_err();
        assert!(error.what().starts_with("closure: output 1 is "), "{error}");
    }
}

#[test]
fn asking_for_another_type_is_an_error_that_names_both() {
    let operation = Closure::new([f32_type(&[2])], |inputs, _| inputs[0].as_slice::<u32>().map(drop));
    let error = operation.apply1(&[&counting(&[2])]).unwrap().eval().unwrap_err();
    assert!(error.what().contains("input 0 holds Float32, and Uint32 was asked for"), "{error}");

    let operation = Closure::new([f32_type(&[2])], |_, outputs| outputs[0].as_mut_slice::<f16>().map(drop));
    let error = operation.apply1(&[]).unwrap().eval().unwrap_err();
    assert!(error.what().contains("output 0 holds Float32, and Float16 was asked for"), "{error}");

    let strided =
        |inputs: &[mlx_custom::Tensor<'_>]| -> Result<(), OperationError> { inputs[0].strided::<bf16>().map(drop) };
    let operation = Closure::new([f32_type(&[2])], move |inputs, _| strided(inputs)).strided();
    assert!(operation.apply1(&[&counting(&[2])]).unwrap().eval().is_err());
}
