//! A buffer that tokens are appended to while a GPU still reads those before.

use std::ffi::c_void;
use std::ops::Range;
use std::ptr;

use mlx_rs::error::Exception;
use mlx_rs::ops::indexing::{ArrayIndex, TryIndexOp};
use mlx_rs::{Array, Dtype, ops, thread_local_default_stream};
use mlx_sys::{mlx_array, mlx_stream};

use crate::bridge::{Text, append};

// native/bridge.h declares the same; change both together.
unsafe extern "C" {
    fn mlx_custom_append(
        buffer: mlx_array,
        owner: mlx_array,
        added: mlx_array,
        axis: i32,
        len: i32,
        stream: mlx_stream,
        result: *mut mlx_array,
        owns: *mut bool,
        report: Text,
        report_context: *mut c_void,
    ) -> bool;
}

/// An array with room behind what it holds along one axis, such as the keys and values of a sequence.
///
/// MLX writes into an array's memory only if nobody else holds it, and work that a GPU has not finished holds what it reads. An
/// [`append`](Self::append) does without that: it writes behind the entries that anybody has seen. So it moves the new entries and
/// nothing else, whether earlier [views](Self::view) are still there or not, and they keep their values. After a
/// [`truncate`](Self::truncate) the next append would write over entries that were seen; that one copies the array.
#[derive(Debug)]
pub struct AppendBuffer {
    /// With `capacity` entries along the axis. Views end where the filled entries do. (A full one may be the array that filled it, or
    /// its own view. Nothing is written into a full one.)
    array: Array,
    /// What holds the memory of `array`, if that is another.
    owner: Option<Array>,
    axis: usize,
    len: usize,
    /// Entries behind the filled ones have been seen.
    is_truncated: bool,
}

impl AppendBuffer {
    /// An empty one. `shape[axis]` is the capacity. Nothing is allocated before the first entries are evaluated.
    ///
    /// # Errors
    /// There is no such axis, or MLX refuses the shape.
    pub fn new(shape: &[i32], axis: usize, dtype: Dtype) -> Result<Self, Exception> {
        if axis >= shape.len() {
            return Err(Exception::custom(format!("AppendBuffer: {shape:?} has no axis {axis}")));
        }
        let array = ops::zeros_dtype(shape, dtype)?;
        Ok(Self { array, owner: None, axis, len: 0, is_truncated: false })
    }

    /// The shape, with the capacity along the axis.
    pub fn shape(&self) -> &[i32] {
        self.array.shape()
    }

    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.array.dtype()
    }

    /// How many entries are filled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many entries fit.
    pub fn capacity(&self) -> usize {
        self.array.dim(self.axis as i32) as usize
    }

    /// Adds `entries` behind the filled ones, once the graph is evaluated.
    ///
    /// # Errors
    /// They don't fit: in number, or in the lengths of the other axes, or in type.
    pub fn append(&mut self, entries: &Array) -> Result<(), Exception> {
        let (shape, own) = (entries.shape(), self.array.shape());
        let mut expected = own.to_vec();
        expected[self.axis] = shape.get(self.axis).copied().unwrap_or(0);
        if shape != expected || entries.dtype() != self.dtype() {
            let (dtype, own_dtype) = (entries.dtype(), self.dtype());
            return refuse(format!(
                "{dtype:?} entries of shape {shape:?} do not continue {own_dtype:?} ones of {own:?}"
            ));
        }
        let (added, free) = (expected[self.axis] as usize, self.capacity() - self.len);
        if added > free {
            return refuse(format!("{added} entries do not fit into {free}"));
        }
        if added == 0 {
            return Ok(());
        }
        if self.is_truncated {
            *self = self.copied()?;
        }
        let stream = thread_local_default_stream();
        let mut result = mlx_array { ctx: ptr::null_mut() };
        let (mut owns, mut message) = (false, String::new());
        // SAFETY: the declaration matches native/bridge.h, all handles are valid during the call, and both axis and length were
        // checked. Nobody who holds the memory reads what is written: views end at `len`, entries behind were never filled in this
        // memory, and there is room, so the array isn't the full one that somebody else may have. `append` is called with `message`
        // during the call only.
        let succeeded = unsafe {
            mlx_custom_append(
                self.array.as_ptr(),
                self.owner.as_ref().map_or(mlx_array { ctx: ptr::null_mut() }, Array::as_ptr),
                entries.as_ptr(),
                self.axis as i32,
                self.len as i32,
                stream.as_ref().map_or(mlx_stream { ctx: ptr::null_mut() }, |stream| stream.as_ptr()),
                &raw mut result,
                &raw mut owns,
                append,
                (&raw mut message).cast(),
            )
        };
        if !succeeded {
            return refuse(message);
        }
        // SAFETY: on success the result is a new array that nobody else owns.
        let before = std::mem::replace(&mut self.array, unsafe { Array::from_ptr(result) });
        if owns {
            self.owner = Some(before);
        }
        self.len += added;
        Ok(())
    }

    /// The same entries in other memory.
    fn copied(&self) -> Result<Self, Exception> {
        let mut copy = Self::new(self.shape(), self.axis, self.dtype())?;
        if self.len > 0 {
            copy.append(&self.filled(None)?)?;
        }
        Ok(copy)
    }

    /// The filled entries, and of another axis those in `range`: an array that shares this one's memory, and keeps its values.
    ///
    /// # Errors
    /// `axis` is not another one, or doesn't have the range.
    pub fn view(&self, axis: usize, range: Range<usize>) -> Result<Array, Exception> {
        let shape = self.shape();
        let has_range = range.start <= range.end && shape.get(axis).is_some_and(|&len| range.end <= len as usize);
        if axis == self.axis || !has_range {
            return refuse(format!("no view of {range:?} along axis {axis} of {shape:?}"));
        }
        self.filled(Some((axis, range)))
    }

    /// The filled entries, and perhaps of another axis a part.
    fn filled(&self, part: Option<(usize, Range<usize>)>) -> Result<Array, Exception> {
        let mut ranges: Vec<Range<i32>> = self.shape().iter().map(|&len| 0..len).collect();
        ranges[self.axis] = 0..self.len as i32;
        if let Some((axis, range)) = part {
            ranges[axis] = range.start as i32..range.end as i32;
        }
        let operations: Vec<_> = ranges.into_iter().map(ArrayIndex::index_op).collect();
        self.array.try_index(operations.as_slice())
    }

    /// Forgets all entries behind the first `len`.
    ///
    /// # Errors
    /// There are fewer.
    pub fn truncate(&mut self, len: usize) -> Result<(), Exception> {
        if len > self.len {
            return refuse(format!("cannot keep {len} of {} entries", self.len));
        }
        if len < self.len {
            (self.len, self.is_truncated) = (len, true);
        }
        Ok(())
    }
}

fn refuse<T>(message: String) -> Result<T, Exception> {
    Err(Exception::custom(format!("AppendBuffer: {message}")))
}
