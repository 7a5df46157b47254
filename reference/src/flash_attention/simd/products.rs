//! Matrix products whose sums stay in registers.

use super::Simd;

/// A matrix in memory: row `i` begins at `data[i * stride]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub data: &'a [f32],
    pub stride: usize,
}

/// As [`Matrix`], to be written.
pub struct MatrixMut<'a> {
    pub data: &'a mut [f32],
    pub stride: usize,
}

/// A product of `[rows, depth]` and `[depth, columns]`.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub rows: usize,
    pub depth: usize,
    pub columns: usize,
}

/// Rows of a block of sums. With two vectors a row, 12 of AVX2's 16 registers hold sums, and each number that is loaded
/// is used 2 or 6 times.
const BLOCK_ROWS: usize = 6;

/// `out = left · right`. The columns are whole vectors.
#[inline(always)]
pub fn product<S: Simd>(simd: S, left: Matrix<'_>, right: Matrix<'_>, out: MatrixMut<'_>, size: Size) {
    product_in_blocks::<S, false>(simd, left, right, out, size);
}

/// `out = out + left · right`. The columns are whole vectors.
#[inline(always)]
pub fn add_product<S: Simd>(simd: S, left: Matrix<'_>, right: Matrix<'_>, out: MatrixMut<'_>, size: Size) {
    product_in_blocks::<S, true>(simd, left, right, out, size);
}

#[inline(always)]
fn product_in_blocks<S: Simd, const ADD: bool>(
    simd: S,
    left: Matrix<'_>,
    right: Matrix<'_>,
    out: MatrixMut<'_>,
    size: Size,
) {
    let Size { rows, depth, columns } = size;
    assert!(columns.is_multiple_of(S::LANES), "{columns} columns are not whole vectors of {}", S::LANES);
    assert_inside(left.data, left.stride, rows, depth);
    assert_inside(right.data, right.stride, depth, columns);
    assert_inside(out.data, out.stride, rows, columns);
    let mut column = 0;
    while column < columns {
        let two_vectors = columns - column >= 2 * S::LANES;
        // These columns of `right` stay in the first level of cache while all rows pass by.
        for row in (0..rows).step_by(BLOCK_ROWS) {
            let block = Block { simd, left, right, row, column, depth };
            // SAFETY: the assertions above, and the block lies within `size`.
            unsafe {
                match (rows - row, two_vectors) {
                    (1, true) => block.run::<1, 2, ADD>(&mut *out.data, out.stride),
                    (2, true) => block.run::<2, 2, ADD>(&mut *out.data, out.stride),
                    (3, true) => block.run::<3, 2, ADD>(&mut *out.data, out.stride),
                    (4, true) => block.run::<4, 2, ADD>(&mut *out.data, out.stride),
                    (5, true) => block.run::<5, 2, ADD>(&mut *out.data, out.stride),
                    (_, true) => block.run::<6, 2, ADD>(&mut *out.data, out.stride),
                    (1, false) => block.run::<1, 1, ADD>(&mut *out.data, out.stride),
                    (2, false) => block.run::<2, 1, ADD>(&mut *out.data, out.stride),
                    (3, false) => block.run::<3, 1, ADD>(&mut *out.data, out.stride),
                    (4, false) => block.run::<4, 1, ADD>(&mut *out.data, out.stride),
                    (5, false) => block.run::<5, 1, ADD>(&mut *out.data, out.stride),
                    (_, false) => block.run::<6, 1, ADD>(&mut *out.data, out.stride),
                }
            }
        }
        column += if two_vectors { 2 * S::LANES } else { S::LANES };
    }
}

/// Where a block of sums lies in the product.
struct Block<'a, S> {
    simd: S,
    left: Matrix<'a>,
    right: Matrix<'a>,
    row: usize,
    column: usize,
    depth: usize,
}

impl<S: Simd> Block<'_, S> {
    /// `ROWS` rows of `VECTORS` vectors.
    ///
    /// # Safety
    /// The block lies within the three matrices.
    #[inline(always)]
    unsafe fn run<const ROWS: usize, const VECTORS: usize, const ADD: bool>(self, out: &mut [f32], out_stride: usize) {
        let Self { simd, left, right, row, column, depth } = self;
        // SAFETY (all below): the caller's.
        unsafe {
            let left: [*const f32; ROWS] = std::array::from_fn(|i| left.data.as_ptr().add((row + i) * left.stride));
            let out: [*mut f32; ROWS] = std::array::from_fn(|i| out.as_mut_ptr().add((row + i) * out_stride + column));
            let mut right_row = right.data.as_ptr().add(column);
            let mut sums = [[simd.splat(0.0); VECTORS]; ROWS];
            if ADD {
                for (sums, out) in sums.iter_mut().zip(&out) {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        *sum = simd.load_at(out.add(j * S::LANES));
                    }
                }
            }
            for k in 0..depth {
                let vectors: [S::Vector; VECTORS] = std::array::from_fn(|j| simd.load_at(right_row.add(j * S::LANES)));
                for (sums, left) in sums.iter_mut().zip(&left) {
                    let number = simd.splat(*left.add(k));
                    for (sum, vector) in sums.iter_mut().zip(&vectors) {
                        *sum = simd.mul_add(number, *vector, *sum);
                    }
                }
                right_row = right_row.wrapping_add(right.stride);
            }
            for (sums, out) in sums.iter().zip(&out) {
                for (j, sum) in sums.iter().enumerate() {
                    simd.store_at(*sum, out.add(j * S::LANES));
                }
            }
        }
    }
}

/// `out = left · rightᵀ`: `right` is `[columns, depth]`, and the depth is whole vectors.
///
/// Each sum is a vector until the end, when its lanes are added: more work than in [`product`], but no columns needed.
#[inline(always)]
pub fn dot_products<S: Simd>(simd: S, left: Matrix<'_>, right: Matrix<'_>, out: MatrixMut<'_>, size: Size) {
    let Size { rows, depth, columns } = size;
    assert!(depth.is_multiple_of(S::LANES), "{depth} numbers are not whole vectors of {}", S::LANES);
    assert_inside(left.data, left.stride, rows, depth);
    assert_inside(right.data, right.stride, columns, depth);
    assert_inside(out.data, out.stride, rows, columns);
    for column in (0..columns).step_by(4) {
        for row in (0..rows).step_by(3) {
            let block = Block { simd, left, right, row, column, depth };
            // SAFETY: the assertions above, and the block lies within `size`.
            unsafe {
                match (rows - row, columns - column) {
                    (1, 1) => block.dots::<1, 1>(&mut *out.data, out.stride),
                    (1, 2) => block.dots::<1, 2>(&mut *out.data, out.stride),
                    (1, 3) => block.dots::<1, 3>(&mut *out.data, out.stride),
                    (1, _) => block.dots::<1, 4>(&mut *out.data, out.stride),
                    (2, 1) => block.dots::<2, 1>(&mut *out.data, out.stride),
                    (2, 2) => block.dots::<2, 2>(&mut *out.data, out.stride),
                    (2, 3) => block.dots::<2, 3>(&mut *out.data, out.stride),
                    (2, _) => block.dots::<2, 4>(&mut *out.data, out.stride),
                    (_, 1) => block.dots::<3, 1>(&mut *out.data, out.stride),
                    (_, 2) => block.dots::<3, 2>(&mut *out.data, out.stride),
                    (_, 3) => block.dots::<3, 3>(&mut *out.data, out.stride),
                    (_, _) => block.dots::<3, 4>(&mut *out.data, out.stride),
                }
            }
        }
    }
}

impl<S: Simd> Block<'_, S> {
    /// `ROWS` rows by `COLUMNS` columns of dot products.
    ///
    /// # Safety
    /// The block lies within the three matrices, of which `right` is transposed.
    #[inline(always)]
    unsafe fn dots<const ROWS: usize, const COLUMNS: usize>(self, out: &mut [f32], out_stride: usize) {
        let Self { simd, left, right, row, column, depth } = self;
        // SAFETY (all below): the caller's.
        unsafe {
            let left: [*const f32; ROWS] = std::array::from_fn(|i| left.data.as_ptr().add((row + i) * left.stride));
            let right: [*const f32; COLUMNS] =
                std::array::from_fn(|j| right.data.as_ptr().add((column + j) * right.stride));
            let mut sums = [[simd.splat(0.0); ROWS]; COLUMNS];
            for k in (0..depth).step_by(S::LANES) {
                let vectors: [S::Vector; ROWS] = std::array::from_fn(|i| simd.load_at(left[i].add(k)));
                for (sums, right) in sums.iter_mut().zip(&right) {
                    let vector = simd.load_at(right.add(k));
                    for (sum, left) in sums.iter_mut().zip(&vectors) {
                        *sum = simd.mul_add(*left, vector, *sum);
                    }
                }
            }
            for (j, sums) in sums.iter().enumerate() {
                for (i, sum) in sums.iter().enumerate() {
                    *out.as_mut_ptr().add((row + i) * out_stride + column + j) = simd.sum_of_lanes(*sum);
                }
            }
        }
    }
}

/// Panics unless a matrix with this stride lies within its memory.
#[inline(always)]
fn assert_inside(data: &[f32], stride: usize, rows: usize, columns: usize) {
    let end = if rows == 0 || columns == 0 { 0 } else { (rows - 1) * stride + columns };
    assert!(end <= data.len(), "[{rows}, {columns}] with stride {stride} ends at {end} of {}", data.len());
}
