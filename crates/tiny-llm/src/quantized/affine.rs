//! MLX's affine format with array operations: packing, unpacking, dequantizing, quantizing.
//!
//! These run once per weight matrix, so they may be slow and are easy to read. What runs for every token is in
//! [`plain`](crate::quantized::plain) and [`kernel`](crate::quantized::kernel).

use mlx_rs::ops::{clip, maximum, select};
use mlx_rs::{Array, Dtype};

use crate::quantized::QuantizedMatrix;
use crate::{Error, Result};

/// A group's scale is at least this before its sign and edge are chosen, so that a group of equal weights has one.
pub const SMALLEST_SCALE: f32 = 1e-7;

/// Packs `integers` (`[.., I]` u32, each below `2^bits`) into words: `[.., I * bits / 32]` u32, the first integer in the
/// lowest bits.
///
/// # Errors
/// [`Error::InvalidArgument`] when the integers are not u32, when I is not a whole number of words, or when `bits` is not
/// 4 or 8.
pub fn pack(integers: &Array, bits: usize) -> Result<Array> {
    let per_word = integers_per_word("pack", integers, bits)?;
    // [task 2.2a.1] pack
    todo!("week 2 day 2a task 1: pack - see book/src/week2/day2a.md")
    // [end]
}

/// The integers in `packed` (`[.., W]` u32): `[.., W * 32 / bits]` u32. The inverse of [`pack`].
///
/// # Errors
/// [`Error::InvalidArgument`] when the words are not u32 or `bits` is not 4 or 8.
pub fn unpack(packed: &Array, bits: usize) -> Result<Array> {
    let per_word = integers_per_word("unpack", packed, bits)?;
    // [task 2.2a.1] unpack
    todo!("week 2 day 2a task 1: unpack - see book/src/week2/day2a.md")
    // [end]
}

// [task 2.2a.1 helpers] place values
// [end]

/// The matrix as floating-point numbers, `[O, I]`: `scale * integer + bias`, computed in f32 and rounded once to `dtype`.
///
/// # Errors
/// [`Error::InvalidArgument`] when `dtype` is not a floating-point type.
pub fn dequantize(matrix: &QuantizedMatrix, dtype: Dtype) -> Result<Array> {
    if !is_float(dtype) {
        return Err(Error::invalid("dequantize", format!("weights are floating-point numbers, not {dtype:?}")));
    }
    // [task 2.2a.1] dequantize
    todo!("week 2 day 2a task 1: dequantize - see book/src/week2/day2a.md")
    // [end]
}

/// Quantizes `weight` (`[O, I]`, f32, f16 or bf16, finite) by MLX's own rule: the same integers, the same scales and
/// biases, which have the dtype of `weight`.
///
/// In each group the end of the range with the larger magnitude is the *edge*; of two equally large ends, the upper one.
/// The step is `(max - min) / (2^bits - 1)`, at least [`SMALLEST_SCALE`], negative if the edge is the upper end. The scale is
/// the step stretched so that 0 falls on an integer, `edge / round(edge / step)`, and the bias is the edge. If `edge / step`
/// rounds to 0, the scale is the step and the bias is 0. The integers are `round((weight - bias) / scale)`, kept within
/// `0 ..= 2^bits - 1`. All of it is f32 and rounds halves to the even neighbour; scale and bias are rounded to
/// `weight`'s dtype afterwards.
///
/// # Errors
/// [`Error::InvalidArgument`] when `weight` is not a floating-point matrix, when I is not whole groups, or when there is
/// no such format.
pub fn quantize(weight: &Array, group_size: usize, bits: usize) -> Result<QuantizedMatrix> {
    let dtype = weight.dtype();
    let &[rows, columns] = weight.shape() else {
        return Err(Error::invalid("quantize", format!("a weight matrix is [O, I], not {:?}", weight.shape())));
    };
    if !is_float(dtype) {
        return Err(Error::invalid("quantize", format!("weights are floating-point numbers, not {dtype:?}")));
    }
    if !matches!(bits, 4 | 8) || !matches!(group_size, 32 | 64 | 128) {
        let message =
            format!("{bits} bits in groups of {group_size}: there are 4 and 8 bits, and groups of 32, 64, 128");
        return Err(Error::invalid("quantize", message));
    }
    let group = group_size as i32;
    if columns == 0 || columns % group != 0 {
        return Err(Error::invalid("quantize", format!("{columns} columns are not whole groups of {group_size}")));
    }
    // [task 2.2a.2] quantize
    todo!("week 2 day 2a task 2: quantize - see book/src/week2/day2a.md")
    // [end]
}

/// Integers in a word, once `words` are known to be u32 and `bits` to be 4 or 8.
fn integers_per_word(operation: &'static str, words: &Array, bits: usize) -> Result<i32> {
    if !matches!(bits, 4 | 8) {
        return Err(Error::invalid(operation, format!("{bits} bits: there are 4 and 8")));
    }
    if words.dtype() != Dtype::Uint32 {
        return Err(Error::invalid(operation, format!("packed integers are u32, not {:?}", words.dtype())));
    }
    Ok(32 / bits as i32)
}

fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16)
}
