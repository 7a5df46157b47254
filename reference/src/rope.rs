//! Rotary position embedding (Su et al., *RoFormer: Enhanced Transformer with Rotary Position Embedding*, 2021).

use mlx_rs::ops::indexing::{Ellipsis, TryIndexOp};
use mlx_rs::ops::{concatenate, stack};
use mlx_rs::{Array, Dtype};

use crate::{Error, Result};

/// The position of the first token of each row of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offset<'a> {
    /// All rows start at the same position.
    Same(i32),
    /// Row `b` starts at the `b`-th position.
    PerRow(&'a [i32]),
}

/// Rotates queries and keys by angles proportional to their positions.
///
/// The tables of cosines and sines are made once per model and shared by its layers.
#[derive(Debug, Clone)]
pub struct RotaryEmbedding {
    dims: i32,
    max_positions: i32,
    traditional: bool,
    /// `[max_positions, dims / 2]`, f32
    cos: Array,
    /// `[max_positions, dims / 2]`, f32
    sin: Array,
}

impl RotaryEmbedding {
    /// Tables for positions `0 .. max_positions`: at position `p`, pair `i` turns by `p * base^(-2i / dims)` radians.
    ///
    /// - `dims`: how many leading components of each head are rotated; even
    /// - `traditional`: `true` pairs neighbours (`2i`, `2i + 1`) as the paper does; `false` pairs the two halves
    ///   (`i`, `i + dims / 2`) as Llama and Qwen2 checkpoints want it
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `dims` is odd or a value is not positive.
    pub fn new(dims: i32, max_positions: i32, base: f32, traditional: bool) -> Result<Self> {
        // [task 1.2.1] RotaryEmbedding::new
        if dims < 2 || dims % 2 != 0 || max_positions < 1 || base <= 0.0 || base.is_nan() {
            let message = format!(
                "dims {dims} must be even and positive, max_positions {max_positions} and base {base} positive"
            );
            return Err(Error::invalid("RotaryEmbedding::new", message));
        }
        // Near 100,000 radians neighbouring f32 numbers are 0.008 apart, so the angles are f64;
        // their sines and cosines are at most 1, where f32 is plenty.
        let n_pairs = dims / 2;
        let frequencies: Vec<f64> =
            (0..n_pairs).map(|pair| f64::from(base).powf(-2.0 * f64::from(pair) / f64::from(dims))).collect();
        let angles =
            || (0..max_positions).flat_map(|position| frequencies.iter().map(move |f| f64::from(position) * f));
        let cos: Vec<f32> = angles().map(|angle| angle.cos() as f32).collect();
        let sin: Vec<f32> = angles().map(|angle| angle.sin() as f32).collect();
        let shape = [max_positions, n_pairs];
        let (cos, sin) = (Array::from_slice(&cos, &shape), Array::from_slice(&sin, &shape));
        Ok(Self { dims, max_positions, traditional, cos, sin })
        // [end]
    }

    /// Cosines, `[max_positions, dims / 2]`, f32.
    pub fn cos(&self) -> &Array {
        &self.cos
    }

    /// Sines, `[max_positions, dims / 2]`, f32.
    pub fn sin(&self) -> &Array {
        &self.sin
    }

    /// Whether neighbours are paired, and not the halves of a head.
    pub fn is_traditional(&self) -> bool {
        self.traditional
    }

    /// The number of positions in the tables.
    pub fn max_positions(&self) -> i32 {
        self.max_positions
    }

    /// Rotates the first `dims` components of every head; the rest passes through.
    ///
    /// - `x`: `[B, H, L, D]` with `D >= dims`; token `l` of row `b` is at position `offset(b) + l`
    ///
    /// Computes in f32; returns `x`'s shape and dtype.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when a position is negative or not below `max_positions`, when
    /// [`Offset::PerRow`] has not one entry per row, or when `x` is not `[B, H, L, D]` with `D >= dims`.
    pub fn forward(&self, x: &Array, offset: Offset<'_>) -> Result<Array> {
        // [task 1.2.4] RotaryEmbedding::forward
        let &[batch, _, len, head_dim] = x.shape() else {
            return Err(Error::invalid(OPERATION, format!("x has shape {:?}, not [B, H, L, D]", x.shape())));
        };
        if head_dim < self.dims {
            let message = format!("x has {head_dim} components per head, fewer than dims {}", self.dims);
            return Err(Error::invalid(OPERATION, message));
        }
        let (cos, sin) = match offset {
            // One block of rows serves the whole batch: [L, dims / 2] broadcasts.
            Offset::Same(start) => {
                self.check_positions(start, len)?;
                let rows = start..start + len;
                (self.cos.try_index(rows.clone())?, self.sin.try_index(rows)?)
            }
            Offset::PerRow(starts) => {
                if starts.len() != batch as usize {
                    let message = format!("{} offsets for a batch of {batch} rows", starts.len());
                    return Err(Error::invalid(OPERATION, message));
                }
                for &start in starts {
                    self.check_positions(start, len)?;
                }
                let positions: Vec<i32> = starts.iter().flat_map(|&start| start..start + len).collect();
                // The axis of length 1 broadcasts over the heads.
                let positions = Array::from_slice(&positions, &[batch, 1, len]);
                (self.cos.take_axis(&positions, 0)?, self.sin.take_axis(&positions, 0)?)
            }
        };
        let rotate = if self.traditional { rotate_interleaved } else { rotate_half_split };
        if head_dim == self.dims {
            return rotate(x, &cos, &sin);
        }
        let rotated = rotate(&x.try_index((Ellipsis, ..self.dims))?, &cos, &sin)?;
        let rest = x.try_index((Ellipsis, self.dims..))?;
        Ok(concatenate(&[rotated, rest], -1)?)
        // [end]
    }

    // [task 1.2.4 helpers] RotaryEmbedding::forward
    fn check_positions(&self, start: i32, len: i32) -> Result<()> {
        // Widened, because start + len may not fit into an i32.
        if start < 0 || i64::from(start) + i64::from(len) > i64::from(self.max_positions) {
            let message = format!(
                "positions {start} to {} are outside the table of {} positions",
                i64::from(start) + i64::from(len),
                self.max_positions
            );
            return Err(Error::invalid(OPERATION, message));
        }
        Ok(())
    }
    // [end]
}

// [task 1.2.4 helpers] operation name
const OPERATION: &str = "RotaryEmbedding::forward";
// [end]

/// Rotates the pairs (`i`, `i + dims / 2`) of the last axis.
///
/// - `x`: `[.., L, dims]`
/// - `cos`, `sin`: f32, broadcastable to `[.., L, dims / 2]`
///
/// Computes in f32; returns `x`'s shape and dtype.
///
/// # Errors
/// [`Error::Mlx`] when the shapes do not fit.
pub fn rotate_half_split(x: &Array, cos: &Array, sin: &Array) -> Result<Array> {
    // [task 1.2.2] rotate_half_split
    let half = x.dim(-1) / 2;
    let x_f32 = x.as_dtype(Dtype::Float32)?;
    let first = x_f32.try_index((Ellipsis, ..half))?; // [.., L, dims / 2]
    let second = x_f32.try_index((Ellipsis, half..))?;
    let (first, second) = rotate_pairs(&first, &second, cos, sin)?;
    Ok(concatenate(&[first, second], -1)?.as_dtype(x.dtype())?)
    // [end]
}

/// Rotates the pairs (`2i`, `2i + 1`) of the last axis; otherwise as [`rotate_half_split`].
///
/// # Errors
/// [`Error::Mlx`] when the shapes do not fit.
pub fn rotate_interleaved(x: &Array, cos: &Array, sin: &Array) -> Result<Array> {
    // [task 1.2.3] rotate_interleaved
    let mut paired_shape = x.shape().to_vec();
    paired_shape.pop();
    paired_shape.extend([x.dim(-1) / 2, 2]);
    let pairs = x.as_dtype(Dtype::Float32)?.reshape(&paired_shape)?; // [.., L, dims / 2, 2]
    let even = pairs.try_index((Ellipsis, 0))?; // [.., L, dims / 2]
    let odd = pairs.try_index((Ellipsis, 1))?;
    let (even, odd) = rotate_pairs(&even, &odd, cos, sin)?;
    Ok(stack(&[even, odd], -1)?.reshape(x.shape())?.as_dtype(x.dtype())?)
    // [end]
}

// [task 1.2.2 helpers] rotation of a pair
/// The rotation of the plane: (a cos - b sin, b cos + a sin).
fn rotate_pairs(a: &Array, b: &Array, cos: &Array, sin: &Array) -> Result<(Array, Array)> {
    let rotated_a = a.multiply(cos)?.subtract(b.multiply(sin)?)?;
    let rotated_b = b.multiply(cos)?.add(a.multiply(sin)?)?;
    Ok((rotated_a, rotated_b))
}
// [end]
