//! What it costs to spread a loop over threads: `parallel_for` beside rayon.
//!
//! `cargo run --release -p mlx-custom --example fork_join`

use std::hint::black_box;
use std::time::{Duration, Instant};

use mlx_custom::{num_threads, parallel_for};
use rayon::prelude::*;

const ROUNDS: usize = 2001;

/// About a microsecond of arithmetic.
fn chunk_of_work(chunk: usize) {
    let mut x = chunk as f32;
    for _ in 0..300 {
        x = black_box(x * 1.000_1 + 0.5);
    }
    black_box(x);
}

/// Median and 99th percentile of the time of one loop, with a pause before each.
fn measure(pause: Duration, mut one_loop: impl FnMut()) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            if pause > Duration::from_millis(1) {
                std::thread::sleep(pause);
            } else {
                let start = Instant::now();
                while start.elapsed() < pause {
                    std::hint::spin_loop();
                }
            }
            let start = Instant::now();
            one_loop();
            start.elapsed()
        })
        .collect();
    times.sort();
    (times[ROUNDS / 2], times[ROUNDS * 99 / 100])
}

fn main() {
    let n_threads = num_threads();
    if let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build_global() {
        eprintln!("rayon's pool could not be set up: {error}");
        return;
    }
    println!("one loop, {n_threads} threads: median (99th percentile) of {ROUNDS}\n");
    println!("{:<26}{:>24}{:>24}{:>24}", "chunks, pause before", "one thread", "parallel_for", "rayon");
    for n_chunks in [2, 8, 64] {
        for pause_us in [0, 20, 50, 2000] {
            let pause = Duration::from_micros(pause_us);
            let columns = [
                measure(pause, || (0..n_chunks).for_each(chunk_of_work)),
                measure(pause, || parallel_for(n_chunks, chunk_of_work)),
                measure(pause, || (0..n_chunks).into_par_iter().for_each(chunk_of_work)),
            ];
            print!("{:<26}", format!("{n_chunks}, {pause:?}"));
            for (median, high) in columns {
                print!("{:>24}", format!("{median:.1?} ({high:.1?})"));
            }
            println!();
        }
    }
}
