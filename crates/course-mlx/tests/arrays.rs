//! The arrays that the course stands on work, in every dtype that it uses.

use course_mlx::{Array, Dtype, ops};
use mlx_rs::error::Exception;

#[test]
fn a_matrix_product_in_each_float_type() -> Result<(), Exception> {
    for dtype in [Dtype::Float32, Dtype::Float16, Dtype::Bfloat16] {
        let a = Array::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]).as_dtype(dtype)?;
        let product = a.matmul(ops::transpose(&a)?)?.as_dtype(Dtype::Float32)?;
        assert_eq!(product.as_slice::<f32>(), [14.0, 32.0, 32.0, 77.0], "{dtype:?}");
    }
    Ok(())
}

#[test]
fn a_product_with_a_single_row_in_every_memory_order() -> Result<(), Exception> {
    // On Linux a single row takes its own way through BLAS; the strides of a row or a column of one are arbitrary.
    let (rows, columns) = (3, 5);
    let weight = Array::from_iter((0..15).map(|i| i as f32 - 4.0), &[rows, columns]);
    let values = weight.as_slice::<f32>().to_vec();
    let x = [2f32, -1.0, 0.5, 3.0, 7.0];

    let by_rows: Vec<f32> = values.chunks(5).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
    let by_columns: Vec<f32> = (0..5).map(|c| (0..3).map(|r| values[r * 5 + c] * x[r]).sum()).collect();

    let row = Array::from_slice(&x, &[1, 5]);
    let column = Array::from_slice(&x, &[5, 1]);
    assert_eq!(row.matmul(weight.transpose()?)?.as_slice::<f32>(), by_rows);
    assert_eq!(column.transpose()?.matmul(weight.transpose()?)?.as_slice::<f32>(), by_rows);
    let short = Array::from_slice(&x[..3], &[1, 3]);
    assert_eq!(short.matmul(&weight)?.as_slice::<f32>(), by_columns);
    // A row that is a column of another matrix: its elements lie apart.
    let wide = Array::from_iter((0..10).map(|i| if i % 2 == 0 { x[i / 2] } else { f32::NAN }), &[5, 2]);
    let strided = ops::split_equal(&wide, 2, 1)?[0].transpose()?;
    assert_eq!(strided.matmul(weight.transpose()?)?.as_slice::<f32>(), by_rows);
    Ok(())
}

#[test]
fn half_precision_elements_cross_the_interface() -> Result<(), Exception> {
    let x = Array::from_f32(1.5);
    assert_eq!(x.as_dtype(Dtype::Float16)?.item_exact::<half::f16>().to_f32(), 1.5);
    assert_eq!(x.as_dtype(Dtype::Bfloat16)?.item_exact::<half::bf16>().to_f32(), 1.5);
    Ok(())
}

#[test]
fn an_error_in_mlx_comes_back_as_an_error() {
    let a = Array::from_slice(&[1f32, 2.0], &[2]);
    let b = Array::from_slice(&[1f32, 2.0, 3.0], &[3]);
    assert!(a.add(&b).is_err());
}
