//! Compiles the kernels of a whole graph at the same time.

use std::cell::RefCell;
use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::gpu::cuda::compile::{COMPILER, Job};

/// More threads than this would wait for each other, and no model has many more kernels.
const MAX_THREADS: usize = 16;

thread_local! {
    /// Kernels to be compiled at the end of the [`compile_ahead`] that this thread is in.
    static WAITING: RefCell<Option<Vec<Job>>> = const { RefCell::new(None) };
}

/// Compiles all kernels that `build` adds to MLX's graph and that were never compiled for this GPU, several at a time. `build`
/// should evaluate nothing: MLX would compile them then. `announce` is told how many there are, unless there are none.
///
/// Without this function, kernels are compiled one after another, each when it is first added to a graph. With Metal, and in the
/// emulator, only `build` runs. Where compiled kernels are kept: in the folder `MLX_PTX_CACHE_DIR`, which MLX reads too; without
/// that variable it is `mlx/<version of MLX>/ptx` in the system's folder for temporary files. Each file may be deleted at any time.
pub fn compile_ahead<R>(build: impl FnOnce() -> R, announce: impl FnOnce(usize)) -> R {
    let (result, jobs) = collect(build);
    if let Some(compiler) = COMPILER.as_ref().filter(|_| !jobs.is_empty()) {
        announce(jobs.len());
        let n_threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
        in_parallel(n_threads, jobs, |job| compiler.provide(&job));
    }
    result
}

/// Keeps the job for the end of [`compile_ahead`], or hands it back: then it is to be done now.
pub(super) fn put_off(job: Job) -> Option<Job> {
    WAITING.with_borrow_mut(|waiting| {
        let Some(jobs) = waiting else { return Some(job) };
        if jobs.iter().all(|other| other.name != job.name) {
            jobs.push(job);
        }
        None
    })
}

/// Ends the putting off, also after a panic: what was put off is MLX's then.
struct Waiting;

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.set(None);
    }
}

/// Runs `build`, and returns the jobs that were put off.
fn collect<R>(build: impl FnOnce() -> R) -> (R, Vec<Job>) {
    if WAITING.with_borrow(Option::is_some) {
        // One inside of another: the outer one compiles.
        return (build(), Vec::new());
    }
    WAITING.set(Some(Vec::new()));
    let _waiting = Waiting;
    let result = build();
    (result, WAITING.take().unwrap_or_default())
}

/// Does every job once, on up to `n_threads` threads.
pub(super) fn in_parallel<J: Send>(n_threads: usize, jobs: Vec<J>, work: impl Fn(J) + Sync) {
    let n_threads = n_threads.min(jobs.len());
    let left = Mutex::new(jobs.into_iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || {
        while let Some(job) = next() {
            work(job);
        }
    };
    thread::scope(|scope| {
        for _ in 1..n_threads {
            // Without another thread this one does all of it.
            _ = thread::Builder::new().name("compile kernels".to_owned()).spawn_scoped(scope, worker);
        }
        worker();
    });
}

#[cfg(test)]
mod tests {
    use std::panic::{self, AssertUnwindSafe};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn job(name: &str) -> Job {
        Job { name: name.to_owned(), source: String::new() }
    }

    #[test]
    fn jobs_wait_for_the_end_of_the_outermost() {
        assert!(put_off(job("a")).is_some(), "outside, a job is done at once");
        let (result, jobs) = collect(|| {
            assert!(put_off(job("a")).is_none());
            let (_, inner) = collect(|| put_off(job("b")));
            assert!(inner.is_empty());
            assert!(put_off(job("a")).is_none(), "known already");
            7
        });
        let names: Vec<_> = jobs.iter().map(|job| job.name.as_str()).collect();
        assert_eq!((result, names), (7, vec!["a", "b"]));
        assert!(put_off(job("a")).is_some());
    }

    #[test]
    fn a_panic_ends_the_waiting() {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| collect(|| panic::resume_unwind(Box::new(1)))));
        assert!(outcome.is_err());
        assert!(put_off(job("a")).is_some());
    }

    #[test]
    fn every_job_is_done_once() {
        for n_threads in [1, 3, 50] {
            let sum = AtomicUsize::new(0);
            in_parallel(n_threads, (1..=10).collect(), |job| _ = sum.fetch_add(job, Ordering::Relaxed));
            assert_eq!(sum.into_inner(), 55);
        }
        in_parallel(4, Vec::<usize>::new(), |_| unreachable!());
    }

    #[test]
    fn without_new_kernels_nothing_is_announced() {
        assert_eq!(compile_ahead(|| 5, |_| unreachable!()), 5);
    }
}
