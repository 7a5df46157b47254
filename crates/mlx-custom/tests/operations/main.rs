//! Operations through MLX's graph, compared with plain Rust.

mod donation;
mod errors;
mod layouts;
mod lifetime;
mod outputs;
mod support;
mod threads;
mod types;
