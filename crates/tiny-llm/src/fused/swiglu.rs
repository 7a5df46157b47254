//! RMSNorm, gate and up projection, and their combination, in one operation.

use half::{bf16, f16};
use mlx_custom::{Constant, CpuOperation, OperationError, Tensor, TensorMut, TensorType, apply_n};
use mlx_rs::{Array, Dtype};

use crate::Result;
use crate::fused::rms_norm::{check_norm, rms_norm_row};
use crate::quantized::QuantizedMatrix;
use crate::quantized::kernel::chosen_kernel;
use crate::quantized::matmul::projected;
use crate::quantized::matrix::ConstantMatrix;
use crate::quantized::tiles::{Float, Output, for_each_tile, quantize_tokens};
use crate::quantized::view::MatrixView;

/// `silu(gate(n)) * up(n)` with `n = rms_norm(x)`: `[.., E]` to `[.., I]`, in `x`'s dtype. Everything inside is f32, and the
/// result is rounded once. SiLU of large negative numbers is as that of day 1.4: small and negative, not 0 as long as f32 has
/// such a number.
///
/// - `norm_weight`: `[E]`, f32
/// - `gate`, `up`: `[I, E]`, with the same group size and bits
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) when shapes or formats do not fit.
pub fn norm_swiglu(
    x: &Array,
    norm_weight: &Constant,
    eps: f32,
    gate: &QuantizedMatrix,
    up: &QuantizedMatrix,
) -> Result<Array> {
    let operation = NormSwiGlu { norm_weight: norm_weight.clone(), eps, gate: gate.constant()?, up: up.constant()? };
    let [output] = apply_n(operation, &[x])?;
    Ok(output)
}

/// Input: `x`, `[.., E]`.
struct NormSwiGlu {
    /// `[E]`
    norm_weight: Constant,
    eps: f32,
    gate: ConstantMatrix,
    up: ConstantMatrix,
}

impl CpuOperation for NormSwiGlu {
    fn name(&self) -> &'static str {
        "norm_swiglu"
    }

    fn outputs(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
        let [x] = inputs else { return Err("takes one array".into()) };
        check_norm(&self.norm_weight, self.gate.inputs())?;
        if self.gate.format() != self.up.format() || projected(x, &self.gate)? != projected(x, &self.up)? {
            return Err("gate and up have different shapes or formats".into());
        }
        Ok(vec![projected(x, &self.gate)?])
    }

    fn run(&self, inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), OperationError> {
        match inputs[0].dtype() {
            Dtype::Float32 => self.run_in::<f32>(inputs, &mut outputs[0]),
            Dtype::Float16 => self.run_in::<f16>(inputs, &mut outputs[0]),
            _ => self.run_in::<bf16>(inputs, &mut outputs[0]),
        }
    }
}

impl NormSwiGlu {
    fn run_in<T: Float>(&self, inputs: &[Tensor<'_>], output: &mut TensorMut<'_>) -> Result<(), OperationError> {
        let x = inputs[0].as_slice::<T>()?;
        let norm_weight = self.norm_weight.tensor();
        let norm_weight = norm_weight.as_slice::<f32>()?;
        let (gate, up) = (self.gate.view()?, self.up.view()?);
        let out = output.as_mut_slice::<T>()?;
        gate_up(x, norm_weight, self.eps, [&gate, &up], out)
    }
}

/// The step that [`norm_swiglu`] is: `x` is `[M, E]`, `out` is `[M, I]`.
///
/// # Errors
/// When [`chosen_kernel`] finds none.
pub(super) fn gate_up<T: Float>(
    x: &[T],
    norm_weight: &[f32],
    eps: f32,
    [gate, up]: [&MatrixView<'_>; 2],
    out: &mut [T],
) -> Result<(), OperationError> {
    // [task 2.2c.2] norm_swiglu
    todo!("week 2 day 2c task 2: norm_swiglu - see book/src/week2/day2c.md")
    // [end]
}

// [task 2.2c.2 helpers] silu of one number
// [end]
