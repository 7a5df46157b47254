//! The same append from MLX's own operations, which run on any device: on a GPU nothing may wait for the CPU.

use mlx_custom::{CpuOperation, TensorType};
use mlx_rs::ops;
use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::{Array, Dtype};

use crate::{Error, KvAppend, KvBuffers, Result};

const OPERATION: &str = "KvAppend::apply_on_gpu";

impl KvAppend {
    /// As [`KvAppend::apply`], on the device where the arrays are.
    ///
    /// The new tokens are assigned to a slice of the stored buffer. If nobody else can see the buffer when the result is
    /// evaluated, MLX writes into its memory; so the caller drops it, as for [`KvAppend::apply`]. Bytes are counted
    /// when the graph is built.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when shapes or dtypes do not fit together, or there is no room.
    pub fn apply_on_gpu(self, stored: Option<&KvBuffers>, keys: &Array, values: &Array) -> Result<KvBuffers> {
        let append = self.behind(stored);
        let (keys_type, values_type) = (type_of(keys), type_of(values));
        let is_float = matches!(keys.dtype(), Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16);
        if keys_type != values_type || keys.size() == 0 || !is_float {
            let message = format!(
                "keys {keys_type:?} and values {values_type:?} are not both [B, H_kv, L, D] of f32, f16 or bf16"
            );
            return Err(Error::invalid(OPERATION, message));
        }
        let mut inputs = vec![keys_type, values_type];
        inputs.extend(stored.iter().flat_map(|stored| [type_of(&stored.keys), type_of(&stored.values)]));
        append.outputs(&inputs).map_err(|error| Error::invalid(OPERATION, error.to_string()))?;
        Ok(KvBuffers {
            keys: append.assign(stored.map(|stored| &stored.keys), keys)?,
            values: append.assign(stored.map(|stored| &stored.values), values)?,
        })
    }

    /// One of the two: `[B, H_kv, capacity, D]`.
    fn assign(&self, stored: Option<&Array>, new: &Array) -> Result<Array> {
        let (first, last) = (self.len() as i32, self.len() as i32 + new.dim(2));
        let mut buffer = match stored {
            Some(stored) if self.keeps_capacity() => stored.clone(),
            _ => {
                let shape = [new.dim(0), new.dim(1), self.capacity() as i32, new.dim(3)];
                let mut larger = ops::zeros_dtype(&shape, new.dtype())?;
                if let Some(stored) = stored {
                    larger.try_index_mut((.., .., ..first), stored.try_index((.., .., ..first))?)?;
                    self.count_bytes(bytes_of_tokens(new) * self.len());
                }
                larger
            }
        };
        buffer.try_index_mut((.., .., first..last), new)?;
        self.count_bytes(bytes_of_tokens(new) * new.dim(2) as usize);
        Ok(buffer)
    }
}

fn type_of(array: &Array) -> TensorType {
    TensorType::new(array.shape().iter().map(|&n| n as usize).collect::<Vec<_>>(), array.dtype())
}

/// The bytes of one token of all rows and heads.
fn bytes_of_tokens(new: &Array) -> usize {
    let size = if new.dtype() == Dtype::Float32 { 4 } else { 2 };
    size * new.size() / (new.dim(2) as usize).max(1)
}
