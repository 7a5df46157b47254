//! Softmax over keys that come a part at a time
//! (Milakov and Gimelshein, *Online normalizer calculation for softmax*, 2018, section 3).

/// What attention knows about one query when it has seen some of the keys: enough to go on with others.
#[derive(Debug, Clone, PartialEq)]
pub struct Partial {
    /// The largest score seen; `-inf` as long as every key was masked.
    pub max: f32,
    /// The sum of `exp(score - max)`.
    pub sum: f32,
    /// The sum of `exp(score - max) * value`: `[D]`.
    pub accumulator: Vec<f32>,
}

impl Partial {
    /// No key seen yet.
    pub fn new(head_dim: usize) -> Self {
        Self { max: f32::NEG_INFINITY, sum: 0.0, accumulator: vec![0.0; head_dim] }
    }

    /// Takes one key into account: its score (scaled and masked) and its value `[D]`.
    pub fn add(&mut self, score: f32, value: &[f32]) {
        // [task 2.4.1] Partial::add
        // One key alone has the weight exp(score - score) = 1.
        self.merge(&Self { max: score, sum: 1.0, accumulator: value.to_vec() });
        // [end]
    }

    /// Takes into account what another part of the keys gave. In which order parts are merged does not matter.
    pub fn merge(&mut self, other: &Self) {
        // [task 2.4.1] Partial::merge
        let max = self.max.max(other.max);
        // Where nothing is visible yet, `-inf - -inf` would be NaN and stay so.
        let reference = if max == f32::NEG_INFINITY { 0.0 } else { max };
        let (keep, add) = ((self.max - reference).exp(), (other.max - reference).exp());
        self.max = max;
        self.sum = self.sum * keep + other.sum * add;
        for (mine, theirs) in self.accumulator.iter_mut().zip(&other.accumulator) {
            *mine = *mine * keep + theirs * add;
        }
        // [end]
    }

    /// The answer `[D]`: the values' mean, weighted by softmax. NaN if no key was visible, as softmax itself.
    pub fn output(&self) -> Vec<f32> {
        // [task 2.4.1] Partial::output
        self.accumulator.iter().map(|sum| sum / self.sum).collect()
        // [end]
    }
}
