//! Where the time goes: calls and time of each kind of operation.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

static IS_ON: AtomicBool = AtomicBool::new(false);
static TOTALS: Mutex<BTreeMap<&'static str, OperationTotals>> = Mutex::new(BTreeMap::new());

/// All runs of the operations of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OperationTotals {
    pub calls: u64,
    /// In [`run`](crate::CpuOperation::run). What MLX does around it is not counted.
    pub time: Duration,
}

/// Begins to measure every operation of this process, or stops. Forgets what was measured before.
///
/// While it is off an operation costs one relaxed load more; while it is on, two looks at the clock and a lock.
pub fn set_profiling(on: bool) {
    totals().clear();
    IS_ON.store(on, Ordering::Relaxed);
}

/// What was measured since the last call, by name.
pub fn take_profile() -> BTreeMap<&'static str, OperationTotals> {
    std::mem::take(&mut *totals())
}

fn totals() -> std::sync::MutexGuard<'static, BTreeMap<&'static str, OperationTotals>> {
    // Numbers are never half written.
    TOTALS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` for the operation called `name` and notes how long it took, if anybody wants to know.
pub(crate) fn measure<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    if !IS_ON.load(Ordering::Relaxed) {
        return work();
    }
    let start = Instant::now();
    let result = work();
    let time = start.elapsed();
    let mut totals = totals();
    let total = totals.entry(name).or_default();
    total.calls += 1;
    total.time += time;
    result
}
