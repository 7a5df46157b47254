//! Each kernel beside exact arithmetic: all formats, and sizes around every boundary.

use std::ops::Range;

use half::{bf16, f16};

use crate::quantized::activations::{self, Activations};
use crate::quantized::kernel::Kernel;
use crate::quantized::view::{Floats, MatrixView};

/// Rows of every matrix. Ranges of rows begin and end in the middle of blocks of 4, 16 and 32.
const OUTPUTS: usize = 40;
const ROWS: [Range<usize>; 9] = [0..1, 39..40, 0..5, 3..18, 0..16, 16..32, 1..33, 7..40, 0..40];
/// Few tokens, and blocks of 4, 6 and 8 of them with rests of every size.
const TOKENS: [Range<usize>; 13] = [0..1, 0..2, 0..3, 0..4, 0..5, 0..6, 0..7, 0..8, 0..9, 3..13, 2..14, 0..16, 0..17];
/// Groups in a row: half a chunk at the end, vectors of 8 and 16 scales with rests, more than one panel.
const GROUPS: [usize; 8] = [1, 2, 3, 5, 9, 17, 18, 33];

/// The types of scales.
#[derive(Debug, Clone, Copy)]
pub enum Stored {
    F32,
    F16,
    Bf16,
}

/// What is in the matrix and in the activations.
#[derive(Debug, Clone, Copy)]
enum Content {
    Random,
    /// All integers as large as they can be, so that sums would overflow if they could.
    Largest,
    /// Token 1 holds a NaN in its last group.
    NotFinite,
}

/// A quantized matrix in plain vectors.
#[derive(Debug, Clone)]
pub struct Matrix {
    pub outputs: usize,
    pub inputs: usize,
    pub group_size: usize,
    pub bits: usize,
    words: Vec<u32>,
    scales: Numbers,
    biases: Numbers,
}

#[derive(Debug, Clone)]
enum Numbers {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

impl Numbers {
    fn new(stored: Stored, numbers: &[f32]) -> Self {
        match stored {
            Stored::F32 => Self::F32(numbers.to_vec()),
            Stored::F16 => Self::F16(numbers.iter().copied().map(f16::from_f32).collect()),
            Stored::Bf16 => Self::Bf16(numbers.iter().copied().map(bf16::from_f32).collect()),
        }
    }

    fn view(&self) -> Floats<'_> {
        match self {
            Self::F32(numbers) => Floats::F32(numbers),
            Self::F16(numbers) => Floats::F16(numbers),
            Self::Bf16(numbers) => Floats::Bf16(numbers),
        }
    }
}

/// A linear congruential generator (Knuth's multiplier), the same numbers on every machine.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// In [-1, 1).
    fn number(&mut self) -> f32 {
        self.bits() as f32 / (1_u32 << 31) as f32 - 1.0
    }
}

impl Matrix {
    /// Words of random bits; scales and biases of both signs and of different sizes.
    pub fn random(
        random: &mut Random,
        [outputs, inputs]: [usize; 2],
        group_size: usize,
        bits: usize,
        stored: Stored,
    ) -> Self {
        let n_groups = outputs * inputs / group_size;
        let sizes: Vec<f32> = (0..n_groups).map(|_| random.number() / (1 << (random.bits() % 5)) as f32).collect();
        let scales: Vec<f32> = sizes.iter().map(|size| size / (1 << bits) as f32).collect();
        let biases: Vec<f32> = sizes.iter().map(|size| -size * random.number().abs()).collect();
        Self {
            outputs,
            inputs,
            group_size,
            bits,
            words: (0..outputs * inputs * bits / 32).map(|_| random.bits()).collect(),
            scales: Numbers::new(stored, &scales),
            biases: Numbers::new(stored, &biases),
        }
    }

    pub fn view(&self) -> MatrixView<'_> {
        MatrixView {
            outputs: self.outputs,
            inputs: self.inputs,
            group_size: self.group_size,
            bits: self.bits,
            words: &self.words,
            scales: self.scales.view(),
            biases: self.biases.view(),
        }
    }

    /// What a product reads: words, scales and biases, in bytes.
    pub fn bytes(&self) -> usize {
        let per_number = if matches!(self.scales, Numbers::F32(_)) { 4 } else { 2 };
        self.words.len() * 4 + 2 * self.scales.view().len() * per_number
    }

    /// Activations for this matrix; their groups differ in size.
    pub fn activations(&self, random: &mut Random, tokens: usize) -> Vec<f32> {
        let mut x = Vec::with_capacity(tokens * self.inputs);
        while x.len() < tokens * self.inputs {
            let size = (1 << (random.bits() % 6)) as f32 / 8.0;
            x.extend((0..32).map(|_| (random.number() + 0.3) * size));
        }
        x
    }
}

/// Rounds the rows of `x` (`[M, I]`) as `quantize_row` says.
pub fn rounded(
    matrix: &Matrix,
    x: &[f32],
    quantize_row: impl Fn(&[f32], usize, usize, &mut [i16], &mut [f32], &mut [f32]),
) -> Activations {
    let mut rounded = Activations::for_matrix(&matrix.view(), x.len() / matrix.inputs);
    let (planes, groups, row_len) = (rounded.planes(), rounded.groups, rounded.chunks * rounded.chunk());
    for (token, x) in x.chunks_exact(matrix.inputs).enumerate() {
        quantize_row(
            x,
            matrix.group_size,
            planes,
            &mut rounded.integers[token * row_len..(token + 1) * row_len],
            &mut rounded.scales[token * groups..(token + 1) * groups],
            &mut rounded.sums[token * groups..(token + 1) * groups],
        );
    }
    rounded
}

/// Compares a kernel with exact sums in all formats and returns how many tiles it computed.
///
/// # Errors
/// A sentence about the first number that is further off than the rounding of f32 explains, and about anything that was
/// written beside a tile.
pub fn compare(kernel: &dyn Kernel) -> Result<usize, String> {
    let mut n_tiles = 0;
    for bits in [4, 8] {
        for group_size in [32, 64, 128] {
            for (at, n_groups) in GROUPS.into_iter().enumerate() {
                for stored in [Stored::F32, Stored::F16, Stored::Bf16] {
                    n_tiles += compare_one(kernel, Content::Random, bits, group_size, n_groups, stored)?;
                }
                let stored = [Stored::F32, Stored::F16, Stored::Bf16][at % 3];
                n_tiles += compare_one(kernel, Content::Largest, bits, group_size, n_groups, stored)?;
                n_tiles += compare_one(kernel, Content::NotFinite, bits, group_size, n_groups, stored)?;
            }
        }
    }
    Ok(n_tiles)
}

fn compare_one(
    kernel: &dyn Kernel,
    content: Content,
    bits: usize,
    group_size: usize,
    n_groups: usize,
    stored: Stored,
) -> Result<usize, String> {
    let inputs = n_groups * group_size;
    let what = format!(
        "{}: {content:?} [{OUTPUTS}, {inputs}], {bits} bits in groups of {group_size}, scales {stored:?}",
        kernel.name()
    );
    let mut random = Random((bits * group_size * n_groups) as u64);
    let mut matrix = Matrix::random(&mut random, [OUTPUTS, inputs], group_size, bits, stored);
    let n_tokens = TOKENS.iter().map(|range| range.end).max().unwrap_or(1);
    let mut x = matrix.activations(&mut random, n_tokens);
    match content {
        Content::Random => {}
        Content::Largest => {
            matrix.words.fill(u32::MAX);
            for (token, x) in x.chunks_exact_mut(inputs).enumerate() {
                x.fill(if token.is_multiple_of(2) { 3.0 } else { -3.0 });
            }
        }
        Content::NotFinite => x[2 * inputs - 1] = f32::NAN,
    }
    let x_of_kernel = rounded(&matrix, &x, |x, group_size, planes, integers, scales, sums| {
        kernel.quantize_row(x, group_size, planes, integers, scales, sums);
    });
    let x = rounded(&matrix, &x, activations::quantize_row);
    let bits_of = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    let is_same = matches!(content, Content::NotFinite)
        || (x.integers == x_of_kernel.integers
            && bits_of(&x.scales) == bits_of(&x_of_kernel.scales)
            && bits_of(&x.sums) == bits_of(&x_of_kernel.sums));
    if !is_same {
        return Err(format!("{what}: the rounded activations are others than those of plain Rust"));
    }
    let exact = exact_products(&matrix, &x);
    for tokens in TOKENS {
        for rows in ROWS {
            compare_tile(kernel, &matrix, &x, tokens.clone(), rows.clone(), &exact)
                .map_err(|problem| format!("{what}, tokens {tokens:?}, rows {rows:?}: {problem}"))?;
        }
    }
    Ok(TOKENS.len() * ROWS.len())
}

/// A product, and how far a kernel may be from it.
struct Exact {
    value: f64,
    off: f64,
}

/// `[M, O]`. Integers are exact, so what a kernel may be off by is f32's rounding: half a unit in the last place for each of
/// the additions, of which a row has fewer than `groups + 20`.
fn exact_products(matrix: &Matrix, x: &Activations) -> Vec<Exact> {
    let view = matrix.view();
    let (planes, chunk) = (x.planes(), x.chunk());
    let place = |column: usize| column / chunk * chunk + column % planes * activations::LANES + column % chunk / planes;
    let places: Vec<usize> = (0..matrix.inputs).map(place).collect();
    let weights: Vec<Vec<i64>> = (0..matrix.outputs)
        .map(|row| (0..matrix.inputs).map(|column| i64::from(view.integer(row, column))).collect())
        .collect();
    let mut products = Vec::with_capacity(x.tokens * matrix.outputs);
    for token in 0..x.tokens {
        let row_of_x = x.row(token);
        let integers: Vec<i64> = places.iter().map(|&place| i64::from(row_of_x[place])).collect();
        for (row, weights) in weights.iter().enumerate() {
            let (mut value, mut size) = (0.0, 0.0);
            for (g, at) in view.row_groups(row).enumerate() {
                let columns = g * matrix.group_size..(g + 1) * matrix.group_size;
                let pairs = weights[columns.clone()].iter().zip(&integers[columns]);
                let dot: i64 = pairs.map(|(weight, integer)| weight * integer).sum();
                let scale = f64::from(view.scales.get(at)) * f64::from(x.row_scales(token)[g]);
                let bias_term = f64::from(view.biases.get(at)) * f64::from(x.row_sums(token)[g]);
                // Parts of a group's sum may be added in f32 before the rest is, so it is not the sum's own size that counts.
                let parts: i64 = weights[g * matrix.group_size..(g + 1) * matrix.group_size]
                    .iter()
                    .zip(&integers[g * matrix.group_size..])
                    .map(|(weight, integer)| (weight * integer).abs())
                    .sum();
                value += scale * dot as f64 + bias_term;
                size += (scale * parts as f64).abs() + bias_term.abs();
            }
            let additions = (view.groups() + 20) as f64;
            products.push(Exact { value, off: additions * f64::from(f32::EPSILON) / 2.0 * size });
        }
    }
    products
}

fn compare_tile(
    kernel: &dyn Kernel,
    matrix: &Matrix,
    x: &Activations,
    tokens: Range<usize>,
    rows: Range<usize>,
    exact: &[Exact],
) -> Result<(), String> {
    const MARGIN: usize = 32;
    const UNTOUCHED: f32 = 12345.0;
    let n = tokens.len() * rows.len();
    let mut memory = vec![UNTOUCHED; MARGIN + n + MARGIN];
    kernel.multiply(&matrix.view(), x, tokens.clone(), rows.clone(), &mut memory[MARGIN..MARGIN + n]);
    if memory[..MARGIN].iter().chain(&memory[MARGIN + n..]).any(|&number| number != UNTOUCHED) {
        return Err("wrote beside the tile".into());
    }
    let places = tokens.flat_map(|token| rows.clone().map(move |row| (token, row)));
    for ((token, row), got) in places.zip(&memory[MARGIN..]) {
        let Exact { value, off } = exact[token * matrix.outputs + row];
        let fits = if value.is_nan() { got.is_nan() } else { (f64::from(*got) - value).abs() <= off };
        if !fits {
            return Err(format!("token {token}, row {row} is {got} in place of {value}, allowed are {off:e}"));
        }
    }
    Ok(())
}
