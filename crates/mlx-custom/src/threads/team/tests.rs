use std::sync::Barrier;
use std::time::Duration;

use super::*;

/// Small enough to be interpreted, where the machine is Miri's.
const ROUNDS: usize = if cfg!(miri) { 20 } else { 20_000 };

fn check_every_chunk_once(team: &Team, n_chunks: usize) {
    let counts: Vec<AtomicUsize> = (0..n_chunks).map(|_| AtomicUsize::new(0)).collect();
    team.run(n_chunks, &|chunk| {
        counts[chunk].fetch_add(1, Ordering::Relaxed);
    });
    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
}

#[test]
fn every_chunk_runs_once() {
    for n_threads in [1, 2, 3, 8] {
        let team = Team::new(n_threads);
        for n_chunks in [0, 1, 2, 3, 7, 100] {
            check_every_chunk_once(&team, n_chunks);
        }
    }
}

#[test]
#[cfg(not(miri))]
fn a_system_without_threads_leaves_the_caller_to_do_it() {
    let team = Team::with_stacks(4, Some(1 << 60));
    for _ in 0..2 {
        check_every_chunk_once(&team, 10);
        assert_eq!(team.n_threads(), 1);
    }
}

#[test]
fn many_short_loops_in_a_row() {
    // More threads than processors: the caller must not depend on workers that get no time.
    let team = Team::new(5);
    for round in 0..ROUNDS {
        let mut numbers = [0_usize; 6];
        let slots: Vec<Mutex<&mut usize>> = numbers.iter_mut().map(Mutex::new).collect();
        team.run(slots.len(), &|chunk| **lock(&slots[chunk]) = chunk + round);
        drop(slots);
        assert_eq!(numbers, std::array::from_fn(|chunk| chunk + round));
    }
}

#[test]
fn what_a_chunk_writes_is_seen_by_the_caller_without_further_ordering() {
    struct Cells(Vec<UnsafeCell<usize>>);
    // SAFETY: each chunk has a cell of its own.
    unsafe impl Sync for Cells {}
    impl Cells {
        fn write(&self, chunk: usize, value: usize) {
            // SAFETY: as above; the caller reads after the loop.
            unsafe { *self.0[chunk].get() = value };
        }
    }
    let team = Team::new(4);
    for round in 0..ROUNDS {
        let cells = Cells((0..8).map(|_| UnsafeCell::new(0)).collect());
        team.run(8, &|chunk| cells.write(chunk, chunk * round));
        let written: Vec<usize> = cells.0.into_iter().map(UnsafeCell::into_inner).collect();
        assert_eq!(written, (0..8).map(|chunk| chunk * round).collect::<Vec<_>>());
    }
}

#[test]
fn loops_after_the_workers_fell_asleep() {
    let team = Team::new(3);
    for _ in 0..if cfg!(miri) { 3 } else { 50 } {
        check_every_chunk_once(&team, 10);
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_caller_sleeps_while_a_worker_is_slow() {
    let team = Team::new(2);
    for _ in 0..3 {
        let both_inside = Barrier::new(2);
        let caller = thread::current().id();
        let slow = AtomicUsize::new(0);
        team.run(2, &|_| {
            both_inside.wait();
            if thread::current().id() != caller {
                thread::sleep(Duration::from_millis(5));
                slow.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(slow.into_inner(), 1);
    }
}

#[test]
fn nested_loops_run_where_they_are() {
    let team = Team::new(3);
    let count = AtomicUsize::new(0);
    team.run(4, &|_| {
        let outer = thread::current().id();
        team.run(5, &|_| {
            assert_eq!(thread::current().id(), outer);
            count.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(count.into_inner(), 20);
}

#[test]
fn callers_on_several_threads_do_not_disturb_each_other() {
    let team = Team::new(3);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..ROUNDS / 20 {
                    check_every_chunk_once(&team, 9);
                }
            });
        }
    });
}

#[test]
fn a_panic_goes_on_in_the_caller_after_all_have_stopped() {
    let team = Team::new(4);
    for _ in 0..ROUNDS.min(50) {
        let inside = AtomicUsize::new(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            team.run(16, &|chunk| {
                inside.fetch_add(1, Ordering::SeqCst);
                if chunk == 3 {
                    inside.fetch_sub(1, Ordering::SeqCst);
                    // Without the hook's message on stderr.
                    resume_unwind(Box::new("chunk 3"));
                }
                thread::yield_now();
                inside.fetch_sub(1, Ordering::SeqCst);
            });
        }));
        assert_eq!(*outcome.unwrap_err().downcast::<&str>().unwrap(), "chunk 3");
        assert_eq!(inside.into_inner(), 0, "somebody was still inside");
        check_every_chunk_once(&team, 16);
    }
}

#[test]
fn the_number_of_threads_can_change_between_loops_and_inside_one() {
    let team = Team::new(1);
    for n_threads in [4, 2, 0, 6, 1, 3] {
        team.set_n_threads(n_threads);
        assert_eq!(team.n_threads(), n_threads.max(1));
        for _ in 0..20 {
            check_every_chunk_once(&team, 30);
        }
    }
    team.run(8, &|chunk| team.set_n_threads(chunk));
    check_every_chunk_once(&team, 30);
}

#[test]
fn no_more_threads_take_part_than_were_asked_for() {
    let team = Team::new(6);
    check_every_chunk_once(&team, 100); // all six are there now
    team.set_n_threads(2);
    for _ in 0..20 {
        let seen = Mutex::new(std::collections::HashSet::new());
        team.run(64, &|_| {
            lock(&seen).insert(thread::current().id());
            thread::yield_now();
        });
        assert!(lock(&seen).len() <= 2);
    }
}
