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
