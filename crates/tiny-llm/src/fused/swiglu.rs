//! RMSNorm, gate and up projection, and their combination, in one operation.

use half::{bf16, f16};
use mlx_custom::{CpuOperation, OperationError, Tensor, TensorMut, TensorType, apply_n};
use mlx_rs::{Array, Dtype};

use crate::Result;
use crate::fused::rms_norm::rms_norm_row;
use crate::quantized::QuantizedMatrix;
use crate::quantized::kernel::best_kernel;
use crate::quantized::matmul::is_float;
use crate::quantized::matrix::{Format, view_of};
use crate::quantized::tiles::{Float, Output, for_each_tile, quantize_tokens};

/// `silu(gate(n)) * up(n)` with `n = rms_norm(x)`: `[.., E]` to `[.., I]`.
///
/// - `norm_weight`: `[E]`, f32
/// - `gate`, `up`: `[I, E]`, with the same group size and bits
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) when shapes or formats do not fit.
pub fn norm_swiglu(
    x: &Array,
    norm_weight: &Array,
    eps: f32,
    gate: &QuantizedMatrix,
    up: &QuantizedMatrix,
) -> Result<Array> {
    let mut inputs = vec![x, norm_weight];
    inputs.extend(gate.arrays());
    inputs.extend(up.arrays());
    let [output] = apply_n(NormSwiGlu { eps, gate: gate.format(), up: up.format() }, &inputs)?;
    Ok(output)
}

/// Inputs: x `[.., E]`, norm weight `[E]`, and the three parts of gate and of up.
struct NormSwiGlu {
    eps: f32,
    gate: Format,
    up: Format,
}

impl CpuOperation for NormSwiGlu {
    fn name(&self) -> &'static str {
        "norm_swiglu"
    }

    fn outputs(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
        let [x, norm, gate, gate_scales, _, up, up_scales, _] = inputs else {
            return Err("takes x, a norm's weight and two matrices".into());
        };
        let in_features = gate_scales.shape[1] * self.gate.group_size;
        if self.gate != self.up || gate.shape != up.shape || gate_scales.shape != up_scales.shape {
            return Err("gate and up have different shapes or formats".into());
        }
        if x.shape.last() != Some(&in_features) || !is_float(x.dtype) {
            return Err(format!(
                "x is {:?} of {:?}; the matrices take floats of [.., {in_features}]",
                x.dtype, x.shape
            )
            .into());
        }
        if norm.shape != [in_features] || norm.dtype != Dtype::Float32 {
            return Err(format!(
                "the norm's weight is {:?} of {:?}, not f32 of [{in_features}]",
                norm.dtype, norm.shape
            )
            .into());
        }
        let mut shape = x.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = gate.shape[0];
        }
        Ok(vec![TensorType { shape, dtype: x.dtype }])
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
        let norm_weight = inputs[1].as_slice::<f32>()?;
        let gate = view_of(&inputs[2..5], self.gate)?;
        let up = view_of(&inputs[5..8], self.up)?;
        let out = output.as_mut_slice::<T>()?;
        // [task 2.2.10] norm_swiglu
        todo!("week 2 day 2 task 10: norm_swiglu - see book/src/week2/day2.md")
        // [end]
    }
}

// [task 2.2.10 helpers] silu of one number
// [end]
