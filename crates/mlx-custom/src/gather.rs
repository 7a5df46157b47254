//! Copying a strided tensor into row-major order.

/// Memory for elements of up to four bytes, aligned for each of them.
pub(crate) struct Gathered(Vec<u32>);

impl Gathered {
    pub fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr().cast()
    }
}

/// Copies a tensor of elements of `size` bytes (1, 2 or 4) into row-major order. Strides are in elements.
///
/// # Safety
/// The elements that `shape` and `strides` reach from `data` can be read. They need not be aligned.
pub(crate) unsafe fn gather(data: *const u8, shape: &[usize], strides: &[isize], size: usize) -> Gathered {
    let n_elements: usize = shape.iter().product();
    let mut copy = Gathered(vec![0; (n_elements * size).div_ceil(4)]);
    if n_elements > 0 {
        let destination: *mut u8 = copy.0.as_mut_ptr().cast();
        // SAFETY: `copy` has room for all elements, and the caller vouches for `data`.
        match size {
            1 => unsafe { gather_sized::<u8>(data.cast(), shape, strides, destination.cast()) },
            2 => unsafe { gather_sized::<u16>(data.cast(), shape, strides, destination.cast()) },
            _ => unsafe { gather_sized::<u32>(data.cast(), shape, strides, destination.cast()) },
        }
    }
    copy
}

/// # Safety
/// As [`gather`], with elements of type `T`, none of the axes empty, and room for all of them at `destination`.
unsafe fn gather_sized<T: Copy>(data: *const T, shape: &[usize], strides: &[isize], mut destination: *mut T) {
    let Some((&row_len, outer_shape)) = shape.split_last() else {
        // SAFETY: a scalar is one element.
        return unsafe { destination.write(data.read_unaligned()) };
    };
    let row_stride = strides[outer_shape.len()];
    let mut index = vec![0; outer_shape.len()];
    let mut row_start = 0_isize;
    loop {
        // SAFETY: the index is inside the shape, so source and destination are elements of the two tensors.
        unsafe {
            let row = data.offset(row_start);
            if row_stride == 1 {
                // In bytes, because the source need not be aligned.
                let row_bytes = row_len * size_of::<T>();
                destination.cast::<u8>().copy_from_nonoverlapping(row.cast::<u8>(), row_bytes);
            } else {
                for i in 0..row_len {
                    destination.add(i).write(row.offset(i as isize * row_stride).read_unaligned());
                }
            }
            destination = destination.add(row_len);
        }
        // The next row: count up, last axis first.
        let mut axis = outer_shape.len();
        loop {
            let Some(next) = axis.checked_sub(1) else { return };
            axis = next;
            index[axis] += 1;
            row_start += strides[axis];
            if index[axis] < outer_shape[axis] {
                break;
            }
            row_start -= outer_shape[axis] as isize * strides[axis];
            index[axis] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered<T: Copy + PartialEq + std::fmt::Debug>(
        source: &[T],
        start: usize,
        shape: &[usize],
        strides: &[isize],
    ) -> Vec<T> {
        let n_elements = shape.iter().product();
        // SAFETY: the tests' views lie inside `source`.
        unsafe {
            let copy = gather(source.as_ptr().add(start).cast(), shape, strides, size_of::<T>());
            std::slice::from_raw_parts(copy.as_ptr().cast::<T>(), n_elements).to_vec()
        }
    }

    #[test]
    fn transposed() {
        assert_eq!(gathered(&[0_u32, 1, 2, 3, 4, 5], 0, &[3, 2], &[1, 3]), [0, 3, 1, 4, 2, 5]);
        let numbers: Vec<u16> = (0..24).collect(); // [2, 3, 4] -> [3, 2, 4]
        let expected: Vec<u16> = [0, 12, 4, 16, 8, 20].iter().flat_map(|&row| row..row + 4).collect();
        assert_eq!(gathered(&numbers, 0, &[3, 2, 4], &[4, 12, 1]), expected);
    }

    #[test]
    fn reversed_broadcast_and_sliced() {
        assert_eq!(gathered(&[1_u8, 2, 3], 2, &[3], &[-1]), [3, 2, 1]);
        assert_eq!(gathered(&[7_u8, 8], 0, &[2, 3], &[1, 0]), [7, 7, 7, 8, 8, 8]);
        assert_eq!(gathered(&[0_u32, 1, 2, 3, 4, 5, 6, 7], 1, &[2, 2], &[4, 2]), [1, 3, 5, 7]);
    }

    #[test]
    fn scalars_and_empty_tensors() {
        assert_eq!(gathered(&[5_u32], 0, &[], &[]), [5]);
        assert_eq!(gathered(&[5_u32], 0, &[2, 0, 3], &[0, 3, 1]), [0_u32; 0]);
    }

    #[test]
    fn elements_that_are_not_aligned() {
        let bytes: Vec<u8> = (0..16).collect();
        for stride in [1, 2] {
            // SAFETY: three elements of two bytes, from byte 1 on, fit into 16 bytes.
            let copy = unsafe { gather(bytes.as_ptr().add(1), &[3], &[stride], 2) };
            // SAFETY: the copy holds three elements of two bytes.
            let copied = unsafe { std::slice::from_raw_parts(copy.as_ptr().cast::<u16>(), 3) };
            let expected = [0, 1, 2].map(|i| {
                let at = 1 + 2 * stride as usize * i;
                u16::from_ne_bytes([bytes[at], bytes[at + 1]])
            });
            assert_eq!(copied, expected);
        }
    }
}
