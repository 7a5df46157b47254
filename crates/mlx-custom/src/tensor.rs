use mlx_rs::Dtype;

use crate::registered::TensorLayout;
use crate::{Element, OperationError, Strided};

/// An input of a running operation.
pub struct Tensor<'a> {
    layout: &'a TensorLayout,
    strides: &'a [isize],
    /// The first element; dangling if there is none.
    data: *const u8,
    is_contiguous: bool,
    is_moved: bool,
    number: usize,
}

// SAFETY: a `Tensor` is a shared view of memory that nobody writes to while it exists: MLX runs the nodes of a graph in
// the order of their data, and an input whose buffer an output took over gives no access (`is_moved`).
unsafe impl Send for Tensor<'_> {}
// SAFETY: as above; all methods take `&self` and read.
unsafe impl Sync for Tensor<'_> {}

impl<'a> Tensor<'a> {
    /// # Safety
    /// Unless `is_moved`, during `'a` nobody writes to the elements that shape, dtype and `strides` reach from `data`,
    /// all of them are inside one allocation, and `data` is aligned for the dtype. `is_contiguous` only if the strides
    /// are row-major.
    pub(crate) unsafe fn from_raw(
        layout: &'a TensorLayout,
        strides: &'a [isize],
        data: *const u8,
        is_contiguous: bool,
        is_moved: bool,
        number: usize,
    ) -> Self {
        Self { layout, strides, data, is_contiguous, is_moved, number }
    }

    /// The length of each axis; empty for a scalar.
    pub fn shape(&self) -> &'a [usize] {
        &self.layout.tensor_type.shape
    }

    /// Elements to step over for one step along each axis: 0 along a broadcast axis, negative along a reversed one.
    pub fn strides(&self) -> &'a [isize] {
        self.strides
    }

    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.layout.tensor_type.dtype
    }

    /// The number of elements.
    pub fn n_elements(&self) -> usize {
        self.layout.n_elements
    }

    /// Whether the elements lie in row-major order, one after another. Always so for
    /// [`Layout::Contiguous`](crate::Layout::Contiguous).
    pub fn is_contiguous(&self) -> bool {
        self.is_contiguous
    }

    /// Whether an output has taken over the buffer ([`CpuOperation::reuses`](crate::CpuOperation::reuses)). Then the
    /// contents are in that output, and this tensor gives no access to them.
    pub fn is_moved(&self) -> bool {
        self.is_moved
    }

    /// All elements in row-major order.
    ///
    /// # Errors
    /// Another element type, a view with gaps or in another order, or a tensor that [`is_moved`](Self::is_moved).
    pub fn as_slice<T: Element>(&self) -> Result<&'a [T], OperationError> {
        self.check::<T>()?;
        if !self.is_contiguous {
            return Err(format!(
                "input {} has strides {:?} and is not row-major; read it with `strided`, or ask for Layout::Contiguous",
                self.number, self.strides
            )
            .into());
        }
        // SAFETY: `from_raw`'s caller vouches for the memory, and `check` for the type and that it was not moved away.
        // Every pattern of bits is a `T`.
        Ok(unsafe { std::slice::from_raw_parts(self.data.cast::<T>(), self.layout.n_elements) })
    }

    /// Access by index, through the strides.
    ///
    /// # Errors
    /// Another element type, or a tensor that [`is_moved`](Self::is_moved).
    pub fn strided<T: Element>(&self) -> Result<Strided<'a, T>, OperationError> {
        self.check::<T>()?;
        // SAFETY: `from_raw`'s caller vouches for the memory, and `check` for the type and that it was not moved away.
        Ok(unsafe { Strided::from_raw(self.data.cast::<T>(), self.shape(), self.strides) })
    }

    /// The first element, for code that minds shape, strides and dtype itself; it must not be moved away.
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.data
    }

    fn check<T: Element>(&self) -> Result<(), OperationError> {
        if self.is_moved {
            return Err(
                format!("the buffer of input {} was taken over by an output; read it there", self.number).into()
            );
        }
        if self.dtype() != T::DTYPE {
            return Err(
                format!("input {} holds {:?}, and {:?} was asked for", self.number, self.dtype(), T::DTYPE).into()
            );
        }
        Ok(())
    }
}
