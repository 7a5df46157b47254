//! What a multiplication on the GPU works with, checked once.

use mlx_custom::TensorType;
use mlx_custom::gpu::{GpuBackend, TemplateValue};
use mlx_rs::{Array, Dtype};

use crate::quantized::QuantizedMatrix;
use crate::quantized::matmul::is_float;
use crate::{Error, Result};

/// `x` as a matrix, the weights, the bias.
#[derive(Debug, Clone)]
pub struct Operands<'a> {
    /// Where the kernels run.
    pub backend: GpuBackend,
    /// `[M, K]`
    pub x: Array,
    /// `[N, K]`
    pub matrix: &'a QuantizedMatrix,
    /// `[N]`
    pub bias: Option<&'a Array>,
    /// M
    pub tokens: usize,
    /// The leading axes of the `x` that came in, and of the result.
    leading: Vec<i32>,
}

impl<'a> Operands<'a> {
    /// `x` is `[.., K]`, `bias` is `[N]`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when shapes or dtypes do not fit.
    pub fn new(backend: GpuBackend, x: &Array, matrix: &'a QuantizedMatrix, bias: Option<&'a Array>) -> Result<Self> {
        let refuse = |message: String| Err(Error::invalid("quantized_matmul_gpu", message));
        let (inputs, outputs) = (matrix.inputs(), matrix.outputs());
        let leading = match x.shape().split_last() {
            Some((&last, leading)) if last as usize == inputs && is_float(x.dtype()) => leading.to_vec(),
            _ => {
                let (dtype, shape) = (x.dtype(), x.shape());
                return refuse(format!("x is {dtype:?} of {shape:?}; the matrix takes floats of [.., {inputs}]"));
            }
        };
        if let Some(bias) = bias
            && (bias.shape() != [outputs as i32] || !is_float(bias.dtype()))
        {
            let (dtype, shape) = (bias.dtype(), bias.shape());
            return refuse(format!("the bias is {dtype:?} of {shape:?}, not floats of [{outputs}]"));
        }
        let tokens = leading.iter().map(|&len| len as usize).product();
        // For a token of a model a call of MLX that does nothing still counts.
        let x = if leading.len() == 1 { x.clone() } else { x.reshape(&[tokens as i32, inputs as i32])? };
        Ok(Self { backend, x, matrix, bias, tokens, leading })
    }

    /// N
    pub fn outputs(&self) -> usize {
        self.matrix.outputs()
    }

    /// K
    pub fn inputs(&self) -> usize {
        self.matrix.inputs()
    }

    /// Groups of a row of the matrix.
    pub fn groups(&self) -> usize {
        self.inputs() / self.matrix.group_size
    }

    /// Of the activations and of the result.
    pub fn dtype(&self) -> Dtype {
        self.x.dtype()
    }

    /// The kernels' inputs `x, packed, scales, biases, bias`. Without a bias something stands in its place, which the
    /// kernel doesn't read.
    pub fn arrays(&self) -> [&Array; 5] {
        let QuantizedMatrix { packed, scales, biases, .. } = self.matrix;
        [&self.x, packed, scales, biases, self.bias.unwrap_or(scales)]
    }

    /// The kernels' output: `[M, N]`.
    pub fn output(&self) -> TensorType {
        TensorType { shape: vec![self.tokens, self.outputs()], dtype: self.dtype() }
    }

    /// The constants that all kernels of this day take, followed by `more`.
    pub fn template(&self, more: &[(&'static str, TemplateValue)]) -> Vec<(&'static str, TemplateValue)> {
        let mut template = format_of(self.matrix).to_vec();
        template.extend([
            ("T", TemplateValue::Dtype(self.dtype())),
            ("HAS_BIAS", TemplateValue::Bool(self.bias.is_some())),
        ]);
        template.extend_from_slice(more);
        template
    }

    /// A kernel's `[M, outputs]` with the leading axes of the input: `[.., outputs]`.
    ///
    /// # Errors
    /// [`Error::Mlx`] from the reshape.
    pub fn with_leading_axes(&self, output: Array) -> Result<Array> {
        if self.leading.len() == 1 {
            return Ok(output);
        }
        let mut shape = self.leading.clone();
        shape.push(output.dim(1));
        Ok(output.reshape(&shape)?)
    }
}

/// `BITS` and `GROUP_SIZE`.
pub fn format_of(matrix: &QuantizedMatrix) -> [(&'static str, TemplateValue); 2] {
    let value = |number: usize| TemplateValue::Int(number as i32);
    [("BITS", value(matrix.bits)), ("GROUP_SIZE", value(matrix.group_size))]
}

/// The one output of a launch.
///
/// # Errors
/// [`Error::InvalidArgument`] when the kernel has another number of outputs.
pub fn single(operation: &'static str, outputs: Vec<Array>) -> Result<Array> {
    outputs.into_iter().next().ok_or_else(|| Error::invalid(operation, "the kernel has no output"))
}
