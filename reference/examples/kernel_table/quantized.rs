//! The kernels' own files, compiled into this program.
#![allow(dead_code, unused_imports)] // other parts of the engine use the rest

#[path = "../../src/quantized/activations.rs"]
pub mod activations;
#[path = "../../src/quantized/kernel/mod.rs"]
pub mod kernel;
#[path = "../../src/quantized/view.rs"]
pub mod view;
