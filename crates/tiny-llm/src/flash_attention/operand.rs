//! Inputs read wherever and however they lie in memory.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use mlx_custom::{Element, Strided};

/// A float input of four axes: query, key and value are `[B, H, N, D]`, a mask is `[B, H_q, L, S]`.
#[derive(Clone, Copy)]
pub enum Operand<'a> {
    F32(Strided<'a, f32>),
    F16(Strided<'a, f16>),
    Bf16(Strided<'a, bf16>),
}

impl<'a> Operand<'a> {
    /// Reads `out.len()` numbers along the last axis, from number `first` of the row at `index` on, as f32.
    #[inline(always)]
    pub fn read(&self, index: [usize; 3], first: usize, out: &mut [f32]) {
        match self {
            Self::F32(x) => read(x, index, first, out),
            Self::F16(x) => match x.row(&index) {
                Some(row) => row[first..first + out.len()].convert_to_f32_slice(out),
                None => gather(x, index, first, out, f16::to_f32),
            },
            Self::Bf16(x) => match x.row(&index) {
                // bf16 is the upper half of an f32.
                Some(row) => {
                    for (out, number) in out.iter_mut().zip(&row[first..]) {
                        *out = f32::from_bits(u32::from(number.to_bits()) << 16);
                    }
                }
                None => gather(x, index, first, out, bf16::to_f32),
            },
        }
    }

    /// Some rows of a head where they lie, `[rows, D]`: if they are f32 and one after another.
    #[inline(always)]
    pub fn rows_in_place(&self, batch: usize, head: usize, rows: Range<usize>) -> Option<&'a [f32]> {
        let Self::F32(x) = self else { return None };
        let head_dim = x.shape()[3];
        x.slice(&[batch, head])?.get(rows.start * head_dim..rows.end * head_dim)
    }
}

/// As [`Operand::read`], without conversion.
#[inline(always)]
pub fn read<T: Element>(x: &Strided<'_, T>, index: [usize; 3], first: usize, out: &mut [T]) {
    match x.row(&index) {
        Some(row) => out.copy_from_slice(&row[first..first + out.len()]),
        None => gather(x, index, first, out, |number| number),
    }
}

/// The slow way, for a last axis that is not contiguous.
fn gather<T: Element, U>(
    x: &Strided<'_, T>,
    [b, h, i]: [usize; 3],
    first: usize,
    out: &mut [U],
    convert: impl Fn(T) -> U,
) {
    for (number, out) in (first..).zip(out) {
        *out = convert(x.at(&[b, h, i, number]));
    }
}
