use mlx_rs::Dtype;

use crate::registered::TensorLayout;
use crate::{Element, OperationError};

/// An output of a running operation: row-major memory, to be written.
pub struct TensorMut<'a> {
    layout: &'a TensorLayout,
    /// The first element; dangling if there is none.
    data: *mut u8,
    holds_input: bool,
    number: usize,
}

// SAFETY: a `TensorMut` is the only access to its memory, like a `&mut [T]`.
unsafe impl Send for TensorMut<'_> {}
// SAFETY: `&TensorMut` gives no access to the memory.
unsafe impl Sync for TensorMut<'_> {}

impl<'a> TensorMut<'a> {
    /// # Safety
    /// During `'a` nobody else uses the `layout.n_elements` elements at `data`, which is aligned for the dtype and
    /// holds some value.
    pub(crate) unsafe fn from_raw(layout: &'a TensorLayout, data: *mut u8, holds_input: bool, number: usize) -> Self {
        Self { layout, data, holds_input, number }
    }

    /// The length of each axis; empty for a scalar.
    pub fn shape(&self) -> &'a [usize] {
        &self.layout.tensor_type.shape
    }

    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.layout.tensor_type.dtype
    }

    /// The number of elements.
    pub fn n_elements(&self) -> usize {
        self.layout.n_elements
    }

    /// Whether this output took over the buffer of the input that [`reuses`](crate::CpuOperation::reuses) names. Then it
    /// holds that input's contents, and the input [`is_moved`](crate::Tensor::is_moved).
    pub fn holds_input(&self) -> bool {
        self.holds_input
    }

    /// All elements in row-major order.
    ///
    /// # Errors
    /// Another element type.
    pub fn as_mut_slice<T: Element>(&mut self) -> Result<&mut [T], OperationError> {
        if self.dtype() != T::DTYPE {
            return Err(
                format!("output {} holds {:?}, and {:?} was asked for", self.number, self.dtype(), T::DTYPE).into()
            );
        }
        // SAFETY: `from_raw`'s caller vouches for the memory, the type was checked, and the borrow of `self` is the
        // only one. Every pattern of bits is a `T`.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.data.cast::<T>(), self.layout.n_elements) })
    }

    /// The first element, for code that minds length and dtype itself.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.data
    }

    /// The size of all elements together.
    pub(crate) fn n_bytes(&self) -> usize {
        self.layout.n_elements * self.layout.element_size
    }

    /// Sets all bits: NaN in the float types.
    pub(crate) fn poison(&mut self) {
        // SAFETY: `from_raw`'s caller vouches for the memory.
        unsafe { self.data.write_bytes(0xff, self.layout.n_elements * self.layout.element_size) };
    }
}
