//! How fast the emulator runs kernels, in steps of threads per second: a step is one turn of a loop that reads an element.
//!
//! ```console
//! cargo run --release -p mlx-custom --example emulator_speed
//! ```

use std::time::{Duration, Instant};

use mlx_custom::gpu::emulator::set_checked;
use mlx_custom::gpu::{GpuBackend, GpuKernel, Launch};
use mlx_custom::{TensorType, num_threads};
use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype};

const ROWS: usize = 512;
const N: usize = 1024;
const ROUNDS: usize = 5;

/// No thread waits for another: runs as a plain loop.
const PLAIN: GpuKernel = GpuKernel {
    name: "speed_plain",
    inputs: &["x"],
    outputs: &["out"],
    header: "",
    body: "
    uint row = threadgroup_position_in_grid.x, t = thread_index_in_threadgroup;
    for (uint i = t; i < 1024; i += 256) out[row * 1024 + i] = 2.0f * x[row * 1024 + i];",
    strided: false,
};

/// A SIMD-group sum, a barrier and threadgroup memory: each thread is a fiber.
const NORM: GpuKernel = GpuKernel {
    name: "speed_norm",
    body: "
    threadgroup float part[8];
    uint row = threadgroup_position_in_grid.x, t = thread_index_in_threadgroup;
    float sum = 0.0f;
    for (uint i = t; i < 1024; i += 256) sum += x[row * 1024 + i] * x[row * 1024 + i];
    sum = simd_sum(sum);
    if (thread_index_in_simdgroup == 0) part[simdgroup_index_in_threadgroup] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float total = 0.0f;
    for (uint i = 0; i < 8; i++) total += part[i];
    float factor = rsqrt(total / 1024.0f + 1e-6f);
    for (uint i = t; i < 1024; i += 256) out[row * 1024 + i] = x[row * 1024 + i] * factor;",
    ..PLAIN
};

/// Products of 16x16 tiles, each a step per lane and element of k.
const TILES: GpuKernel = GpuKernel {
    name: "speed_tiles",
    body: "
    threadgroup half a[16 * 16];
    uint lane = thread_index_in_threadgroup, group = threadgroup_position_in_grid.x;
    for (uint i = lane; i < 256; i += 32) a[i] = half(x[group * 1024 + i]);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    TileA<half> left;
    TileB<half> right;
    TileAcc sums;
    tile_clear(sums);
    for (uint k = 0; k < 16; k++) {
      tile_load(left, a, 16);
      tile_load(right, a, 16);
      tile_multiply_add(sums, left, right);
    }
    tile_for_each(sums, [&](ushort row, ushort column, thread float& value) {
      out[group * 256 + row * 16 + column] = value;
    });",
    ..PLAIN
};

fn main() -> Result<(), Exception> {
    let numbers: Vec<f32> = (0..ROWS * N).map(|i| (i % 17) as f32 * 0.1).collect();
    let x = Array::from_slice(&numbers, &[ROWS as i32, N as i32]);
    println!("{} threads", num_threads());
    // Per kernel: threads of a threadgroup, elements that a threadgroup writes, steps of a threadgroup.
    for (kernel, threads, written, steps) in
        [(PLAIN, 256, N, N), (NORM, 256, N, 2 * N + 8 * 256), (TILES, 32, 256, 16 * 16 * 16 * 16)]
    {
        for checked in [true, false] {
            set_checked(checked);
            let launch = Launch {
                template: &[],
                outputs: &[TensorType::new([ROWS * written], Dtype::Float32)],
                grid: [ROWS * threads, 1, 1],
                threadgroup: [threads, 1, 1],
                fill: None,
            };
            run(&kernel, &x, &launch)?; // compiles
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                times.push(run(&kernel, &x, &launch)?);
            }
            times.sort_unstable();
            let seconds = times[ROUNDS / 2].as_secs_f64();
            println!(
                "{:12} {:9} {:8.2} ms {:8.1} million steps/s",
                kernel.name,
                if checked { "checked" } else { "unchecked" },
                seconds * 1e3,
                (ROWS * steps) as f64 / seconds / 1e6
            );
        }
    }
    Ok(())
}

fn run(kernel: &GpuKernel, x: &Array, launch: &Launch<'_>) -> Result<Duration, Exception> {
    let start = Instant::now();
    kernel.launch_on(GpuBackend::Emulator, &[x], launch)?[0].eval()?;
    Ok(start.elapsed())
}
