//! Time per operation.

use std::collections::BTreeMap;

use anyhow::Result;
use mlx_custom::{OperationTotals, set_profiling, take_profile};

use crate::bench::timing;
use crate::engine::LanguageModel;
use crate::measurements::{OperationTime, Phase, Profile};

/// Generates once more, with the clock inside every operation of `mlx-custom`.
pub fn measure(model: &dyn LanguageModel, prompt: &[u32], n_tokens: usize) -> Result<Profile> {
    let mut of_prefill = BTreeMap::new();
    set_profiling(true);
    let times = timing::generate_watched(model, prompt, n_tokens, &mut |idx| {
        if idx == 0 {
            of_prefill = take_profile();
        }
    });
    let of_decode = take_profile();
    set_profiling(false);
    let times = times?;
    let (first, later) = times.split_first().map_or((0.0, &[][..]), |(first, later)| (*first, later));
    Ok(Profile { prefill: phase(first, of_prefill), decode: phase(later.iter().sum(), of_decode) })
}

fn phase(seconds: f64, totals: BTreeMap<&'static str, OperationTotals>) -> Phase {
    let operation = |(name, total): (&'static str, OperationTotals)| OperationTime {
        name: name.to_owned(),
        calls: total.calls,
        seconds: total.time.as_secs_f64(),
    };
    Phase { seconds, operations: totals.into_iter().map(operation).collect() }
}
