//! Problems for the tests of tiled attention, with answers that were found another way.

use grader::{Case, Guarded, Rng, Tolerance, check_close, check_rule};
use mlx_custom::Strided;
use mlx_rs::fast::{ScaledDotProductAttentionMask, scaled_dot_product_attention};
use mlx_rs::{Array, Dtype};
use tiny_llm::flash_attention::key_tile::KeyTile;
use tiny_llm::flash_attention::operand::Operand;
use tiny_llm::flash_attention::simd::{Kernel, Simd, Variant};
use tiny_llm::flash_attention::{AttentionShape, KeyFilter, Options, QueryTile, flash_attention_with};
use tiny_llm::{AttentionMask, Result};

/// One tile of queries and its way through the keys, a tile at a time. The scale is 1.
pub struct TileByTile {
    pub n_rows: usize,
    pub n_keys: usize,
    pub head_dim: usize,
    /// Keys in a tile.
    pub tile: usize,
    query: Guarded<f32>,
    key: Guarded<f32>,
    value: Guarded<f32>,
}

impl TileByTile {
    /// The inputs `query` `[R, D]`, `key` and `value` `[S, D]` of a case.
    pub fn of(case: &Case, tile: usize) -> Self {
        let input = |name: &str| Guarded::new(case.array(name).as_slice::<f32>());
        let (query, key) = (case.array("query"), case.array("key"));
        Self {
            n_rows: query.shape()[0] as usize,
            n_keys: key.shape()[0] as usize,
            head_dim: key.shape()[1] as usize,
            tile,
            query: input("query"),
            key: input("key"),
            value: input("value"),
        }
    }

    pub fn random(rng: &mut Rng, [n_rows, n_keys, head_dim, tile]: [usize; 4]) -> Self {
        let mut normal =
            |n: usize, scale: f64| Guarded::new(&(0..n).map(|_| (rng.normal() * scale) as f32).collect::<Vec<f32>>());
        // Scores of a few units, whatever D is.
        let scale = 2.0 / (head_dim as f64).powf(0.25);
        let (query, key) = (normal(n_rows * head_dim, scale), normal(n_keys * head_dim, scale));
        Self { n_rows, n_keys, head_dim, tile, query, key, value: normal(n_keys * head_dim, 1.0) }
    }

    /// The D numbers of a key.
    pub fn key_mut(&mut self, key: usize) -> &mut [f32] {
        &mut self.key[key * self.head_dim..][..self.head_dim]
    }

    /// The answers of all rows, `[R, D]`, by the solution's kernel.
    pub fn run(&self, variant: Variant, filter: &impl KeyFilter) -> Array {
        let answers = variant.run(TileKernel { tiles: self, filter });
        for (numbers, what) in [(&self.query, "the queries"), (&self.key, "the keys"), (&self.value, "the values")] {
            numbers.expect_untouched(what);
        }
        Array::from_slice(&answers, &[self.n_rows as i32, self.head_dim as i32])
    }

    /// The same in f64, all scores at once; `sees` says which row sees which key.
    pub fn expected(&self, sees: impl Fn(usize, usize) -> bool) -> Array {
        let row = |x: &[f32], i: usize| x[i * self.head_dim..][..self.head_dim].iter().map(|&x| f64::from(x)).collect();
        let mut answers = Vec::new();
        for i in 0..self.n_rows {
            let query: Vec<f64> = row(&self.query[..], i);
            let keys: Vec<usize> = (0..self.n_keys).filter(|&j| sees(i, j)).collect();
            let score = |j: &usize| -> f64 {
                let key: Vec<f64> = row(&self.key[..], *j);
                query.iter().zip(&key).map(|(q, k)| q * k).sum()
            };
            let scores: Vec<f64> = keys.iter().map(score).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for d in 0..self.head_dim {
                let weighted = keys.iter().zip(&weights).map(|(j, w)| w * f64::from(self.value[j * self.head_dim + d]));
                answers.push((weighted.sum::<f64>() / sum) as f32);
            }
        }
        Array::from_slice(&answers, &[self.n_rows as i32, self.head_dim as i32])
    }
}

struct TileKernel<'a, F> {
    tiles: &'a TileByTile,
    filter: &'a F,
}

impl<F: KeyFilter> Kernel for TileKernel<'_, F> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let TileByTile { n_rows, n_keys, head_dim, tile, ref query, ref key, ref value } = *self.tiles;
        let shape = [1, 1, n_keys, head_dim];
        let strides = [0, 0, head_dim as isize, 1];
        let operand = |numbers| match Strided::new(numbers, &shape, &strides) {
            Ok(strided) => Operand::F32(strided),
            Err(error) => panic!("{error}"),
        };
        let (key, value) = (operand(&key[..]), operand(&value[..]));
        let mut queries = QueryTile::new(n_rows, head_dim, tile);
        for row in 0..n_rows {
            queries.query_mut(row).copy_from_slice(&query[row * head_dim..][..head_dim]);
        }
        let mut keys = KeyTile::new(tile, head_dim, n_rows);
        for first in (0..n_keys).step_by(tile) {
            keys.load(simd, key, value, 0, 0, first..n_keys.min(first + tile));
            queries.attend(simd, &keys, self.filter);
        }
        (0..n_rows).flat_map(|row| queries.output(row)).collect()
    }
}

/// Row i sees the first `self.0[i]` keys.
pub struct FirstKeys(pub Vec<usize>);

impl KeyFilter for FirstKeys {
    fn n_visible(&self, row: usize) -> usize {
        self.0[row]
    }

    fn apply(&self, _: usize, _: usize, _: &mut [f32]) {}
}

/// As [`FirstKeys`], without every key for which `hidden(row, key)` holds.
pub struct Without<F>(pub Vec<usize>, pub F);

impl<F: Fn(usize, usize) -> bool> KeyFilter for Without<F> {
    fn n_visible(&self, row: usize) -> usize {
        self.0[row]
    }

    fn apply(&self, row: usize, first_key: usize, scores: &mut [f32]) {
        for (key, score) in (first_key..).zip(scores) {
            assert!(key < self.0[row], "the filter is asked about key {key}, and row {row} sees {} keys", self.0[row]);
            if (self.1)(row, key) {
                *score = f32::NEG_INFINITY;
            }
        }
    }
}

/// The sizes of a problem of attention.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub batch: i32,
    pub num_heads: i32,
    pub num_kv_heads: i32,
    pub query_len: i32,
    pub key_len: i32,
    pub head_dim: i32,
}

impl Sizes {
    /// The same as the solution writes it.
    pub fn shape(self) -> AttentionShape {
        let [batch, num_heads, num_kv_heads] = [self.batch, self.num_heads, self.num_kv_heads].map(|n| n as usize);
        let [query_len, key_len, head_dim] = [self.query_len, self.key_len, self.head_dim].map(|n| n as usize);
        AttentionShape { batch, num_heads, num_kv_heads, query_len, key_len, head_dim }
    }
}

/// Query, key and value of attention over whole arrays.
pub struct Inputs {
    pub query: Array,
    pub key: Array,
    pub value: Array,
}

impl Inputs {
    pub fn random(rng: &mut Rng, sizes: Sizes, dtype: Dtype) -> Self {
        let Sizes { batch, num_heads, num_kv_heads, query_len, key_len, head_dim } = sizes;
        let mut array = |shape: &[i32]| must(rng.array(shape, dtype));
        Self {
            query: array(&[batch, num_heads, query_len, head_dim]),
            key: array(&[batch, num_kv_heads, key_len, head_dim]),
            value: array(&[batch, num_kv_heads, key_len, head_dim]),
        }
    }

    /// Flash attention of the solution.
    pub fn flash(&self, mask: &AttentionMask, options: Options) -> Result<Array> {
        flash_attention_with(&self.query, &self.key, &self.value, None, mask, options)
    }

    /// MLX's own attention, computed in f32 and rounded to the query's dtype.
    pub fn oracle(&self, mask: &AttentionMask) -> Array {
        let [query, key, value] = [&self.query, &self.key, &self.value].map(|x| must(x.as_dtype(Dtype::Float32)));
        let scale = 1.0 / (query.dim(-1) as f32).sqrt();
        let float_mask;
        let mask = match mask {
            AttentionMask::None => None,
            AttentionMask::Causal => Some(ScaledDotProductAttentionMask::Causal),
            AttentionMask::Array(mask) if mask.dtype() == Dtype::Bool => {
                Some(ScaledDotProductAttentionMask::Array(mask))
            }
            AttentionMask::Array(mask) => {
                float_mask = must(mask.as_dtype(Dtype::Float32));
                Some(ScaledDotProductAttentionMask::Array(&float_mask))
            }
        };
        let attended = must(scaled_dot_product_attention(&query, &key, &value, scale, mask, None));
        must(attended.as_dtype(self.query.dtype()))
    }

    /// Compares the two.
    #[track_caller]
    pub fn check(&self, name: &str, mask: &AttentionMask, options: Options) {
        // A last place of the dtype, and f32's error for sums over many keys.
        let ulp = match self.query.dtype() {
            Dtype::Bfloat16 => 0.008,
            Dtype::Float16 => 0.001,
            _ => 2e-5,
        };
        let tolerance = Tolerance { atol: ulp / 2.0, rtol: ulp };
        let (key, query) = (self.key.shape(), self.query.shape());
        let variant = options.variant.name();
        let name = format!("{name}: query {query:?}, key {key:?}, {variant}, {:?}", options.tiling);
        check_close(&name, self.flash(mask, options), &self.oracle(mask), tolerance);
    }
}

/// Checks which rows of D numbers are NaN, namely those that see no key.
#[track_caller]
pub fn check_nan_rows(name: &str, got: &[Vec<f32>], blind: &[usize]) {
    let nan = |row: &[f32]| row.iter().all(|x| x.is_nan());
    let seeing = (0..got.len()).find(|row| !blind.contains(row) && got[*row].iter().any(|x| x.is_nan()));
    let holds = seeing.map_or(Ok(()), |row| Err(format!("row {row} sees a key, and its answer is {:?}", got[row])));
    let cause = "looks like: -inf - (-inf), which is NaN, in a tile or split where nothing was visible yet";
    check_rule(&format!("{name}: rows that see something"), holds, cause);
    let seen = blind.iter().find(|row| !nan(&got[**row]));
    let holds = seen.map_or(Ok(()), |row| Err(format!("row {row} sees no key, and its answer is {:?}", got[*row])));
    let cause = "looks like: hidden keys get a finite score (-1e9, f32::MIN) or an empty sum is replaced; a query that sees no key \
                 has the answer 0 / 0, NaN, as softmax gives";
    check_rule(&format!("{name}: rows that see nothing"), holds, cause);
}

#[track_caller]
pub fn must<T, E: std::fmt::Display>(result: std::result::Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}
