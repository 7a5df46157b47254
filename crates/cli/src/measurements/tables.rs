//! Tables, in Markdown that reads well on a terminal too.

use crate::measurements::summary::Summary;
use crate::measurements::{Measurements, Phase, Profile};

/// Columns padded to the same width; the first is text, the others are numbers.
fn markdown(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count(), 3]).max().unwrap_or(3)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let pad = |column: usize, text: &str| {
        let (width, len) = (widths[column], text.chars().count());
        let space = " ".repeat(width.saturating_sub(len));
        if column == 0 { format!("{text}{space}") } else { format!("{space}{text}") }
    };
    let mut text = line(header.iter().enumerate().map(|(column, title)| pad(column, title)).collect());
    let rule = |(column, &width): (usize, &usize)| match column {
        0 => "-".repeat(width),
        _ => format!("{}:", "-".repeat(width - 1)),
    };
    text.push_str(&line(widths.iter().enumerate().map(rule).collect()));
    for row in rows {
        text.push_str(&line(row.iter().enumerate().map(|(column, cell)| pad(column, cell)).collect()));
    }
    text
}

/// Speed, memory and fractions of the machine's limits, one row per engine.
pub fn speeds(measurements: &Measurements, summaries: &[Summary]) -> String {
    let header = [
        "engine",
        "prefill tok/s",
        "decode tok/s",
        "spread",
        "first token ms",
        "peak MB",
        "peak / (weights + cache)",
        "of bandwidth",
        "of peak FLOP/s",
    ];
    let machine = &measurements.machine;
    let row = |summary: &Summary| {
        let needed = (summary.weight_bytes + summary.cache_bytes) as f64;
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        vec![
            format!("{}{}", summary.label, fewer_tokens(summaries, summary)),
            format!("{:.1}", summary.prefill),
            format!("{:.1}", summary.decode),
            if summary.n_runs > 1 { percent(summary.decode_spread) } else { "-".to_owned() },
            format!("{:.0}", summary.first_token_seconds * 1e3),
            or_dash(summary.peak_memory_bytes.map(|bytes| format!("{:.0}", bytes / 1e6))),
            or_dash(summary.peak_memory_bytes.map(|bytes| format!("{:.2}", bytes / needed))),
            percent(summary.decode_bandwidth / machine.bandwidth),
            percent(summary.prefill_flops / machine.peak_flops),
        ]
    };
    markdown(&header, &summaries.iter().map(row).collect::<Vec<_>>())
}

/// Where an engine generated fewer tokens than the others, its row says so.
fn fewer_tokens(all: &[Summary], summary: &Summary) -> String {
    let most = all.iter().map(|other| other.generate_tokens).max().unwrap_or(0);
    match summary.generate_tokens < most {
        true => format!(" ({} tokens)", summary.generate_tokens),
        false => String::new(),
    }
}

/// Our engines over the others: ratios of medians. Empty when only one of the two sorts was measured.
pub fn ratios(summaries: &[Summary]) -> String {
    let (ours, peers): (Vec<_>, Vec<_>) = summaries.iter().partition(|summary| summary.stage.is_some());
    let mut rows = Vec::new();
    for our in &ours {
        for peer in &peers {
            let name = format!("{} / {}", our.label, peer.label);
            let ratio = |ours: f64, theirs: f64| format!("{:.2}", ours / theirs);
            rows.push(vec![name, ratio(our.prefill, peer.prefill), ratio(our.decode, peer.decode)]);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    markdown(&["ratio of medians", "prefill", "decode"], &rows)
}

/// Where the time went, for every engine that was profiled.
pub fn profiles(summaries: &[Summary]) -> String {
    let mut text = String::new();
    for (summary, profile) in summaries.iter().filter_map(|s| s.profile.as_ref().map(|profile| (s, profile))) {
        text.push_str(&format!("\n{}: where the time goes\n\n{}", summary.label, self::profile(profile)));
    }
    text
}

fn profile(profile: &Profile) -> String {
    let header = ["operation", "calls", "µs per call", "ms", "of the time"];
    let mut rows = Vec::new();
    for (name, phase) in [("prefill", &profile.prefill), ("decode", &profile.decode)] {
        rows.push(vec![format!("**{name}**"), String::new(), String::new(), ms(phase.seconds), percent(1.0)]);
        rows.extend(phase_rows(phase));
    }
    markdown(&header, &rows)
}

fn phase_rows(phase: &Phase) -> Vec<Vec<String>> {
    let mut operations: Vec<_> = phase.operations.iter().collect();
    operations.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let mut rows: Vec<Vec<String>> = operations
        .iter()
        .map(|operation| {
            vec![
                operation.name.clone(),
                operation.calls.to_string(),
                format!("{:.1}", operation.seconds / operation.calls as f64 * 1e6),
                ms(operation.seconds),
                percent(operation.seconds / phase.seconds),
            ]
        })
        .collect();
    let rest = phase.seconds - phase.operations.iter().map(|operation| operation.seconds).sum::<f64>();
    let rest_name = "rest: MLX's own operations, its graph, sampling".to_owned();
    rows.push(vec![rest_name, String::new(), String::new(), ms(rest), percent(rest / phase.seconds)]);
    rows
}

/// The machine, the model and how it was measured, as a list.
pub fn circumstances(measurements: &Measurements, summaries: &[Summary]) -> String {
    let machine = &measurements.machine;
    let memory = machine.memory_bytes.map(|bytes| format!(", {:.0} GB of memory", bytes as f64 / 1e9));
    let simd = if machine.simd.is_empty() { "no SIMD that we use".to_owned() } else { machine.simd.join(", ") };
    let mut lines = vec![
        format!(
            "machine: {}, {} cores{}, {simd}, {}",
            machine.cpu,
            machine.cores,
            memory.unwrap_or_default(),
            machine.system
        ),
        match machine.is_gpu {
            true => format!(
                "limits, measured: {:.0} GB/s when memory is copied, {:.0} TFLOP/s in a product of bf16 matrices",
                machine.bandwidth / 1e9,
                machine.peak_flops / 1e12
            ),
            false => format!(
                "limits, measured with {} threads: {:.1} GB/s from memory, {:.0} GFLOP/s in f32",
                machine.threads,
                machine.bandwidth / 1e9,
                machine.peak_flops / 1e9
            ),
        },
        format!("model: {}, {}", measurements.model.name, measurements.model.description),
    ];
    if let Some(run) = measurements.runs.first() {
        lines.push(format!(
            "{} tokens in, {} out, {} threads, medians of {} rounds",
            run.prompt_tokens,
            summaries.iter().map(|summary| summary.generate_tokens).max().unwrap_or(0),
            run.threads,
            summaries.iter().map(|summary| summary.n_runs).max().unwrap_or(0),
        ));
    }
    let mut kernels: Vec<&str> = measurements.runs.iter().filter_map(|run| run.kernel.as_deref()).collect();
    kernels.sort_unstable();
    kernels.dedup();
    if !kernels.is_empty() {
        lines.push(format!("quantized weights in our engine: {}", kernels.join(", ")));
    }
    for (summary, own) in summaries.iter().filter_map(|summary| summary.own_clock.map(|own| (summary, own))) {
        lines.push(format!(
            "{}'s own clock: prefill {:.1}, decode {:.1} tok/s",
            summary.label, own.prefill_tokens_per_second, own.decode_tokens_per_second
        ));
    }
    let mut versions: Vec<&str> = summaries.iter().map(|summary| summary.version.as_str()).collect();
    versions.dedup();
    lines.push(format!("versions: {}", versions.join("; ")));
    lines.push(format!("commit {}, {} UTC: `{}`", measurements.commit, measurements.date, measurements.command));
    lines.iter().map(|line| format!("- {line}\n")).collect()
}

fn percent(fraction: f64) -> String {
    format!("{:.0} %", fraction * 100.0)
}

fn ms(seconds: f64) -> String {
    format!("{:.1}", seconds * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurements::OperationTime;
    use crate::measurements::examples::{measurements, run};
    use crate::measurements::summary::summarize;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["longer".to_owned(), "1000".to_owned()]];
        let expected = "| what   |    n |\n| ------ | ---: |\n| a      |    1 |\n| longer | 1000 |\n";
        assert_eq!(markdown(&["what", "n"], &rows), expected);
    }

    #[test]
    fn every_engine_has_a_row_and_every_pair_a_ratio() {
        let mut short = run("reference", Some("dense"), 0.5, 0.4);
        short.generate_tokens = 3;
        let all = measurements(vec![
            short,
            run("reference", Some("flash"), 0.2, 0.005),
            run("llama.cpp", None, 0.25, 0.0075),
            run("mlx-lm", None, 1.0, 0.1),
        ]);
        let summaries = summarize(&all);
        let table = speeds(&all, &summaries);
        assert_eq!(table.lines().count(), 2 + 4);
        assert!(table.contains("| reference, dense (3 tokens) |"), "{table}");
        // 128 tokens in 0.2 s; one token in 5 ms; peak of 150 MB over 100 MB and 133 positions.
        let flash: Vec<&str> = table.lines().nth(3).unwrap().split('|').map(str::trim).collect();
        assert_eq!(flash[1..8], ["reference, flash", "640.0", "200.0", "-", "200", "150", "1.41"], "{table}");
        let ratios = ratios(&summaries);
        assert_eq!(ratios.lines().count(), 2 + 2 * 2);
        assert!(ratios.contains("| reference, flash / llama.cpp |    1.25 |   1.50 |"), "{ratios}");
        assert_eq!(super::ratios(&summaries[..2]), "");
    }

    #[test]
    fn the_kernel_is_named_where_one_was_used() {
        let mut all = measurements(vec![run("student", Some("flash"), 0.2, 0.005), run("llama.cpp", None, 0.2, 0.005)]);
        assert!(!circumstances(&all, &summarize(&all)).contains("kernel"));
        all.runs[0].kernel = Some("avx2 kernel, your own".to_owned());
        let text = circumstances(&all, &summarize(&all));
        assert!(text.contains("- quantized weights in our engine: avx2 kernel, your own\n"), "{text}");
    }

    #[test]
    fn a_profile_accounts_for_all_of_the_time() {
        let operation = |name: &str, seconds| OperationTime { name: name.to_owned(), calls: 2, seconds };
        let phase = Phase { seconds: 1.0, operations: vec![operation("small", 0.25), operation("large", 0.5)] };
        let text = profile(&Profile { prefill: phase.clone(), decode: phase });
        let rows: Vec<&str> = text.lines().skip(3).take(3).collect();
        assert!(rows[0].starts_with("| large ") && rows[0].contains("250000.0 |  500.0 |        50 %"), "{text}");
        assert!(rows[1].starts_with("| small "));
        assert!(rows[2].starts_with("| rest: ") && rows[2].contains("250.0 |        25 %"), "{text}");
    }
}
