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
    todo!("week 2 day 4 task 4: over_queries - see book/src/week2/day4.md")
    // [end]
}

/// Splits the keys, too, and merges what the parts gave. For decode: there are fewer tiles than threads.
pub fn over_queries_and_keys<T: OutputElement>(attention: &Attention<'_>, output: &mut [T]) {
    // [task 2.4.5] over_queries_and_keys
    todo!("week 2 day 4 task 5: over_queries_and_keys - see book/src/week2/day4.md")
    // [end]
}

// [task 2.4.5 helpers] the keys of a split
// [end]
