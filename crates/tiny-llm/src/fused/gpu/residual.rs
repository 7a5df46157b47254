//! The residual stream between two kernels.

use mlx_custom::gpu::GpuBackend;
use mlx_rs::Array;
use mlx_rs::ops::indexing::TryIndexOp;

use super::{add_rms_norm_gpu, rms_norm_gpu};
use crate::{Result, RmsNorm};

/// The residual stream, of which the newest addition may still be apart: the norm that reads the stream next adds it, in
/// the same kernel.
#[derive(Debug, Clone)]
pub struct ResidualStream {
    /// `[B * L, E]`
    x: Array,
    /// `[B * L, E]`
    pending: Option<Array>,
}

impl ResidualStream {
    /// From `[B * L, E]`, with nothing to be added.
    pub fn new(x: Array) -> Self {
        Self { x, pending: None }
    }

    /// `x + addition`, both `[B * L, E]`, where the sum is left to whoever reads it.
    pub fn with_pending(x: Array, addition: Array) -> Self {
        Self { x, pending: Some(addition) }
    }

    /// The stream with everything added, and its norm, both `[B * L, E]`: one kernel.
    ///
    /// # Errors
    /// As [`add_rms_norm_gpu`].
    pub fn normalize(self, norm: &RmsNorm, backend: GpuBackend) -> Result<(Array, Array)> {
        match &self.pending {
            Some(pending) => add_rms_norm_gpu(&self.x, pending, norm, backend),
            None => {
                let normalized = rms_norm_gpu(&self.x, norm, backend)?;
                Ok((self.x, normalized))
            }
        }
    }

    /// With everything added: `[B * L, E]`.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) when the shapes do not fit.
    pub fn total(self) -> Result<Array> {
        Ok(match self.pending {
            Some(pending) => self.x.add(pending)?,
            None => self.x,
        })
    }

    /// The last `n` of the `len` tokens of each row: `[B * n, E]`.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) when there are not so many.
    pub fn last(self, n: usize, len: usize) -> Result<Self> {
        if n == len {
            return Ok(self);
        }
        let features = self.x.dim(1);
        let last = |array: &Array| -> Result<Array> {
            let rows = array.reshape(&[-1, len as i32, features])?.try_index((.., (len - n) as i32..))?;
            Ok(rows.reshape(&[-1, features])?)
        };
        Ok(Self { x: last(&self.x)?, pending: self.pending.as_ref().map(last).transpose()? })
    }
}
