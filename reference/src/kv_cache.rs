//! The seam between attention and whatever remembers keys and values.

use mlx_rs::Array;
use mlx_rs::ops::indexing::TryIndexOp;

use crate::{Error, FullKvCache, Offset, Result};

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

    /// [`update_and_fetch`](Self::update_and_fetch) for keys and values side by side, `[B, 2 * H_kv, L, D]`: the heads of
    /// the keys, then those of the values. A cache that keeps them so appends both at once.
    ///
    /// # Errors
    /// As [`update_and_fetch`](Self::update_and_fetch).
    fn update_and_fetch_joined(&mut self, keys_and_values: &Array) -> Result<(Array, Array)> {
        let (keys, values) = split_keys_and_values(keys_and_values)?;
        self.update_and_fetch(&keys, &values)
    }

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

/// The two halves of `[B, 2 * H_kv, L, D]`, as views.
///
/// # Errors
/// [`Error::InvalidArgument`] when it has another number of axes, or an odd number of heads.
pub(crate) fn split_keys_and_values(joined: &Array) -> Result<(Array, Array)> {
    match joined.shape() {
        &[_, heads, _, _] if heads % 2 == 0 => {
            Ok((joined.try_index((.., ..heads / 2))?, joined.try_index((.., heads / 2..))?))
        }
        shape => Err(Error::invalid("KvCache", format!("keys and values of shape {shape:?}, not [B, 2 * H_kv, L, D]"))),
    }
}
