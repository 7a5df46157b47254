//! Sixteen rows of weights unpacked to 16-bit integers, for many tokens to multiply with.

use std::arch::x86_64::*;

use super::stored::Stored;
use crate::quantized::activations::LANES;
use crate::quantized::view::MatrixView;

/// Rows in a panel: two registers of eight.
pub(in super::super) const PANEL_ROWS: usize = 16;

/// Columns in a panel: 16 KiB of integers, which stay in the L1 cache next to the activations.
pub(super) const PANEL_COLUMNS: usize = 512;

/// The unpacked weights of sixteen rows and up to [`PANEL_COLUMNS`] columns.
pub(in super::super) struct Panel {
    /// `[pair, row, 2]`: pairs of weights that one multiply-add takes together, in the order of the activations.
    pub integers: Vec<i16>,
    /// `[group, row]`
    pub scales: Vec<f32>,
    /// `[group, row]`
    pub biases: Vec<f32>,
}

impl Panel {
    pub fn new() -> Self {
        let groups = PANEL_COLUMNS / 32;
        Self {
            integers: vec![0; PANEL_COLUMNS * PANEL_ROWS],
            // Groups are transposed eight at a time, so the last eight may reach beyond the panel.
            scales: vec![0.0; (groups + 8) * PANEL_ROWS],
            biases: vec![0.0; (groups + 8) * PANEL_ROWS],
        }
    }

    /// Unpacks `columns` columns from `first_column` on of the rows from `first_row` on. Rows beyond the matrix
    /// repeat the last one; nobody looks at their results.
    ///
    /// # Safety
    /// The processor has AVX2 and F16C; `columns` is at most [`PANEL_COLUMNS`] and whole groups.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub unsafe fn fill<S: Stored, const P: usize>(
        &mut self,
        matrix: &MatrixView<'_>,
        scales: &[S],
        biases: &[S],
        first_row: usize,
        first_column: usize,
        columns: usize,
    ) {
        let row = |r: usize| (first_row + r).min(matrix.outputs - 1);
        let per_word = 2 * P;
        let words = columns / per_word;
        for half in 0..PANEL_ROWS / 8 {
            for first_word in (0..words).step_by(LANES / 2) {
                let n_words = (words - first_word).min(LANES / 2);
                let mut block = [_mm256_setzero_si256(); 8];
                for (r, block) in block.iter_mut().enumerate() {
                    let start = first_column / per_word + first_word;
                    let words = &matrix.row_words(row(half * 8 + r))[start..start + n_words];
                    *block = load_words(words);
                }
                // Now one register holds the same word of eight rows.
                for (w, word) in transpose8(block).into_iter().enumerate() {
                    for i in 0..P {
                        let pair = first_word * P + i * (LANES / 2) + w;
                        let integers = &mut self.integers[(pair * PANEL_ROWS + half * 8) * 2..][..16];
                        // SAFETY: sixteen integers were just sliced.
                        unsafe { _mm256_storeu_si256(integers.as_mut_ptr().cast(), plane_of::<P>(word, i)) };
                    }
                }
            }
            let groups = columns / matrix.group_size;
            for (stored, widened) in [(scales, &mut self.scales), (biases, &mut self.biases)] {
                for first_group in (0..groups).step_by(8) {
                    let mut block = [_mm256_setzero_si256(); 8];
                    for (r, block) in block.iter_mut().enumerate() {
                        let at = row(half * 8 + r) * matrix.groups() + first_column / matrix.group_size + first_group;
                        *block = _mm256_castps_si256(load_up_to_8(&stored[at..]));
                    }
                    for (g, group) in transpose8(block).into_iter().enumerate() {
                        let widened = &mut widened[(first_group + g) * PANEL_ROWS + half * 8..][..8];
                        // SAFETY: eight numbers were just sliced.
                        unsafe { _mm256_storeu_ps(widened.as_mut_ptr(), _mm256_castsi256_ps(group)) };
                    }
                }
            }
        }
    }
}

/// The weights at bit `(16 / P) * i` of both 16-bit halves of each word.
#[inline]
#[target_feature(enable = "avx2")]
fn plane_of<const P: usize>(word: __m256i, i: usize) -> __m256i {
    let mask = _mm256_set1_epi16((1 << (16 / P)) - 1);
    let shift = _mm_cvtsi32_si128((16 / P * i) as i32);
    _mm256_and_si256(_mm256_srl_epi16(word, shift), mask)
}

/// Up to eight words, zeros after them.
#[inline]
#[target_feature(enable = "avx2")]
fn load_words(words: &[u32]) -> __m256i {
    let mut padded = [0u32; 8];
    let from = match <&[u32; 8]>::try_from(words) {
        Ok(whole) => whole,
        Err(_) => {
            padded[..words.len()].copy_from_slice(words);
            &padded
        }
    };
    // SAFETY: eight words.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

/// The first eight numbers, or fewer and zeros at the matrix's end.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn load_up_to_8<S: Stored>(stored: &[S]) -> __m256 {
    if stored.len() >= 8 {
        // SAFETY: eight numbers are there.
        return unsafe { S::load8(stored.as_ptr()) };
    }
    let mut padded = [0.0; 8];
    for (padded, stored) in padded.iter_mut().zip(stored) {
        *padded = stored.widen();
    }
    // SAFETY: eight numbers.
    unsafe { _mm256_loadu_ps(padded.as_ptr()) }
}

/// Eight registers of eight as an 8 x 8 matrix, transposed.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose8(rows: [__m256i; 8]) -> [__m256i; 8] {
    let pairs: [[__m256i; 2]; 4] = std::array::from_fn(|i| {
        let (a, b) = (rows[2 * i], rows[2 * i + 1]);
        [_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)]
    });
    let quads: [[__m256i; 4]; 2] = std::array::from_fn(|i| {
        let ([a_low, a_high], [b_low, b_high]) = (pairs[2 * i], pairs[2 * i + 1]);
        [
            _mm256_unpacklo_epi64(a_low, b_low),
            _mm256_unpackhi_epi64(a_low, b_low),
            _mm256_unpacklo_epi64(a_high, b_high),
            _mm256_unpackhi_epi64(a_high, b_high),
        ]
    });
    std::array::from_fn(|i| {
        let (upper, lower) = (quads[0][i % 4], quads[1][i % 4]);
        if i < 4 {
            _mm256_permute2x128_si256::<0x20>(upper, lower)
        } else {
            _mm256_permute2x128_si256::<0x31>(upper, lower)
        }
    })
}
