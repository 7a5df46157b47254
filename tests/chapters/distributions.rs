//! Rows of logits for day 1.7's tests, and what probability theory says about them.

use grader::Rng;
use mlx_rs::{Array, Dtype};

const NEG_INF: f32 = f32::NEG_INFINITY;

/// Equally likely tokens.
pub fn flat(vocab: usize) -> Array {
    Array::from_slice(&vec![0.0_f32; vocab], &[1, vocab as i32])
}

pub fn rows(rows: &[&[f32]]) -> Array {
    Array::from_slice(&rows.concat(), &[rows.len() as i32, rows[0].len() as i32])
}

/// Up to 4 rows of up to 12 logits; never a row without any token.
pub fn random_rows(rng: &mut Rng, has_ties: bool, has_excluded: bool) -> Array {
    let (batch, vocab) = (rng.between(1, 4), rng.between(1, 12));
    let scale = [0.5, 2.0, 8.0][rng.between(0, 2) as usize];
    let mut logits: Vec<f32> = (0..batch * vocab).map(|_| (rng.normal() * scale) as f32).collect();
    if has_ties {
        logits.iter_mut().for_each(|x| *x = x.round());
    }
    if has_excluded {
        for row in logits.chunks_mut(vocab as usize) {
            let stays = rng.between(0, vocab - 1) as usize;
            for (token, x) in row.iter_mut().enumerate() {
                if token != stays && rng.uniform() < 0.3 {
                    *x = NEG_INF;
                }
            }
        }
    }
    Array::from_slice(&logits, &[batch, vocab])
}

/// The numbers of an f32 array, row by row.
#[track_caller]
pub fn values(array: &Array) -> Vec<f32> {
    assert_eq!(array.dtype(), Dtype::Float32, "the dtype of logits");
    let contiguous = array.contiguous().unwrap_or_else(|error| panic!("{error}"));
    contiguous.as_slice::<f32>().to_vec()
}

/// softmax in f64.
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(NEG_INF, f32::max);
    let exp: Vec<f64> = logits.iter().map(|&x| f64::from(x - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|x| x / sum).collect()
}

/// Pearson's chi-square test: what speaks against these draws having these probabilities, if anything.
pub fn misfit(counts: &[u32], probabilities: &[f64]) -> Option<String> {
    let n: u32 = counts.iter().sum();
    let mut chi_square = 0.0;
    let mut n_possible = 0;
    for (token, (&count, &probability)) in counts.iter().zip(probabilities).enumerate() {
        if probability == 0.0 {
            if count > 0 {
                return Some(format!("token {token} is excluded and was drawn {count} times of {n}"));
            }
            continue;
        }
        let expected = f64::from(n) * probability;
        chi_square += (f64::from(count) - expected).powi(2) / expected;
        n_possible += 1;
    }
    // Mean n - 1, variance 2 (n - 1): five standard deviations above, and something for few degrees of freedom.
    let freedom = f64::from(n_possible - 1);
    let bound = freedom + 5.0 * (2.0 * freedom).sqrt() + 10.0;
    (chi_square > bound).then(|| {
        format!(
            "chi-square {chi_square:.1}, bound {bound:.1}; drawn {counts:?} of {n}, probabilities {probabilities:?}"
        )
    })
}
