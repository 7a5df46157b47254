//! Threads that do the same thing at the same time.

use std::sync::mpsc;
use std::sync::{Barrier, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};

const PASSES: usize = 7;

/// Runs `work` on `threads` threads together, several times; the seconds of the fastest pass. Each thread first makes what
/// it works on with `prepare`.
///
/// Whatever else the machine does can only slow a pass down, and a limit is asked for.
///
/// # Errors
/// When the system does not start all threads, or one of them cannot prepare. The others then end without having worked.
pub fn fastest_pass<T>(
    threads: usize,
    prepare: impl Fn() -> Result<T> + Sync,
    work: impl Fn(&T) + Sync,
) -> Result<f64> {
    // A barrier is made for a number of threads, so none waits at it before all are known to come.
    let (barrier, decision) = (Barrier::new(threads), Decision::default());
    let of_one_thread = |ready: mpsc::Sender<Result<()>>| {
        let prepared = prepare().map_err(|error| ready.send(Err(error)));
        let Ok(prepared) = prepared else { return Vec::new() };
        let _ = ready.send(Ok(()));
        drop(ready);
        if !decision.wait() {
            return Vec::new();
        }
        let mut passes = Vec::with_capacity(PASSES);
        for _ in 0..PASSES {
            barrier.wait();
            let start = Instant::now();
            work(&prepared);
            passes.push((start, Instant::now()));
        }
        passes
    };
    let of_all: Result<Vec<Vec<(Instant, Instant)>>> = thread::scope(|scope| {
        let (ready, all_ready) = mpsc::channel();
        let mut handles = Vec::with_capacity(threads);
        let mut outcome = Ok(());
        for n_started in 0..threads {
            let ready = ready.clone();
            match thread::Builder::new().spawn_scoped(scope, || of_one_thread(ready)) {
                Ok(handle) => handles.push(handle),
                Err(error) => {
                    outcome = too_few(n_started, threads, &error.to_string());
                    break;
                }
            }
        }
        // Ends when every thread has said how it is, or is gone.
        drop(ready);
        for of_one in all_ready {
            outcome = outcome.and(of_one);
        }
        decision.set(outcome.is_ok());
        let passes = handles.into_iter().filter_map(|handle| handle.join().ok()).collect();
        outcome.map(|()| passes)
    });
    let of_all = of_all?;
    // From the first thread's start to the last one's end: the threads look at the clock, because one that waits for them
    // may get a processor only when they are done.
    let seconds = (0..PASSES).filter_map(|pass| {
        let start = of_all.iter().map(|passes| passes[pass].0).min()?;
        let end = of_all.iter().map(|passes| passes[pass].1).max()?;
        Some((end - start).as_secs_f64())
    });
    Ok(seconds.fold(f64::INFINITY, f64::min))
}

fn too_few(n_started: usize, wanted: usize, why: &str) -> Result<()> {
    bail!("the system started only {n_started} of {wanted} threads ({why}); give a smaller --threads")
}

/// Whether to begin, for threads that wait for it.
#[derive(Default)]
struct Decision {
    begins: Mutex<Option<bool>>,
    is_made: Condvar,
}

impl Decision {
    fn set(&self, begins: bool) {
        *self.begins.lock().unwrap_or_else(PoisonError::into_inner) = Some(begins);
        self.is_made.notify_all();
    }

    fn wait(&self) -> bool {
        let mut begins = self.begins.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(begins) = *begins {
                return begins;
            }
            begins = self.is_made.wait(begins).unwrap_or_else(PoisonError::into_inner);
        }
    }
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
            || Ok(next.fetch_add(1, Ordering::Relaxed) as u64),
            |number| {
                n_calls.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5 * number));
            },
        );
        assert_eq!(n_calls.into_inner(), 3 * PASSES);
        assert!(seconds.unwrap() >= 0.010);
    }

    #[test]
    fn a_thread_that_cannot_work_ends_all() {
        let next = AtomicUsize::new(0);
        let n_calls = AtomicUsize::new(0);
        let prepare = || match next.fetch_add(1, Ordering::Relaxed) {
            1 => bail!("no memory"),
            _ => Ok(()),
        };
        let error = fastest_pass(3, prepare, |()| {
            n_calls.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(error.unwrap_err().to_string(), "no memory");
        assert_eq!(n_calls.into_inner(), 0);
    }
}
