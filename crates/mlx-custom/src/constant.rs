use std::fmt;
use std::sync::Arc;

use mlx_rs::Array;
use mlx_rs::error::Exception;

use crate::registered::TensorLayout;
use crate::{Tensor, TensorType};

/// An array whose values are known and never change, such as a layer's weights, as a parameter of an operation.
///
/// An input of an operation is an edge of the graph: MLX visits it at every evaluation and keeps books about its
/// buffer, which costs about as much time as a small operation computes. Weights need none of that. An operation
/// that holds a `Constant` among its fields reads it in [`run`](crate::CpuOperation::run) as it would read an input.
///
/// Clones share the values.
#[derive(Clone)]
pub struct Constant {
    inner: Arc<Inner>,
}

struct Inner {
    /// Keeps the buffer alive; nothing else is done with it.
    _array: Array,
    layout: TensorLayout,
    data: *const u8,
}

// SAFETY: after `new` the array is only ever dropped, and MLX counts references to arrays and buffers atomically. The
// values behind `data` are never written again: `_array` is a second owner of the buffer, so MLX lets nobody take it over.
unsafe impl Send for Inner {}
// SAFETY: as above; all access is reading.
unsafe impl Sync for Inner {}

impl Constant {
    /// Computes `array` if nobody has yet, and holds on to its values; copied only if they are not in row-major order.
    ///
    /// # Errors
    /// What the evaluation says, or an element type other than f32, f16, bf16, u32, i32 and u8.
    pub fn new(array: &Array) -> Result<Self, Exception> {
        // Row-major, and the same buffer if it already is.
        let array = array.contiguous()?;
        array.eval()?;
        let shape: Vec<usize> = array.shape().iter().map(|&len| len as usize).collect();
        let tensor_type = TensorType::new(shape, array.dtype());
        let element_size =
            tensor_type.element_size("constant", 0).map_err(|error| Exception::custom(error.to_string()))?;
        // SAFETY: the array is evaluated. It is null only if there is no element.
        let data = unsafe { mlx_sys::mlx_array_data_uint8(array.as_ptr()) };
        let layout = TensorLayout::new(tensor_type, element_size);
        Ok(Self { inner: Arc::new(Inner { _array: array, layout, data }) })
    }

    /// Shape and element type.
    pub fn tensor_type(&self) -> &TensorType {
        &self.inner.layout.tensor_type
    }

    /// Where the values lie.
    pub(crate) fn addresses(&self) -> std::ops::Range<usize> {
        let Inner { layout, data, .. } = &*self.inner;
        let start = data.expose_provenance();
        start..start + layout.n_elements * layout.element_size
    }

    /// The values, as an operation sees an input.
    pub fn tensor(&self) -> Tensor<'_> {
        let Inner { layout, data, .. } = &*self.inner;
        let data = if layout.n_elements == 0 { std::ptr::dangling::<u64>().cast() } else { *data };
        // SAFETY: the buffer lives as long as `inner`, is row-major, aligned by MLX's allocator, and never written.
        unsafe { Tensor::from_raw(layout, &layout.row_major_strides, data, true, false, 0) }
    }
}

impl fmt::Debug for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TensorType { shape, dtype } = self.tensor_type();
        write!(f, "Constant({dtype:?} {shape:?})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_row_major_order() {
        let array = Array::from_slice(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
        let constant = Constant::new(&array.transpose().unwrap()).unwrap();
        assert_eq!(constant.tensor_type().shape, [3, 2]);
        assert_eq!(constant.tensor().as_slice::<f32>().unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert!(constant.tensor().as_slice::<u32>().is_err());
    }

    #[test]
    fn a_row_major_array_is_not_copied() {
        let array = Array::from_slice(&[1_u32, 2, 3, 4], &[4]);
        let constant = Constant::new(&array).unwrap();
        let slice = constant.tensor().as_slice::<u32>().unwrap();
        assert_eq!(slice.as_ptr(), array.as_slice::<u32>().as_ptr());
        let elsewhere = constant.clone();
        drop((array, constant));
        let sum = std::thread::spawn(move || elsewhere.tensor().as_slice::<u32>().unwrap().iter().sum::<u32>());
        assert_eq!(sum.join().unwrap(), 10);
    }

    #[test]
    fn empty_arrays_and_other_types() {
        let empty = Array::from_slice::<f32>(&[], &[0, 3]);
        assert!(Constant::new(&empty).unwrap().tensor().as_slice::<f32>().unwrap().is_empty());
        let boolean = Array::from_slice(&[true], &[1]);
        assert!(Constant::new(&boolean).unwrap_err().what().contains("Bool"));
    }
}
