//! A quantized weight matrix as MLX arrays.

use std::sync::OnceLock;

use checkpoint::QuantizedTensor;
use mlx_custom::{Constant, OperationError, Tensor};
use mlx_rs::{Array, Dtype, ops};

use crate::quantized::view::{Floats, MatrixView};
use crate::{Error, Result};

/// A weight matrix `[O, I]` of 4- or 8-bit integers in MLX's affine format: `weight = scale * integer + bias`, where each
/// group of `group_size` neighbours in a row has one scale and one bias.
#[derive(Debug, Clone)]
pub struct QuantizedMatrix {
    /// `[O, I * bits / 32]` u32: the integers of a row one after the other, the first in the lowest bits of a word.
    pub packed: Array,
    /// `[O, I / group_size]`
    pub scales: Array,
    /// `[O, I / group_size]`, in the scales' dtype.
    pub biases: Array,
    /// 32, 64 or 128.
    pub group_size: usize,
    /// 4 or 8.
    pub bits: usize,
    /// The arrays as parameters of operations, from the first time that they are needed.
    constant: OnceLock<ConstantMatrix>,
}

impl QuantizedMatrix {
    /// The parts of a matrix, as the fields describe them.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when shapes, dtypes, group size or bits do not go together.
    pub fn new(packed: Array, scales: Array, biases: Array, group_size: usize, bits: usize) -> Result<Self> {
        let refuse = |message: String| Err(Error::invalid("QuantizedMatrix::new", message));
        if !matches!(bits, 4 | 8) || !matches!(group_size, 32 | 64 | 128) {
            return refuse(format!(
                "{bits} bits in groups of {group_size}: there are 4 and 8 bits, and groups of 32, 64, 128"
            ));
        }
        let is_float = matches!(scales.dtype(), Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16);
        if packed.dtype() != Dtype::Uint32 || !is_float || biases.dtype() != scales.dtype() {
            let (packed, scales, biases) = (packed.dtype(), scales.dtype(), biases.dtype());
            return refuse(format!(
                "packed {packed:?}, scales {scales:?}, biases {biases:?}: these are u32 and one float type"
            ));
        }
        let fits = match (packed.shape(), scales.shape()) {
            (&[rows, words], &[scale_rows, groups]) => {
                rows == scale_rows && groups > 0 && words as usize * 32 == groups as usize * group_size * bits
            }
            _ => false,
        };
        if !fits || biases.shape() != scales.shape() {
            return refuse(format!(
                "packed {:?}, scales {:?} and biases {:?} are no matrix of {bits} bits in groups of {group_size}",
                packed.shape(),
                scales.shape(),
                biases.shape()
            ));
        }
        Ok(Self { packed, scales, biases, group_size, bits, constant: OnceLock::new() })
    }

    /// The rows of several matrices one after another, or `None` unless they agree in I, format and the scales' dtype.
    ///
    /// It is computed at once: then it depends on none of them any more, and their memory can be given back.
    ///
    /// # Errors
    /// [`Error::Mlx`] when there is not enough memory.
    pub fn join(matrices: &[&Self]) -> Result<Option<Self>> {
        let kind = |matrix: &Self| (matrix.inputs(), matrix.group_size, matrix.bits, matrix.scales.dtype());
        let Some(&first) = matrices.first() else { return Ok(None) };
        if matrices.iter().any(|matrix| kind(matrix) != kind(first)) {
            return Ok(None);
        }
        let rows = |part: fn(&Self) -> &Array| -> Result<Array> {
            let parts: Vec<&Array> = matrices.iter().map(|matrix| part(matrix)).collect();
            let joined = ops::concatenate(&parts, 0)?;
            joined.eval()?;
            Ok(joined)
        };
        let (packed, scales) = (rows(|matrix| &matrix.packed)?, rows(|matrix| &matrix.scales)?);
        Self::new(packed, scales, rows(|matrix| &matrix.biases)?, first.group_size, first.bits).map(Some)
    }

    /// Reads everything once: see [`TokenEmbedding::touch`](crate::TokenEmbedding::touch).
    ///
    /// # Errors
    /// [`Error::Mlx`] when the arrays cannot be computed.
    pub fn touch(&self) -> Result<()> {
        for part in [&self.packed, &self.scales, &self.biases] {
            part.max(None)?.eval()?;
        }
        Ok(())
    }

    /// O
    pub fn outputs(&self) -> usize {
        self.packed.dim(0) as usize
    }

    /// I
    pub fn inputs(&self) -> usize {
        self.scales.dim(1) as usize * self.group_size
    }

    /// The matrix as a parameter of operations. Weights are no inputs: see [`Constant`].
    ///
    /// # Errors
    /// [`Error::Mlx`] when the arrays cannot be computed.
    pub fn constant(&self) -> Result<ConstantMatrix> {
        if let Some(constant) = self.constant.get() {
            return Ok(constant.clone());
        }
        let Self { packed, scales, biases, group_size, bits, .. } = self;
        let constant = ConstantMatrix {
            packed: Constant::new(packed)?,
            scales: Constant::new(scales)?,
            biases: Constant::new(biases)?,
            group_size: *group_size,
            bits: *bits,
        };
        Ok(self.constant.get_or_init(|| constant).clone())
    }
}

/// The values of a [`QuantizedMatrix`], held by an operation.
#[derive(Debug, Clone)]
pub struct ConstantMatrix {
    packed: Constant,
    scales: Constant,
    biases: Constant,
    group_size: usize,
    bits: usize,
}

impl ConstantMatrix {
    /// O
    pub fn outputs(&self) -> usize {
        self.packed.tensor_type().shape[0]
    }

    /// I
    pub fn inputs(&self) -> usize {
        self.scales.tensor_type().shape[1] * self.group_size
    }

    /// Group size and bits. Matrices that share activations must agree in it.
    pub fn format(&self) -> (usize, usize) {
        (self.group_size, self.bits)
    }

    /// The three arrays.
    pub fn constants(&self) -> [&Constant; 3] {
        [&self.packed, &self.scales, &self.biases]
    }

    /// What a kernel works with.
    ///
    /// # Errors
    /// When the parts do not fit together, which [`QuantizedMatrix::new`] has checked.
    pub fn view(&self) -> Result<MatrixView<'_>, OperationError> {
        let view = MatrixView {
            outputs: self.outputs(),
            inputs: self.inputs(),
            group_size: self.group_size,
            bits: self.bits,
            words: self.packed.tensor().as_slice()?,
            scales: floats(&self.scales.tensor())?,
            biases: floats(&self.biases.tensor())?,
        };
        view.check()?;
        Ok(view)
    }
}

impl TryFrom<QuantizedTensor> for QuantizedMatrix {
    type Error = Error;

    fn try_from(tensor: QuantizedTensor) -> Result<Self> {
        Self::new(tensor.packed, tensor.scales, tensor.biases, tensor.group_size, tensor.bits)
    }
}

/// A floating-point tensor as a slice.
///
/// # Errors
/// When it holds integers.
pub fn floats<'a>(tensor: &Tensor<'a>) -> Result<Floats<'a>, OperationError> {
    Ok(match tensor.dtype() {
        Dtype::Float32 => Floats::F32(tensor.as_slice()?),
        Dtype::Float16 => Floats::F16(tensor.as_slice()?),
        _ => Floats::Bf16(tensor.as_slice()?),
    })
}
