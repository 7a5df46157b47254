//! What is multiplied, and by whom.

use anyhow::{Result, ensure};
use mlx_custom::gpu::GpuBackend;
use mlx_rs::ops::{quantize, quantized_matmul};
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Dtype, random};

use crate::engine::quantized::QuantizedMatrix;
use crate::engine::quantized::gpu::matvec::{MatvecShape, matvec_in};
use crate::engine::quantized::gpu::operands::Operands;
use crate::engine::quantized::gpu::tiled::{TileShape, tiled_in};
use crate::engine::quantized::gpu::{GpuMatmul, quantized_matmul_gpu, quantized_matmul_gpu_with};
use crate::{Arguments, MLX};

/// Matrices of one shape and activations for them.
pub struct Work {
    pub outputs: usize,
    pub inputs: usize,
    pub tokens: usize,
    pub calls: usize,
    pub chained: bool,
    pub matrices: Vec<QuantizedMatrix>,
    pub x: Array,
}

/// A way to multiply.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub name: String,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Mlx,
    /// MLX's multiplication by weights that are no longer quantized.
    MlxDense,
    Dispatch,
    Ours(GpuMatmul),
    Matvec(MatvecShape),
    Tiled(TileShape),
}

impl Candidate {
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self { name: name.into(), kind }
    }
}

/// MLX's, each of ours, and what dispatch takes.
pub fn usual_candidates(tokens: usize) -> Vec<Candidate> {
    let mut candidates = vec![Candidate::new(MLX, Kind::Mlx), Candidate::new("dispatch", Kind::Dispatch)];
    if tokens <= 4 {
        candidates.push(Candidate::new("plain", Kind::Ours(GpuMatmul::Plain)));
    }
    if tokens <= 64 {
        candidates.push(Candidate::new("matvec", Kind::Ours(GpuMatmul::Matvec)));
        candidates.push(Candidate::new("matvec on tiles", Kind::Ours(GpuMatmul::MatvecTiles)));
    }
    if tokens >= 4 {
        candidates.push(Candidate::new("tiled", Kind::Ours(GpuMatmul::Tiled)));
        candidates.push(Candidate::new("dequantized", Kind::Ours(GpuMatmul::Dequantized)));
    }
    candidates.push(Candidate::new("mlx matmul, dense weights", Kind::MlxDense));
    candidates
}

impl Work {
    pub fn new(arguments: &Arguments, [outputs, inputs]: [usize; 2], tokens: usize) -> Result<Self> {
        ensure!(!arguments.chained || outputs == inputs, "a chain needs square matrices");
        let bytes_of_matrix = outputs * inputs * arguments.bits / 8;
        let n_matrices = (arguments.spread * 1_000_000).div_ceil(bytes_of_matrix).clamp(1, arguments.calls.max(1));
        let (group_size, bits) = (arguments.group_size as i32, arguments.bits as i32);
        let bound = (3.0 / inputs as f32).sqrt(); // so that results are as large as inputs
        let mut matrices = Vec::with_capacity(n_matrices);
        for seed in 0..n_matrices {
            let shape = [outputs as i32, inputs as i32];
            let key = random::key(seed as u64)?;
            let weight = random::uniform::<_, f32>(-bound, bound, &shape, &key)?.as_dtype(arguments.dtype)?;
            let (packed, scales, biases) = quantize(&weight, group_size, bits)?;
            eval([&packed, &scales, &biases])?;
            matrices.push(QuantizedMatrix::new(packed, scales, biases, arguments.group_size, arguments.bits)?);
        }
        let x = random::normal::<f32>(&[tokens as i32, inputs as i32], None, None, &random::key(99)?)?;
        let x = x.as_dtype(arguments.dtype)?;
        eval([&x])?;
        let bytes_of_result = tokens * outputs * 4;
        let calls = arguments.calls.min((2_000_000_000 / bytes_of_result).max(2)).max(1);
        Ok(Self { outputs, inputs, tokens, calls, chained: arguments.chained, matrices, x })
    }

    /// Bytes that one call must move.
    pub fn bytes(&self) -> f64 {
        let matrix = &self.matrices[0];
        let of_result = self.tokens * self.outputs * self.x.nbytes() / self.x.size();
        let arrays = [&matrix.packed, &matrix.scales, &matrix.biases, &self.x];
        (arrays.iter().map(|array| array.nbytes()).sum::<usize>() + of_result) as f64
    }

    /// Operations of one call.
    pub fn flops(&self) -> f64 {
        2.0 * self.tokens as f64 * self.outputs as f64 * self.inputs as f64
    }

    /// The lazy result of one call.
    pub fn call(&self, kind: Kind, x: &Array, matrix_idx: usize, dense: &[Array]) -> Result<Array> {
        let matrix = &self.matrices[matrix_idx % self.matrices.len()];
        let operands = || Operands::new(GpuBackend::current()?, x, matrix, None);
        Ok(match kind {
            Kind::Mlx => {
                let QuantizedMatrix { packed, scales, biases, group_size, bits, .. } = matrix;
                quantized_matmul(x, packed, scales, biases, true, *group_size as i32, *bits as i32)?
            }
            Kind::MlxDense => x.matmul(dense[matrix_idx % dense.len()].transpose()?)?,
            Kind::Dispatch => quantized_matmul_gpu(x, matrix, None)?,
            Kind::Ours(kind) => quantized_matmul_gpu_with(kind, x, matrix, None)?,
            Kind::Matvec(shape) => matvec_in(shape, &operands()?)?,
            Kind::Tiled(shape) => tiled_in(shape, &operands()?)?,
        })
    }

    /// Some of the matrices as floats.
    pub fn dense(&self) -> Result<Vec<Array>> {
        let some = self.matrices.iter().take(4);
        let dense = some
            .map(|matrix| {
                let QuantizedMatrix { packed, scales, biases, group_size, bits, .. } = matrix;
                let mut weight = mlx_rs::ops::dequantize(packed, scales, biases, *group_size as i32, *bits as i32)?;
                weight = weight.as_dtype(self.x.dtype())?;
                eval([&weight])?;
                Ok(weight)
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(dense)
    }

    /// The lazy results of all calls.
    pub fn all_calls(&self, kind: Kind, dense: &[Array]) -> Result<Vec<Array>> {
        let mut results: Vec<Array> = Vec::with_capacity(self.calls);
        for call in 0..self.calls {
            let x = match results.last() {
                Some(last) if self.chained => last.clone(),
                _ => self.x.clone(),
            };
            results.push(self.call(kind, &x, call, dense)?);
        }
        Ok(results)
    }
}

/// Largest difference from `expected`, as a part of its largest number.
pub fn relative_error(got: &Array, expected: &Array) -> Result<f64> {
    let expected = expected.as_dtype(Dtype::Float32)?;
    let difference = got.as_dtype(Dtype::Float32)?.subtract(&expected)?.abs()?.max(None)?;
    let largest = expected.abs()?.max(None)?;
    Ok(f64::from(difference.item_exact::<f32>()) / f64::from(largest.item_exact::<f32>()))
}
