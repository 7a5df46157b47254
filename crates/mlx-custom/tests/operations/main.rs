//! Operations through MLX's graph, compared with plain Rust.

#![allow(clippy::unwrap_used)] // helpers of tests may panic as tests do

mod donation;
mod errors;
mod layouts;
mod lifetime;
mod outputs;
mod support;
mod threads;
mod types;
