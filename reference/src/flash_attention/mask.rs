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
/// Numbers of a mask's row that are read at a time.
const PART: usize = 64;
// [end]

impl KeyFilter for TileMask<'_> {
    #[inline(always)]
    fn n_visible(&self, row: usize) -> usize {
        // [task 2.4.3] TileMask::n_visible
        let shape = &self.attention.shape;
        match self.attention.mask {
            Mask::Causal => self.rows.position(row) + (shape.key_len - shape.query_len) + 1,
            _ => shape.key_len,
        }
        // [end]
    }

    #[inline(always)]
    fn apply(&self, row: usize, first_key: usize, scores: &mut [f32]) {
        // [task 2.4.3] TileMask::apply
        let index = [self.rows.batch, self.rows.head(row), self.rows.position(row)];
        match &self.attention.mask {
            Mask::None | Mask::Causal => {}
            Mask::Allowed(mask) => {
                let mut allowed = [0; PART];
                for (part, scores) in scores.chunks_mut(PART).enumerate() {
                    read(mask, index, first_key + part * PART, &mut allowed[..scores.len()]);
                    for (score, allowed) in scores.iter_mut().zip(allowed) {
                        *score = if allowed == 0 { f32::NEG_INFINITY } else { *score };
                    }
                }
            }
            Mask::Additive(mask) => {
                let mut added = [0.0; PART];
                for (part, scores) in scores.chunks_mut(PART).enumerate() {
                    mask.read(index, first_key + part * PART, &mut added[..scores.len()]);
                    for (score, added) in scores.iter_mut().zip(added) {
                        *score += added;
                    }
                }
            }
        }
        // [end]
    }
}
