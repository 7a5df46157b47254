//! How long products take, on one thread or several.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::comparison::Matrix;
use crate::quantized::activations::Activations;
use crate::quantized::kernel::{Kernel, ROW_BLOCK};

/// A measurement takes this long at least, and the median of so many is what counts.
const SECONDS: f64 = 0.1;
const SAMPLES: usize = 5;

/// Seconds for one product, each time with the next of `matrices`, which all have the same size.
///
/// Rows are cut into one part for each thread. Threads wait for each other after each product, as an engine's do, but
/// without sleeping.
pub fn seconds(kernel: &dyn Kernel, matrices: &[Matrix], x: &Activations, n_threads: usize) -> f64 {
    let n_rows = matrices[0].outputs;
    let per_thread = n_rows.div_ceil(n_threads).next_multiple_of(ROW_BLOCK);
    let n_threads = n_rows.div_ceil(per_thread);
    let run = |rounds: usize| {
        let meeting = Meeting { n_threads, arrived: AtomicUsize::new(0) };
        let work = |thread: usize| {
            let rows = thread * per_thread..n_rows.min((thread + 1) * per_thread);
            let mut tile = vec![0.0; x.tokens * rows.len()];
            meeting.wait(0);
            let start = Instant::now();
            for round in 0..rounds {
                let matrix = matrices[round % matrices.len()].view();
                kernel.multiply(black_box(&matrix), x, 0..x.tokens, rows.clone(), black_box(&mut tile));
                meeting.wait(round + 1);
            }
            start.elapsed().as_secs_f64()
        };
        thread::scope(|scope| {
            for thread in 1..n_threads {
                let work = &work;
                scope.spawn(move || work(thread));
            }
            work(0)
        })
    };
    let mut rounds = 1;
    while run(rounds) < SECONDS {
        rounds *= 2;
    }
    let mut samples: Vec<f64> = (0..SAMPLES).map(|_| run(rounds) / rounds as f64).collect();
    samples.sort_by(f64::total_cmp);
    samples[SAMPLES / 2]
}

/// Where threads wait until all have come.
struct Meeting {
    n_threads: usize,
    arrived: AtomicUsize,
}

impl Meeting {
    /// The `number`th meeting, from 0 on.
    fn wait(&self, number: usize) {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        while self.arrived.load(Ordering::Acquire) < (number + 1) * self.n_threads {
            spin_loop();
        }
    }
}
