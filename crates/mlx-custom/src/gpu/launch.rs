//! How a kernel is started: how many threads, which outputs, which constants.

use mlx_rs::Dtype;

use crate::TensorType;

/// A constant that is known when the kernel is compiled. Each combination of values is compiled once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TemplateValue {
    Int(i32),
    Bool(bool),
    /// A type: `float`, `half`, `bfloat16_t`, `uint`, ...
    Dtype(Dtype),
}

/// One start of a kernel.
#[derive(Debug, Clone)]
pub struct Launch<'a> {
    /// Names in the body and what they stand for.
    pub template: &'a [(&'static str, TemplateValue)],
    /// Shapes and types of the outputs, in the kernel's order.
    pub outputs: &'a [TensorType],
    /// Threads in all, along x, y and z: a multiple of `threadgroup` along each.
    pub grid: [usize; 3],
    /// Threads that share threadgroup memory and meet at barriers: at most 1024 in all.
    pub threadgroup: [usize; 3],
    /// What outputs hold before the kernel runs; `None`: anything, so it must write every element.
    pub fill: Option<f32>,
}
