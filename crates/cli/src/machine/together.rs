//! Threads that do the same thing at the same time.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

const PASSES: usize = 7;

/// Runs `work` on `threads` threads together, several times; the seconds of the fastest pass. Each thread first makes what
/// it works on with `prepare`.
///
/// Whatever else the machine does can only slow a pass down, and a limit is asked for.
pub fn fastest_pass<T>(threads: usize, prepare: impl Fn() -> T + Sync, work: impl Fn(&T) + Sync) -> f64 {
    let gate = Barrier::new(threads);
    let of_one_thread = || {
        let prepared = prepare();
        let mut passes = Vec::with_capacity(PASSES);
        for _ in 0..PASSES {
            gate.wait();
            let start = Instant::now();
            work(&prepared);
            passes.push((start, Instant::now()));
        }
        passes
    };
    let of_all: Vec<Vec<(Instant, Instant)>> = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(of_one_thread)).collect();
        handles.into_iter().filter_map(|handle| handle.join().ok()).collect()
    });
    // From the first thread's start to the last one's end: the threads look at the clock, because one that waits for them
    // may get a processor only when they are done.
    let seconds = (0..PASSES).filter_map(|pass| {
        let start = of_all.iter().map(|passes| passes[pass].0).min()?;
        let end = of_all.iter().map(|passes| passes[pass].1).max()?;
        Some((end - start).as_secs_f64())
    });
    seconds.fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_threads_work_in_every_pass_and_the_slowest_counts() {
        let n_calls = AtomicUsize::new(0);
        let next = AtomicUsize::new(0);
        let seconds = fastest_pass(
            3,
            || next.fetch_add(1, Ordering::Relaxed) as u64,
            |number| {
                n_calls.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5 * number));
            },
        );
        assert_eq!(n_calls.into_inner(), 3 * PASSES);
        assert!(seconds >= 0.010, "{seconds}");
    }
}
