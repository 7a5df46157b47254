//! A cache for a model on a GPU: keys and values in one buffer, appended to by MLX's own operations.
//!
//! An operation in Rust would make the GPU wait for the CPU. And what a token costs there is the number of kernels, not
//! its bytes, so keys and values are heads of one buffer: one assignment appends both.

use std::ops::Range;

use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::{Array, Dtype, ops};

use crate::{Error, FullKvCache, KvCache, Offset, Result};

/// Keeps the keys and values of all tokens of one layer, as [`FullKvCache`] does, on the device where they are.
#[derive(Debug)]
pub struct GpuKvCache {
    /// `[B, 2 * H_kv, capacity, D]`: the heads of the keys, then those of the values; `None` until the first tokens come.
    buffer: Option<Array>,
    /// How many tokens of the buffer are filled and not forgotten.
    len: usize,
    /// The capacity is a multiple of this many tokens.
    step: usize,
    bytes_copied: u64,
}

impl GpuKvCache {
    /// An empty cache. It allocates nothing before the first tokens come.
    pub fn new() -> Self {
        Self { buffer: None, len: 0, step: FullKvCache::DEFAULT_STEP, bytes_copied: 0 }
    }

    /// An empty cache that grows by `step` tokens at a time.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `step` is 0.
    pub fn with_step(step: usize) -> Result<Self> {
        if step == 0 {
            return Err(Error::invalid("GpuKvCache::with_step", "a step has at least one token"));
        }
        Ok(Self { step, ..Self::new() })
    }

    /// How many tokens fit before the buffer has to grow.
    pub fn capacity(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.dim(2) as usize)
    }

    /// Bytes of keys and values moved so far: every new token once, and stored ones whenever they had to be copied. Counted
    /// when the graph is built.
    pub fn bytes_copied(&self) -> u64 {
        self.bytes_copied
    }

    /// Appends new tokens, keys and values together of shape `[B, 2 * H_kv, L, D]`: `assign` writes them to the buffer, at
    /// these tokens. Returns keys and values of all tokens.
    ///
    /// If nobody else sees the buffer when the result is evaluated, MLX writes into its memory.
    fn append(
        &mut self,
        shape: [i32; 4],
        dtype: Dtype,
        assign: impl FnOnce(&mut Array, Range<i32>) -> Result<()>,
    ) -> Result<(Array, Array)> {
        self.check_new(shape, dtype)?;
        let [batch, heads, n_new, head_dim] = shape;
        let (len, end) = (self.len as i32, self.len as i32 + n_new);
        let mut n_moved = n_new;
        let mut buffer = match &self.buffer {
            Some(stored) if end <= stored.dim(2) => stored.clone(),
            stored => {
                let capacity = (end as usize).next_multiple_of(self.step) as i32;
                let mut larger = ops::zeros_dtype(&[batch, heads, capacity, head_dim], dtype)?;
                if let Some(stored) = stored {
                    larger.try_index_mut((.., .., ..len), stored.try_index((.., .., ..len))?)?;
                    n_moved += len;
                }
                larger
            }
        };
        assign(&mut buffer, len..end)?;
        let keys = buffer.try_index((.., ..heads / 2, ..end))?;
        let values = buffer.try_index((.., heads / 2.., ..end))?;
        // Drops the old buffer: from here on only the graph holds it.
        (self.buffer, self.len) = (Some(buffer), end as usize);
        let size = if dtype == Dtype::Float32 { 4 } else { 2 };
        self.bytes_copied +=
            u64::from((batch * heads * head_dim).unsigned_abs()) * n_moved.unsigned_abs() as u64 * size;
        Ok((keys, values))
    }

    fn check_new(&self, shape: [i32; 4], dtype: Dtype) -> Result<()> {
        let refuse = |message: String| Err(Error::invalid("GpuKvCache", message));
        if shape.contains(&0) || !matches!(dtype, Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16) {
            return refuse(format!("{dtype:?} keys and values {shape:?} are no tokens of f32, f16 or bf16"));
        }
        let Some(stored) = &self.buffer else { return Ok(()) };
        let of_token = |shape: &[i32]| [shape[0], shape[1], shape[3]];
        if of_token(stored.shape()) != of_token(&shape) || stored.dtype() != dtype {
            let (stored, stored_dtype) = (stored.shape(), stored.dtype());
            return refuse(format!(
                "{dtype:?} keys and values [B, 2 * H_kv, L, D] = {shape:?} do not continue {stored_dtype:?} ones of {stored:?}"
            ));
        }
        Ok(())
    }
}

impl Default for GpuKvCache {
    fn default() -> Self {
        Self::new()
    }
}

impl KvCache for GpuKvCache {
    /// # Errors
    /// [`Error::InvalidArgument`] when `keys` and `values` are not `[B, H_kv, L, D]` of one shape and one
    /// floating-point dtype, have no tokens, or differ from what is stored in more than L.
    fn update_and_fetch(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        match (keys.shape(), keys.dtype()) {
            (&[batch, heads, n_new, head_dim], dtype) if (values.shape(), values.dtype()) == (keys.shape(), dtype) => {
                self.append([batch, 2 * heads, n_new, head_dim], dtype, |buffer, tokens| {
                    buffer.try_index_mut((.., ..heads, tokens.clone()), keys)?;
                    buffer.try_index_mut((.., heads.., tokens), values)?;
                    Ok(())
                })
            }
            (shape, dtype) => {
                let (values_shape, values_dtype) = (values.shape(), values.dtype());
                let values = format!("{values_dtype:?} values {values_shape:?}");
                let message = format!("{dtype:?} keys {shape:?} and {values} are not both [B, H_kv, L, D]");
                Err(Error::invalid("GpuKvCache::update_and_fetch", message))
            }
        }
    }

    fn update_and_fetch_joined(&mut self, keys_and_values: &Array) -> Result<(Array, Array)> {
        match keys_and_values.shape() {
            &[batch, heads, n_new, head_dim] if heads % 2 == 0 => {
                self.append([batch, heads, n_new, head_dim], keys_and_values.dtype(), |buffer, tokens| {
                    Ok(buffer.try_index_mut((.., .., tokens), keys_and_values)?)
                })
            }
            shape => {
                let message = format!("keys and values of shape {shape:?}, not [B, 2 * H_kv, L, D]");
                Err(Error::invalid("GpuKvCache::update_and_fetch_joined", message))
            }
        }
    }

    fn offset(&self) -> Offset<'_> {
        Offset::Same(self.len as i32)
    }

    /// # Errors
    /// [`Error::InvalidArgument`] when fewer than `n_tokens` are stored.
    fn rewind(&mut self, n_tokens: usize) -> Result<()> {
        let Some(len) = self.len.checked_sub(n_tokens) else {
            let message = format!("cannot forget {n_tokens} tokens, {} are stored", self.len);
            return Err(Error::invalid("GpuKvCache::rewind", message));
        };
        self.len = len;
        Ok(())
    }

    fn reset(&mut self) {
        *self = Self { step: self.step, ..Self::new() };
    }
}
