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
    let Some((&len, leading)) = integers.shape().split_last() else {
        return Err(Error::invalid("pack", "a single integer has no last axis"));
    };
    if len % per_word != 0 {
        return Err(Error::invalid(
            "pack",
            format!("{len} integers of {bits} bits do not fill whole words of 32 bits"),
        ));
    }
    let in_words = integers.reshape(&[leading, &[len / per_word, per_word]].concat())?; // [.., words, per_word]
    // No two products have a bit in common, so their sum is their union.
    Ok(in_words.multiply(place_values(bits))?.sum_axis(-1, false)?)
    // [end]
}

/// The integers in `packed` (`[.., W]` u32): `[.., W * 32 / bits]` u32. The inverse of [`pack`].
///
/// # Errors
/// [`Error::InvalidArgument`] when the words are not u32 or `bits` is not 4 or 8.
pub fn unpack(packed: &Array, bits: usize) -> Result<Array> {
    let per_word = integers_per_word("unpack", packed, bits)?;
    // [task 2.2a.1] unpack
    let Some((&n_words, leading)) = packed.shape().split_last() else {
        return Err(Error::invalid("unpack", "a single word has no last axis"));
    };
    let shifted = packed.expand_dims(-1)?.floor_divide(place_values(bits))?; // [.., words, per_word]
    let integers = shifted.remainder(Array::from_slice(&[1_u32 << bits], &[1]))?;
    Ok(integers.reshape(&[leading, &[n_words * per_word]].concat())?)
    // [end]
}

// [task 2.2a.1 helpers] place values
/// `2^(bits * i)` for the integers `i` of a word, as u32: multiplying shifts up, dividing shifts down.
fn place_values(bits: usize) -> Array {
    Array::from_iter((0..32).step_by(bits).map(|shift| 1_u32 << shift), &[32 / bits as i32])
}
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
    let (rows, columns) = (matrix.outputs() as i32, matrix.inputs() as i32);
    let groups = [rows, -1, matrix.group_size as i32];
    let integers = unpack(&matrix.packed, matrix.bits)?.as_dtype(Dtype::Float32)?.reshape(&groups)?;
    let scales = matrix.scales.as_dtype(Dtype::Float32)?.expand_dims(-1)?; // [O, groups, 1]
    let biases = matrix.biases.as_dtype(Dtype::Float32)?.expand_dims(-1)?;
    let weights = integers.multiply(scales)?.add(biases)?;
    Ok(weights.reshape(&[rows, columns])?.as_dtype(dtype)?)
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
    let steps = Array::from_f32(((1_u32 << bits) - 1) as f32);
    let zero = Array::from_f32(0.0);
    let weight = weight.as_dtype(Dtype::Float32)?.reshape(&[rows, columns / group, group])?;
    let (low, high) = (weight.min_axis(-1, true)?, weight.max_axis(-1, true)?); // [O, groups, 1]
    let edge_is_low = low.abs()?.gt(high.abs()?)?;
    let edge = select(&edge_is_low, &low, &high)?;

    let step = maximum(high.subtract(&low)?.divide(&steps)?, Array::from_f32(SMALLEST_SCALE))?;
    let step = select(&edge_is_low, &step, step.negative()?)?;
    let steps_to_zero = edge.divide(&step)?.round(None)?;
    let has_zero = steps_to_zero.ne(&zero)?;
    let scale = select(&has_zero, edge.divide(&steps_to_zero)?, &step)?;
    let bias = select(&has_zero, &edge, &zero)?;

    let integers = clip(weight.subtract(&bias)?.divide(&scale)?.round(None)?, (&zero, &steps))?;
    let integers = integers.as_dtype(Dtype::Uint32)?.reshape(&[rows, columns])?;
    let stored = |array: Array| Ok::<_, Error>(array.reshape(&[rows, columns / group])?.as_dtype(dtype)?);
    QuantizedMatrix::new(pack(&integers, bits)?, stored(scale)?, stored(bias)?, group_size, bits)
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
