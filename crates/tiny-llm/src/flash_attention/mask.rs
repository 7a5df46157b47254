//! Which keys a query may see.

use mlx_custom::Strided;

use super::attention::Attention;
use super::operand::{Operand, read};
use super::query_tile::KeyFilter;
use super::tile_rows::TileRows;

/// A mask as the kernel reads it; arrays are broadcast to `[B, H_q, L, S]`.
#[derive(Clone, Copy)]
pub enum Mask<'a> {
    None,
    /// Query `i` sees the keys `j <= i + (S - L)`.
    Causal,
    /// 1 where a query may attend to a key, else 0.
    Allowed(Strided<'a, u8>),
    /// Added to the scaled scores.
    Additive(Operand<'a>),
}

/// The mask for the rows of one tile.
pub struct TileMask<'a> {
    pub attention: &'a Attention<'a>,
    pub rows: TileRows,
}

// [task 2.4.3 helpers] reading a mask
// [end]

impl KeyFilter for TileMask<'_> {
    #[inline(always)]
    fn n_visible(&self, row: usize) -> usize {
        // [task 2.4.3] TileMask::n_visible
        todo!("week 2 day 4 task 3: TileMask::n_visible - see book/src/week2/day4.md")
        // [end]
    }

    #[inline(always)]
    fn apply(&self, row: usize, first_key: usize, scores: &mut [f32]) {
        // [task 2.4.3] TileMask::apply
        todo!("week 2 day 4 task 3: TileMask::apply - see book/src/week2/day4.md")
        // [end]
    }
}
