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

// [reference only] how many kernels a token costs
#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mlx_custom::gpu::GpuBackend;
    use mlx_custom::{set_profiling, take_profile};
    use mlx_rs::{Array, Dtype};

    use super::{GpuBlock, GpuPass, Heads, JoinedProjection, Positions, ResidualStream};
    use crate::quantized::{QuantizedLinear, quantize};
    use crate::{AttentionMask, Device, GpuKvCache, KvCache, Projection, Result, RmsNorm, RotaryEmbedding};

    const FEATURES: i32 = 64;
    const HEADS: Heads = Heads { query: 4, key_value: 2, dim: 16 };

    fn projection(outputs: i32) -> Result<Projection> {
        let numbers = (0..outputs * FEATURES).map(|i| (i % 13 - 6) as f32 / 20.0);
        let weight = Array::from_iter(numbers, &[outputs, FEATURES]);
        Ok(Projection::from(QuantizedLinear::new(quantize(&weight, 32, 4)?, None)).on(Device::Gpu))
    }

    fn norm() -> RmsNorm {
        RmsNorm::new(Array::from_slice(&[1.0_f32; FEATURES as usize], &[FEATURES]), 1e-6)
    }

    fn block() -> Result<GpuBlock> {
        Ok(GpuBlock {
            input_layernorm: norm(),
            qkv: JoinedProjection::new(vec![projection(64)?, projection(32)?, projection(32)?])?,
            qkv_bias: None,
            heads: HEADS,
            o_proj: projection(FEATURES)?,
            post_attention_layernorm: norm(),
            gate_up: JoinedProjection::new(vec![projection(FEATURES)?, projection(FEATURES)?])?,
            down_proj: projection(FEATURES)?,
        })
    }

    /// Counted where kernels are operations of ours, in the emulator; the graph is the same for every backend.
    #[test]
    fn a_token_costs_a_layer_eight_kernels() -> Result<()> {
        let backend = GpuBackend::current()?;
        if backend != GpuBackend::Emulator {
            return Ok(());
        }
        let (block, rope) = (block()?, RotaryEmbedding::new(HEADS.dim as i32, 8, 10000.0, false)?);
        let (mut cache, mut started) = (GpuKvCache::new(), BTreeMap::new());
        for _token in 0..2 {
            let positions = Positions::new(&rope, cache.offset(), 1, 1)?;
            let pass = GpuPass { positions, mask: &AttentionMask::None, backend };
            let x = Array::from_slice(&[0.5_f32; FEATURES as usize], &[1, FEATURES]).as_dtype(Dtype::Bfloat16)?;
            let stream = ResidualStream::with_pending(x.clone(), x);
            let stream = block.run(stream, &pass, Some(&mut cache))?;
            let (sum, _) = stream.normalize(&norm(), backend)?;
            set_profiling(true);
            sum.eval()?;
            started = take_profile().into_iter().map(|(kernel, totals)| (kernel, totals.calls)).collect();
            set_profiling(false);
        }
        let of_ours = ["rms_norm", "quantized_matvec_tiles", "rope_qk", "attention_decode", "swiglu"]
            .map(|kernel| (kernel, started.get(kernel).copied().unwrap_or(0)));
        // The last norm is the next layer's.
        let expected = [
            ("rms_norm", 2 + 1),
            ("quantized_matvec_tiles", 4),
            ("rope_qk", 1),
            ("attention_decode", 1),
            // Gate and up make what is behind them in their own kernel.
            ("swiglu", 0),
        ];
        assert_eq!(of_ours, expected);
        Ok(())
    }
}
// [end]
