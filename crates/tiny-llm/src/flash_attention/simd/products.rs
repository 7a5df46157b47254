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
    // With AVX2's 16 registers: 12 sums as 6 rows of 2 vectors, 2 vectors of `right` and a number of `left`; or, if
    // there are few rows, 9 sums as 3 rows of 3.
    let most_rows = rows.div_ceil(rows.div_ceil(6).max(1)).max(1);
    let most_vectors = if most_rows <= 3 { 3 } else { 2 };
    let mut column = 0;
    while column < columns {
        let vectors = match (columns - column) / S::LANES {
            left if left >= most_vectors => most_vectors,
            left => left.min(2),
        };
        // These columns of `right` stay in the first level of cache while all rows pass by.
        for row in (0..rows).step_by(most_rows) {
            let block = Block { simd, left, right, row, column, depth };
            macro_rules! run {
                ($($n_rows:literal x $n_vectors:literal),*) => {
                    match (most_rows.min(rows - row), vectors) {
                        // SAFETY: the assertions above, and the block lies within `size`.
                        $(($n_rows, $n_vectors) => unsafe {
                            block.run::<$n_rows, $n_vectors, ADD>(&mut *out.data, out.stride)
                        },)*
                        (n_rows, n_vectors) => unreachable!("a block of {n_rows} rows of {n_vectors} vectors"),
                    }
                };
            }
            run!(1 x 1, 2 x 1, 3 x 1, 4 x 1, 5 x 1, 6 x 1, 1 x 2, 2 x 2, 3 x 2, 4 x 2, 5 x 2, 6 x 2, 1 x 3, 2 x 3, 3 x 3);
        }
        column += vectors * S::LANES;
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
/// Meanwhile the rows of `next` with the same numbers are fetched, since whoever multiplies by few rows waits for
/// memory.
#[inline(always)]
pub fn dot_products<S: Simd>(
    simd: S,
    left: Matrix<'_>,
    right: Matrix<'_>,
    out: MatrixMut<'_>,
    size: Size,
    next: Matrix<'_>,
) {
    let Size { rows, depth, columns } = size;
    assert!(depth.is_multiple_of(S::LANES), "{depth} numbers are not whole vectors of {}", S::LANES);
    assert_inside(left.data, left.stride, rows, depth);
    assert_inside(right.data, right.stride, columns, depth);
    assert_inside(out.data, out.stride, rows, columns);
    let most_rows = rows.div_ceil(rows.div_ceil(3).max(1)).max(1);
    for column in (0..columns).step_by(4) {
        let rows_of_next = column * next.stride..(column + 4) * next.stride;
        simd.prefetch(next.data.get(rows_of_next).unwrap_or_default());
        for row in (0..rows).step_by(most_rows) {
            let block = Block { simd, left, right, row, column, depth };
            macro_rules! dots {
                ($($n_rows:literal x $n_columns:literal),*) => {
                    match (most_rows.min(rows - row), 4.min(columns - column)) {
                        // SAFETY: the assertions above, and the block lies within `size`.
                        $(($n_rows, $n_columns) => unsafe {
                            block.dots::<$n_rows, $n_columns>(&mut *out.data, out.stride)
                        },)*
                        (n_rows, n_columns) => unreachable!("a block of {n_rows} rows by {n_columns} columns"),
                    }
                };
            }
            dots!(1 x 1, 1 x 2, 1 x 3, 1 x 4, 2 x 1, 2 x 2, 2 x 3, 2 x 4, 3 x 1, 3 x 2, 3 x 3, 3 x 4);
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
            let mut sums = [[simd.splat(0.0); COLUMNS]; ROWS];
            for k in (0..depth).step_by(S::LANES) {
                let vectors: [S::Vector; ROWS] = std::array::from_fn(|i| simd.load_at(left[i].add(k)));
                for (j, right) in right.iter().enumerate() {
                    let vector = simd.load_at(right.add(k));
                    for (sums, left) in sums.iter_mut().zip(&vectors) {
                        sums[j] = simd.mul_add(*left, vector, sums[j]);
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                let place = out.as_mut_ptr().add((row + i) * out_stride + column);
                place.cast::<[f32; COLUMNS]>().write(simd.sums_of_lanes(*sums));
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
