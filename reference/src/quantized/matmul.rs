//! Multiplication by a quantized matrix as an MLX operation.

use mlx_custom::{Constant, CpuOperation, OperationError, Tensor, TensorMut, TensorType, apply_n};
use mlx_rs::{Array, Dtype};

use half::{bf16, f16};

use crate::quantized::kernel::{Kernel, chosen_kernel};
use crate::quantized::matrix::{ConstantMatrix, QuantizedMatrix, floats};
use crate::quantized::plain::plain_matmul;
use crate::quantized::tiles::{Float, Output, for_each_tile, quantize_tokens};
use crate::quantized::view::MatrixView;
use crate::{Error, Result};

/// How activations enter the multiplication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Day 2.2b: rounded to 16-bit integers per group, see [`activations`](crate::quantized::activations), for the kernel that
    /// [`chosen_kernel`] gives.
    #[default]
    Int16,
    /// Day 2.2a: as f32, in plain loops.
    Float32,
}

/// `x Wᵀ + b` with a quantized `W`: `[.., I]` to `[.., O]`, in `x`'s dtype.
///
/// `bias` is `[O]`. Activations are rounded to 16 bits per group; [`quantized_matmul_in`] leaves the choice.
///
/// # Errors
/// [`Error::Mlx`] when the shapes do not fit or `x` is not a float array; [`Error::InvalidArgument`] when [`chosen_kernel`] finds
/// none.
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
    match precision {
        Precision::Float32 => multiply(Product::Plain, x, matrix, bias),
        Precision::Int16 => {
            let kernel = chosen_kernel().map_err(|problem| Error::invalid("quantized_matmul", problem))?;
            quantized_matmul_with(kernel, x, matrix, bias)
        }
    }
}

/// [`quantized_matmul`] with this kernel, whichever one is chosen.
///
/// # Errors
/// [`Error::Mlx`] when the shapes do not fit or `x` is not a float array.
pub fn quantized_matmul_with(
    kernel: &'static dyn Kernel,
    x: &Array,
    matrix: &QuantizedMatrix,
    bias: Option<&Array>,
) -> Result<Array> {
    multiply(Product::Kernel(kernel), x, matrix, bias)
}

fn multiply(product: Product, x: &Array, matrix: &QuantizedMatrix, bias: Option<&Array>) -> Result<Array> {
    let bias = bias.map(Constant::new).transpose()?;
    let [output] = apply_n(QuantizedMatmul { matrix: matrix.constant()?, bias, product }, &[x])?;
    Ok(output)
}

/// Who multiplies.
#[derive(Clone, Copy)]
enum Product {
    /// [`plain_matmul`]
    Plain,
    Kernel(&'static dyn Kernel),
}

/// Input: `x`, `[.., I]`.
struct QuantizedMatmul {
    matrix: ConstantMatrix,
    /// `[O]`
    bias: Option<Constant>,
    product: Product,
}

impl CpuOperation for QuantizedMatmul {
    fn name(&self) -> &'static str {
        "quantized_matmul"
    }

    fn outputs(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
        let [x] = inputs else { return Err("takes one array".into()) };
        check_bias(self.bias.as_ref(), self.matrix.outputs())?;
        Ok(vec![projected(x, &self.matrix)?])
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
        let matrix = self.matrix.view()?;
        let bias = self.bias.as_ref().map(|bias| floats(&bias.tensor())).transpose()?;
        let bias = |row: usize| bias.as_ref().map_or(0.0, |bias| bias.get(row));
        let out = output.as_mut_slice::<T>()?;
        match self.product {
            Product::Plain => multiply_plainly(&matrix, x, bias, out),
            Product::Kernel(kernel) => multiply_in_tiles(kernel, &matrix, x, bias, out),
        }
        Ok(())
    }
}

/// `out[m, o] = Σ_i weight[o, i] * x[m, i] + bias(o)` with [`plain_matmul`]: all of it in f32, rounded once, to T.
///
/// - `x`: `[M, I]`
/// - `bias`: the layer's bias, 0 if it has none
/// - `out`: `[M, O]`
fn multiply_plainly<T: Float>(matrix: &MatrixView<'_>, x: &[T], bias: impl Fn(usize) -> f32, out: &mut [T]) {
    // [task 2.2a.4] multiply_plainly
    let n_tokens = x.len() / matrix.inputs;
    let x: Vec<f32> = x.iter().map(|value| value.to_f32()).collect();
    let mut products = vec![0.0; out.len()];
    plain_matmul(matrix, &x, n_tokens, &mut products);
    for (at, (out, product)) in out.iter_mut().zip(products).enumerate() {
        *out = T::from_f32(product + bias(at % matrix.outputs));
    }
    // [end]
}

/// The same with a kernel: activations are rounded once, tiles are spread over the threads, and a sum and the layer's bias are
/// added in f32 and rounded once, to T.
fn multiply_in_tiles<T: Float>(
    kernel: &dyn Kernel,
    matrix: &MatrixView<'_>,
    x: &[T],
    bias: impl Fn(usize) -> f32 + Sync,
    out: &mut [T],
) {
    let n_tokens = x.len() / matrix.inputs;
    let read_row = |token: usize, row: &mut [f32]| {
        for (to, from) in row.iter_mut().zip(&x[token * matrix.inputs..]) {
            *to = from.to_f32();
        }
    };
    // [task 2.2b.3] multiply_in_tiles
    let activations = quantize_tokens(kernel, matrix, n_tokens, read_row);
    let out = Output::new(out, matrix.outputs);
    for_each_tile(n_tokens, matrix.outputs, |tokens, rows, tile| {
        tile.resize(tokens.len() * rows.len(), 0.0);
        kernel.multiply(matrix, &activations, tokens.clone(), rows.clone(), tile);
        for (token, sums) in tokens.zip(tile.chunks_exact(rows.len())) {
            // SAFETY: this tile's own part.
            let out = unsafe { out.part(token, rows.clone()) };
            for ((out, sum), row) in out.iter_mut().zip(sums).zip(rows.clone()) {
                *out = T::from_f32(sum + bias(row));
            }
        }
    });
    // [end]
}

/// What `x Wᵀ` will be.
///
/// # Errors
/// When `x` (`[.., I]`) does not fit the matrix or is not a float array.
pub fn projected(x: &TensorType, matrix: &ConstantMatrix) -> Result<TensorType, OperationError> {
    let mut shape = x.shape.clone();
    match shape.last_mut() {
        Some(last) if *last == matrix.inputs() && is_float(x.dtype) => *last = matrix.outputs(),
        _ => {
            let (dtype, inputs) = (x.dtype, matrix.inputs());
            return Err(format!("x is {dtype:?} of {:?}; the matrix takes floats of [.., {inputs}]", x.shape).into());
        }
    }
    Ok(TensorType { shape, dtype: x.dtype })
}

/// # Errors
/// When there is a bias that is not `[outputs]` floats.
pub fn check_bias(bias: Option<&Constant>, outputs: usize) -> Result<(), OperationError> {
    match bias.map(Constant::tensor_type) {
        Some(TensorType { shape, dtype }) if *shape != [outputs] || !is_float(*dtype) => {
            Err(format!("the bias is {dtype:?} of {shape:?}, not floats of [{outputs}]").into())
        }
        _ => Ok(()),
    }
}

/// Whether activations may have this type.
pub fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16)
}
