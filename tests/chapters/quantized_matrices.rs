//! Quantized matrices for day 2.2's tests, their exact products, and how far 16-bit activations may lead from those.
//!
//! Nothing here uses what the learner writes: words are taken apart once more, and activations are rounded in f64.

use std::ops::Range;

use grader::{Case, Rng};
use half::{bf16, f16};
use mlx_rs::{Array, Dtype};
use tiny_llm::quantized::QuantizedMatrix;
use tiny_llm::quantized::activations::{Activations, LANES};
use tiny_llm::quantized::kernel::Kernel;
use tiny_llm::quantized::view::{Floats, MatrixView};

/// A matrix in plain vectors.
#[derive(Debug)]
pub struct Matrix {
    pub outputs: usize,
    pub inputs: usize,
    pub group_size: usize,
    pub bits: usize,
    words: Vec<u32>,
    scales: Stored,
    biases: Stored,
}

#[derive(Debug)]
enum Stored {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

impl Stored {
    fn new(values: &[f32], dtype: Dtype) -> Self {
        match dtype {
            Dtype::Float16 => Self::F16(values.iter().map(|&value| f16::from_f32(value)).collect()),
            Dtype::Bfloat16 => Self::Bf16(values.iter().map(|&value| bf16::from_f32(value)).collect()),
            _ => Self::F32(values.to_vec()),
        }
    }

    fn floats(&self) -> Floats<'_> {
        match self {
            Self::F32(values) => Floats::F32(values),
            Self::F16(values) => Floats::F16(values),
            Self::Bf16(values) => Floats::Bf16(values),
        }
    }

    fn get(&self, index: usize) -> f64 {
        f64::from(match self {
            Self::F32(values) => values[index],
            Self::F16(values) => values[index].to_f32(),
            Self::Bf16(values) => values[index].to_f32(),
        })
    }

    fn array(&self, shape: &[i32]) -> Array {
        match self {
            Self::F32(values) => Array::from_slice(values, shape),
            Self::F16(values) => Array::from_slice(values, shape),
            Self::Bf16(values) => Array::from_slice(values, shape),
        }
    }
}

impl Matrix {
    /// The inputs `packed`, `scales` and `biases` of a case.
    pub fn of(case: &Case) -> Self {
        Self::with_prefix(case, "")
    }

    /// As [`Matrix::of`], for a case with several matrices: `<prefix>packed` and so on.
    pub fn with_prefix(case: &Case, prefix: &str) -> Self {
        let [packed, scales, biases] =
            ["packed", "scales", "biases"].map(|part| case.array(&format!("{prefix}{part}")));
        let (group_size, bits) = (case.i32("group_size") as usize, case.i32("bits") as usize);
        let stored = |array: &Array| Stored::new(&f32s(array), array.dtype());
        Self {
            outputs: packed.dim(0) as usize,
            inputs: scales.dim(1) as usize * group_size,
            group_size,
            bits,
            words: packed.as_slice::<u32>().to_vec(),
            scales: stored(&scales),
            biases: stored(&biases),
        }
    }

    /// Words of random bits; scales and biases of both signs, and of sizes that differ from group to group.
    pub fn random(rng: &mut Rng, [outputs, inputs]: [usize; 2], format: Format, dtype: Dtype) -> Self {
        let Format { group_size, bits } = format;
        let n_groups = outputs * inputs / group_size;
        let sizes: Vec<f64> = (0..n_groups).map(|_| rng.normal() * 0.5_f64.powi(rng.between(2, 6))).collect();
        let scales: Vec<f32> = sizes.iter().map(|size| (size / f64::from(1 << bits)) as f32).collect();
        let biases: Vec<f32> = sizes.iter().map(|size| (-size * rng.uniform()) as f32).collect();
        Self {
            outputs,
            inputs,
            group_size,
            bits,
            words: (0..outputs * inputs * bits / 32).map(|_| rng.next_u64() as u32).collect(),
            scales: Stored::new(&scales, dtype),
            biases: Stored::new(&biases, dtype),
        }
    }

    /// Every integer is the largest; the scales differ from row to row.
    pub fn with_largest_integers([outputs, inputs]: [usize; 2], format: Format) -> Self {
        let Format { group_size, bits } = format;
        let n_groups = inputs / group_size;
        let scales: Vec<f32> = (0..outputs * n_groups).map(|group| 0.01 * (1 + group / n_groups) as f32).collect();
        let biases: Vec<f32> = scales.iter().map(|scale| -scale).collect();
        Self {
            outputs,
            inputs,
            group_size,
            bits,
            words: vec![u32::MAX; outputs * inputs * bits / 32],
            scales: Stored::F32(scales),
            biases: Stored::F32(biases),
        }
    }

    pub fn view(&self) -> MatrixView<'_> {
        MatrixView {
            outputs: self.outputs,
            inputs: self.inputs,
            group_size: self.group_size,
            bits: self.bits,
            words: &self.words,
            scales: self.scales.floats(),
            biases: self.biases.floats(),
        }
    }

    pub fn in_mlx(&self) -> QuantizedMatrix {
        let (rows, groups) = (self.outputs as i32, (self.inputs / self.group_size) as i32);
        let packed = Array::from_slice(&self.words, &[rows, (self.inputs * self.bits / 32) as i32]);
        let (scales, biases) = (self.scales.array(&[rows, groups]), self.biases.array(&[rows, groups]));
        let matrix = QuantizedMatrix::new(packed, scales, biases, self.group_size, self.bits);
        matrix.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Scale, integer and bias of one weight.
    fn parts(&self, row: usize, column: usize) -> (f64, f64, f64) {
        let bit = column * self.bits;
        let word = self.words[row * self.inputs * self.bits / 32 + bit / 32];
        let integer = word >> (bit % 32) & ((1 << self.bits) - 1);
        let group = (row * self.inputs + column) / self.group_size;
        (self.scales.get(group), f64::from(integer), self.biases.get(group))
    }

    /// The weights, `[O, I]`, in f64.
    pub fn weights(&self) -> Vec<f64> {
        let places = (0..self.outputs).flat_map(|row| (0..self.inputs).map(move |column| (row, column)));
        let weight = |(row, column)| {
            let (scale, integer, bias) = self.parts(row, column);
            scale * integer + bias
        };
        places.map(weight).collect()
    }

    /// `[M, O]`: the product with `x` (`[M, I]`), and how far an answer may be from it.
    ///
    /// A group's activations become multiples of `step = max |x| / 32767`. So each is off by at most half a step (0.51,
    /// because the step itself is an f32), and its weight multiplies that. What f32 arithmetic adds is said at
    /// [`Matrix::product_of`].
    pub fn product(&self, x: &[f32]) -> Vec<Bounded> {
        let weights = self.weights();
        let mut products = self.product_of(&rounded(self, x));
        for (token, x) in x.chunks_exact(self.inputs).enumerate() {
            for (row, weights) in weights.chunks_exact(self.inputs).enumerate() {
                let product = &mut products[token * self.outputs + row];
                product.value = x.iter().zip(weights).map(|(x, weight)| f64::from(*x) * weight).sum();
                for (x, weights) in x.chunks_exact(self.group_size).zip(weights.chunks_exact(self.group_size)) {
                    let step = x.iter().fold(0.0_f64, |most, x| most.max(f64::from(x.abs()))) / 32767.0;
                    product.off += weights.iter().map(|weight| 0.51 * step * weight.abs()).sum::<f64>();
                }
            }
        }
        products
    }

    /// `[M, O]`: the product with activations that are rounded already, and how far a kernel may be from it.
    ///
    /// Integers are exact. What is left is f32: the terms of a group may be added in parts and in any order, each addition
    /// is off by at most half a unit in the last place of what has been added up, and there are fewer than `groups + 16`
    /// of them in a row.
    pub fn product_of(&self, x: &Activations) -> Vec<Bounded> {
        let (planes, chunk) = (x.planes(), x.chunk());
        let mut products = Vec::with_capacity(x.tokens * self.outputs);
        for token in 0..x.tokens {
            let (integers, scales, sums) = (x.row(token), x.row_scales(token), x.row_sums(token));
            for row in 0..self.outputs {
                let (mut value, mut size) = (0.0, 0.0);
                for column in 0..self.inputs {
                    let group = column / self.group_size;
                    let (scale, integer, bias) = self.parts(row, column);
                    let place = column / chunk * chunk + column % planes * LANES + column % chunk / planes;
                    let term = scale * integer * f64::from(scales[group]) * f64::from(integers[place]);
                    (value, size) = (value + term, size + term.abs());
                    if column % self.group_size == 0 {
                        let term = bias * f64::from(sums[group]);
                        (value, size) = (value + term, size + term.abs());
                    }
                }
                let additions = (self.inputs / self.group_size + 16) as f64;
                products.push(Bounded { value, off: additions * f64::from(f32::EPSILON) / 2.0 * size });
            }
        }
        products
    }
}

/// A number and how far from it an answer may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounded {
    pub value: f64,
    pub off: f64,
}

impl Bounded {
    /// The same number with a stricter bound.
    pub fn scaled(self, factor: f64) -> Self {
        Self { off: self.off * factor, ..self }
    }
}

/// Group size and bits.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    pub group_size: usize,
    pub bits: usize,
}

/// All that there are.
pub fn formats() -> impl Iterator<Item = Format> {
    [4, 8].into_iter().flat_map(|bits| [32, 64, 128].map(|group_size| Format { group_size, bits }))
}

/// Activations whose groups have different sizes and a mean that is not 0.
pub fn random_activations(rng: &mut Rng, tokens: usize, inputs: usize) -> Vec<f32> {
    let mut x = Vec::with_capacity(tokens * inputs);
    while x.len() < tokens * inputs {
        let size = 2.0_f64.powi(rng.between(-3, 3));
        x.extend((0..32).map(|_| ((rng.normal() + 0.3) * size) as f32));
    }
    x
}

/// `x` (`[M, I]`) rounded as day 2.2's task 4 asks for, in f64.
pub fn rounded(matrix: &Matrix, x: &[f32]) -> Activations {
    rounded_to(32767.0, matrix, x)
}

/// As [`rounded`], with another largest integer.
pub fn rounded_to(largest_integer: f64, matrix: &Matrix, x: &[f32]) -> Activations {
    let mut rounded = Activations::for_matrix(&matrix.view(), x.len() / matrix.inputs);
    let (planes, chunk, groups) = (rounded.planes(), rounded.chunk(), rounded.groups);
    let row_len = rounded.chunks * chunk;
    for (token, x) in x.chunks_exact(matrix.inputs).enumerate() {
        for (group, values) in x.chunks_exact(matrix.group_size).enumerate() {
            let largest = values.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let not_finite: f32 = values.iter().map(|x| x * 0.0).sum();
            let mut sum = 0.0;
            for (i, x) in values.iter().enumerate() {
                let integer =
                    if largest > 0.0 { (f64::from(*x) * largest_integer / f64::from(largest)).round() } else { 0.0 };
                sum += integer;
                let at = group * matrix.group_size + i;
                let place = at / chunk * chunk + at % planes * LANES + at % chunk / planes;
                rounded.integers[token * row_len + place] = integer as i16;
            }
            let scale = f64::from(largest) / largest_integer;
            rounded.scales[token * groups + group] = scale as f32 + not_finite;
            rounded.sums[token * groups + group] = (scale * sum) as f32 + not_finite;
        }
    }
    rounded
}

/// What `kernel` gives for these tokens and rows; nothing beside the tile may be written.
#[track_caller]
pub fn multiply(
    kernel: &dyn Kernel,
    matrix: &Matrix,
    x: &Activations,
    tokens: Range<usize>,
    rows: Range<usize>,
) -> Vec<f32> {
    const MARGIN: usize = 16;
    const UNTOUCHED: f32 = 12345.0;
    let n = tokens.len() * rows.len();
    let mut memory = vec![UNTOUCHED; MARGIN + n + MARGIN];
    memory[MARGIN..MARGIN + n].fill(f32::NAN);
    kernel.multiply(&matrix.view(), x, tokens.clone(), rows.clone(), &mut memory[MARGIN..MARGIN + n]);
    let margins = memory[..MARGIN].iter().chain(&memory[MARGIN + n..]);
    assert!(
        margins.into_iter().all(|&number| number == UNTOUCHED),
        "{}: tokens {tokens:?} and rows {rows:?} wrote beside their tile",
        kernel.name()
    );
    memory[MARGIN..MARGIN + n].to_vec()
}

/// Panics at the first number that is further off than it may be.
#[track_caller]
pub fn expect_within(what: &str, got: &[f32], expected: impl ExactSizeIterator<Item = Bounded>) {
    assert_eq!(got.len(), expected.len(), "{what}: numbers in the result");
    for (at, (got, Bounded { value, off })) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*got) - value).abs();
        assert!(error <= off, "{what}: number {at} is {got}, exactly {value}; off by {error:e}, allowed are {off:e}");
    }
}

/// `[n / width, width]`
pub fn rows(values: &[f32], width: usize) -> Array {
    Array::from_slice(values, &[(values.len() / width) as i32, width as i32])
}

/// The numbers of a float array, as f32.
pub fn f32s(array: &Array) -> Vec<f32> {
    let array = array.as_dtype(Dtype::Float32).unwrap_or_else(|error| panic!("{error}"));
    array.as_slice::<f32>().to_vec()
}
