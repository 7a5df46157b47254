//! An operation made of closures, so that a test shows what matters to it.

use mlx_custom::{CpuOperation, Layout, OperationError, Tensor, TensorMut, TensorType, apply};
use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype};

pub type Outcome = Result<(), OperationError>;

pub struct Closure<R> {
    pub outputs: Vec<TensorType>,
    pub layout: Layout,
    pub reuses: Vec<(usize, usize)>,
    pub run: R,
}

impl<R> Closure<R>
where
    R: Fn(&[Tensor<'_>], &mut [TensorMut<'_>]) -> Outcome + Send + Sync + 'static,
{
    /// An operation with these outputs whatever the inputs.
    pub fn new(outputs: impl Into<Vec<TensorType>>, run: R) -> Self {
        Self { outputs: outputs.into(), layout: Layout::Contiguous, reuses: Vec::new(), run }
    }

    pub fn strided(self) -> Self {
        Self { layout: Layout::Strided, ..self }
    }

    pub fn reusing(self, pairs: &[(usize, usize)]) -> Self {
        Self { reuses: pairs.to_vec(), ..self }
    }

    /// Applies an operation that has one output.
    pub fn apply1(self, inputs: &[&Array]) -> Result<Array, Exception> {
        apply(self, inputs).map(|mut outputs| outputs.remove(0))
    }
}

impl<R> CpuOperation for Closure<R>
where
    R: Fn(&[Tensor<'_>], &mut [TensorMut<'_>]) -> Outcome + Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        "closure"
    }

    fn outputs(&self, _: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
        Ok(self.outputs.clone())
    }

    fn run(&self, inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> Outcome {
        (self.run)(inputs, outputs)
    }

    fn layout(&self, _: usize) -> Layout {
        self.layout
    }

    fn reuses(&self) -> &[(usize, usize)] {
        &self.reuses
    }
}

pub fn f32_type(shape: &[usize]) -> TensorType {
    TensorType::new(shape, Dtype::Float32)
}

/// `0, 1, 2, …` in this shape.
pub fn counting(shape: &[i32]) -> Array {
    let numbers: Vec<f32> = (0..shape.iter().product::<i32>()).map(|i| i as f32).collect();
    Array::from_slice(&numbers, shape)
}

/// `x + amount`, f32, in the shape of `x`.
pub fn add(x: &Array, amount: f32) -> Array {
    let shape: Vec<usize> = x.shape().iter().map(|&len| len as usize).collect();
    let operation = Closure::new([f32_type(&shape)], move |inputs, outputs| {
        let x = inputs[0].as_slice::<f32>()?;
        for (y, x) in outputs[0].as_mut_slice::<f32>()?.iter_mut().zip(x) {
            *y = x + amount;
        }
        Ok(())
    });
    operation.apply1(&[x]).unwrap()
}

/// Fails when it runs.
pub fn failing(x: &Array, message: &'static str) -> Array {
    Closure::new([f32_type(&[2])], move |_, _| Err(message.into())).apply1(&[x]).unwrap()
}
