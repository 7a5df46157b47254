//! Kernels in the emulator: right ones give right numbers and no finding, wrong ones are found out, line and all.

#![allow(clippy::unwrap_used)] // helpers of tests may panic as tests do

mod children;
mod counters;
mod divergence;
mod memory;
mod numerics;
mod races;
mod right;
mod support;
mod tiles;
