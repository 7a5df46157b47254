//! A cache for a model on a GPU: keys and values in one buffer, appended to by MLX's own operations.
//!
//! An operation in Rust would make the GPU wait for the CPU. And what a token costs there is the number of kernels, not
//! its bytes, so keys and values are heads of one buffer: one append takes both. It writes in place also while the GPU works on
//! the token before.

use mlx_custom::AppendBuffer;
use mlx_rs::{Array, Dtype, ops};

use crate::{Error, FullKvCache, KvCache, Offset, Result};

const HEAD_AXIS: usize = 1;
const TOKEN_AXIS: usize = 2;

/// Keeps the keys and values of all tokens of one layer, as [`FullKvCache`] does, on the device where they are.
#[derive(Debug)]
pub struct GpuKvCache {
    /// `[B, 2 * H_kv, capacity, D]`: the heads of the keys, then those of the values; `None` until the first tokens come.
    buffer: Option<AppendBuffer>,
    /// The capacity is a multiple of this many tokens.
    step: usize,
    bytes_copied: u64,
}

impl GpuKvCache {
    /// An empty cache. It allocates nothing before the first tokens come.
    pub fn new() -> Self {
        Self { buffer: None, step: FullKvCache::DEFAULT_STEP, bytes_copied: 0 }
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
        self.buffer.as_ref().map_or(0, AppendBuffer::capacity)
    }

    /// Bytes of keys and values moved so far: every new token once, and stored ones whenever the buffer had to grow. Counted when the
    /// graph is built; the copy behind a [`rewind`](KvCache::rewind) isn't.
    pub fn bytes_copied(&self) -> u64 {
        self.bytes_copied
    }

    fn len(&self) -> usize {
        self.buffer.as_ref().map_or(0, AppendBuffer::len)
    }

    /// The buffer, in which `n_new` more tokens fit: what is stored moves to a larger one if they wouldn't.
    fn make_room(&mut self, shape: [i32; 4], dtype: Dtype) -> Result<&mut AppendBuffer> {
        let [batch, heads, n_new, head_dim] = shape;
        let end = self.len() + n_new as usize;
        if end > self.capacity() {
            let capacity = end.next_multiple_of(self.step) as i32;
            let mut larger = AppendBuffer::new(&[batch, heads, capacity, head_dim], TOKEN_AXIS, dtype)?;
            if let Some(stored) = &self.buffer {
                larger.append(&stored.view(HEAD_AXIS, 0..heads as usize)?)?;
                self.count_bytes([batch, heads, larger.len() as i32, head_dim], dtype);
            }
            self.buffer = Some(larger);
        }
        self.buffer.as_mut().ok_or_else(|| Error::invalid("GpuKvCache", "there are no tokens to append"))
    }

    fn count_bytes(&mut self, shape: [i32; 4], dtype: Dtype) {
        let size = if dtype == Dtype::Float32 { 4 } else { 2 };
        self.bytes_copied += shape.iter().map(|len| u64::from(len.unsigned_abs())).product::<u64>() * size;
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
            (&[_, _, _, _], dtype) if (values.shape(), values.dtype()) == (keys.shape(), dtype) => {
                self.update_and_fetch_joined(&ops::concatenate(&[keys, values], HEAD_AXIS as i32)?)
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
        let (shape, dtype) = (keys_and_values.shape(), keys_and_values.dtype());
        let (shape, heads) = match *shape {
            [batch, heads, n_new, head_dim] if heads % 2 == 0 => ([batch, heads, n_new, head_dim], heads),
            _ => {
                let message = format!("keys and values of shape {shape:?}, not [B, 2 * H_kv, L, D]");
                return Err(Error::invalid("GpuKvCache::update_and_fetch_joined", message));
            }
        };
        self.check_new(shape, dtype)?;
        let buffer = self.make_room(shape, dtype)?;
        buffer.append(keys_and_values)?;
        let heads = heads as usize;
        let keys = buffer.view(HEAD_AXIS, 0..heads / 2)?;
        let values = buffer.view(HEAD_AXIS, heads / 2..heads)?;
        self.count_bytes(shape, dtype);
        Ok((keys, values))
    }

    fn offset(&self) -> Offset<'_> {
        Offset::Same(self.len() as i32)
    }

    /// # Errors
    /// [`Error::InvalidArgument`] when fewer than `n_tokens` are stored.
    fn rewind(&mut self, n_tokens: usize) -> Result<()> {
        let len = self.len();
        let Some(kept) = len.checked_sub(n_tokens) else {
            let message = format!("cannot forget {n_tokens} tokens, {len} are stored");
            return Err(Error::invalid("GpuKvCache::rewind", message));
        };
        if let Some(buffer) = &mut self.buffer {
            buffer.truncate(kept)?;
        }
        Ok(())
    }

    fn reset(&mut self) {
        *self = Self { step: self.step, ..Self::new() };
    }
}
