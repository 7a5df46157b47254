//! A multiplication cut into tiles that threads compute independently.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};
use mlx_custom::{Element, num_threads, parallel_for};

use crate::quantized::activations::Activations;
use crate::quantized::kernel::{Kernel, ROW_BLOCK};
use crate::quantized::view::MatrixView;

/// The types that activations have between layers. Inside operations they are f32.
pub trait Float: Element {
    fn to_f32(self) -> f32;
    /// Rounds to the nearest.
    fn from_f32(value: f32) -> Self;
}

macro_rules! float {
    ($($float:ty: $to:expr, $from:expr;)*) => {
        $(impl Float for $float {
            fn to_f32(self) -> f32 {
                ($to)(self)
            }
            fn from_f32(value: f32) -> Self {
                ($from)(value)
            }
        })*
    };
}

float! {
    f32: |value| value, |value| value;
    f16: f16::to_f32, f16::from_f32;
    bf16: bf16::to_f32, bf16::from_f32;
}

/// Tokens in one tile: their sums for one block of rows fit into the L1 cache.
const MAX_TOKENS: usize = 128;

/// Cuts `[tokens, rows]` into tiles and calls `body(tokens, rows, scratch)` for each, spread over the threads.
///
/// `scratch` is a buffer that `body` may resize; it is kept for the next tile.
pub fn for_each_tile(n_tokens: usize, n_rows: usize, body: impl Fn(Range<usize>, Range<usize>, &mut Vec<f32>) + Sync) {
    thread_local! {
        static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    // [task 2.2b.3] for_each_tile
    // More blocks than threads, so that a thread that is interrupted leaves the others its share. For few tokens memory
    // is the limit, which likes long runs; for many, sixteen rows are worth the handing out.
    let (per_thread, smallest, largest) =
        if n_tokens < 4 { (2, 2 * ROW_BLOCK, 256 * ROW_BLOCK) } else { (4, ROW_BLOCK, 4 * ROW_BLOCK) };
    let per_block = n_rows.div_ceil(per_thread * num_threads()).next_multiple_of(ROW_BLOCK).clamp(smallest, largest);
    parallel_for(n_rows.div_ceil(per_block), |block| {
        let rows = block * per_block..n_rows.min((block + 1) * per_block);
        SCRATCH.with_borrow_mut(|scratch| {
            for first in (0..n_tokens).step_by(MAX_TOKENS) {
                body(first..n_tokens.min(first + MAX_TOKENS), rows.clone(), scratch);
            }
        });
    });
    // [end]
}

/// An output `[tokens, width]` into which several threads write, each into its own tiles.
pub struct Output<'a, T> {
    data: *mut T,
    tokens: usize,
    width: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: `part` is the only access, and its callers promise that parts don't overlap.
unsafe impl<T: Send> Sync for Output<'_, T> {}

impl<'a, T> Output<'a, T> {
    /// `data` holds whole rows of `width`.
    pub fn new(data: &'a mut [T], width: usize) -> Self {
        Self {
            data: data.as_mut_ptr(),
            tokens: data.len().checked_div(width).unwrap_or(0),
            width,
            borrowed: PhantomData,
        }
    }

    /// `columns` of row `token`.
    ///
    /// # Safety
    /// Nobody else has a part that overlaps this one. Tiles of one [`for_each_tile`] don't.
    ///
    /// # Panics
    /// When the part is not inside the output.
    #[allow(clippy::mut_from_ref)] // the contract above is what makes the references disjoint
    pub unsafe fn part(&self, token: usize, columns: Range<usize>) -> &mut [T] {
        assert!(token < self.tokens && columns.start <= columns.end && columns.end <= self.width);
        // SAFETY: inside the slice that was lent for 'a; disjoint from other parts by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(token * self.width + columns.start), columns.len()) }
    }
}

/// Rounds `n_tokens` rows to 16-bit integers for `matrix`. `read_row(token, row)` fills `row` (`[I]`) with f32 values.
pub fn quantize_tokens(
    kernel: &dyn Kernel,
    matrix: &MatrixView<'_>,
    n_tokens: usize,
    read_row: impl Fn(usize, &mut [f32]) + Sync,
) -> Activations {
    let mut x = Activations::for_matrix(matrix, n_tokens);
    let (planes, row_len, groups) = (x.planes(), x.chunks * x.chunk(), x.groups);
    let rows = x.integers.chunks_exact_mut(row_len);
    let rows = rows.zip(x.scales.chunks_exact_mut(groups).zip(x.sums.chunks_exact_mut(groups)));
    // Threads take row after row from one list: each row has one owner.
    let remaining = Mutex::new(rows.enumerate());
    parallel_for(n_tokens, |_| {
        let next = remaining.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some((token, (integers, (scales, sums)))) = next else { return };
        let mut row = vec![0.0; matrix.inputs];
        read_row(token, &mut row);
        kernel.quantize_row(&row, matrix.group_size, planes, integers, scales, sums);
    });
    x
}
