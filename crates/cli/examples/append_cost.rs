//! What it costs to append one token to the caches of a whole model, done in three ways. A table for day 2.1.
//!
//! The arrays have the sizes of SmolLM2-135M in f32: 30 layers, 3 key-value heads, 64 numbers a head.
//!
//! - `concatenate`: all keys and values are copied into new arrays
//! - `slice update`: MLX's own operation, in place when it can be
//! - `cache`: `FullKvCache`, through a custom operation
//!
//! `cargo run --release --package tiny-llm-cli --example append_cost`

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::ops::{concatenate, zeros};
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Device};
#[cfg(all(feature = "student", not(feature = "reference")))]
use tiny_llm as engine;
#[cfg(feature = "reference")]
use tiny_llm_reference as engine;

use engine::{FullKvCache, KvCache};

const N_LAYERS: usize = 30;
const KV_HEADS: i32 = 3;
const HEAD_DIM: i32 = 64;
const BYTES_OF_TOKEN: u64 = 2 * N_LAYERS as u64 * (KV_HEADS * HEAD_DIM) as u64 * 4;
const N_STEPS: i32 = 64;
const N_ROUNDS: usize = 5;

fn main() -> Result<()> {
    Device::set_default(&Device::cpu());
    println!("{:>8} {:>22} {:>22} {:>22}", "tokens", "concatenate", "slice update", "cache");
    for len in [128, 512, 1024, 2048, 4096] {
        // In turns, so that a disturbance meets all three.
        let mut micros = [const { Vec::new() }; 3];
        let mut moved = 0;
        for _ in 0..N_ROUNDS {
            micros[0].push(concatenating(len)?);
            micros[1].push(slice_updating(len)?);
            let (time, bytes) = caching(len)?;
            micros[2].push(time);
            moved = bytes;
        }
        let [plain, in_place, ours] = micros.map(median);
        let mean_len = len as u64 + N_STEPS as u64 / 2;
        println!(
            "{len:>8} {plain:>9.0} us {:>7.0} kB {in_place:>9.0} us {:>7} -- {ours:>9.0} us {:>7.0} kB",
            (BYTES_OF_TOKEN * mean_len) as f64 / 1e3,
            "",
            moved as f64 / 1e3,
        );
    }
    println!(
        "medians of {N_ROUNDS} rounds of {N_STEPS} tokens; time and bytes moved for one token in {N_LAYERS} layers"
    );
    Ok(())
}

fn concatenating(len: i32) -> Result<f64> {
    let mut layers = stored(len)?;
    let new = new_token()?;
    time(|_| {
        for (keys, values) in &mut layers {
            *keys = concatenate(&[&*keys, &new], 2)?;
            *values = concatenate(&[&*values, &new], 2)?;
        }
        Ok(eval(layers.iter().flat_map(|(keys, values)| [keys, values]))?)
    })
}

fn slice_updating(len: i32) -> Result<f64> {
    let mut layers = stored(len + N_STEPS)?;
    let new = new_token()?;
    time(|step| {
        let at = len + step;
        let mut fetched = Vec::with_capacity(2 * N_LAYERS);
        for (keys, values) in &mut layers {
            keys.try_index_mut((.., .., at..at + 1), &new)?;
            values.try_index_mut((.., .., at..at + 1), &new)?;
            fetched.push(keys.try_index((.., .., ..at + 1))?);
            fetched.push(values.try_index((.., .., ..at + 1))?);
        }
        Ok(eval(&fetched)?)
    })
}

/// Time and bytes for one token.
fn caching(len: i32) -> Result<(f64, u64)> {
    let mut caches = Vec::with_capacity(N_LAYERS);
    for (keys, values) in stored(len)? {
        // A step so large that nothing grows while the clock runs.
        let mut cache = FullKvCache::with_step((len + N_STEPS) as usize)?;
        let fetched = cache.update_and_fetch(&keys, &values)?;
        eval([&fetched.0, &fetched.1])?;
        caches.push(cache);
    }
    let new = new_token()?;
    let bytes = |caches: &[FullKvCache]| caches.iter().map(FullKvCache::bytes_copied).sum::<u64>();
    let before = bytes(&caches);
    let micros = time(|_| {
        let mut fetched = Vec::with_capacity(2 * N_LAYERS);
        for cache in &mut caches {
            let (keys, values) = cache.update_and_fetch(&new, &new)?;
            fetched.extend([keys, values]);
        }
        Ok(eval(&fetched)?)
    })?;
    Ok((micros, (bytes(&caches) - before) / N_STEPS as u64))
}

/// Microseconds for one of [`N_STEPS`] steps.
fn time(mut step: impl FnMut(i32) -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    for at in 0..N_STEPS {
        step(black_box(at))?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(N_STEPS))
}

fn stored(len: i32) -> Result<Vec<(Array, Array)>> {
    let array = || zeros::<f32>(&[1, KV_HEADS, len, HEAD_DIM]);
    let layers: Vec<_> = (0..N_LAYERS).map(|_| Ok((array()?, array()?))).collect::<Result<_>>()?;
    eval(layers.iter().flat_map(|(keys, values)| [keys, values]))?;
    Ok(layers)
}

fn new_token() -> Result<Array> {
    let token = mlx_rs::ops::ones::<f32>(&[1, KV_HEADS, 1, HEAD_DIM])?;
    token.eval()?;
    Ok(token)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
