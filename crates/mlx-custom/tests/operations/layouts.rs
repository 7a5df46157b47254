use half::f16;
use mlx_custom::TensorType;
use mlx_rs::ops::indexing::{IndexOp, IntoStrideBy};
use mlx_rs::ops::{as_strided, broadcast_to};
use mlx_rs::{Array, Dtype};

use crate::support::{Closure, Outcome, counting, f32_type};

fn shape_of(x: &Array) -> Vec<usize> {
    x.shape().iter().map(|&len| len as usize).collect()
}

/// The elements of `x` as an operation sees them in a slice.
fn through_a_slice(x: &Array) -> Array {
    let operation = Closure::new([f32_type(&shape_of(x))], |inputs, outputs| {
        if !inputs[0].is_contiguous() {
            return Err("not contiguous".into());
        }
        outputs[0].as_mut_slice::<f32>()?.copy_from_slice(inputs[0].as_slice::<f32>()?);
        Ok(())
    });
    operation.apply1(&[x]).unwrap()
}

/// The elements of `x` as an operation reads them by index.
fn through_strides(x: &Array) -> Array {
    let operation = Closure::new([f32_type(&shape_of(x))], |inputs, outputs| {
        let x = inputs[0].strided::<f32>()?;
        let mut index = vec![0; x.shape().len()];
        for y in outputs[0].as_mut_slice::<f32>()? {
            *y = x.at(&index);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < x.shape()[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Ok(())
    });
    operation.strided().apply1(&[x]).unwrap()
}

fn check(x: &Array, expected: &[f32]) {
    for seen in [through_a_slice(x), through_strides(x)] {
        assert_eq!(seen.shape(), x.shape());
        seen.eval().unwrap();
        if !expected.is_empty() {
            assert_eq!(seen.as_slice::<f32>(), expected);
        }
    }
}

#[test]
fn row_major_and_scalar() {
    check(&counting(&[2, 3]), &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    check(&Array::from_f32(7.0), &[7.0]);
    check(&counting(&[1, 1, 1]), &[0.0]);
}

#[test]
fn transposed() {
    let x = counting(&[2, 3]);
    check(&x.transpose_axes(&[1, 0]).unwrap(), &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    // [B, L, H, D] seen as [B, H, L, D], as attention does.
    let heads = counting(&[1, 2, 2, 2]).transpose_axes(&[0, 2, 1, 3]).unwrap();
    check(&heads, &[0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
}

#[test]
fn broadcast() {
    check(&broadcast_to(counting(&[2, 1]), &[2, 3]).unwrap(), &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    check(&broadcast_to(counting(&[2]), &[3, 2]).unwrap(), &[0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
    check(&broadcast_to(Array::from_f32(4.0), &[2, 2]).unwrap(), &[4.0; 4]);
}

#[test]
fn sliced_with_gaps_and_offsets() {
    let x = counting(&[3, 4]);
    check(&x.index((1.., 1..3)), &[5.0, 6.0, 9.0, 10.0]);
    check(&x.index((2, ..)), &[8.0, 9.0, 10.0, 11.0]);
    check(&x.index(((..).stride_by(2), (..).stride_by(3))), &[0.0, 3.0, 8.0, 11.0]);
}

#[test]
fn reversed() {
    check(&counting(&[4]).index((..).stride_by(-1)), &[3.0, 2.0, 1.0, 0.0]);
    check(&counting(&[2, 3]).index((.., (..).stride_by(-2))), &[2.0, 0.0, 5.0, 3.0]);
    check(&counting(&[2, 2]).index(((..).stride_by(-1), ..)), &[2.0, 3.0, 0.0, 1.0]);
}

#[test]
fn overlapping() {
    let windows = as_strided(counting(&[4]), &[3, 2][..], &[1, 1][..], 0).unwrap();
    check(&windows, &[0.0, 1.0, 1.0, 2.0, 2.0, 3.0]);
}

#[test]
fn empty() {
    check(&counting(&[0]), &[]);
    check(&counting(&[2, 0, 3]), &[]);
    check(&counting(&[2, 3]).index((.., 3..)).transpose_axes(&[1, 0]).unwrap(), &[]);
}

#[test]
fn an_operation_that_takes_strides_is_told_them() {
    let strides_are = |expected: &'static [isize]| {
        move |inputs: &[mlx_custom::Tensor<'_>], outputs: &mut [mlx_custom::TensorMut<'_>]| -> Outcome {
            outputs[0].as_mut_slice::<f32>()?.fill(0.0);
            let actual = inputs[0].strides();
            if actual == expected { Ok(()) } else { Err(format!("{actual:?}").into()) }
        }
    };
    let x = counting(&[2, 3]);
    let transposed = x.transpose_axes(&[1, 0]).unwrap();
    let check = |x: &Array, expected: &'static [isize]| {
        Closure::new([f32_type(&[1])], strides_are(expected)).strided().apply1(&[x]).unwrap().eval().unwrap();
    };
    check(&x, &[3, 1]);
    check(&transposed, &[1, 3]);
    check(&broadcast_to(&x, &[4, 2, 3]).unwrap(), &[0, 3, 1]);
    check(&x.index((.., (..).stride_by(-1))), &[3, -1]);
    check(&Array::from_f32(1.0), &[]);
    // The same input, made row-major first.
    Closure::new([f32_type(&[1])], strides_are(&[2, 1])).apply1(&[&transposed]).unwrap().eval().unwrap();
}

#[test]
fn a_slice_of_what_is_not_row_major_is_an_error() {
    let operation = Closure::new([f32_type(&[1])], |inputs, _| inputs[0].as_slice::<f32>().map(drop)).strided();
    let error = operation.apply1(&[&counting(&[2, 3]).transpose_axes(&[1, 0]).unwrap()]).unwrap().eval().unwrap_err();
    assert!(error.what().contains("strides [1, 3]"), "{error}");
}

#[test]
fn rows_of_a_view_are_slices_of_its_memory() {
    let heads = counting(&[1, 3, 2, 4]).transpose_axes(&[0, 2, 1, 3]).unwrap(); // [B, H, L, D]
    let operation = Closure::new([f32_type(&[4])], |inputs, outputs| {
        let x = inputs[0].strided::<f32>()?;
        outputs[0].as_mut_slice::<f32>()?.copy_from_slice(x.row(&[0, 1, 2]).ok_or("no rows")?);
        Ok(())
    });
    let row = operation.strided().apply1(&[&heads]).unwrap();
    row.eval().unwrap();
    assert_eq!(row.as_slice::<f32>(), [20.0, 21.0, 22.0, 23.0]);
}

#[test]
fn an_index_outside_the_shape_is_an_error_of_eval() {
    let operation = Closure::new([f32_type(&[1])], |inputs, _| {
        inputs[0].strided::<f32>()?.at(&[0, 7]);
        Ok(())
    });
    let error = operation.apply1(&[&counting(&[2, 3])]).unwrap().eval().unwrap_err();
    assert!(error.what().contains("index [0, 7] into a tensor of shape [2, 3]"), "{error}");
}

#[test]
fn narrow_elements_are_gathered_too() {
    let bytes = Array::from_slice(&[0_u8, 1, 2, 3, 4, 5], &[2, 3]).transpose_axes(&[1, 0]).unwrap();
    let operation = Closure::new([TensorType::new([3, 2], Dtype::Uint8)], |inputs, outputs| {
        outputs[0].as_mut_slice::<u8>()?.copy_from_slice(inputs[0].as_slice::<u8>()?);
        Ok(())
    });
    let copied = operation.apply1(&[&bytes]).unwrap();
    copied.eval().unwrap();
    assert_eq!(copied.as_slice::<u8>(), [0, 3, 1, 4, 2, 5]);

    let halves = counting(&[2, 3]).as_type::<f16>().unwrap().transpose_axes(&[1, 0]).unwrap();
    let operation = Closure::new([TensorType::new([3, 2], Dtype::Float16)], |inputs, outputs| {
        outputs[0].as_mut_slice::<f16>()?.copy_from_slice(inputs[0].as_slice::<f16>()?);
        Ok(())
    });
    let copied = operation.apply1(&[&halves]).unwrap();
    copied.eval().unwrap();
    assert_eq!(copied.as_slice::<f16>(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0].map(f16::from_f32));
}

#[test]
fn wider_elements_in_a_buffer_of_bytes_need_not_be_aligned() {
    let bytes: Vec<u8> = (0..9).collect();
    let shifted = Array::from_slice(&bytes, &[9]).index(1..).view::<u32>().unwrap();
    let operation = Closure::new([TensorType::new([2], Dtype::Uint32)], |inputs, outputs| {
        outputs[0].as_mut_slice::<u32>()?.copy_from_slice(inputs[0].as_slice::<u32>()?);
        Ok(())
    });
    let copied = operation.apply1(&[&shifted]).unwrap();
    copied.eval().unwrap();
    let expected = [[1, 2, 3, 4], [5, 6, 7, 8]].map(u32::from_ne_bytes);
    assert_eq!(copied.as_slice::<u32>(), expected);
}
