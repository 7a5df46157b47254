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
        todo!("week 2 day 4 task 1: Partial::add - see book/src/week2/day4.md")
        // [end]
    }

    /// Takes into account what another part of the keys gave. In which order parts are merged does not matter.
    pub fn merge(&mut self, other: &Self) {
        // [task 2.4.1] Partial::merge
        todo!("week 2 day 4 task 1: Partial::merge - see book/src/week2/day4.md")
        // [end]
    }

    /// The answer `[D]`: the values' mean, weighted by softmax. NaN if no key was visible, as softmax itself.
    pub fn output(&self) -> Vec<f32> {
        // [task 2.4.1] Partial::output
        todo!("week 2 day 4 task 1: Partial::output - see book/src/week2/day4.md")
        // [end]
    }
}
