//! A launch's inputs and outputs in memory.

use std::ffi::{CString, c_void};
use std::ptr;

use half::{bf16, f16};
use mlx_rs::Dtype;

use super::abi;
use super::region::Region;
use crate::{OperationError, Tensor, TensorMut};

/// The address range of one array when it is watched: 64 GiB, so that an index of 32 bits leads out of the array and never
/// into another; or what the system gives.
const LARGEST_SHIFT: u32 = 36;
/// Room around an array, at least.
const SMALLEST_MARGIN: usize = 1 << 16;

/// All arrays of a launch, inputs first, with what the runtime notes about them.
pub(super) struct Arrays {
    pub raw: Vec<abi::Array>,
    pub base: u64,
    pub shift: u32,
    notes: Vec<Notes>,
    // What `raw` points to.
    _region: Option<Region>,
    _names: Vec<CString>,
}

/// Zeroed memory for the runtime's notes about one array.
struct Notes {
    touched: Vec<u8>,
    writers: Vec<u64>,
    writer_pcs: Vec<u32>,
}

impl Arrays {
    /// The tensors' own memory, unwatched.
    pub fn direct(inputs: &[Tensor<'_>], outputs: &mut [TensorMut<'_>], fill: Option<f32>) -> Self {
        let mut raw = Vec::new();
        for input in inputs {
            let origin = input.as_ptr().cast_mut();
            raw.push(describe(input.dtype(), origin, origin, 0, abi::INPUT));
        }
        for output in outputs {
            let (start, n_bytes) = (output.as_mut_ptr(), output.n_bytes());
            if let Some(value) = fill {
                // SAFETY: the output is this operation's to write.
                unsafe { fill_with(start, n_bytes, output.dtype(), value) };
            }
            raw.push(describe(output.dtype(), start, start, n_bytes, abi::OUTPUT));
        }
        Self { raw, base: 0, shift: 0, notes: Vec::new(), _region: None, _names: Vec::new() }
    }

    /// Copies of the tensors, each alone in the middle of a wide range of addresses.
    ///
    /// # Errors
    /// Not enough memory.
    pub fn watched(
        names: &[&str],
        inputs: &[Tensor<'_>],
        outputs: &[TensorMut<'_>],
        fill: Option<f32>,
    ) -> Result<Self, OperationError> {
        let n_arrays = inputs.len() + outputs.len();
        let extents: Vec<(isize, usize)> = inputs.iter().map(extent).collect();
        let largest = extents.iter().map(|(_, n_bytes)| *n_bytes).chain(outputs.iter().map(TensorMut::n_bytes)).max();
        let smallest_shift = (2 * (largest.unwrap_or(0) + SMALLEST_MARGIN)).next_power_of_two().trailing_zeros();
        let (region, shift) = Region::with_largest_shift(n_arrays, LARGEST_SHIFT.max(smallest_shift), smallest_shift)
            .map_err(|error| format!("no memory for copies of the arrays: {error}"))?;
        let names: Vec<CString> = names.iter().map(|name| CString::new(*name).unwrap_or_default()).collect();
        let mut arrays = Self {
            raw: Vec::new(),
            base: region.start().expose_provenance() as u64,
            shift,
            notes: Vec::new(),
            _region: None,
            _names: Vec::new(),
        };
        // In the middle of range `i`.
        let place = |i: usize| region.start().wrapping_add((i << shift) + (1 << (shift - 1)));
        for (i, (input, &(first, n_bytes))) in inputs.iter().zip(&extents).enumerate() {
            let start = place(i);
            // SAFETY: these bytes are the input's, all inside one buffer, and there is room for them.
            unsafe { ptr::copy_nonoverlapping(input.as_ptr().wrapping_offset(first), start, n_bytes) };
            let origin = start.wrapping_offset(-first);
            arrays.push(describe(input.dtype(), start, origin, n_bytes, abi::INPUT), &names[i]);
        }
        for (i, output) in outputs.iter().enumerate() {
            let i = inputs.len() + i;
            let (start, n_bytes) = (place(i), output.n_bytes());
            if let Some(value) = fill {
                // SAFETY: there is room for that many bytes.
                unsafe { fill_with(start, n_bytes, output.dtype(), value) };
            }
            let mut array = describe(output.dtype(), start, start, n_bytes, abi::OUTPUT);
            array.is_filled = u32::from(fill.is_some());
            arrays.push(array, &names[i]);
        }
        arrays._region = Some(region);
        arrays._names = names;
        Ok(arrays)
    }

    fn push(&mut self, mut array: abi::Array, name: &CString) {
        let is_output = array.kind == abi::OUTPUT;
        let n_elements = if is_output { array.n_bytes as usize / array.element_bytes as usize } else { 0 };
        let mut notes = Notes {
            touched: vec![0; array.n_bytes as usize / 4 + 1],
            writers: vec![0; n_elements],
            writer_pcs: vec![0; n_elements],
        };
        array.name = name.as_ptr();
        array.touched = notes.touched.as_mut_ptr();
        array.writers = notes.writers.as_mut_ptr();
        array.writer_pcs = notes.writer_pcs.as_mut_ptr();
        self.notes.push(notes);
        self.raw.push(array);
    }

    /// What the kernel gets for each array: the address of element 0.
    pub fn origins(&self) -> impl Iterator<Item = *const c_void> {
        self.raw.iter().map(|array| array.origin.cast_const().cast())
    }

    /// Copies the results of a watched run into the outputs.
    pub fn copy_outputs(&self, outputs: &mut [TensorMut<'_>]) {
        let copies = self.raw.iter().filter(|array| array.kind == abi::OUTPUT);
        for (output, copy) in outputs.iter_mut().zip(copies) {
            // SAFETY: both hold that many bytes, and lie apart.
            unsafe { ptr::copy_nonoverlapping(copy.start, output.as_mut_ptr(), output.n_bytes()) };
        }
    }

    /// The first output with an element that no thread has written and that no fill covers: its number among all arrays, that
    /// element, and how many there are.
    pub fn unwritten(&self) -> Option<(usize, usize, usize)> {
        let outputs = self.raw.iter().zip(&self.notes).enumerate();
        for (number, (array, notes)) in outputs.filter(|(_, (array, _))| array.is_filled == 0) {
            if let Some(first) = notes.writers.iter().position(|&writer| writer == 0) {
                let count = notes.writers.iter().filter(|&&writer| writer == 0).count();
                debug_assert_eq!(array.kind, abi::OUTPUT);
                return Some((number, first, count));
            }
        }
        None
    }

    /// Bytes of device memory that were read, and that were written, each counted once, in units of 4.
    pub fn distinct(&self) -> (u64, u64) {
        let (mut read, mut written) = (0, 0);
        for (array, notes) in self.raw.iter().zip(&self.notes) {
            for (word, &bits) in notes.touched.iter().enumerate() {
                let n_bytes = array.n_bytes.saturating_sub(4 * word as u64).min(4);
                read += if bits & 1 != 0 { n_bytes } else { 0 };
                written += if bits & 2 != 0 { n_bytes } else { 0 };
            }
        }
        (read, written)
    }
}

fn describe(dtype: Dtype, start: *mut u8, origin: *mut u8, n_bytes: usize, kind: u32) -> abi::Array {
    // `apply` takes only types whose size is known.
    let element_bytes = crate::element::size_of(dtype).unwrap_or(4) as u32;
    abi::Array {
        name: c"".as_ptr(),
        start,
        origin,
        n_bytes: n_bytes as u64,
        element_bytes,
        index_bytes: element_bytes,
        kind,
        touched: ptr::null_mut(),
        writers: ptr::null_mut(),
        writer_pcs: ptr::null_mut(),
        is_filled: 0,
    }
}

/// The bytes that a tensor's elements lie in: the first, counted from element 0, and how many.
fn extent(tensor: &Tensor<'_>) -> (isize, usize) {
    if tensor.n_elements() == 0 {
        return (0, 0);
    }
    let size = crate::element::size_of(tensor.dtype()).unwrap_or(4);
    let (mut first, mut last) = (0_isize, 0_isize);
    for (&len, &stride) in tensor.shape().iter().zip(tensor.strides()) {
        let reach = (len as isize - 1) * stride;
        first += reach.min(0);
        last += reach.max(0);
    }
    (first * size as isize, (last - first + 1) as usize * size)
}

/// # Safety
/// `n_bytes` bytes at `start` may be written.
unsafe fn fill_with(start: *mut u8, n_bytes: usize, dtype: Dtype, value: f32) {
    let pattern: Vec<u8> = match dtype {
        Dtype::Float16 => f16::from_f32(value).to_ne_bytes().to_vec(),
        Dtype::Bfloat16 => bf16::from_f32(value).to_ne_bytes().to_vec(),
        Dtype::Uint32 => (value as u32).to_ne_bytes().to_vec(),
        Dtype::Int32 => (value as i32).to_ne_bytes().to_vec(),
        Dtype::Uint8 => vec![value as u8],
        _ => value.to_ne_bytes().to_vec(),
    };
    // SAFETY: the caller vouches for the memory, which nobody else uses.
    let bytes = unsafe { std::slice::from_raw_parts_mut(start, n_bytes) };
    for element in bytes.chunks_exact_mut(pattern.len()) {
        element.copy_from_slice(&pattern);
    }
}
