//! The cache of keys and values for a model on the GPU.

use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::ops::{concatenate, zeros_dtype};
use mlx_rs::{Array, Dtype};

use crate::{Error, KvCache, Offset, Result};

/// Keeps everything, as [`FullKvCache`](crate::FullKvCache) does, with MLX's own operations, which exist for every device. MLX
/// writes new tokens in place if nobody else holds the buffer.
#[derive(Debug)]
pub struct SliceKvCache {
    /// Keys and values, each `[B, H_kv, capacity, D]`.
    buffers: Option<[Array; 2]>,
    len: usize,
}

/// Buffers grow by so many tokens at a time.
const STEP: usize = 256;

impl SliceKvCache {
    /// Nothing is stored.
    pub fn new() -> Self {
        Self { buffers: None, len: 0 }
    }

    /// `buffer` with room for `capacity` tokens of the shape of `new`.
    fn grown(&self, buffer: Option<Array>, new: &Array, capacity: usize) -> Result<Array> {
        let mut shape = new.shape().to_vec();
        let old = buffer.as_ref().map_or(0, |buffer| buffer.dim(2) as usize);
        shape[2] = (capacity - old) as i32;
        let room = zeros_dtype(&shape, new.dtype())?;
        Ok(match buffer {
            Some(buffer) => concatenate(&[buffer, room], 2)?,
            None => room,
        })
    }

    fn check_new(&self, keys: &Array, values: &Array) -> Result<()> {
        let refuse = |message: String| Err(Error::invalid("SliceKvCache::update_and_fetch", message));
        let (shape, dtype) = (keys.shape(), keys.dtype());
        if shape.len() != 4 || shape.contains(&0) || values.shape() != shape {
            let message = format!("keys {shape:?} and values {:?} are not both [B, H_kv, L, D]", values.shape());
            return refuse(message);
        }
        let is_known = matches!(dtype, Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16);
        if !is_known || values.dtype() != dtype {
            let message = format!("keys are {dtype:?} and values {:?}, not both f32, f16 or bf16", values.dtype());
            return refuse(message);
        }
        let of_token = |shape: &[i32]| [shape[0], shape[1], shape[3]]; // B, H_kv, D
        match &self.buffers {
            Some([stored, _]) if of_token(shape) != of_token(stored.shape()) || dtype != stored.dtype() => refuse(
                format!("{dtype:?} keys {shape:?} do not continue {:?} ones of {:?}", stored.dtype(), stored.shape()),
            ),
            _ => Ok(()),
        }
    }
}

impl Default for SliceKvCache {
    fn default() -> Self {
        Self::new()
    }
}

impl KvCache for SliceKvCache {
    fn update_and_fetch(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        self.check_new(keys, values)?;
        let (from, to) = (self.len as i32, self.len as i32 + keys.dim(2));
        let capacity = (to as usize).next_multiple_of(STEP);
        let mut filled = Vec::with_capacity(2);
        let mut buffers = Vec::with_capacity(2);
        for (idx, new) in [keys, values].into_iter().enumerate() {
            let old = self.buffers.as_ref().map(|buffers| buffers[idx].clone());
            let has_room = old.as_ref().is_some_and(|old| old.dim(2) as usize >= capacity);
            let mut buffer = match old {
                Some(old) if has_room => old,
                old => self.grown(old, new, capacity)?,
            };
            buffer.try_index_mut((.., .., from..to, ..), new)?;
            filled.push(buffer.try_index((.., .., ..to, ..))?);
            buffers.push(buffer);
        }
        let ([filled_keys, filled_values], [keys, values]) = (pair(filled)?, pair(buffers)?);
        (self.buffers, self.len) = (Some([keys, values]), to as usize);
        Ok((filled_keys, filled_values))
    }

    fn offset(&self) -> Offset<'_> {
        Offset::Same(self.len as i32)
    }

    fn rewind(&mut self, n_tokens: usize) -> Result<()> {
        let Some(len) = self.len.checked_sub(n_tokens) else {
            let message = format!("cannot forget {n_tokens} tokens, {} are stored", self.len);
            return Err(Error::invalid("SliceKvCache::rewind", message));
        };
        self.len = len;
        Ok(())
    }

    fn reset(&mut self) {
        *self = Self::new();
    }
}

fn pair(arrays: Vec<Array>) -> Result<[Array; 2]> {
    <[Array; 2]>::try_from(arrays).map_err(|_| Error::invalid("SliceKvCache", "keys and values are two arrays"))
}
