//! A custom MLX operation: new keys and values are written behind those of earlier tokens, in the same memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use half::{bf16, f16};
use mlx_custom::{CpuOperation, Element, OperationError, Tensor, TensorMut, TensorType, apply_n};
use mlx_rs::{Array, Dtype};

/// The keys and values of one layer, with room for C tokens: both `[B, H_kv, C, D]`, the first ones filled.
///
/// It cannot be cloned. Memory that two can see may not change, so MLX copies it before it lets an operation write.
#[derive(Debug)]
pub struct KvBuffers {
    /// `[B, H_kv, C, D]`
    pub keys: Array,
    /// `[B, H_kv, C, D]`
    pub values: Array,
}

/// Writes L new tokens behind `len` stored ones.
///
/// - inputs 0 and 1: the new keys and values, `[B, H_kv, L, D]`
/// - inputs 2 and 3: the stored ones, `[B, H_kv, stored_capacity, D]`; missing when nothing is stored
/// - outputs 0 and 1: keys and values, `[B, H_kv, capacity, D]`, of which the first `len + L` tokens are filled
#[derive(Debug, Clone)]
pub struct KvAppend {
    len: usize,
    stored_capacity: usize,
    capacity: usize,
    bytes_copied: Arc<AtomicU64>,
}

impl KvAppend {
    /// - `len`: how many tokens are stored
    /// - `capacity`: how many the outputs have room for
    /// - `bytes_copied`: grows by every byte that is moved, once MLX computes the outputs
    pub fn new(len: usize, capacity: usize, bytes_copied: Arc<AtomicU64>) -> Self {
        Self { len, stored_capacity: 0, capacity, bytes_copied }
    }

    /// The same in front of what is `stored`.
    pub(crate) fn behind(self, stored: Option<&KvBuffers>) -> Self {
        Self { stored_capacity: stored.map_or(0, |stored| stored.keys.dim(2) as usize), ..self }
    }

    /// How many tokens are stored before.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many tokens the outputs have room for.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether the outputs can take over the memory of what is stored.
    pub(crate) fn keeps_capacity(&self) -> bool {
        self.stored_capacity == self.capacity
    }

    /// Adds to the bytes that were moved.
    pub(crate) fn count_bytes(&self, n_bytes: usize) {
        self.bytes_copied.fetch_add(n_bytes as u64, Ordering::Relaxed);
    }

    /// The buffers with `keys` and `values` (`[B, H_kv, L, D]`) behind the stored tokens. Lazy, as every operation.
    ///
    /// `stored` keeps its contents for as long as somebody can see it. If nobody can when the result is evaluated, and
    /// it has the capacity that is asked for, its memory is reused and nothing but the new tokens is written.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) when shapes or dtypes do not fit together.
    pub fn apply(self, stored: Option<&KvBuffers>, keys: &Array, values: &Array) -> crate::Result<KvBuffers> {
        let mut inputs = vec![keys, values];
        inputs.extend(stored.iter().flat_map(|stored| [&stored.keys, &stored.values]));
        let [keys, values] = apply_n(self.behind(stored), &inputs)?;
        Ok(KvBuffers { keys, values })
    }

    /// Fills one output, `[B, H_kv, capacity, D]`, and returns how many elements it moved.
    ///
    /// - `new`: `[B, H_kv, L, D]`
    /// - `stored`: `[B, H_kv, stored_capacity, D]`; without data when the output has taken over its memory
    fn write<T: Element>(
        &self,
        new: &Tensor<'_>,
        stored: Option<&Tensor<'_>>,
        output: &mut TensorMut<'_>,
    ) -> Result<usize, OperationError> {
        let &[batch, kv_heads, n_new, head_dim] = new.shape() else {
            return Err("the new tokens are not [B, H_kv, L, D]".into());
        };
        let new = new.as_slice::<T>()?;
        // [task 2.1.1] KvAppend::write
        todo!("week 2 day 1 task 1: KvAppend::write - see book/src/week2/day1.md")
        // [end]
    }

    /// The same on slices. `stored` is missing when nothing is stored, or when `output` already holds it.
    pub(crate) fn write_heads<T: Element>(
        &self,
        new: &[T],
        [batch, kv_heads, n_new, head_dim]: [usize; 4],
        stored: Option<&[T]>,
        output: &mut [T],
    ) -> Result<usize, OperationError> {
        // [task 2.1.1] KvAppend::write_heads
        todo!("week 2 day 1 task 1: KvAppend::write_heads - see book/src/week2/day1.md")
        // [end]
    }
}

impl CpuOperation for KvAppend {
    fn name(&self) -> &'static str {
        "kv_append"
    }

    fn outputs(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>, OperationError> {
        let (new, stored) = inputs.split_at_checked(2).ok_or("takes keys and values")?;
        let with_capacity = |tensor: &TensorType, capacity: usize| {
            let &[batch, kv_heads, _, head_dim] = &tensor.shape[..] else {
                return Err(OperationError::from(format!("shape {:?} is not [B, H_kv, L, D]", tensor.shape)));
            };
            Ok(TensorType::new([batch, kv_heads, capacity, head_dim], tensor.dtype))
        };
        for (new, stored) in new.iter().zip(stored) {
            if *stored != with_capacity(new, self.stored_capacity)? {
                return Err(format!("{new:?} does not continue {stored:?}").into());
            }
        }
        let outputs: Result<Vec<_>, _> = new.iter().map(|new| with_capacity(new, self.capacity)).collect();
        if self.len > self.stored_capacity || self.len + new[0].shape[2] > self.capacity {
            return Err(format!("no room for {} tokens behind {}: {self:?}", new[0].shape[2], self.len).into());
        }
        outputs
    }

    fn reuses(&self) -> &[(usize, usize)] {
        // [task 2.1.1] KvAppend::reuses
        todo!("week 2 day 1 task 1: KvAppend::reuses - see book/src/week2/day1.md")
        // [end]
    }

    fn run(&self, inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>]) -> Result<(), OperationError> {
        for (i, output) in outputs.iter_mut().enumerate() {
            let (new, stored) = (&inputs[i], inputs.get(2 + i));
            let n_bytes = match output.dtype() {
                Dtype::Float32 => size_of::<f32>() * self.write::<f32>(new, stored, output)?,
                Dtype::Float16 => size_of::<f16>() * self.write::<f16>(new, stored, output)?,
                Dtype::Bfloat16 => size_of::<bf16>() * self.write::<bf16>(new, stored, output)?,
                dtype => return Err(format!("keys and values are floating-point, not {dtype:?}").into()),
            };
            self.count_bytes(n_bytes);
        }
        Ok(())
    }
}
