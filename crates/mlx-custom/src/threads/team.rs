//! A team of threads that share the chunks of one loop at a time.
//!
//! # Why this is sound
//!
//! The caller lends the workers a body that lives on its stack, so no worker may touch it after `run` has returned.
//!
//! - A worker enters a loop by adding itself to [`State`] while the loop is open, in one atomic step, and leaves by
//!   taking itself away. The caller closes the loop and then waits until nobody is inside. Whoever has not entered by
//!   then cannot; so nobody waits for a thread that sleeps, or that the system gives no time to.
//! - `Shared::job` and `Shared::caller` are written only by the thread that holds `Team::workers`: the job while nobody
//!   is inside, the caller before it announces that it sleeps. Opening is a release and entering an acquire, so a worker sees
//!   the whole job. Leaving is a release and the caller's last look an acquire, so the caller sees all that the
//!   workers wrote, and the next job is written after the last reading of this one. The same pairs hold for
//!   `caller`, which a worker reads between an acquire of the announcement and its own leaving.
//! - A worker that goes to sleep first says so and then looks once more whether a loop is open; the caller first opens
//!   and then looks who sleeps. All four are sequentially consistent, so at least one of the two sees the other, and
//!   no loop is slept through. (If one were, the caller would do all the chunks itself.)

use std::any::Any;
use std::cell::UnsafeCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle, Thread};

use super::state::{MAX_THREADS, State};
use super::wait::watch;

type Body<'a> = dyn Fn(usize) + Sync + 'a;

pub(super) struct Team {
    shared: Arc<Shared>,
    /// Those that were started so far. Held by the thread whose loop the team runs.
    workers: Mutex<Vec<Worker>>,
}

struct Worker {
    handle: JoinHandle<()>,
    sleeps: Arc<AtomicBool>,
}

struct Shared {
    state: Alone<AtomicU64>,
    /// The next chunk to hand out.
    next_chunk: Alone<AtomicUsize>,
    job: UnsafeCell<Job>,
    /// Whom to wake, while `State::caller_sleeps`.
    caller: UnsafeCell<Option<Thread>>,
    /// The first panic of the loop.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    n_threads: AtomicUsize,
    /// For a test: threads with a stack that the system cannot give.
    stack_bytes: Option<usize>,
    stop: AtomicBool,
}

/// Its own cache line (two, as processors fetch them in pairs), so that writing it doesn't slow down who reads the rest.
#[repr(align(128))]
struct Alone<T>(T);

#[derive(Clone, Copy)]
struct Job {
    body: *const Body<'static>,
    n_chunks: usize,
}

// SAFETY: see the module's page for `job` and `caller`; everything else is `Send` and `Sync` by itself. The body is
// `Sync`, so workers may call it.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Team {
    /// A team that starts its threads when they are first needed.
    pub fn new(n_threads: usize) -> Self {
        Self::with_stacks(n_threads, None)
    }

    fn with_stacks(n_threads: usize, stack_bytes: Option<usize>) -> Self {
        let shared = Shared {
            state: Alone(AtomicU64::new(State::IDLE.bits())),
            next_chunk: Alone(AtomicUsize::new(0)),
            job: UnsafeCell::new(Job { body: &|_| {}, n_chunks: 0 }),
            caller: UnsafeCell::new(None),
            panic: Mutex::new(None),
            n_threads: AtomicUsize::new(n_threads.clamp(1, MAX_THREADS)),
            stack_bytes,
            stop: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), workers: Mutex::new(Vec::new()) }
    }

    pub fn n_threads(&self) -> usize {
        self.shared.n_threads.load(Ordering::Relaxed)
    }

    /// Threads that are too many from now on sleep.
    pub fn set_n_threads(&self, n_threads: usize) {
        self.shared.n_threads.store(n_threads.clamp(1, MAX_THREADS), Ordering::Relaxed);
    }

    /// Runs all chunks, on the calling thread and those workers that find the time; see [`crate::parallel_for`].
    pub fn run(&self, n_chunks: usize, body: &Body<'_>) {
        let n_helpers = (self.n_threads() - 1).min(n_chunks.saturating_sub(1));
        let team = if n_helpers > 0 { self.take_workers() } else { None };
        let Some(mut workers) = team else {
            return (0..n_chunks).for_each(body);
        };
        if hire(&mut workers, n_helpers, &self.shared).is_err() {
            // The system gives no more. The team is as large as it could become, and doesn't ask again at every loop.
            self.set_n_threads(workers.len() + 1);
        }

        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. Workers use the body only between entering and leaving this loop, and this
        // function doesn't return before all have left and none can enter.
        let body_for_workers = unsafe { std::mem::transmute::<*const Body<'_>, *const Body<'static>>(body) };
        // SAFETY: this thread holds `workers`, the loop before is closed and nobody is inside.
        unsafe { *shared.job.get() = Job { body: body_for_workers, n_chunks } };
        shared.next_chunk.0.store(0, Ordering::Relaxed);
        let opened = State::from_bits(shared.state.0.load(Ordering::Relaxed)).next_loop();
        shared.state.0.store(opened.bits(), Ordering::SeqCst);
        for worker in workers.iter().take(n_helpers) {
            if worker.sleeps.load(Ordering::SeqCst) {
                worker.handle.thread().unpark();
            }
        }

        shared.work(n_chunks, body);
        shared.state.0.fetch_and(State::CLOSE, Ordering::AcqRel);
        shared.wait_until_all_left();
        let panic = lock(&shared.panic).take();
        drop(workers);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// `None` while another loop runs, be it another thread's or the one that this is called from.
    fn take_workers(&self) -> Option<MutexGuard<'_, Vec<Worker>>> {
        match self.workers.try_lock() {
            Ok(workers) => Some(workers),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// Starts threads until there are `wanted`.
///
/// # Errors
/// If the system gives no more. The loop runs on those that there are.
fn hire(workers: &mut Vec<Worker>, wanted: usize, shared: &Arc<Shared>) -> io::Result<()> {
    while workers.len() < wanted {
        let number = workers.len() + 1; // the caller is number 0
        let (shared, sleeps) = (Arc::clone(shared), Arc::new(AtomicBool::new(false)));
        let sleeps_too = Arc::clone(&sleeps);
        let mut thread = thread::Builder::new().name(format!("mlx-custom-{number}"));
        if let Some(bytes) = shared.stack_bytes {
            thread = thread.stack_size(bytes);
        }
        let handle = thread.spawn(move || shared.serve(number, &sleeps_too))?;
        workers.push(Worker { handle, sleeps });
    }
    Ok(())
}

impl Shared {
    /// A worker's life.
    fn serve(&self, number: usize, sleeps: &AtomicBool) {
        let mut last_loop = 0;
        loop {
            let is_wanted = || self.stop.load(Ordering::SeqCst) || self.invites(number, last_loop).is_some();
            if !watch(is_wanted) {
                sleeps.store(true, Ordering::SeqCst);
                while !is_wanted() {
                    thread::park();
                }
                sleeps.store(false, Ordering::SeqCst);
            }
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            if let Some(entered) = self.enter(number, last_loop) {
                last_loop = entered;
                // SAFETY: this thread is inside the loop, so the job was written before and nobody writes to it now, and
                // the caller keeps the body alive.
                let (n_chunks, body) = unsafe {
                    let job = *self.job.get();
                    (job.n_chunks, &*job.body)
                };
                self.work(n_chunks, body);
                self.leave();
            }
        }
    }

    /// The state, if there is a loop that worker `number` may enter and was not inside yet.
    fn invites(&self, number: usize, last_loop: u64) -> Option<State> {
        let state = State::from_bits(self.state.0.load(Ordering::SeqCst));
        let is_new = state.is_open() && state.loop_number() != last_loop;
        (is_new && number < self.n_threads.load(Ordering::Relaxed)).then_some(state)
    }

    /// Enters the open loop and returns its number, unless it was closed meanwhile.
    fn enter(&self, number: usize, last_loop: u64) -> Option<u64> {
        loop {
            let state = self.invites(number, last_loop)?;
            let entered = state.with_worker().bits();
            let exchange =
                self.state.0.compare_exchange_weak(state.bits(), entered, Ordering::Acquire, Ordering::Relaxed);
            if exchange.is_ok() {
                return Some(state.loop_number());
            }
        }
    }

    /// Leaves the loop, and wakes the caller if it sleeps and this was the last worker.
    fn leave(&self) {
        let mut state = State::from_bits(self.state.0.load(Ordering::Acquire));
        loop {
            // Cloned before leaving: afterwards the caller may go on and write there.
            let caller = if state.caller_sleeps() && state.n_inside() == 1 {
                // SAFETY: the caller wrote this before it announced its sleep, and writes it again only after this
                // thread has left.
                unsafe { (*self.caller.get()).clone() }
            } else {
                None
            };
            let left = state.without_worker().bits();
            match self.state.0.compare_exchange_weak(state.bits(), left, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    if let Some(caller) = caller {
                        caller.unpark();
                    }
                    return;
                }
                Err(changed) => state = State::from_bits(changed),
            }
        }
    }

    /// Takes chunks until none is left. Never unwinds: a panic is kept for the caller, and ends the loop.
    fn work(&self, n_chunks: usize, body: &Body<'_>) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let chunk = self.next_chunk.0.fetch_add(1, Ordering::Relaxed);
                if chunk >= n_chunks {
                    return;
                }
                body(chunk);
            }
        }));
        if let Err(payload) = outcome {
            self.next_chunk.0.store(n_chunks, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(payload);
        }
    }

    /// For the caller, after closing: waits for the workers that are still in their last chunk.
    fn wait_until_all_left(&self) {
        let all_left = || State::from_bits(self.state.0.load(Ordering::Acquire)).n_inside() == 0;
        if watch(all_left) {
            return;
        }
        // SAFETY: this thread holds `workers`, and no worker reads it before the announcement below.
        unsafe { *self.caller.get() = Some(thread::current()) };
        self.state.0.fetch_or(State::SLEEP, Ordering::AcqRel);
        while !all_left() {
            thread::park();
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let workers = self.workers.get_mut().unwrap_or_else(PoisonError::into_inner);
        for worker in workers.drain(..) {
            worker.handle.thread().unpark();
            // A worker's panics are kept in `panic`; it ends without one.
            let _ = worker.handle.join();
        }
    }
}

/// A lock that another thread's panic doesn't close: what it guards is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
