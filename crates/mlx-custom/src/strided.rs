use std::marker::PhantomData;

use crate::{Element, OperationError};

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
    /// A view of numbers of one's own, whose first element is `data[0]`: with it a kernel can be tested without MLX.
    ///
    /// # Errors
    /// Lengths of `shape` and `strides` that differ, or an element outside `data`.
    pub fn new(data: &'a [T], shape: &'a [usize], strides: &'a [isize]) -> Result<Self, OperationError> {
        if shape.len() != strides.len() {
            return Err(format!("shape {shape:?} and strides {strides:?} have different numbers of axes").into());
        }
        if !shape.contains(&0) {
            let reach = |sign: i128| -> i128 {
                let steps = shape.iter().zip(strides).map(|(&len, &stride)| (len as i128 - 1) * stride as i128);
                steps.filter(|step| step * sign > 0).sum()
            };
            if reach(-1) < 0 || reach(1) >= data.len() as i128 {
                let n = data.len();
                return Err(format!("shape {shape:?} with strides {strides:?} reaches outside {n} elements").into());
            }
        }
        // SAFETY: the smallest and the largest offset were checked, and `data` is borrowed for `'a`.
        Ok(unsafe { Self::from_raw(data.as_ptr(), shape, strides) })
    }

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
    /// If the index lies outside the shape, or has another number of axes. In an operation's `run` the panic becomes
    /// the error of `eval`.
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

    /// All elements along the last axis, at an index into the axes before it; `None` unless
    /// [`has_rows`](Self::has_rows).
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

    /// All elements below an index into the first axes, in row-major order: with `[b, h]` into `[B, H, S, D]` the rows
    /// of one head.
    /// `None` unless they lie one after another.
    ///
    /// # Panics
    /// If the index lies outside the shape, or has more axes than it.
    #[track_caller]
    pub fn slice(&self, index: &[usize]) -> Option<&'a [T]> {
        assert!(index.len() <= self.shape.len(), "index {index:?} into a tensor of shape {:?}", self.shape);
        let (shape, strides) = (&self.shape[index.len()..], &self.strides[index.len()..]);
        let n_elements: usize = shape.iter().product();
        if n_elements == 0 {
            return Some(&[]);
        }
        let mut row_major = 1;
        for (&len, &stride) in shape.iter().zip(strides).rev() {
            if len > 1 && stride != row_major {
                return None;
            }
            row_major *= len as isize;
        }
        let offset = self.offset(index);
        // SAFETY: the first element is inside the tensor (`offset` checked the index, and there are elements below it),
        // and the `n_elements` elements from there on are the tensor's too, since they lie in row-major order.
        Some(unsafe { std::slice::from_raw_parts(self.data.offset(offset), n_elements) })
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
    fn slices_below_an_index() {
        let numbers: Vec<f32> = (0..24).map(|i| i as f32).collect();
        // Two heads of up to four rows of three; a cache that holds two rows.
        let cache = view(&numbers, 0, &[2, 2, 3], &[12, 3, 1]);
        assert_eq!(cache.slice(&[1]).unwrap(), &numbers[12..18]);
        assert_eq!(cache.slice(&[1, 1]).unwrap(), &numbers[15..18]);
        assert_eq!(cache.slice(&[1, 1, 2]).unwrap(), [17.0]);
        assert!(cache.slice(&[]).is_none(), "there is room between the heads");
        let heads_inside = view(&numbers, 0, &[2, 4, 3], &[3, 6, 1]);
        assert!(heads_inside.slice(&[1]).is_none(), "another head lies between the rows");
        assert_eq!(heads_inside.slice(&[1, 3]).unwrap(), &numbers[21..24]);
        assert!(view(&numbers, 0, &[2, 3], &[3, 0]).slice(&[0]).is_none());
        assert_eq!(view(&numbers, 0, &[2, 0, 3], &[3, 3, 1]).slice(&[1]).unwrap(), [0.0; 0]);
    }

    #[test]
    fn views_of_own_numbers_stay_inside_them() {
        let numbers = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(Strided::new(&numbers, &[3, 2], &[1, 3]).unwrap().at(&[2, 1]), 5.0);
        assert!(Strided::new(&numbers, &[3, 3], &[1, 3]).is_err());
        assert!(Strided::new(&numbers, &[2], &[-1]).is_err());
        assert!(Strided::new(&numbers, &[2, 3], &[3]).is_err());
        assert!(Strided::new(&numbers, &[0, 9], &[9, 1]).is_ok());
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
