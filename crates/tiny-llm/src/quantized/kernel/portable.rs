//! The algorithm in plain Rust: what runs where there is no kernel for the instruction set, and the kernels' oracle.

use std::ops::Range;

use super::{Kernel, check_arguments};
use crate::quantized::activations::{Activations, LANES};
use crate::quantized::view::MatrixView;

/// Plain Rust, in loops over sixteen lanes that compilers turn into whatever vectors there are.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

impl Kernel for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn multiply(
        &self,
        matrix: &MatrixView<'_>,
        x: &Activations,
        tokens: Range<usize>,
        rows: Range<usize>,
        tile: &mut [f32],
    ) {
        check_arguments(matrix, x, &tokens, &rows, tile);
        let mut dots = vec![0i32; matrix.groups()];
        for (m, token) in tokens.enumerate() {
            for (r, row) in rows.clone().enumerate() {
                integer_dots(matrix, x, token, row, &mut dots);
                tile[m * rows.len() + r] = combine_groups(matrix, x, token, row, &dots);
            }
        }
    }
}

/// `dots[g] = Σ integer(w) * integer(x)` over group `g`.
fn integer_dots(matrix: &MatrixView<'_>, x: &Activations, token: usize, row: usize, dots: &mut [i32]) {
    // [task 2.2b.2] Portable: integer dot products
    todo!("week 2 day 2b task 2: Portable: integer dot products - see book/src/week2/day2b.md")
    // [end]
}

/// `Σ_g w_scale * x_scale * dots[g] + w_bias * x_sum`: `Σ (scale q + bias) x`, taken apart.
fn combine_groups(matrix: &MatrixView<'_>, x: &Activations, token: usize, row: usize, dots: &[i32]) -> f32 {
    // [task 2.2b.2] Portable: combine groups
    todo!("week 2 day 2b task 2: Portable: combine groups - see book/src/week2/day2b.md")
    // [end]
}
