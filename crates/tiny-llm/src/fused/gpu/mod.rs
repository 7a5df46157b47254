//! The small steps between matrix products and attention, on the GPU: one kernel each in place of several operations.
//!
//! On a GPU an operation that computes little costs its launch and its way to memory and back. Each of these reads its
//! inputs once and writes its outputs once.
//!
//! | function | the plain layers that it replaces |
//! |---|---|
//! | [`rms_norm_gpu`] | [`RmsNorm`](crate::RmsNorm) |
//! | [`add_rms_norm_gpu`] | the residual addition and the RMSNorm behind it |
//! | [`rope_qk_gpu`] | three biases, moving the heads, two rotary embeddings |
//! | [`swiglu_gpu`] | [`silu`](crate::silu) and the product with up |
//!
//! A layer is made of them and of fewer, larger products:
//!
//! | type | what |
//! |---|---|
//! | [`GpuBlock`] | a layer |
//! | [`ResidualStream`] | what goes from layer to layer, with an addition that the next norm makes |
//! | [`JoinedProjection`] | projections of the same input as one product |

pub mod block;
pub mod joined;
pub mod norm;
pub mod residual;
pub mod rope;
pub mod swiglu;

use mlx_rs::Array;

use crate::{Error, Result};
pub use block::{GpuBlock, GpuPass};
pub use joined::JoinedProjection;
pub use norm::{add_rms_norm_gpu, rms_norm_gpu};
pub use residual::ResidualStream;
pub use rope::{Heads, Positions, rope_qk_gpu};
pub use swiglu::swiglu_gpu;

/// The `N` outputs of a kernel that has as many.
fn take<const N: usize>(kernel: &'static str, outputs: Vec<Array>) -> Result<[Array; N]> {
    let n = outputs.len();
    outputs.try_into().map_err(|_| Error::invalid(kernel, format!("the kernel gave {n} outputs, not {N}")))
}

fn sizes(shape: &[i32]) -> Vec<usize> {
    shape.iter().map(|&n| n as usize).collect()
}
