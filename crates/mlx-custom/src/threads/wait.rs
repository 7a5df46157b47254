//! Waiting for something that will happen within microseconds, or not for a long time.

use std::hint;
use std::thread;
use std::time::{Duration, Instant};

/// How long to watch before sleeping. Waking a sleeping thread takes a system call and some 5 to 50 µs; between two
/// operations of a model there are a few µs.
const WATCH: Duration = Duration::from_micros(100);
/// How long of that without offering the processor to other threads.
const WATCH_GREEDILY: Duration = Duration::from_micros(10);
/// Looks between two looks at the clock.
const LOOKS: u32 = 32;

/// Looks again and again whether it `happened`, and gives up after a while. Offers the processor to other threads
/// meanwhile, one of which may be what is waited for.
pub(super) fn watch(happened: impl Fn() -> bool) -> bool {
    let mut start = None;
    loop {
        for _ in 0..LOOKS {
            if happened() {
                return true;
            }
            hint::spin_loop();
        }
        let waited = start.get_or_insert_with(Instant::now).elapsed();
        if waited > WATCH {
            return false;
        }
        if waited > WATCH_GREEDILY {
            thread::yield_now();
        }
    }
}
