//! Who computes which tile: one thread after another, or all of them together.

use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

use mlx_custom::parallel_for;

use super::attention::Attention;
use super::online_softmax::Partial;
use super::output::{OutputElement, TileOutput};
use super::query_tile::QueryTile;

/// All tiles one after another, on the calling thread.
pub fn one_thread<T: OutputElement>(attention: &Attention<'_>, output: &mut [T]) {
    for mut tile in TileOutput::all(attention, output) {
        tile.write(&attention.attend(tile.rows, 0..attention.shape.key_len));
    }
}

/// Every tile on the next thread that is free. For prefill: there are more tiles than threads.
pub fn over_queries<T: OutputElement>(attention: &Attention<'_>, output: &mut [T]) {
    // [task 2.4.4] over_queries
    let tiles: Vec<_> = TileOutput::all(attention, output).into_iter().map(Mutex::new).collect();
    parallel_for(tiles.len(), |chunk| {
        // Under a causal mask the last tiles see most keys. They go first: no thread begins a long one at the end.
        let tile = &tiles[tiles.len() - 1 - chunk];
        let mut tile = tile.lock().unwrap_or_else(PoisonError::into_inner); // each is locked once: nobody waits
        let queries = attention.attend(tile.rows, 0..attention.shape.key_len);
        tile.write(&queries);
    });
    // [end]
}

/// Splits the keys, too, and merges what the parts gave. For decode: there are fewer tiles than threads.
pub fn over_queries_and_keys<T: OutputElement>(attention: &Attention<'_>, output: &mut [T]) {
    // [task 2.4.5] over_queries_and_keys
    let n_splits = attention.tiling.splits;
    let tiles = TileOutput::all(attention, output);
    let parts: Vec<OnceLock<QueryTile>> = (0..tiles.len() * n_splits).map(|_| OnceLock::new()).collect();
    let rows: Vec<_> = tiles.iter().map(|tile| tile.rows).collect();
    parallel_for(parts.len(), |chunk| {
        let keys = split_of_keys(attention, chunk % n_splits);
        parts[chunk].get_or_init(|| attention.attend(rows[chunk / n_splits], keys));
    });
    for (mut tile, parts) in tiles.into_iter().zip(parts.chunks(n_splits)) {
        for row in 0..tile.rows.n_rows() {
            let mut merged = Partial::new(attention.shape.head_dim);
            parts.iter().filter_map(OnceLock::get).for_each(|part| merged.merge(&part.partial(row)));
            tile.write_row(row, merged.output());
        }
    }
    // [end]
}

// [task 2.4.5 helpers] the keys of a split
/// Which keys belong to a split: whole tiles, as evenly as they go.
fn split_of_keys(attention: &Attention<'_>, split: usize) -> Range<usize> {
    let (key_len, tiling) = (attention.shape.key_len, attention.tiling);
    let n_tiles = key_len.div_ceil(tiling.keys);
    let first_key = |split: usize| (n_tiles * split / tiling.splits * tiling.keys).min(key_len);
    first_key(split)..first_key(split + 1)
}
// [end]
