//! The seam between attention and whatever remembers keys and values.

use mlx_rs::Array;

use crate::{FullKvCache, Offset, Result};

/// Remembers the keys and values of one layer.
///
/// Attention knows nothing else about caching: it hands over the new keys and values and attends to what it gets
/// back. Week 1 runs without a cache; day 2.1 writes the first implementation.
///
/// A call that returns an error has changed nothing.
pub trait KvCache {
    /// Appends `keys` and `values`, both `[B, H_kv, L, D]`, and returns everything so far, both `[B, H_kv, S, D]`.
    ///
    /// # Errors
    /// When the shapes do not continue what is stored, or there is no room.
    fn update_and_fetch(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)>;

    /// The position that the next token of each row will have.
    fn offset(&self) -> Offset<'_>;

    /// Forgets the newest `n_tokens` of every row, as if they had never been appended.
    ///
    /// # Errors
    /// When fewer than that are stored.
    fn rewind(&mut self, n_tokens: usize) -> Result<()>;

    /// The cache's own buffers, for an operation that appends to them and attends to them in one. `None` for a cache that
    /// keeps its tokens in another way; then [`update_and_fetch`](Self::update_and_fetch) is the way in.
    fn as_full(&mut self) -> Option<&mut FullKvCache> {
        None
    }

    /// Forgets everything. What is appended next begins a new sequence at position 0, and may have other shapes.
    fn reset(&mut self);
}
