//! Loops that are spread over threads, without the cost of starting any.

mod state;
mod team;
mod wait;

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::thread;

use team::Team;

/// The environment variable with the number of threads.
const THREADS_VARIABLE: &str = "TINY_LLM_THREADS";

static TEAM: OnceLock<Team> = OnceLock::new();

fn team() -> &'static Team {
    TEAM.get_or_init(|| Team::new(default_threads()))
}

/// Calls `body(0)`, `body(1)`, … `body(n_chunks - 1)`, each once, spread over [`num_threads`] threads, and returns
/// when all have ended. The calling thread is one of them.
///
/// Chunks are handed out one at a time, in order: with a few chunks per thread, a thread that is slow or interrupted
/// holds up nobody. A chunk should take a few microseconds at least; handing it out costs one atomic addition.
///
/// The threads are started once. Between loops they watch for the next one for about a tenth of a millisecond and
/// then sleep, so that one loop after another starts within a microsecond, and an idle program uses no processor.
///
/// On two cores, 8 chunks of 1.3 µs took 10.5 µs on one thread, 6.5 µs here and 17 µs with rayon, one loop after another; and
/// 11, 31 and 98 µs after a pause of 2 ms (`examples/fork_join.rs`).
///
/// Called from inside a `body`, or while another thread's loop has the team, it runs all chunks on the calling thread.
///
/// # Panics
/// If a `body` panics, chunks that have not begun are left out, and when all threads have stopped, the (first) panic goes on in the
/// caller.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// let sum = AtomicU64::new(0);
/// mlx_custom::parallel_for(100, |chunk| {
///     sum.fetch_add(chunk as u64, Ordering::Relaxed);
/// });
/// assert_eq!(sum.into_inner(), 4950);
/// ```
pub fn parallel_for(n_chunks: usize, body: impl Fn(usize) + Sync) {
    if n_chunks <= 1 {
        (0..n_chunks).for_each(body);
        return;
    }
    team().run(n_chunks, &body);
}

/// The number of threads that [`parallel_for`] uses, the calling one among them: what [`set_num_threads`] set, else
/// the environment variable `TINY_LLM_THREADS`, else as many as there are processors for this program.
pub fn num_threads() -> usize {
    team().n_threads()
}

/// Sets the number of threads for later calls of [`parallel_for`] in the whole program; 0 counts as 1.
pub fn set_num_threads(n_threads: usize) {
    team().set_n_threads(n_threads);
}

fn default_threads() -> usize {
    let available = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let Some(text) = std::env::var_os(THREADS_VARIABLE).filter(|text| !text.is_empty()) else { return available };
    text.to_str().and_then(parse_threads).unwrap_or_else(|| {
        // Unlike `eprintln!`, no panic where standard error is full.
        let _ = writeln!(
            io::stderr(),
            "note: {THREADS_VARIABLE} is {text:?} and not a number above 0; using {available} threads"
        );
        available
    })
}

fn parse_threads(text: &str) -> Option<usize> {
    text.trim().parse::<NonZeroUsize>().ok().map(NonZeroUsize::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_holds_a_number_above_zero() {
        assert_eq!(parse_threads("2"), Some(2));
        assert_eq!(parse_threads(" 16\n"), Some(16));
        for text in ["0", "-1", "", "two", "1.5"] {
            assert_eq!(parse_threads(text), None, "{text:?}");
        }
    }

    #[test]
    fn no_chunks_and_one_chunk() {
        parallel_for(0, |_| panic!("there is no chunk"));
        let here = thread::current().id();
        parallel_for(1, |chunk| assert_eq!((chunk, thread::current().id()), (0, here)));
    }
}
