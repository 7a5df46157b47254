//! Projections of the same input as one product.

use mlx_custom::gpu::GpuBackend;
use mlx_rs::{Array, ops};

use super::swiglu_gpu;
use crate::quantized::gpu::quantized_swiglu_gpu;
use crate::quantized::{QuantizedLinear, QuantizedMatrix};
use crate::{Device, Linear, Projection, Result};

/// Projections of the same input, their outputs side by side. On a GPU each product costs its start; joined, a few products
/// cost one.
#[derive(Debug, Clone)]
pub enum JoinedProjection {
    /// Their weights are one matrix, the rows of the first, then those of the second, ...
    One(Projection),
    /// Their weights differ in format: a product each.
    Several(Vec<Projection>),
}

impl JoinedProjection {
    /// Joins the weights if they are all dense or all quantized in the same way, of one dtype, without biases.
    ///
    /// A matrix that is made here is computed at once, so that the parts' memory is given back.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) when there is not enough memory.
    pub fn new(parts: Vec<Projection>) -> Result<Self> {
        if let Some(linears) = all(&parts, dense)
            && linears.iter().all(|linear| linear.weight.dtype() == linears[0].weight.dtype())
        {
            let weights: Vec<&Array> = linears.iter().map(|linear| &linear.weight).collect();
            let weight = ops::concatenate(&weights, 0)?;
            weight.eval()?;
            return Ok(Self::One(Linear::new(weight, None).into()));
        }
        if let Some(matrices) = all(&parts, quantized)
            && let Some(matrix) = QuantizedMatrix::join(&matrices)?
        {
            return Ok(Self::One(Projection::from(QuantizedLinear::new(matrix, None)).on(Device::Gpu)));
        }
        Ok(Self::Several(parts))
    }

    /// `[.., I]` to `[.., O]`, where O is the sum of the parts' outputs.
    ///
    /// # Errors
    /// As [`Projection::forward`].
    pub fn forward(&self, x: &Array) -> Result<Array> {
        match self {
            Self::One(projection) => projection.forward(x),
            Self::Several(parts) => {
                let outputs = parts.iter().map(|part| part.forward(x)).collect::<Result<Vec<_>>>()?;
                Ok(ops::concatenate(&outputs, -1)?)
            }
        }
    }

    /// `silu(gate) * up`, where gate and up are the two projections: `[.., K]` to `[.., I]`. For few tokens the product's own kernel does
    /// it; otherwise another one behind it.
    ///
    /// # Errors
    /// As [`forward`](Self::forward) and [`swiglu_gpu`].
    pub fn forward_swiglu(&self, x: &Array, backend: GpuBackend) -> Result<Array> {
        if let Self::One(Projection::Quantized(gate_up)) = self
            && gate_up.bias.is_none()
            && let Some(hidden) = quantized_swiglu_gpu(backend, x, &gate_up.weight)?
        {
            return Ok(hidden);
        }
        swiglu_gpu(&self.forward(x)?, backend)
    }
}

/// What `of` finds in each part, if it finds it in all of them.
fn all<'a, T>(parts: &'a [Projection], of: impl Fn(&'a Projection) -> Option<T>) -> Option<Vec<T>> {
    parts.iter().map(of).collect::<Option<Vec<T>>>().filter(|found| !found.is_empty())
}

fn dense(projection: &Projection) -> Option<&Linear> {
    match projection {
        Projection::Dense(linear) if linear.bias.is_none() => Some(linear),
        _ => None,
    }
}

fn quantized(projection: &Projection) -> Option<&QuantizedMatrix> {
    match projection {
        Projection::Quantized(linear) if linear.bias.is_none() => Some(&linear.weight),
        _ => None,
    }
}
