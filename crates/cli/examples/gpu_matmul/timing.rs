//! Measuring candidates in turns, so that a disturbance meets all of them.

use std::time::Instant;

use anyhow::{Context, Result};
use mlx_rs::transforms::eval;

use crate::work::{Candidate, Kind, Work, relative_error};

pub struct Timings {
    /// Microseconds of a call in each counted round.
    pub rounds_us: Vec<f64>,
    pub median_us: f64,
    pub lowest_us: f64,
    /// Against MLX's result.
    pub error: f64,
}

/// Times every candidate in `rounds` rounds of which the first is not counted. A candidate that fails is reported and
/// left out.
pub fn measure(work: &Work, candidates: &[Candidate], rounds: usize) -> Result<Vec<(Candidate, Timings)>> {
    let needs_dense = candidates.iter().any(|candidate| matches!(candidate.kind, Kind::MlxDense));
    let dense = if needs_dense { work.dense()? } else { Vec::new() };
    let expected = work.call(Kind::Mlx, &work.x, 0, &dense)?;
    eval([&expected])?;
    let mut measured = Vec::new();
    for candidate in candidates {
        let checked = work.call(candidate.kind, &work.x, 0, &dense).and_then(|got| relative_error(&got, &expected));
        match checked {
            Ok(error) => {
                let timings = Timings { rounds_us: Vec::new(), median_us: 0.0, lowest_us: 0.0, error };
                measured.push((candidate.clone(), timings));
            }
            Err(error) => eprintln!("{}: {error:#}", candidate.name),
        }
    }
    for round in 0..rounds.max(2) {
        for (candidate, timings) in &mut measured {
            let results = work.all_calls(candidate.kind, &dense)?;
            let start = Instant::now();
            eval(&results)?;
            let micros = start.elapsed().as_secs_f64() * 1e6 / work.calls as f64;
            if round > 0 {
                timings.rounds_us.push(micros);
            }
        }
    }
    for (_, timings) in &mut measured {
        let mut sorted = timings.rounds_us.clone();
        sorted.sort_by(f64::total_cmp);
        timings.lowest_us = *sorted.first().context("no round was counted")?;
        timings.median_us = sorted[sorted.len() / 2];
    }
    Ok(measured)
}
