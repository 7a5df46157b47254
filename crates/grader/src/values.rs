//! Arrays as plain lists of f64, which holds every value of the smaller dtypes exactly.

use half::{bf16, f16};
use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype};

/// An array's values, copied out of MLX, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

impl Values {
    /// Evaluates `array` and copies its values.
    ///
    /// # Errors
    /// What MLX reports while it computes the array; a dtype that no task of the course returns.
    pub fn read(array: &Array) -> Result<Self, String> {
        array.eval().map_err(|error| error.to_string())?;
        let shape: Vec<usize> = array.shape().iter().map(|&n| n.max(0) as usize).collect();
        let dtype = array.dtype();
        let data = if array.size() == 0 {
            Vec::new()
        } else {
            read_data(&array.contiguous().map_err(|error| error.to_string())?)?
        };
        Ok(Self { dtype, shape, data })
    }

    /// The same values as an MLX array of dtype `dtype`, rounded to it.
    pub fn to_array(&self, dtype: Dtype) -> Result<Array, Exception> {
        let shape: Vec<i32> = self.shape.iter().map(|&n| n as i32).collect();
        // Not through f32, which has no room for 32 bits.
        match dtype {
            Dtype::Uint32 => return Ok(Array::from_iter(self.data.iter().map(|&x| x as u32), &shape)),
            Dtype::Int32 => return Ok(Array::from_iter(self.data.iter().map(|&x| x as i32), &shape)),
            _ => {}
        }
        let f32s: Vec<f32> = self.data.iter().map(|&x| x as f32).collect();
        Array::from_slice(&f32s, &shape).as_dtype(dtype)
    }

    pub fn len(&self) -> usize {
        self.data.len()
    }

    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The multi-dimensional index of the entry at position `flat`.
    pub fn index(&self, flat: usize) -> Vec<usize> {
        let mut rest = flat;
        let mut index = vec![0; self.shape.len()];
        for (place, &size) in index.iter_mut().zip(&self.shape).rev() {
            *place = rest % size.max(1);
            rest /= size.max(1);
        }
        index
    }
}

fn read_data(array: &Array) -> Result<Vec<f64>, String> {
    fn copy<T: mlx_rs::ArrayElement + Copy>(array: &Array, to_f64: fn(T) -> f64) -> Result<Vec<f64>, String> {
        let values = array.try_as_slice::<T>().map_err(|error| error.to_string())?;
        Ok(values.iter().map(|&value| to_f64(value)).collect())
    }
    match array.dtype() {
        Dtype::Float16 => copy::<f16>(array, f64::from),
        Dtype::Bfloat16 => copy::<bf16>(array, f64::from),
        Dtype::Float32 => copy::<f32>(array, f64::from),
        Dtype::Float64 => copy::<f64>(array, |x| x),
        Dtype::Bool => copy::<bool>(array, |x| f64::from(u8::from(x))),
        Dtype::Uint8 => copy::<u8>(array, f64::from),
        Dtype::Uint16 => copy::<u16>(array, f64::from),
        Dtype::Uint32 => copy::<u32>(array, f64::from),
        Dtype::Int8 => copy::<i8>(array, f64::from),
        Dtype::Int16 => copy::<i16>(array, f64::from),
        Dtype::Int32 => copy::<i32>(array, f64::from),
        Dtype::Uint64 => copy::<u64>(array, |x| x as f64),
        Dtype::Int64 => copy::<i64>(array, |x| x as f64),
        other => Err(format!("the grader cannot read an array of dtype {other:?}")),
    }
}

/// The dtype's short name, as fixtures write it.
pub fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Float16 => "f16",
        Dtype::Bfloat16 => "bf16",
        Dtype::Float32 => "f32",
        Dtype::Float64 => "f64",
        Dtype::Bool => "bool",
        Dtype::Uint8 => "u8",
        Dtype::Uint16 => "u16",
        Dtype::Uint32 => "u32",
        Dtype::Uint64 => "u64",
        Dtype::Int8 => "i8",
        Dtype::Int16 => "i16",
        Dtype::Int32 => "i32",
        Dtype::Int64 => "i64",
        Dtype::Complex64 => "complex64",
    }
}

/// The name that the learner writes in Rust: `Dtype::Bfloat16` for bf16.
pub fn dtype_variant(dtype: Dtype) -> String {
    format!("Dtype::{dtype:?}")
}

/// The same values in another memory order: the last two axes lie the other way round.
///
/// An answer must not depend on how its input lies in memory. Arrays with fewer than two
/// dimensions come back as they are.
///
/// # Errors
/// What MLX reports.
pub fn strided(array: &Array) -> Result<Array, Exception> {
    if array.ndim() < 2 {
        return Ok(array.clone());
    }
    array.swap_axes(-1, -2)?.contiguous()?.swap_axes(-1, -2)
}
