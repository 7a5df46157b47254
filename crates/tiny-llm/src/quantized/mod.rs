//! Weights of 4 and 8 bits, and arithmetic that uses them as they are stored.
//!
//! | module | what |
//! |---|---|
//! | [`matrix`] | a quantized weight matrix as MLX arrays |
//! | [`affine`] | packing, dequantizing, quantizing with array operations |
//! | [`plain`] | matrix multiplication in plain loops: the readable oracle |
//! | [`view`], [`activations`] | what a kernel sees |
//! | [`kernel`] | the fast kernels, one for each instruction set |
//! | [`tiles`] | work spread over threads |
//! | [`matmul`] | the MLX operation |
//! | [`linear`], [`embedding`] | the layers |
//! | [`gpu`] | day 2.3: the same on a GPU |

pub mod activations;
pub mod affine;
pub mod embedding;
pub mod gpu;
pub mod kernel;
pub mod linear;
pub mod matmul;
pub mod matrix;
pub mod plain;
pub mod tiles;
pub mod view;

pub use affine::{dequantize, pack, quantize, unpack};
pub use embedding::QuantizedEmbedding;
pub use linear::QuantizedLinear;
pub use matmul::quantized_matmul;
pub use matrix::QuantizedMatrix;
