//! The word through which the caller of a loop and the workers agree on who takes part.

/// Which loop this is, whether workers may still join it, and how many are inside. One atomic word holds all of it, so
/// that a worker joins either before the loop is closed or not at all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct State(u64);

const INSIDE: u64 = 0xffff;
/// Workers may join.
const OPEN: u64 = 1 << 16;
/// The caller sleeps until the last worker has left.
const CALLER_SLEEPS: u64 = 1 << 17;
const LOOP_SHIFT: u32 = 18;

/// No team is larger, so that the number of workers inside fits.
pub(super) const MAX_THREADS: usize = 1 << 12;

impl State {
    /// No loop yet.
    pub const IDLE: Self = Self(0);

    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub fn bits(self) -> u64 {
        self.0
    }

    /// The next loop, open, with nobody inside. (2^46 loops take years.)
    pub fn next_loop(self) -> Self {
        Self((((self.0 >> LOOP_SHIFT) + 1) << LOOP_SHIFT) | OPEN)
    }

    /// The number of the loop.
    pub fn loop_number(self) -> u64 {
        self.0 >> LOOP_SHIFT
    }

    pub fn is_open(self) -> bool {
        self.0 & OPEN != 0
    }

    pub fn n_inside(self) -> u64 {
        self.0 & INSIDE
    }

    pub fn caller_sleeps(self) -> bool {
        self.0 & CALLER_SLEEPS != 0
    }

    pub fn with_worker(self) -> Self {
        Self(self.0 + 1)
    }

    pub fn without_worker(self) -> Self {
        Self(self.0 - 1)
    }

    /// To `and` with: nobody joins any more.
    pub const CLOSE: u64 = !OPEN;
    /// To `or` with: whoever leaves last wakes the caller.
    pub const SLEEP: u64 = CALLER_SLEEPS;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_come_and_go_without_touching_the_rest() {
        let opened = State::IDLE.next_loop();
        assert!(opened.is_open() && opened.n_inside() == 0 && opened.loop_number() == 1);
        let joined = opened.with_worker().with_worker();
        assert_eq!((joined.n_inside(), joined.loop_number()), (2, 1));
        let closed = State::from_bits(joined.bits() & State::CLOSE | State::SLEEP);
        assert!(!closed.is_open() && closed.caller_sleeps());
        assert_eq!(closed.without_worker().n_inside(), 1);
        let next = closed.without_worker().without_worker().next_loop();
        assert!(next.is_open() && !next.caller_sleeps() && next.loop_number() == 2);
    }
}
