//! From bytes in memory to an MLX array. The only file of this crate that makes arrays.

use std::borrow::Cow;

use mlx_rs::{Array, Dtype};

use crate::error::{Error, Result};
use crate::host_tensor::{ElementType, HostTensor};
use crate::memory;

impl ElementType {
    /// The MLX type with the same bits.
    pub fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::Float32,
            Self::F16 => Dtype::Float16,
            Self::Bf16 => Dtype::Bfloat16,
            Self::U32 => Dtype::Uint32,
        }
    }
}

/// Copies a tensor into an array, then converts it to `dtype` if that is another one. `name` is for errors.
pub(crate) fn to_array(name: &str, tensor: &HostTensor<'_>, dtype: Dtype) -> Result<Array> {
    let fault = |cause: mlx_rs::error::Exception| Error::Mlx { tensor: name.to_owned(), cause };
    let shape: Vec<i32> =
        tensor.shape.iter().map(|&size| i32::try_from(size)).collect::<Result<_, _>>().map_err(|_| {
            fault(mlx_rs::error::Exception::custom(format!("shape {:?} exceeds MLX's 32-bit sizes", tensor.shape)))
        })?;
    // MLX copies without looking whether there was memory to copy to.
    memory::ask(name, tensor.bytes().len())?;
    let bytes = aligned(tensor.bytes());
    // SAFETY: MLX copies product(shape) elements of this type from the pointer before it returns. HostTensor's invariant
    // gives the buffer exactly that length, and `aligned` the alignment of the largest element type.
    let array = unsafe { Array::from_raw_data(bytes.as_ptr().cast(), &shape, tensor.element.dtype()) };
    if array.as_ptr().ctx.is_null() {
        return Err(fault(mlx_rs::error::Exception::custom("MLX could not allocate the array")));
    }
    if array.dtype() == dtype {
        return Ok(array);
    }
    memory::ask(name, array.size().saturating_mul(dtype_bytes(dtype)))?;
    let converted = array.as_dtype(dtype).map_err(fault)?;
    // Conversion is lazy; without this, every weight would stay in memory in both types until the model first runs.
    converted.eval().map_err(fault)?;
    Ok(converted)
}

/// Bytes of an element of one of the types that weights can have.
fn dtype_bytes(dtype: Dtype) -> usize {
    if dtype == Dtype::Float32 || dtype == Dtype::Uint32 { 4 } else { 2 }
}

/// The same bytes at an address that is a multiple of four. Data in a file is nearly always so; a file may differ.
fn aligned(bytes: &[u8]) -> Cow<'_, [u32]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(words) => Cow::Borrowed(words),
        Err(_) => {
            let mut words = vec![0u32; bytes.len().div_ceil(4)];
            bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
            Cow::Owned(words)
        }
    }
}
