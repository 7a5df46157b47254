//! Flash attention as an operation of MLX.

use half::{bf16, f16};
use mlx_custom::{CpuOperation, Element, Layout, OperationError, Tensor, TensorMut, TensorType, num_threads};
use mlx_rs::Dtype;

use super::attention::Attention;
use super::mask::Mask;
use super::operand::Operand;
use super::output::OutputElement;
use super::schedule::{one_thread, over_queries, over_queries_and_keys};
use super::shape::{AttentionShape, Tiling};
use super::simd::Variant;

/// Who computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Schedule {
    /// All threads, unless there is too little to do.
    #[default]
    Automatic,
    /// The calling one.
    OneThread,
    /// All of them.
    Threads,
}

/// How attention is computed. The answer is the same but for rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub variant: Variant,
    pub schedule: Schedule,
    /// `None` means [`Tiling::new`].
    pub tiling: Option<Tiling>,
}

impl Default for Options {
    fn default() -> Self {
        Self { variant: Variant::best(), schedule: Schedule::Automatic, tiling: None }
    }
}

/// Inputs: query, key, value, and a mask array `[B, H_q, L, S]` if there is one. Output: like query.
pub(crate) struct FlashAttention {
    pub shape: AttentionShape,
    pub scale: f32,
    pub is_causal: bool,
    pub options: Options,
}

/// A few microseconds of one thread: to share less among several costs more than it brings.
const LEAST_TO_SHARE: usize = 100_000;

impl CpuOperation for FlashAttention {
    fn name(&self) -> &'static str {
        super::OPERATION
    }

    fn outputs(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
        Ok(inputs.first().cloned().into_iter().collect())
    }

    fn layout(&self, _: usize) -> Layout {
        Layout::Strided
    }

    fn run(&self, inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), OperationError> {
        let ([query, key, value, mask @ ..], [output]) = (inputs, outputs) else {
            return Err("takes query, key, value and perhaps a mask".into());
        };
        if output.n_elements() == 0 {
            return Ok(());
        }
        let mask = match mask {
            [] if self.is_causal => Mask::Causal,
            [] => Mask::None,
            [mask, ..] if mask.dtype() == Dtype::Uint8 => Mask::Allowed(mask.strided()?),
            [mask, ..] => Mask::Additive(operand(mask)?),
        };
        let operands = [operand(query)?, operand(key)?, operand(value)?];
        match output.dtype() {
            Dtype::Float16 => self.attend::<f16>(operands, mask, output.as_mut_slice()?),
            Dtype::Bfloat16 => self.attend::<bf16>(operands, mask, output.as_mut_slice()?),
            _ => self.attend::<f32>(operands, mask, output.as_mut_slice()?),
        }
        Ok(())
    }
}

impl FlashAttention {
    /// The step that the operation is: query, key and value in, `[B, H_q, L, D]` out.
    pub(crate) fn attend<T: Element + OutputElement>(
        &self,
        [query, key, value]: [Operand<'_>; 3],
        mask: Mask<'_>,
        output: &mut [T],
    ) {
        let n_threads = match self.options.schedule {
            Schedule::OneThread => 1,
            Schedule::Automatic if self.shape.multiply_adds() < LEAST_TO_SHARE => 1,
            Schedule::Automatic | Schedule::Threads => num_threads(),
        };
        let attention = Attention {
            shape: self.shape,
            query,
            key,
            value,
            scale: self.scale,
            mask,
            tiling: self.options.tiling.unwrap_or_else(|| Tiling::new(&self.shape, n_threads)),
            variant: self.options.variant,
        };
        if n_threads == 1 && self.options.schedule != Schedule::Threads {
            one_thread(&attention, output);
        } else if attention.tiling.splits > 1 {
            over_queries_and_keys(&attention, output);
        } else {
            over_queries(&attention, output);
        }
    }
}

fn operand<'a>(tensor: &Tensor<'a>) -> Result<Operand<'a>, OperationError> {
    Ok(match tensor.dtype() {
        Dtype::Float16 => Operand::F16(tensor.strided()?),
        Dtype::Bfloat16 => Operand::Bf16(tensor.strided()?),
        _ => Operand::F32(tensor.strided()?),
    })
}
