//! Several jobs at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::error::Result;

/// A task's tests may load a real model, so memory bounds how many run at a time.
const MAX_WORKERS: usize = 4;

/// Does `work` on every job, as many at a time as there are processors; `finish` sees the results as they come, on
/// this thread. An error of `finish` ends it: no further job begins.
pub fn in_parallel<T: Sync, R: Send>(
    jobs: &[T],
    work: impl Fn(&T) -> R + Sync,
    finish: &mut dyn FnMut(&T, R) -> Result<()>,
) -> Result<()> {
    let n_workers = thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
    let next_job = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..n_workers {
            let (sender, next_job, work) = (sender.clone(), &next_job, &work);
            scope.spawn(move || {
                while let Some(job) = jobs.get(next_job.fetch_add(1, Ordering::Relaxed)) {
                    if sender.send((job, work(job))).is_err() {
                        break; // nobody listens any more
                    }
                }
            });
        }
        drop(sender);
        receiver.into_iter().try_for_each(|(job, result)| finish(job, result))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Error;

    #[test]
    fn every_job_is_done_once_and_an_error_ends_it() {
        let jobs: Vec<usize> = (0..100).collect();
        let mut squares = Vec::new();
        in_parallel(&jobs, |n| n * n, &mut |n, square| {
            squares.push((*n, square));
            Ok(())
        })
        .unwrap();
        squares.sort_unstable();
        assert_eq!(squares, jobs.iter().map(|n| (*n, n * n)).collect::<Vec<_>>());

        let begun = AtomicUsize::new(0);
        let work = |_: &usize| {
            thread::sleep(Duration::from_millis(1));
            begun.fetch_add(1, Ordering::Relaxed)
        };
        assert!(in_parallel(&jobs, work, &mut |_, _| Err(Error::new("enough"))).is_err());
        assert!(begun.into_inner() < jobs.len());
    }
}
