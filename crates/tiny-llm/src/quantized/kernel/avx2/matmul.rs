//! Many tokens: weights are unpacked once into a panel, which all tokens then multiply with. Arithmetic is the limit.

use std::arch::x86_64::*;

use super::Job;
use super::panel::{PANEL_COLUMNS, PANEL_ROWS, Panel};
use super::stored::Stored;
use crate::quantized::activations::{Activations, LANES};

/// Tokens that go through the inner loop together: with two registers of outputs each that is twelve sums, and the
/// sixteen registers are used up by two of weights, one of activations and one of products.
const TOKENS: usize = 6;

/// The sums of one token for the panel's rows.
type Sums = [f32; PANEL_ROWS];

/// - `P`: planes, weights in a 16-bit lane
/// - `HALF`: a group is half a chunk
///
/// # Safety
/// As [`Job::run`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run<S: Stored, const P: usize, const HALF: bool>(
    job: &Job<'_>,
    scales: &[S],
    biases: &[S],
    tile: &mut [f32],
) {
    let (matrix, n_rows) = (job.matrix, job.rows.len());
    let mut panel = Panel::new();
    let mut sums: Vec<Sums> = vec![[0.0; PANEL_ROWS]; job.tokens.len()];
    for first_row in job.rows.clone().step_by(PANEL_ROWS) {
        sums.fill([0.0; PANEL_ROWS]);
        for first_column in (0..matrix.inputs).step_by(PANEL_COLUMNS) {
            let columns = PANEL_COLUMNS.min(matrix.inputs - first_column);
            // SAFETY: this function's contract; columns are whole groups, since `PANEL_COLUMNS` and I are.
            unsafe {
                panel.fill::<S, P>(matrix, scales, biases, first_row, first_column, columns);
                let block = Block { panel: &panel, x: job.x, first_column, columns };
                let mut token = job.tokens.start;
                for sums in sums.chunks_mut(TOKENS) {
                    match sums.len() {
                        6 => block.add::<P, HALF, 6>(token, sums),
                        5 => block.add::<P, HALF, 5>(token, sums),
                        4 => block.add::<P, HALF, 4>(token, sums),
                        3 => block.add::<P, HALF, 3>(token, sums),
                        2 => block.add::<P, HALF, 2>(token, sums),
                        _ => block.add::<P, HALF, 1>(token, sums),
                    }
                    token += sums.len();
                }
            }
        }
        let at = first_row - job.rows.start;
        let n = PANEL_ROWS.min(n_rows - at);
        for (sums, out) in sums.iter().zip(tile.chunks_exact_mut(n_rows)) {
            out[at..at + n].copy_from_slice(&sums[..n]);
        }
    }
}

/// A panel and the columns of the activations that belong to it.
struct Block<'a> {
    panel: &'a Panel,
    x: &'a Activations,
    first_column: usize,
    columns: usize,
}

impl Block<'_> {
    /// Adds the panel's part of `M` tokens' dot products to `sums`.
    ///
    /// # Safety
    /// As [`Job::run`]; tokens `token..token + M` exist.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add<const P: usize, const HALF: bool, const M: usize>(&self, token: usize, sums: &mut [Sums]) {
        // [task 2.2b.5] AVX2: a tile of tokens and rows
        todo!("week 2 day 2b task 5: AVX2: a tile of tokens and rows - see book/src/week2/day2b.md")
        // [end]
    }
}

// [task 2.2b.5 helpers] AVX2: the inner loop
// [end]
