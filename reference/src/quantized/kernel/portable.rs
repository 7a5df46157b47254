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
    let (planes, chunk, mask) = (x.planes(), x.chunk(), (1u16 << x.bits) - 1);
    dots.fill(0);
    let chunks = matrix.row_words(row).chunks(LANES / 2).zip(x.row(token).chunks_exact(chunk));
    for (chunk_idx, (words, integers)) in chunks.enumerate() {
        let mut lanes = [0u16; LANES];
        for (pair, word) in lanes.chunks_exact_mut(2).zip(words) {
            pair.copy_from_slice(&[*word as u16, (word >> 16) as u16]);
        }
        let mut sums = [0i32; LANES];
        for (i, plane) in integers.chunks_exact(LANES).enumerate().take(planes) {
            for j in 0..LANES {
                let weight = (lanes[j] >> (x.bits * i)) & mask;
                sums[j] += i32::from(weight) * i32::from(plane[j]);
            }
        }
        // A group of 32 weights of 4 bits is half a chunk; larger groups are whole chunks.
        let lanes_per_group = LANES.min(x.group_size / planes);
        for (part, sums) in sums.chunks_exact(lanes_per_group).enumerate() {
            let group = (chunk_idx * chunk + part * lanes_per_group * planes) / x.group_size;
            // The last chunk may end in the middle: what is after the row's end is no group.
            if let Some(dot) = dots.get_mut(group) {
                *dot += sums.iter().sum::<i32>();
            }
        }
    }
    // [end]
}

/// `Σ_g w_scale * x_scale * dots[g] + w_bias * x_sum`: `Σ (scale q + bias) x`, taken apart.
fn combine_groups(matrix: &MatrixView<'_>, x: &Activations, token: usize, row: usize, dots: &[i32]) -> f32 {
    // [task 2.2b.2] Portable: combine groups
    let (scales, sums) = (x.row_scales(token), x.row_sums(token));
    let mut total = 0.0;
    for (g, at) in matrix.row_groups(row).enumerate() {
        total += matrix.scales.get(at) * scales[g] * dots[g] as f32 + matrix.biases.get(at) * sums[g];
    }
    total
    // [end]
}
