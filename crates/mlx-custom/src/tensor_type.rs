use mlx_rs::Dtype;

use crate::OperationError;
use crate::element::size_of;

/// What is known of a tensor before there is any data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorType {
    /// The length of each axis; empty for a scalar.
    pub shape: Vec<usize>,
    /// The type of its elements.
    pub dtype: Dtype,
}

impl TensorType {
    /// A tensor of this shape and type.
    pub fn new(shape: impl Into<Vec<usize>>, dtype: Dtype) -> Self {
        Self { shape: shape.into(), dtype }
    }

    /// The number of elements: 1 for a scalar, 0 if an axis has length 0.
    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The size of one element in bytes; the error names the tensor, as in "input 0".
    pub(crate) fn element_size(&self, kind: &str, number: usize) -> Result<usize, OperationError> {
        size_of(self.dtype).ok_or_else(|| {
            format!(
                "{kind} {number} is {:?}; an operation takes Float32, Float16, Bfloat16, Uint32, Int32 and Uint8",
                self.dtype
            )
            .into()
        })
    }

    /// Refuses what MLX has no numbers for: an axis of 2^31 or more, or more bytes than can be addressed.
    pub(crate) fn check_size(&self, kind: &str, number: usize, element_size: usize) -> Result<(), OperationError> {
        let bytes = self.shape.iter().try_fold(element_size, |bytes, &len| bytes.checked_mul(len));
        let fits = bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok());
        if fits && self.shape.iter().all(|&len| i32::try_from(len).is_ok()) {
            Ok(())
        } else {
            Err(format!("{kind} {number} would have shape {:?}, which is too large", self.shape).into())
        }
    }

    /// Elements to step over for one step along each axis, if the tensor is row-major.
    pub(crate) fn row_major_strides(&self) -> Vec<isize> {
        let mut stride = 1;
        let mut strides = vec![0; self.shape.len()];
        for (axis, &len) in self.shape.iter().enumerate().rev() {
            strides[axis] = stride;
            stride *= len.max(1) as isize;
        }
        strides
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_of_a_row_major_tensor() {
        assert_eq!(TensorType::new([2, 3, 4], Dtype::Float32).row_major_strides(), [12, 4, 1]);
        assert_eq!(TensorType::new([], Dtype::Float32).row_major_strides(), [0_isize; 0]);
        assert_eq!(TensorType::new([2, 0, 4], Dtype::Float32).row_major_strides(), [4, 4, 1]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let message = |shape: &[usize]| {
            TensorType::new(shape, Dtype::Float32).check_size("output", 1, 4).map_err(|error| error.to_string())
        };
        assert!(message(&[1 << 31]).unwrap_err().contains("output 1"));
        assert!(message(&[1 << 20; 4]).is_err());
        assert!(message(&[1 << 20; 8]).is_err());
        assert_eq!(message(&[1 << 10, 0]), Ok(()));
        let double = TensorType::new([2], Dtype::Float64);
        assert!(double.element_size("input", 0).unwrap_err().to_string().contains("input 0 is Float64"));
    }
}
