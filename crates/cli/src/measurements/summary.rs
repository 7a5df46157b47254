//! All runs of one engine at one stage, as medians.

use crate::measurements::statistics::{median, median_series, relative_spread};
use crate::measurements::{Measurements, OwnClock, Profile, Run};

/// What the repetitions of one engine come to.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The engine with its stage.
    pub label: String,
    pub stage: Option<String>,
    pub version: String,
    pub n_runs: usize,
    pub generate_tokens: usize,
    /// Tokens per second.
    pub prefill: f64,
    pub decode: f64,
    /// `(max - min) / median` of the decode speed over the repetitions.
    pub decode_spread: f64,
    pub first_token_seconds: f64,
    pub peak_memory_bytes: Option<f64>,
    pub weight_bytes: u64,
    /// The cache when the last token is generated.
    pub cache_bytes: u64,
    /// Operations per second, and operations per byte that must be moved.
    pub prefill_flops: f64,
    pub prefill_intensity: f64,
    pub decode_flops: f64,
    pub decode_intensity: f64,
    /// Bytes per second that decoding must have moved.
    pub decode_bandwidth: f64,
    /// Median time of each token after the first.
    pub token_seconds: Vec<f64>,
    /// `(context, decode tokens per second)`.
    pub context_sweep: Vec<(usize, f64)>,
    /// Prefill and decode by the engine's own clock.
    pub own_clock: Option<OwnClock>,
    pub profile: Option<Profile>,
}

/// One summary per engine and stage, in the order in which they first ran.
pub fn summarize(measurements: &Measurements) -> Vec<Summary> {
    let mut groups: Vec<Vec<&Run>> = Vec::new();
    for run in &measurements.runs {
        match groups.iter_mut().find(|group| group[0].label() == run.label()) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    groups.iter().map(|runs| summary(measurements, runs)).collect()
}

fn summary(measurements: &Measurements, runs: &[&Run]) -> Summary {
    let model = &measurements.model;
    let first = runs[0];
    let all = |value: fn(&Run) -> f64| -> Vec<f64> { runs.iter().map(|run| value(run)).collect() };
    // `read` refuses a file without times, so the medians exist.
    let middle = |values: &[f64]| median(values).unwrap_or(f64::NAN);

    let prefill_seconds = middle(&all(|run| run.prefill_seconds));
    let decode_speeds = all(Run::decode_tokens_per_second);
    let decode = middle(&decode_speeds);
    let prompt_tokens = first.prompt_tokens as u64;
    let mean_context = prompt_tokens + first.generate_tokens as u64 / 2;
    let prefill_flops = model.prefill_flops(prompt_tokens) as f64;
    let decode_flops = model.decode_flops(mean_context) as f64;
    // In prefill every weight is read once, at best, and serves all tokens.
    let bytes = |context| (first.weight_bytes_per_token + model.cache_bytes(context, first.cache_dtype_bytes)) as f64;
    let (decode_bytes, prefill_bytes) = (bytes(mean_context), bytes(prompt_tokens));
    let peaks: Vec<f64> = runs.iter().filter_map(|run| run.peak_memory_bytes).map(|bytes| bytes as f64).collect();
    let own = |speed: fn(&OwnClock) -> f64| {
        median(&runs.iter().filter_map(|run| run.own_clock.as_ref()).map(speed).collect::<Vec<_>>())
    };
    let own_clock = own(|clock| clock.prefill_tokens_per_second).zip(own(|clock| clock.decode_tokens_per_second));
    let series: Vec<&[f64]> = runs.iter().map(|run| run.token_seconds.as_slice()).collect();

    Summary {
        label: first.label(),
        stage: first.stage.clone(),
        version: first.version.clone(),
        n_runs: runs.len(),
        generate_tokens: first.generate_tokens,
        prefill: prompt_tokens as f64 / prefill_seconds,
        decode,
        decode_spread: relative_spread(&decode_speeds).unwrap_or(f64::NAN),
        first_token_seconds: prefill_seconds,
        peak_memory_bytes: median(&peaks),
        weight_bytes: first.weight_bytes,
        cache_bytes: model.cache_bytes(prompt_tokens + first.generate_tokens as u64, first.cache_dtype_bytes),
        prefill_flops: prefill_flops / prefill_seconds,
        prefill_intensity: prefill_flops / prefill_bytes,
        decode_flops: decode_flops * decode,
        decode_intensity: decode_flops / decode_bytes,
        decode_bandwidth: decode_bytes * decode,
        token_seconds: median_series(&series),
        context_sweep: sweep(runs),
        own_clock: own_clock
            .map(|(prefill, decode)| OwnClock { prefill_tokens_per_second: prefill, decode_tokens_per_second: decode }),
        profile: runs.iter().find_map(|run| run.profile.clone()),
    }
}

fn sweep(runs: &[&Run]) -> Vec<(usize, f64)> {
    let points = || runs.iter().flat_map(|run| &run.context_sweep);
    let mut contexts: Vec<usize> = points().map(|point| point.context).collect();
    contexts.sort_unstable();
    contexts.dedup();
    let at = |context| points().filter(move |point| point.context == context).map(|p| p.decode_tokens_per_second);
    contexts.into_iter().filter_map(|context| Some((context, median(&at(context).collect::<Vec<_>>())?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurements::examples::{measurements, run};

    #[test]
    fn repetitions_become_medians_and_engines_keep_their_order() {
        let runs = vec![
            run("reference", Some("flash"), 0.5, 0.010),
            run("llama.cpp", None, 0.25, 0.020),
            run("reference", Some("flash"), 0.4, 0.011),
            run("llama.cpp", None, 0.25, 0.020),
            run("reference", Some("flash"), 0.3, 0.500),
        ];
        let summaries = summarize(&measurements(runs));
        let labels: Vec<&str> = summaries.iter().map(|summary| summary.label.as_str()).collect();
        assert_eq!(labels, ["reference, flash", "llama.cpp"]);
        let ours = &summaries[0];
        assert_eq!(ours.n_runs, 3);
        assert!((ours.prefill - 320.0).abs() < 1e-9, "{}", ours.prefill);
        assert!((ours.decode - 1.0 / 0.011).abs() < 1e-9, "{}", ours.decode);
        assert_eq!(ours.first_token_seconds, 0.4);
        assert_eq!(ours.token_seconds, [0.011; 4]);
        assert_eq!(ours.context_sweep.len(), 2);
        assert_eq!(ours.context_sweep[1].0, 1024);
        assert!((ours.context_sweep[1].1 - 0.5 / 0.011).abs() < 1e-9);
    }

    #[test]
    fn rates_are_work_over_time() {
        let all = measurements(vec![run("x", None, 2.0, 0.1)]);
        let summary = &summarize(&all)[0];
        assert_eq!(summary.prefill_flops, all.model.prefill_flops(128) as f64 / 2.0);
        let bytes = (90_000_000 + all.model.cache_bytes(130, 4)) as f64;
        assert!((summary.decode_bandwidth / (bytes * 10.0) - 1.0).abs() < 1e-9);
        assert!((summary.decode_flops / summary.decode_intensity / summary.decode_bandwidth - 1.0).abs() < 1e-9);
        assert_eq!(summary.cache_bytes, all.model.cache_bytes(133, 4));
    }
}
