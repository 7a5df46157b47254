//! What a kernel sees of a quantized matrix: plain slices.

use std::ops::Range;

use half::{bf16, f16};

/// Numbers in the type in which a checkpoint stores them.
#[derive(Debug, Clone, Copy)]
pub enum Floats<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
}

impl Floats<'_> {
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number at `index`.
    pub fn get(&self, index: usize) -> f32 {
        match self {
            Self::F32(values) => values[index],
            Self::F16(values) => values[index].to_f32(),
            Self::Bf16(values) => values[index].to_f32(),
        }
    }
}

/// A quantized weight matrix `[O, I]` in MLX's affine format: `weight = scale * integer + bias`, with one scale and one
/// bias for each group of `group_size` neighbours in a row.
#[derive(Debug, Clone, Copy)]
pub struct MatrixView<'a> {
    /// O, the rows.
    pub outputs: usize,
    /// I, the columns; a multiple of `group_size`.
    pub inputs: usize,
    /// 32, 64 or 128.
    pub group_size: usize,
    /// 4 or 8.
    pub bits: usize,
    /// `[O, I * bits / 32]`: the integers of a row one after the other, the first in the lowest bits.
    pub words: &'a [u32],
    /// `[O, I / group_size]`
    pub scales: Floats<'a>,
    /// `[O, I / group_size]`
    pub biases: Floats<'a>,
}

impl<'a> MatrixView<'a> {
    /// Words that hold one row.
    pub fn words_per_row(&self) -> usize {
        self.inputs * self.bits / 32
    }

    /// Groups in one row.
    pub fn groups(&self) -> usize {
        self.inputs / self.group_size
    }

    /// The packed integers of row `row`.
    pub fn row_words(&self, row: usize) -> &'a [u32] {
        let per_row = self.words_per_row();
        &self.words[row * per_row..(row + 1) * per_row]
    }

    /// Where the scales and biases of row `row` lie.
    pub fn row_groups(&self, row: usize) -> Range<usize> {
        row * self.groups()..(row + 1) * self.groups()
    }

    /// The integer at (`row`, `column`).
    pub fn integer(&self, row: usize, column: usize) -> u32 {
        let per_word = 32 / self.bits;
        let word = self.row_words(row)[column / per_word];
        (word >> (self.bits * (column % per_word))) & ((1 << self.bits) - 1)
    }

    /// Whether the slices have the lengths that the sizes ask for; kernels that read through pointers rely on it.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub fn check(&self) -> Result<(), String> {
        let Self { outputs, inputs, group_size, bits, .. } = *self;
        if !matches!(bits, 4 | 8) || !matches!(group_size, 32 | 64 | 128) {
            return Err(format!(
                "{bits} bits in groups of {group_size}: there are 4 and 8 bits, and groups of 32, 64, 128"
            ));
        }
        if inputs == 0 || inputs % group_size != 0 {
            return Err(format!("{inputs} inputs are not whole groups of {group_size}"));
        }
        let (words, groups) = (outputs * self.words_per_row(), outputs * self.groups());
        if (self.words.len(), self.scales.len(), self.biases.len()) != (words, groups, groups) {
            return Err(format!(
                "a [{outputs}, {inputs}] matrix has {words} words, {groups} scales and {groups} biases, not {}, {} and {}",
                self.words.len(),
                self.scales.len(),
                self.biases.len()
            ));
        }
        Ok(())
    }
}
