//! Multiplication by a quantized matrix as an MLX operation.

use mlx_custom::{CpuOperation, OperationError, Tensor, TensorMut, TensorType, apply_n};
use mlx_rs::{Array, Dtype};

use half::{bf16, f16};

use crate::Result;
use crate::quantized::kernel::best_kernel;
use crate::quantized::matrix::{Format, QuantizedMatrix, floats, view_of};
use crate::quantized::plain::plain_matmul;
use crate::quantized::tiles::{Float, Output, for_each_tile, quantize_tokens};

/// How activations enter the multiplication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Rounded to 16-bit integers per group, see [`activations`](crate::quantized::activations).
    #[default]
    Int16,
    /// As f32, in plain loops.
    Float32,
}

/// `x Wᵀ + b` with a quantized `W`: `[.., I]` to `[.., O]`, in `x`'s dtype.
///
/// `bias` is `[O]`. Activations are rounded to 16 bits per group; [`quantized_matmul_in`] leaves the choice.
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) when the shapes do not fit or `x` is not a float array.
pub fn quantized_matmul(x: &Array, matrix: &QuantizedMatrix, bias: Option<&Array>) -> Result<Array> {
    quantized_matmul_in(Precision::default(), x, matrix, bias)
}

/// [`quantized_matmul`] with activations as `precision` says.
///
/// # Errors
/// As [`quantized_matmul`].
pub fn quantized_matmul_in(
    precision: Precision,
    x: &Array,
    matrix: &QuantizedMatrix,
    bias: Option<&Array>,
) -> Result<Array> {
    let [packed, scales, biases] = matrix.arrays();
    let inputs: Vec<&Array> = [x, packed, scales, biases].into_iter().chain(bias).collect();
    let operation = QuantizedMatmul { format: matrix.format(), precision };
    let [output] = apply_n(operation, &inputs)?;
    Ok(output)
}

/// Inputs: `x` `[.., I]`, packed, scales, biases, and perhaps the layer's bias `[O]`.
struct QuantizedMatmul {
    format: Format,
    precision: Precision,
}

impl CpuOperation for QuantizedMatmul {
    fn name(&self) -> &'static str {
        "quantized_matmul"
    }

    fn outputs(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
        let ([x, packed, scales, _] | [x, packed, scales, _, _]) = inputs else {
            return Err("takes x, a matrix and perhaps a bias".into());
        };
        let (outputs, in_features) = (packed.shape[0], scales.shape[1] * self.format.group_size);
        if x.shape.last() != Some(&in_features) || !is_float(x.dtype) {
            return Err(
                format!("x is {:?} of {:?}; the matrix takes floats of [.., {in_features}]", x.dtype, x.shape).into()
            );
        }
        if let Some(bias) = inputs.get(4)
            && (bias.shape != [outputs] || !is_float(bias.dtype))
        {
            return Err(format!("the bias is {:?} of {:?}, not floats of [{outputs}]", bias.dtype, bias.shape).into());
        }
        let mut shape = x.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = outputs;
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

impl QuantizedMatmul {
    fn run_in<T: Float>(&self, inputs: &[Tensor<'_>], output: &mut TensorMut<'_>) -> Result<(), OperationError> {
        let x = inputs[0].as_slice::<T>()?;
        let matrix = view_of(&inputs[1..4], self.format)?;
        let bias = inputs.get(4).map(floats).transpose()?;
        let bias = |row: usize| bias.as_ref().map_or(0.0, |bias| bias.get(row));
        let n_tokens = x.len() / matrix.inputs;
        let out = output.as_mut_slice::<T>()?;
        let read_row = |token: usize, row: &mut [f32]| {
            for (to, from) in row.iter_mut().zip(&x[token * matrix.inputs..]) {
                *to = from.to_f32();
            }
        };
        // [task 2.2.8] quantized_matmul
        todo!("week 2 day 2 task 8: quantized_matmul - see book/src/week2/day2.md")
        // [end]
    }
}

/// Whether activations may have this type.
pub fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16)
}
