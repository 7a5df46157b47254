//! Quantized matrices for the tests of days 2.2a to 2.2c, their exact products, and how far 16-bit activations may lead from those.
//!
//! All of a matrix's memory, of activations and of tiles ends at a page that must not be touched: what a kernel reads or writes
//! after the end fails its test.
//!
//! Nothing here uses what the learner writes: words are taken apart once more, and activations are rounded in f64.

use std::any::Any;
use std::fmt::{self, Display};
use std::mem::ManuallyDrop;
use std::ops::{Deref, Range};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use grader::cause::Diagnosis;
use grader::report::{Report, Status};
use grader::results::record;
use grader::{Case, Guarded, Rng};
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
    words: Guarded<u32>,
    scales: Stored,
    biases: Stored,
}

#[derive(Debug)]
enum Stored {
    F32(Guarded<f32>),
    F16(Guarded<f16>),
    Bf16(Guarded<bf16>),
}

impl Stored {
    fn new(values: &[f32], dtype: Dtype) -> Self {
        match dtype {
            Dtype::Float16 => {
                Self::F16(Guarded::new(&values.iter().map(|&value| f16::from_f32(value)).collect::<Vec<_>>()))
            }
            Dtype::Bfloat16 => {
                Self::Bf16(Guarded::new(&values.iter().map(|&value| bf16::from_f32(value)).collect::<Vec<_>>()))
            }
            _ => Self::F32(Guarded::new(values)),
        }
    }

    fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::Float32,
            Self::F16(_) => Dtype::Float16,
            Self::Bf16(_) => Dtype::Bfloat16,
        }
    }

    /// All values, each given to `change` with its index.
    fn changed(&self, change: impl Fn(usize, f32) -> f32) -> Self {
        let n = self.floats().len();
        Self::new(&(0..n).map(|at| change(at, self.get(at) as f32)).collect::<Vec<_>>(), self.dtype())
    }

    #[track_caller]
    fn expect_untouched(&self, what: &str) {
        match self {
            Self::F32(values) => values.expect_untouched(what),
            Self::F16(values) => values.expect_untouched(what),
            Self::Bf16(values) => values.expect_untouched(what),
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
            words: Guarded::new(packed.as_slice::<u32>()),
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
            words: Guarded::new(&(0..outputs * inputs * bits / 32).map(|_| rng.next_u64() as u32).collect::<Vec<_>>()),
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
            words: Guarded::new(&vec![u32::MAX; outputs * inputs * bits / 32]),
            scales: Stored::new(&scales, Dtype::Float32),
            biases: Stored::new(&biases, Dtype::Float32),
        }
    }

    /// All weights of row r are `weights[r]`: half of it is in the bias, half in integers of 1.
    pub fn constant_rows(weights: &[f32], inputs: usize, Format { group_size, bits }: Format) -> Self {
        let ones = (0..32 / bits).fold(0, |word, i| word | 1 << (i * bits));
        let halves: Vec<f32> = weights.iter().flat_map(|weight| vec![weight / 2.0; inputs / group_size]).collect();
        Self {
            outputs: weights.len(),
            inputs,
            group_size,
            bits,
            words: Guarded::new(&vec![ones; weights.len() * inputs * bits / 32]),
            scales: Stored::new(&halves, Dtype::Float32),
            biases: Stored::new(&halves, Dtype::Float32),
        }
    }

    /// The matrix with all weights times `factor`.
    pub fn scaled(self, factor: f32) -> Self {
        let [scales, biases] = [&self.scales, &self.biases].map(|part| part.changed(|_, value| value * factor));
        Self { scales, biases, ..self }
    }

    /// The same matrix, but that the scale (or the bias) of one group is `bad`.
    pub fn with_spoiled_group(&self, part: &str, group: usize, bad: f32) -> Self {
        let spoil = |stored: &Stored, spoiled: bool| {
            stored.changed(|at, value| if spoiled && at == group { bad } else { value })
        };
        Self {
            words: Guarded::new(&self.words),
            scales: spoil(&self.scales, part == "scale"),
            biases: spoil(&self.biases, part == "bias"),
            ..*self
        }
    }

    /// The sum of each row's weights, in f64.
    pub fn row_sums(&self) -> Vec<f64> {
        self.weights().chunks_exact(self.inputs).map(|row| row.iter().sum()).collect()
    }

    /// One weight, in f64.
    pub fn weight(&self, row: usize, column: usize) -> f64 {
        let (scale, integer, bias) = self.parts(row, column);
        scale * integer + bias
    }

    /// # Panics
    /// When something after the end of an array was read.
    #[track_caller]
    fn expect_untouched(&self) {
        self.words.expect_untouched("the matrix's words");
        self.scales.expect_untouched("the matrix's scales");
        self.biases.expect_untouched("the matrix's biases");
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
        places.map(|(row, column)| self.weight(row, column)).collect()
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

impl Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bits in groups of {}", self.bits, self.group_size)
    }
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

/// `x` (`[M, I]`) rounded as day 2.2b's task 1 asks for, in f64.
pub fn rounded(matrix: &Matrix, x: &[f32]) -> Guarded16 {
    rounded_to(32767.0, matrix, x)
}

/// As [`rounded`], with another largest integer.
pub fn rounded_to(largest_integer: f64, matrix: &Matrix, x: &[f32]) -> Guarded16 {
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
    Guarded16::new(rounded)
}

/// Activations whose arrays end at pages that must not be touched.
pub struct Guarded16 {
    /// Its vectors borrow the memory below, so it is never dropped.
    activations: ManuallyDrop<Activations>,
    integers: Guarded<i16>,
    scales: Guarded<f32>,
    sums: Guarded<f32>,
}

impl Guarded16 {
    fn new(mut activations: Activations) -> Self {
        let integers = Guarded::new(&activations.integers);
        let (scales, sums) = (Guarded::new(&activations.scales), Guarded::new(&activations.sums));
        // SAFETY: memory of that length, which lives as long as `Self`. The vectors are neither dropped nor made longer.
        unsafe {
            activations.integers = borrowed(&integers);
            activations.scales = borrowed(&scales);
            activations.sums = borrowed(&sums);
        }
        Self { activations: ManuallyDrop::new(activations), integers, scales, sums }
    }
}

impl Deref for Guarded16 {
    type Target = Activations;

    fn deref(&self) -> &Activations {
        &self.activations
    }
}

/// A vector in memory that isn't its own.
///
/// # Safety
/// It is forgotten before `memory` is dropped, and never grows.
unsafe fn borrowed<T: Copy>(memory: &Guarded<T>) -> Vec<T> {
    // SAFETY: the caller's promise; an empty one has no memory at all.
    if memory.is_empty() {
        Vec::new()
    } else {
        unsafe { Vec::from_raw_parts(memory.as_ptr().cast_mut(), memory.len(), memory.len()) }
    }
}

/// What `kernel` gives for these tokens and rows; nothing beside the tile may be written.
#[track_caller]
pub fn multiply(
    kernel: &dyn Kernel,
    matrix: &Matrix,
    x: &Guarded16,
    tokens: Range<usize>,
    rows: Range<usize>,
) -> Vec<f32> {
    const MARGIN: usize = 16;
    const UNTOUCHED: f32 = 12345.0;
    let n = tokens.len() * rows.len();
    let mut memory = vec![UNTOUCHED; MARGIN];
    memory.resize(MARGIN + n, f32::NAN);
    let mut memory = Guarded::new(&memory);
    let run = || kernel.multiply(&matrix.view(), x, tokens.clone(), rows.clone(), &mut memory[MARGIN..]);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        say_where_it_panicked(kernel, matrix, &*panic);
        resume_unwind(panic);
    }
    matrix.expect_untouched();
    x.integers.expect_untouched("the activations' integers");
    x.scales.expect_untouched("the activations' scales");
    x.sums.expect_untouched("the activations' sums");
    memory.expect_untouched("the tile");
    assert!(
        memory[..MARGIN].iter().all(|&number| number == UNTOUCHED),
        "{}: tokens {tokens:?} and rows {rows:?} wrote beside their tile",
        kernel.name()
    );
    memory[MARGIN..].to_vec()
}

/// A row that ends in half a chunk is the usual reason for an index out of bounds.
fn say_where_it_panicked(kernel: &dyn Kernel, matrix: &Matrix, panic: &(dyn Any + Send)) {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("a panic without a message");
    let is_half = matrix.bits == 4 && matrix.group_size == 32 && !matrix.inputs.is_multiple_of(64);
    if is_half && !text.contains("not yet implemented") {
        let cause = "a row that ends in half a chunk: its last chunk has no second group";
        let what = format!("{}: {} inputs in groups of 32, {} bits", kernel.name(), matrix.inputs, matrix.bits);
        let report = Report::plain(Status::Error, format!("{what}: {text}\n{cause}"), Diagnosis::mistake(cause));
        record(&what, &report);
        println!("{what}: {cause}");
    }
}

/// Panics at the first number that is further off than it may be.
#[track_caller]
pub fn expect_within(what: &str, got: &[f32], expected: impl ExactSizeIterator<Item = Bounded>) {
    assert_eq!(got.len(), expected.len(), "{what}: numbers in the result");
    for (at, (got, Bounded { value, off })) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*got) - value).abs();
        assert!(
            error <= off,
            "{what}: value {at}: got {got:.6}, expected {value:.6}; off by {error:.2e}, allowed are {off:.2e}"
        );
    }
}

/// Panics at the first number of `got` that is further from the exact value than one rounding to its dtype and `off` explain.
#[track_caller]
pub fn expect_rounded_once(what: &str, got: &Array, exact: impl ExactSizeIterator<Item = Bounded>) {
    let bits = match got.dtype() {
        Dtype::Float16 => 11,
        Dtype::Bfloat16 => 8,
        _ => 24,
    };
    // Below the normal numbers units do not shrink any more.
    let smallest = if got.dtype() == Dtype::Float16 { -25 } else { -135 };
    let half_unit = |value: f64| 2.0_f64.powi((value.abs().log2().floor() as i32 - bits).max(smallest));
    let exact: Vec<Bounded> =
        exact.map(|Bounded { value, off }| Bounded { value, off: off + half_unit(value.abs() + off) }).collect();
    expect_within(
        &format!("{what}, computed in f32 and rounded once to {:?}", got.dtype()),
        &f32s(got),
        exact.into_iter(),
    );
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
