//! A cache that keeps every token, in buffers that grow in steps and are written in place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype};

use crate::kv_append::{KvAppend, KvBuffers};
use crate::{Error, KvCache, Offset, Result};

/// Keeps the keys and values of all tokens of one layer, all rows of the batch equally long.
#[derive(Debug)]
pub struct FullKvCache {
    /// `None` until the first tokens say which shape and dtype they have.
    buffers: Option<KvBuffers>,
    /// How many tokens of the buffers are filled and not forgotten.
    len: usize,
    /// The capacity is a multiple of this many tokens.
    step: usize,
    bytes_copied: Arc<AtomicU64>,
}

impl FullKvCache {
    /// How many tokens the capacity grows by, unless [`FullKvCache::with_step`] says otherwise.
    pub const DEFAULT_STEP: usize = 256;

    /// An empty cache. It allocates nothing before the first tokens come.
    pub fn new() -> Self {
        Self { buffers: None, len: 0, step: Self::DEFAULT_STEP, bytes_copied: Arc::default() }
    }

    /// An empty cache that grows by `step` tokens at a time.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `step` is 0.
    pub fn with_step(step: usize) -> Result<Self> {
        if step == 0 {
            return Err(Error::invalid("FullKvCache::with_step", "a step has at least one token"));
        }
        Ok(Self { step, ..Self::new() })
    }

    /// How many tokens fit before the buffers have to grow.
    pub fn capacity(&self) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.keys.dim(2) as usize)
    }

    /// Bytes of keys and values moved so far: every new token once, and stored ones whenever they had to be copied.
    ///
    /// What is not evaluated yet is not counted yet.
    pub fn bytes_copied(&self) -> u64 {
        self.bytes_copied.load(Ordering::Relaxed)
    }
}

impl FullKvCache {
    /// The operation that appends `n_new` tokens to what is stored, with room for them.
    fn next_append(&self, n_new: usize) -> KvAppend {
        // [task 2.1.2] FullKvCache::next_append
        let len = self.len + n_new;
        let capacity = self.capacity().max(len.next_multiple_of(self.step));
        KvAppend::new(self.len, capacity, Arc::clone(&self.bytes_copied))
        // [end]
    }

    /// Appends `n_new` tokens by an operation that does more than that: `apply` adds it to the graph and returns the
    /// buffers that it will have written, and what else it computes.
    ///
    /// # Errors
    /// As `apply`; then nothing has changed.
    pub(crate) fn append_within(
        &mut self,
        n_new: usize,
        apply: impl FnOnce(KvAppend, Option<&KvBuffers>) -> Result<(KvBuffers, Array)>,
    ) -> Result<Array> {
        let append = self.next_append(n_new).behind(self.buffers.as_ref());
        let (buffers, output) = apply(append, self.buffers.as_ref())?;
        // As in `update_and_fetch`: the old buffers are dropped before the operation runs.
        (self.buffers, self.len) = (Some(buffers), self.len + n_new);
        Ok(output)
    }
}

impl Default for FullKvCache {
    fn default() -> Self {
        Self::new()
    }
}

impl KvCache for FullKvCache {
    /// # Errors
    /// [`Error::InvalidArgument`] when `keys` and `values` are not `[B, H_kv, L, D]` of one shape and one
    /// floating-point dtype, have no tokens, or differ from what is stored in more than L.
    fn update_and_fetch(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        // [task 2.1.2] FullKvCache::update_and_fetch
        self.check_new(keys, values)?;
        let n_new = keys.dim(2) as usize;
        let buffers = self.next_append(n_new).apply(self.buffers.as_ref(), keys, values)?;
        let len = self.len + n_new;
        let filled = (.., .., ..len as i32);
        let fetched = (buffers.keys.try_index(filled)?, buffers.values.try_index(filled)?);

        // Drops the old buffers: from here on only the operation holds them, so it may write into their memory.
        self.buffers = Some(buffers);
        self.len = len;
        Ok(fetched)
        // [end]
    }

    fn offset(&self) -> Offset<'_> {
        Offset::Same(self.len as i32)
    }

    fn as_full(&mut self) -> Option<&mut FullKvCache> {
        Some(self)
    }

    /// # Errors
    /// [`Error::InvalidArgument`] when fewer than `n_tokens` are stored.
    fn rewind(&mut self, n_tokens: usize) -> Result<()> {
        // [task 2.1.3] FullKvCache::rewind
        let Some(len) = self.len.checked_sub(n_tokens) else {
            let message = format!("cannot forget {n_tokens} tokens, {} are stored", self.len);
            return Err(Error::invalid("FullKvCache::rewind", message));
        };
        // The forgotten tokens stay in the buffers, where nobody looks, until others are written over them.
        self.len = len;
        Ok(())
        // [end]
    }

    /// As new, with the same step: the memory is given back, and
    /// [`bytes_copied`](FullKvCache::bytes_copied) starts from 0.
    fn reset(&mut self) {
        // [task 2.1.3] FullKvCache::reset
        *self = Self { step: self.step, ..Self::new() };
        // [end]
    }
}

// [task 2.1.2 helpers] what may be appended
impl FullKvCache {
    fn check_new(&self, keys: &Array, values: &Array) -> Result<()> {
        let refuse = |message: String| Err(Error::invalid("FullKvCache::update_and_fetch", message));
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
        let Some(stored) = &self.buffers else {
            return Ok(());
        };
        let of_token = |shape: &[i32]| [shape[0], shape[1], shape[3]]; // B, H_kv, D
        let stored_shape = stored.keys.shape();
        if of_token(shape) != of_token(stored_shape) || dtype != stored.keys.dtype() {
            let message = format!(
                "{dtype:?} keys {shape:?} do not continue {:?} ones of [B, H_kv, D] = {:?}",
                stored.keys.dtype(),
                of_token(stored_shape)
            );
            return refuse(message);
        }
        Ok(())
    }
}
// [end]
