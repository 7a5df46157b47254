//! Few tokens: every weight is read once per token, straight from its packed form. Memory is the limit.

use std::arch::x86_64::*;

use super::Job;
use super::stored::Stored;
use crate::quantized::activations::LANES;

/// Rows that go through the loop together: they share the loads of the activations.
///
/// They are not neighbours but lie a quarter of the tile apart. Four neighbours are one stream of memory, and a processor
/// runs only so far ahead of one stream; it runs ahead of four at a time. On two cores, four streams a core read 29 GB/s,
/// one stream 21 GB/s.
const ROWS: usize = 4;

/// What is the same for all rows.
struct Row<'a> {
    groups: usize,
    /// `[chunks, P, LANES]`
    integers: &'a [i16],
    /// `[groups]`
    scales: &'a [f32],
    /// `[groups]`
    sums: &'a [f32],
    /// For biases that are added eight groups at a time: the sums of the last eight groups, zero for those that a whole
    /// block of eight has already covered.
    last_sums: [f32; 8],
    /// For groups of a chunk or more: how many chunks share a scale, as a shift.
    chunk_shift: u32,
}

/// - `P`: planes, weights in a 16-bit lane
/// - `HALF`: a group is half a chunk
///
/// # Safety
/// As [`Job::run`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run<S: Stored, const P: usize, const HALF: bool>(
    job: &Job<'_>,
    scales: &[S],
    biases: &[S],
    tile: &mut [f32],
) {
    let (n_rows, groups) = (job.rows.len(), job.matrix.groups());
    // One place more than there are groups: the half chunk at a row's end has a second half, whose scale is 0.
    let mut products = vec![0.0; ROWS * (groups + 1)];
    for (token, out) in job.tokens.clone().zip(tile.chunks_exact_mut(n_rows)) {
        let sums = job.x.row_sums(token);
        let mut last_sums = [0.0; 8];
        if groups >= 8 {
            let uncovered = groups % 8;
            last_sums[8 - uncovered..].copy_from_slice(&sums[groups - uncovered..]);
        }
        let row = Row {
            groups,
            integers: job.x.row(token),
            scales: job.x.row_scales(token),
            sums,
            last_sums,
            chunk_shift: (job.matrix.group_size / job.x.chunk()).max(1).trailing_zeros(),
        };
        let distance = n_rows / ROWS;
        for i in 0..distance {
            let rows = std::array::from_fn(|r| job.rows.start + r * distance + i);
            // SAFETY: the rows exist.
            let dots = unsafe { dot_rows::<S, P, HALF, ROWS>(job, &row, scales, biases, rows, &mut products) };
            for (r, dot) in dots.into_iter().enumerate() {
                out[r * distance + i] = dot;
            }
        }
        for (i, out) in out.iter_mut().enumerate().skip(ROWS * distance) {
            let rows = [job.rows.start + i];
            // SAFETY: the row exists.
            [*out] = unsafe { dot_rows::<S, P, HALF, 1>(job, &row, scales, biases, rows, &mut products) };
        }
    }
}

/// The dot products of `R` rows with one row of activations.
///
/// # Safety
/// As [`Job::run`], and the rows exist.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_rows<S: Stored, const P: usize, const HALF: bool, const R: usize>(
    job: &Job<'_>,
    x: &Row<'_>,
    scales: &[S],
    biases: &[S],
    rows: [usize; R],
    products: &mut [f32],
) -> [f32; R] {
    // [task 2.2b.4] AVX2: dot products of a block of rows
    let matrix = job.matrix;
    let groups = x.groups;
    let stride = groups + 1;
    let mut acc = [_mm256_setzero_ps(); R];
    let mut rest = [0.0f32; R];
    for r in 0..R {
        let at = rows[r] * groups;
        let products = &mut products[r * stride..(r + 1) * stride];
        // SAFETY: `at + groups` is within both slices; blocks of eight stay within the row.
        unsafe { (acc[r], rest[r]) = prepare_row(x, &scales[at..at + groups], &biases[at..at + groups], products) };
    }

    let words_per_row = matrix.words_per_row();
    let words = rows.map(|row| matrix.words[row * words_per_row..].as_ptr());
    let halves = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    let mask = _mm256_set1_epi16((1 << (16 / P)) - 1);
    let whole_chunks = words_per_row / (LANES / 2);

    let n_chunks = x.integers.len() / (LANES * P);
    // SAFETY: a chunk is eight words of a row and `LANES * P` integers of the activations; both have `whole_chunks` of
    // them, and the activations one more if rows end in half a chunk.
    unsafe {
        let scale_of = |r: usize, chunk: usize| {
            let product = products.as_ptr().add(r * stride);
            if HALF {
                // Lanes 0 to 3 belong to the chunk's first group, lanes 4 to 7 to its second.
                let two = _mm256_castpd_ps(_mm256_set1_pd(product.add(2 * chunk).cast::<f64>().read_unaligned()));
                _mm256_permutevar_ps(two, halves)
            } else {
                _mm256_broadcast_ss(&*product.add(chunk >> x.chunk_shift))
            }
        };
        for chunk in 0..whole_chunks {
            let integers = x.integers.as_ptr().add(chunk * LANES * P);
            for (r, acc) in acc.iter_mut().enumerate() {
                let words = words[r].add(chunk * (LANES / 2));
                let dots = dot_chunk::<P>(_mm256_loadu_si256(words.cast()), integers, mask);
                *acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), scale_of(r, chunk), *acc);
            }
        }
        if whole_chunks < n_chunks {
            let integers = x.integers.as_ptr().add(whole_chunks * LANES * P);
            for (r, acc) in acc.iter_mut().enumerate() {
                let words = words[r].add(whole_chunks * (LANES / 2));
                let packed = _mm256_zextsi128_si256(_mm_loadu_si128(words.cast()));
                let dots = dot_chunk::<P>(packed, integers, mask);
                *acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), scale_of(r, whole_chunks), *acc);
            }
        }
    }
    let mut dots = rest;
    for (dot, acc) in dots.iter_mut().zip(acc) {
        *dot += horizontal_sum(acc);
    }
    dots
    // [end]
}

// [task 2.2b.4 helpers] AVX2: scales, chunks and sums
/// Fills `products` with `w_scale * x_scale` for each group and returns `Σ w_bias * x_sum` in two parts.
///
/// # Safety
/// As [`Job::run`]; `scales` and `biases` have `x.groups` entries.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn prepare_row<S: Stored>(x: &Row<'_>, scales: &[S], biases: &[S], products: &mut [f32]) -> (__m256, f32) {
    let groups = x.groups;
    let mut bias_terms = _mm256_setzero_ps();
    if groups < 8 {
        let mut rest = 0.0;
        for g in 0..groups {
            products[g] = scales[g].widen() * x.scales[g];
            rest += biases[g].widen() * x.sums[g];
        }
        return (bias_terms, rest);
    }
    // SAFETY: every block of eight lies within the row.
    unsafe {
        let block = |g: usize, sums: *const f32, products: &mut [f32], bias_terms: __m256| {
            let product = _mm256_mul_ps(S::load8(scales.as_ptr().add(g)), _mm256_loadu_ps(x.scales.as_ptr().add(g)));
            _mm256_storeu_ps(products.as_mut_ptr().add(g), product);
            _mm256_fmadd_ps(S::load8(biases.as_ptr().add(g)), _mm256_loadu_ps(sums), bias_terms)
        };
        for g in (0..groups / 8 * 8).step_by(8) {
            bias_terms = block(g, x.sums.as_ptr().add(g), products, bias_terms);
        }
        if !groups.is_multiple_of(8) {
            // The last eight overlap the block before: `last_sums` is zero there, and the products are the same.
            bias_terms = block(groups - 8, x.last_sums.as_ptr(), products, bias_terms);
        }
    }
    (bias_terms, 0.0)
}

/// Integer dot products of one chunk: eight partial sums.
///
/// # Safety
/// The processor has AVX2; a chunk of activations lies at `integers`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_chunk<const P: usize>(packed: __m256i, integers: *const i16, mask: __m256i) -> __m256i {
    // SAFETY: the caller's promise.
    let plane = |i: usize| unsafe { _mm256_loadu_si256(integers.add(i * LANES).cast()) };
    if P == 2 {
        // Bytes: the upper one needs no mask once it is shifted down.
        let low = _mm256_madd_epi16(_mm256_and_si256(packed, mask), plane(0));
        let high = _mm256_madd_epi16(_mm256_srli_epi16::<8>(packed), plane(1));
        return _mm256_add_epi32(low, high);
    }
    let dot0 = _mm256_madd_epi16(_mm256_and_si256(packed, mask), plane(0));
    let dot1 = _mm256_madd_epi16(_mm256_and_si256(_mm256_srli_epi16::<4>(packed), mask), plane(1));
    let dot2 = _mm256_madd_epi16(_mm256_and_si256(_mm256_srli_epi16::<8>(packed), mask), plane(2));
    let dot3 = _mm256_madd_epi16(_mm256_srli_epi16::<12>(packed), plane(3));
    _mm256_add_epi32(_mm256_add_epi32(dot0, dot1), _mm256_add_epi32(dot2, dot3))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn horizontal_sum(v: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
// [end]
