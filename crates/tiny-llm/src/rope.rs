//! Rotary position embedding (Su et al., *RoFormer: Enhanced Transformer with Rotary Position Embedding*, 2021).

use mlx_rs::ops::indexing::{Ellipsis, TryIndexOp};
use mlx_rs::ops::{concatenate, stack};
use mlx_rs::{Array, Dtype};

use crate::{Error, Result};

/// The position of the first token of each row of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offset<'a> {
    /// All rows start at the same position.
    Same(i32),
    /// Row `b` starts at the `b`-th position.
    PerRow(&'a [i32]),
}

/// Rotates queries and keys by angles proportional to their positions.
///
/// The tables of cosines and sines are made once per model and shared by its layers.
#[derive(Debug, Clone)]
pub struct RotaryEmbedding {
    dims: i32,
    max_positions: i32,
    traditional: bool,
    /// `[max_positions, dims / 2]`, f32
    cos: Array,
    /// `[max_positions, dims / 2]`, f32
    sin: Array,
}

impl RotaryEmbedding {
    /// Tables for positions `0 .. max_positions`: at position `p`, pair `i` turns by `p * base^(-2i / dims)` radians.
    ///
    /// - `dims`: how many leading components of each head are rotated; even
    /// - `traditional`: `true` pairs neighbours (`2i`, `2i + 1`) as the paper does; `false` pairs the two halves
    ///   (`i`, `i + dims / 2`) as Llama and Qwen2 checkpoints want it
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `dims` is odd or a value is not positive.
    pub fn new(dims: i32, max_positions: i32, base: f32, traditional: bool) -> Result<Self> {
        // [task 1.2.1] RotaryEmbedding::new
        todo!("week 1 day 2 task 1: RotaryEmbedding::new - see book/src/week1/day2.md")
        // [end]
    }

    /// Cosines, `[max_positions, dims / 2]`, f32.
    pub fn cos(&self) -> &Array {
        &self.cos
    }

    /// Sines, `[max_positions, dims / 2]`, f32.
    pub fn sin(&self) -> &Array {
        &self.sin
    }

    /// Whether neighbours are paired, and not the halves of a head.
    pub fn is_traditional(&self) -> bool {
        self.traditional
    }

    /// The number of positions in the tables.
    pub fn max_positions(&self) -> i32 {
        self.max_positions
    }

    /// Rotates the first `dims` components of every head; the rest passes through.
    ///
    /// - `x`: `[B, H, L, D]` with `D >= dims`; token `l` of row `b` is at position `offset(b) + l`
    ///
    /// Computes in f32; returns `x`'s shape and dtype.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when a position is negative or not below `max_positions`, when
    /// [`Offset::PerRow`] has not one entry per row, or when `x` is not `[B, H, L, D]` with `D >= dims`.
    pub fn forward(&self, x: &Array, offset: Offset<'_>) -> Result<Array> {
        // [task 1.2.4] RotaryEmbedding::forward
        todo!("week 1 day 2 task 4: RotaryEmbedding::forward - see book/src/week1/day2.md")
        // [end]
    }

    // [task 1.2.4 helpers] RotaryEmbedding::forward
    // [end]
}

// [task 1.2.4 helpers] operation name
// [end]

/// Rotates the pairs (`i`, `i + dims / 2`) of the last axis.
///
/// - `x`: `[.., L, dims]`
/// - `cos`, `sin`: f32, broadcastable to `[.., L, dims / 2]`
///
/// Computes in f32; returns `x`'s shape and dtype.
///
/// # Errors
/// [`Error::Mlx`] when the shapes do not fit.
pub fn rotate_half_split(x: &Array, cos: &Array, sin: &Array) -> Result<Array> {
    // [task 1.2.2] rotate_half_split
    todo!("week 1 day 2 task 2: rotate_half_split - see book/src/week1/day2.md")
    // [end]
}

/// Rotates the pairs (`2i`, `2i + 1`) of the last axis; otherwise as [`rotate_half_split`].
///
/// # Errors
/// [`Error::Mlx`] when the shapes do not fit.
pub fn rotate_interleaved(x: &Array, cos: &Array, sin: &Array) -> Result<Array> {
    // [task 1.2.3] rotate_interleaved
    todo!("week 1 day 2 task 3: rotate_interleaved - see book/src/week1/day2.md")
    // [end]
}

// [task 1.2.2 helpers] rotation of a pair
// [end]
