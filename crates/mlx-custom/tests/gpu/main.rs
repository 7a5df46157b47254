//! The same small kernels on every backend that this machine has, against plain Rust.
//!
//! On a machine without a GPU that is the emulator; `TINY_LLM_CUDA_SOURCES=FOLDER cargo test -p mlx-custom --test gpu` also leaves
//! the CUDA source of each launch, for `tools/compile_cuda.py`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests may panic as tests do

mod elementwise;
mod errors;
mod indices;
mod layouts;
mod memory;
mod metal;
mod numbers;
mod simd_groups;
mod support;
mod tiles;
mod wide;
