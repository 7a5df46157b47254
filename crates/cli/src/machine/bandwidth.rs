//! How fast memory can be read.

use std::hint::black_box;

use anyhow::{Result, anyhow};

use crate::machine::together::fastest_pass;

/// Several times the largest cache of most machines.
const BUFFER_BYTES: u64 = 512 << 20;

/// Bytes per second that `threads` threads read together, each its own part of a buffer.
///
/// # Errors
/// As [`fastest_pass`], and when there is no memory for the buffer.
pub fn read(threads: usize, memory_bytes: Option<u64>) -> Result<f64> {
    // A small machine should not start swapping for this.
    let bytes = memory_bytes.map_or(BUFFER_BYTES, |memory| BUFFER_BYTES.min(memory / 8));
    let words_per_thread = (bytes / 8) as usize / threads;
    // Written by the thread that will read it, so that it lies in that thread's memory on machines where there is a
    // difference. Not zeros: memory that was never written to is one page of the system's.
    let buffer = || {
        let mut words = Vec::new();
        let reserved = words.try_reserve_exact(words_per_thread);
        reserved.map_err(|_| anyhow!("no memory for the {} MB that are read", bytes >> 20))?;
        words.resize(words_per_thread, 1_u64);
        Ok(words)
    };
    let seconds = fastest_pass(threads, buffer, |words: &Vec<u64>| {
        black_box(sum(black_box(words)));
    })?;
    Ok((threads * words_per_thread * 8) as f64 / seconds)
}

/// Several sums side by side, which the compiler turns into SIMD: one addition per word is less than reading it costs.
fn sum(words: &[u64]) -> u64 {
    let (chunks, rest) = words.as_chunks::<32>();
    let mut sums = [0_u64; 32];
    for chunk in chunks {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().chain(rest).fold(0, |total, word| total.wrapping_add(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        let words: Vec<u64> = (1..=1000).collect();
        assert_eq!(sum(&words), 500_500);
    }

    #[test]
    fn the_rate_is_that_of_a_computer() {
        // A small buffer lies in a cache, which is fast, but no cache reads 100 TB per second.
        let rate = read(2, Some(16 << 20)).unwrap();
        assert!((1e8..1e14).contains(&rate), "{rate}");
    }
}
