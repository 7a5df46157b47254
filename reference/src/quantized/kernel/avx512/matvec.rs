//! Few tokens: every weight is read once per token, straight from its packed form. Memory is the limit.

use std::arch::x86_64::*;

use super::Job;
use super::stored::Stored16;
use crate::quantized::activations::LANES;

/// Rows that go through the loop together: they share the loads of the activations.
const ROWS: usize = 4;

/// How far ahead of the loop weights are asked for. A page's end stops the processor's own prefetcher.
const PREFETCH_BYTES: usize = 4096;

/// What is the same for all rows.
struct Row<'a> {
    groups: usize,
    /// `[chunks, P, LANES]`
    integers: &'a [i16],
    /// `[groups]`
    scales: &'a [f32],
    /// `[groups]`
    sums: &'a [f32],
    /// Words between a block of rows and the one that is asked for ahead of time: whole blocks.
    ahead: usize,
}

/// - `P`: planes, weights in a 16-bit lane
/// - `HALF`: a group is half a chunk
///
/// # Safety
/// As [`Job::run`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn run<S: Stored16, const P: usize, const HALF: bool>(
    job: &Job<'_>,
    scales: &[S],
    biases: &[S],
    tile: &mut [f32],
) {
    let (n_rows, groups) = (job.rows.len(), job.matrix.groups());
    let block = ROWS * job.matrix.words_per_row();
    // One place more than there are groups: the half chunk at a row's end has a second half, whose scale is 0.
    let mut products = vec![0.0; ROWS * (groups + 1)];
    for (token, out) in job.tokens.clone().zip(tile.chunks_exact_mut(n_rows)) {
        let row = Row {
            groups,
            integers: job.x.row(token),
            scales: job.x.row_scales(token),
            sums: job.x.row_sums(token),
            ahead: block * (PREFETCH_BYTES / 4).div_ceil(block),
        };
        let mut row_idx = job.rows.start;
        for out in out.chunks_mut(ROWS) {
            // SAFETY: the rows `row_idx..row_idx + out.len()` exist.
            unsafe {
                match <&mut [f32; ROWS]>::try_from(&mut *out) {
                    Ok(out) => *out = dot_rows::<S, P, HALF, ROWS>(job, &row, scales, biases, row_idx, &mut products),
                    Err(_) => {
                        for (r, out) in out.iter_mut().enumerate() {
                            [*out] = dot_rows::<S, P, HALF, 1>(job, &row, scales, biases, row_idx + r, &mut products);
                        }
                    }
                }
            }
            row_idx += out.len();
        }
    }
}

/// The dot products of `R` rows from `first` on with one row of activations.
///
/// # Safety
/// As [`Job::run`], and the rows exist.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn dot_rows<S: Stored16, const P: usize, const HALF: bool, const R: usize>(
    job: &Job<'_>,
    x: &Row<'_>,
    scales: &[S],
    biases: &[S],
    first: usize,
    products: &mut [f32],
) -> [f32; R] {
    let groups = x.groups;
    let stride = groups + 1;
    let mut acc = [_mm512_setzero_ps(); R];
    for (r, acc) in acc.iter_mut().enumerate() {
        let at = (first + r) * groups;
        let products = &mut products[r * stride..r * stride + groups];
        // SAFETY: one scale, bias and product for each group.
        *acc = unsafe { prepare_row(x, &scales[at..at + groups], &biases[at..at + groups], products) };
    }

    let words_per_row = job.matrix.words_per_row();
    let first_word = job.matrix.words[first * words_per_row..].as_ptr();
    let planes = Planes::new::<P>();
    let whole_chunks = words_per_row / (LANES / 2);
    let n_chunks = x.integers.len() / (LANES * P);
    // Chunks that have their scale, or their two scales, in common: integers are added up until it changes.
    let chunks_per_scale = if HALF { 1 } else { job.matrix.group_size / (LANES * P) };
    // What lies behind this thread's rows is another thread's business.
    let ahead = if first * words_per_row + x.ahead < job.rows.end * words_per_row { x.ahead } else { 0 };
    // SAFETY: a chunk is eight words of a row and `LANES * P` integers of the activations; both have `whole_chunks` of
    // them, and the activations one more if rows end in half a chunk. Prefetching reads nothing.
    unsafe {
        for scale_idx in 0..whole_chunks / chunks_per_scale {
            let mut dots = [_mm512_setzero_si512(); R];
            for chunk in scale_idx * chunks_per_scale..(scale_idx + 1) * chunks_per_scale {
                let integers = x.integers.as_ptr().add(chunk * LANES * P);
                for (r, dots) in dots.iter_mut().enumerate() {
                    let words = first_word.add(r * words_per_row + chunk * (LANES / 2));
                    _mm_prefetch::<_MM_HINT_T0>(words.wrapping_add(ahead).cast());
                    *dots = planes.add_chunk::<P>(*dots, _mm256_loadu_si256(words.cast()), integers);
                }
            }
            for (r, (acc, dots)) in acc.iter_mut().zip(dots).enumerate() {
                let scale = scale_of::<HALF>(products.as_ptr().add(r * stride), scale_idx);
                *acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scale, *acc);
            }
        }
        if whole_chunks < n_chunks {
            let integers = x.integers.as_ptr().add(whole_chunks * LANES * P);
            for (r, acc) in acc.iter_mut().enumerate() {
                let words = first_word.add(r * words_per_row + whole_chunks * (LANES / 2));
                let packed = _mm256_zextsi128_si256(_mm_loadu_si128(words.cast()));
                let dots = planes.add_chunk::<P>(_mm512_setzero_si512(), packed, integers);
                let scale = scale_of::<HALF>(products.as_ptr().add(r * stride), whole_chunks);
                *acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scale, *acc);
            }
        }
    }
    let mut sums = [0.0; R];
    for (sum, acc) in sums.iter_mut().zip(acc) {
        *sum = _mm512_reduce_add_ps(acc);
    }
    sums
}

/// Fills `products` with `w_scale * x_scale` for each group and returns `Σ w_bias * x_sum` in sixteen parts.
///
/// # Safety
/// As [`Job::run`]; the three slices have `x.groups` entries.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn prepare_row<S: Stored16>(x: &Row<'_>, scales: &[S], biases: &[S], products: &mut [f32]) -> __m512 {
    let mut bias_terms = _mm512_setzero_ps();
    for g in (0..x.groups).step_by(16) {
        let mask = ((1u32 << (x.groups - g).min(16)) - 1) as __mmask16;
        // SAFETY: the mask leaves out what lies behind the row's end.
        unsafe {
            let x_scales = _mm512_maskz_loadu_ps(mask, x.scales.as_ptr().add(g));
            let x_sums = _mm512_maskz_loadu_ps(mask, x.sums.as_ptr().add(g));
            let product = _mm512_mul_ps(S::load16(mask, scales.as_ptr().add(g)), x_scales);
            _mm512_mask_storeu_ps(products.as_mut_ptr().add(g), mask, product);
            bias_terms = _mm512_fmadd_ps(S::load16(mask, biases.as_ptr().add(g)), x_sums, bias_terms);
        }
    }
    bias_terms
}

/// The factor of each of the sixteen sums: the group's, or in lanes 4 to 7 and 12 to 15 that of the chunk's second group.
///
/// # Safety
/// As [`Job::run`]; `products` has the entries.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn scale_of<const HALF: bool>(products: *const f32, index: usize) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        if HALF {
            let two = _mm512_set1_pd(products.add(2 * index).cast::<f64>().read_unaligned());
            let halves = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1);
            _mm512_permutevar_ps(_mm512_castpd_ps(two), halves)
        } else {
            _mm512_set1_ps(*products.add(index))
        }
    }
}

/// How weights are taken out of a chunk, two planes at a time: the chunk is put into both halves of a register, and each
/// half is shifted by its own plane's bits. The activations of two planes are neighbours, so they need no arranging.
struct Planes {
    /// For planes 0 and 1, and for planes 2 and 3: how far the two halves are shifted.
    shifts: [__m512i; 2],
    mask: __m512i,
}

impl Planes {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn new<const P: usize>() -> Self {
        let bits = (16 / P) as i16;
        let shift = |plane: i16| _mm256_set1_epi16(plane * bits);
        let two = |low, high| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
        Self { shifts: [two(shift(0), shift(1)), two(shift(2), shift(3))], mask: _mm512_set1_epi16((1 << bits) - 1) }
    }

    /// Adds the integer products of one chunk to sixteen sums.
    ///
    /// # Safety
    /// As [`Job::run`]; a chunk of activations lies at `integers`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn add_chunk<const P: usize>(&self, dots: __m512i, packed: __m256i, integers: *const i16) -> __m512i {
        let twice = _mm512_broadcast_i64x4(packed);
        let mut dots = dots;
        for (two, shifts) in self.shifts.iter().enumerate().take(P / 2) {
            let weights = _mm512_and_si512(_mm512_srlv_epi16(twice, *shifts), self.mask);
            // SAFETY: the caller's promise.
            let activations = unsafe { _mm512_loadu_si512(integers.add(two * 2 * LANES).cast()) };
            dots = _mm512_dpwssd_epi32(dots, weights, activations);
        }
        dots
    }
}
