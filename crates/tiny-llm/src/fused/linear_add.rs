//! A projection whose result is added to the residual stream, in one operation.

use half::{bf16, f16};
use mlx_custom::{CpuOperation, Layout, OperationError, Strided, Tensor, TensorMut, TensorType, apply_n};
use mlx_rs::{Array, Dtype};

use crate::Result;
use crate::quantized::QuantizedMatrix;
use crate::quantized::kernel::chosen_kernel;
use crate::quantized::matrix::ConstantMatrix;
use crate::quantized::tiles::{Float, Output, for_each_tile, quantize_tokens};
use crate::quantized::view::MatrixView;

/// `residual + x Wᵀ`: `[B, L, O]`, in the residual's dtype, which is `x`'s too. The sum is computed in f32 and rounded once.
///
/// `x` is `[B, L, I]`, or `[B, H, L, D]` with `I = H D`: then the heads of a token are taken one after the other, as
/// `swap_axes` and `reshape` would put them, without a copy.
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) when the shapes do not fit.
pub fn linear_add(x: &Array, residual: &Array, matrix: &QuantizedMatrix) -> Result<Array> {
    let [output] = apply_n(LinearAdd { matrix: matrix.constant()? }, &[x, residual])?;
    Ok(output)
}

/// Inputs: x `[B, L, I]` or `[B, H, L, D]`, residual `[B, L, O]`.
struct LinearAdd {
    matrix: ConstantMatrix,
}

impl CpuOperation for LinearAdd {
    fn name(&self) -> &'static str {
        "linear_add"
    }

    fn outputs(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
        let [x, residual] = inputs else { return Err("takes x and a residual".into()) };
        let (inputs, outputs) = (self.matrix.inputs(), self.matrix.outputs());
        let fits = match (x.shape.as_slice(), residual.shape.as_slice()) {
            (&[batch, heads, len, dim], &[b, l, o]) => (b, l, o, heads * dim) == (batch, len, outputs, inputs),
            (&[batch, len, dim], &[b, l, o]) => (b, l, o, dim) == (batch, len, outputs, inputs),
            _ => false,
        };
        if !fits || x.dtype != residual.dtype {
            return Err(format!(
                "x {:?} {:?} and residual {:?} {:?} do not fit a matrix [{outputs}, {inputs}]",
                x.dtype, x.shape, residual.dtype, residual.shape
            )
            .into());
        }
        Ok(vec![residual.clone()])
    }

    fn layout(&self, input: usize) -> Layout {
        if input == 0 { Layout::Strided } else { Layout::Contiguous }
    }

    fn reuses(&self) -> &[(usize, usize)] {
        &[(1, 0)]
    }

    fn run(&self, inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), OperationError> {
        match inputs[0].dtype() {
            Dtype::Float32 => self.run_in::<f32>(inputs, &mut outputs[0]),
            Dtype::Float16 => self.run_in::<f16>(inputs, &mut outputs[0]),
            Dtype::Bfloat16 => self.run_in::<bf16>(inputs, &mut outputs[0]),
            other => Err(format!("x is {other:?}, not a float type").into()),
        }
    }
}

impl LinearAdd {
    fn run_in<T: Float>(&self, inputs: &[Tensor<'_>], output: &mut TensorMut<'_>) -> Result<(), OperationError> {
        let holds_residual = output.holds_input();
        let out = output.as_mut_slice::<T>()?;
        if !holds_residual {
            out.copy_from_slice(inputs[1].as_slice::<T>()?);
        }
        add_projection(&inputs[0].strided::<T>()?, &self.matrix.view()?, out)
    }
}

/// `out += x Wᵀ`, the step that [`linear_add`] is: `x` is `[B, L, I]` or `[B, H, L, D]`, `out` is `[B, L, O]`.
///
/// # Errors
/// When `x` has neither three nor four axes, or [`chosen_kernel`] finds none.
pub(super) fn add_projection<T: Float>(
    x: &Strided<'_, T>,
    matrix: &MatrixView<'_>,
    out: &mut [T],
) -> Result<(), OperationError> {
    // As [B, heads, L, dim]; three axes are one head.
    let (heads, len, dim) = match *x.shape() {
        [_, heads, len, dim] => (heads, len, dim),
        [_, len, dim] => (1, len, dim),
        _ => return Err("x has neither three nor four axes".into()),
    };
    let has_heads = x.shape().len() == 4;
    // [task 2.2c.3] linear_add
    todo!("week 2 day 2c task 3: linear_add - see book/src/week2/day2c.md")
    // [end]
}

// [task 2.2c.3 helpers] one row of a strided tensor
// [end]
