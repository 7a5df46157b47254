use std::marker::PhantomData;

use crate::Element;

/// An input as it lies in memory, read by index: a transposed, broadcast, reversed or sliced view.
///
/// A step along an axis passes over that axis's stride. Where the last axis has stride 1, which is so for a tensor
/// `[B, L, H, D]` seen as `[B, H, L, D]`, [`row`](Self::row) gives its rows as slices.
pub struct Strided<'a, T> {
    data: *const T,
    shape: &'a [usize],
    strides: &'a [isize],
    memory: PhantomData<&'a [T]>,
}

impl<T> Clone for Strided<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Strided<'_, T> {}

// SAFETY: a view for reading, like `&[T]`; `Element`s are `Send` and `Sync`.
unsafe impl<T: Element> Send for Strided<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Element> Sync for Strided<'_, T> {}

impl<'a, T: Element> Strided<'a, T> {
    /// # Safety
    /// During `'a` nobody writes to the elements that `shape` and `strides` reach from `data`; all of them are inside
    /// one allocation, and aligned.
    pub(crate) unsafe fn from_raw(data: *const T, shape: &'a [usize], strides: &'a [isize]) -> Self {
        Self { data, shape, strides, memory: PhantomData }
    }

    /// The length of each axis.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// Elements to step over for one step along each axis.
    pub fn strides(&self) -> &'a [isize] {
        self.strides
    }

    /// The element at an index, one number per axis.
    ///
    /// # Panics
    /// If the index lies outside the shape, or has another number of axes. In an operation's `run` the panic becomes the error of `eval`.
    #[track_caller]
    pub fn at(&self, index: &[usize]) -> T {
        assert!(index.len() == self.shape.len(), "index {index:?} into a tensor of shape {:?}", self.shape);
        let offset = self.offset(index);
        // SAFETY: `offset` has checked the index against the shape, so the element is one that `from_raw`'s caller
        // vouches for.
        unsafe { *self.data.offset(offset) }
    }

    /// Whether the last axis has stride 1, so that [`row`](Self::row) is possible. False for a scalar.
    pub fn has_rows(&self) -> bool {
        match (self.strides, self.shape) {
            ([.., stride], [.., len]) => *stride == 1 || *len <= 1,
            _ => false,
        }
    }

    /// All elements along the last axis, at an index into the axes before it; `None` unless [`has_rows`](Self::has_rows).
    ///
    /// # Panics
    /// If the index lies outside the shape, or has not exactly one axis less than it.
    #[track_caller]
    pub fn row(&self, index: &[usize]) -> Option<&'a [T]> {
        if !self.has_rows() {
            return None;
        }
        assert!(index.len() + 1 == self.shape.len(), "row {index:?} of a tensor of shape {:?}", self.shape);
        let len = self.shape[index.len()];
        if len == 0 {
            return Some(&[]);
        }
        let offset = self.offset(index);
        // SAFETY: the row's first element is inside the tensor (`offset` checked the index, and the row is not empty),
        // and the `len` elements from there on are the tensor's too, since the stride is 1 or there is one of them.
        Some(unsafe { std::slice::from_raw_parts(self.data.offset(offset), len) })
    }

    /// The distance in elements from the first element, with the index checked against the shape.
    #[track_caller]
    fn offset(&self, index: &[usize]) -> isize {
        let mut offset = 0;
        for ((&i, &len), &stride) in index.iter().zip(self.shape).zip(self.strides) {
            assert!(i < len, "index {index:?} into a tensor of shape {:?}", self.shape);
            offset += i as isize * stride;
        }
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numbers` seen through a shape and strides, from element `start` on.
    fn view<'a>(numbers: &'a [f32], start: usize, shape: &'a [usize], strides: &'a [isize]) -> Strided<'a, f32> {
        // SAFETY: every test below stays inside `numbers`.
        unsafe { Strided::from_raw(numbers[start..].as_ptr(), shape, strides) }
    }

    #[test]
    fn a_transposed_view() {
        let numbers = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]; // [2, 3]
        let transposed = view(&numbers, 0, &[3, 2], &[1, 3]);
        assert_eq!(transposed.at(&[2, 1]), 5.0);
        assert_eq!(transposed.at(&[1, 0]), 1.0);
        assert!(transposed.row(&[0]).is_none());
    }

    #[test]
    fn a_reversed_and_a_broadcast_view() {
        let numbers = [0.0, 1.0, 2.0, 3.0];
        // SAFETY: the first element is the array's last, and the stride walks back to its first.
        let reversed = unsafe { Strided::from_raw(numbers.as_ptr().add(3), &[4], &[-1]) };
        assert_eq!((0..4).map(|i| reversed.at(&[i])).collect::<Vec<_>>(), [3.0, 2.0, 1.0, 0.0]);
        let broadcast = view(&numbers, 1, &[5, 2], &[0, 1]);
        assert_eq!(broadcast.row(&[4]).unwrap(), [1.0, 2.0]);
    }

    #[test]
    fn empty_tensors_and_scalars() {
        assert_eq!(view(&[7.0], 0, &[], &[]).at(&[]), 7.0);
        assert!(!view(&[7.0], 0, &[], &[]).has_rows());
        assert_eq!(view(&[], 0, &[3, 0], &[0, 1]).row(&[2]).unwrap(), [0.0_f32; 0]);
    }

    #[test]
    #[should_panic(expected = "shape [2, 3]")]
    fn an_index_outside_the_shape() {
        view(&[0.0; 6], 0, &[2, 3], &[3, 1]).at(&[0, 3]);
    }

    #[test]
    #[should_panic(expected = "shape [2, 3]")]
    fn an_index_with_too_few_axes() {
        view(&[0.0; 6], 0, &[2, 3], &[3, 1]).at(&[0]);
    }
}
