//! A tile of keys with their values, laid out for the products.

use std::ops::Range;

use super::aligned::{AlignedBuffer, LINE};
use super::operand::Operand;
use super::simd::{Matrix, MatrixMut, Simd, Size, dot_products, product};

/// Neighbouring keys and their values, as f32.
///
/// For many query rows the keys are turned into columns, `[D, keys]`: then one vector holds the same number of several
/// keys, and a product yields the scores of all of them at once. For a few rows (decode) turning them costs more than
/// it brings; the keys stay rows, `[keys, D]`, and are read in place if they can be.
pub struct KeyTile<'a> {
    /// Which of the S keys these are.
    range: Range<usize>,
    head_dim: usize,
    as_columns: bool,
    keys: Rows<'a>,
    values: Rows<'a>,
}

/// A matrix of f32, own or borrowed.
struct Rows<'a> {
    own: AlignedBuffer,
    stride: usize,
    in_place: Option<&'a [f32]>,
}

/// With fewer query rows than this the keys stay rows.
const COLUMNS_FROM_ROWS: usize = 12;

impl<'a> KeyTile<'a> {
    /// A tile for up to `len` keys of `head_dim` numbers, to be used with `n_rows` rows of queries.
    pub fn new(len: usize, head_dim: usize, n_rows: usize) -> Self {
        let as_columns = n_rows >= COLUMNS_FROM_ROWS;
        let mut keys = Rows::new();
        if as_columns {
            // A line more than the keys need: rows at a distance of a power of two would share few sets of the cache.
            keys.stride = len.next_multiple_of(LINE) + LINE;
            keys.own = AlignedBuffer::zeroed(head_dim * keys.stride);
        }
        Self { range: 0..0, head_dim, as_columns, keys, values: Rows::new() }
    }

    /// Which of the S keys it holds.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Fills the tile with the keys `range` of a head.
    #[inline(always)]
    pub fn load<S: Simd>(
        &mut self,
        _: S,
        key: Operand<'a>,
        value: Operand<'a>,
        batch: usize,
        kv_head: usize,
        range: Range<usize>,
    ) {
        if self.as_columns {
            self.load_columns(key, batch, kv_head, range.clone());
        } else {
            self.keys.load::<S>(key, batch, kv_head, range.clone(), self.head_dim);
        }
        self.values.load::<S>(value, batch, kv_head, range.clone(), self.head_dim);
        self.range = range;
    }

    /// Transposes, eight keys at a time.
    #[inline(always)]
    fn load_columns(&mut self, key: Operand<'a>, batch: usize, kv_head: usize, range: Range<usize>) {
        let (head_dim, stride) = (self.head_dim, self.keys.stride);
        let mut buffer = AlignedBuffer::zeroed(8 * head_dim);
        for first in range.clone().step_by(8) {
            let n_keys = 8.min(range.end - first);
            for i in 0..n_keys {
                key.read([batch, kv_head, first + i], 0, &mut buffer[i * head_dim..][..head_dim]);
            }
            // Beyond the last key old numbers are copied along; nobody looks at their scores.
            let keys: [&[f32]; 8] = std::array::from_fn(|i| &buffer[i * head_dim..][..head_dim]);
            let column = first - range.start;
            for d in 0..head_dim {
                let line = &mut self.keys.own[d * stride + column..][..8];
                for (number, key) in line.iter_mut().zip(keys) {
                    *number = key[d];
                }
            }
        }
    }

    /// `queries · keysᵀ` for the first `n_keys` keys. What is in `scores` beyond them is arbitrary.
    #[inline(always)]
    pub fn scores<S: Simd>(&self, simd: S, queries: Matrix<'_>, n_rows: usize, n_keys: usize, scores: MatrixMut<'_>) {
        if self.as_columns {
            let size = Size { rows: n_rows, depth: self.head_dim, columns: n_keys.next_multiple_of(S::LANES) };
            product(simd, queries, self.keys.matrix(), scores, size);
        } else {
            let size = Size { rows: n_rows, depth: self.head_dim.next_multiple_of(S::LANES), columns: n_keys };
            dot_products(simd, queries, self.keys.matrix(), scores, size, self.values.matrix());
        }
    }

    /// The values, `[keys, D]`; with rows padded to whole vectors.
    #[inline(always)]
    pub fn values(&self) -> Matrix<'_> {
        self.values.matrix()
    }
}

/// The distance between rows of D numbers in a buffer.
pub fn stride(head_dim: usize) -> usize {
    head_dim.next_multiple_of(LINE)
}

impl<'a> Rows<'a> {
    /// No rows yet, and no memory for them: it may never be needed.
    fn new() -> Self {
        Self { own: AlignedBuffer::zeroed(0), stride: 0, in_place: None }
    }

    #[inline(always)]
    fn load<S: Simd>(&mut self, x: Operand<'a>, batch: usize, head: usize, range: Range<usize>, head_dim: usize) {
        self.in_place = None;
        // Read in place, rows must be whole vectors: a product would read beyond the last one.
        if head_dim.is_multiple_of(S::LANES) {
            self.in_place = x.rows_in_place(batch, head, range.clone());
        }
        if self.in_place.is_some() {
            self.stride = head_dim;
            return;
        }
        self.stride = stride(head_dim);
        if self.own.len() < range.len() * self.stride {
            self.own = AlignedBuffer::zeroed(range.len() * self.stride);
        }
        for (row, key) in range.enumerate() {
            x.read([batch, head, key], 0, &mut self.own[row * self.stride..][..head_dim]);
        }
    }

    #[inline(always)]
    fn matrix(&self) -> Matrix<'_> {
        Matrix { data: self.in_place.unwrap_or(&self.own), stride: self.stride }
    }
}
