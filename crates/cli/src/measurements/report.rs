//! `tiny-llm report`: tables and plots from a file of measurements.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use checkpoint::untrusted;

use crate::arguments::Report;
use crate::measurements::summary::{Summary, summarize};
use crate::measurements::{Measurements, plots, read, tables};
use crate::output::{self, note};

pub fn run(arguments: &Report) -> Result<()> {
    let measurements = read(&arguments.file)?;
    let summaries = summarize(&measurements);
    // First, because the end of whoever reads the tables ends this program.
    if let Some(folder) = &arguments.output {
        let written = write(folder, &measurements, &summaries)?;
        note!("wrote {} to {}", written.join(", "), untrusted::path(folder));
    }
    output::answer(&(text(&measurements, &summaries) + "\n"))
}

/// All tables, as Markdown.
pub fn tables(measurements: &Measurements, summaries: &[Summary]) -> String {
    let parts = [tables::speeds(measurements, summaries), tables::ratios(summaries), tables::profiles(summaries)];
    let parts: Vec<&str> = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
    parts.join("\n\n")
}

/// Everything there is to read.
fn text(measurements: &Measurements, summaries: &[Summary]) -> String {
    let circumstances = tables::circumstances(measurements, summaries);
    format!("{}\n\n{}", tables(measurements, summaries), circumstances.trim_end())
}

/// Writes the tables and the plots; the names of the files.
fn write(folder: &Path, measurements: &Measurements, summaries: &[Summary]) -> Result<Vec<String>> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", untrusted::path(folder)))?;
    let files = [
        ("table.md", Some(text(measurements, summaries) + "\n")),
        ("stages.svg", Some(plots::stages(summaries)?)),
        ("roofline.svg", Some(plots::roofline(&measurements.machine, summaries)?)),
        ("context.svg", plots::context_sweep(summaries)?),
        ("tokens.svg", plots::token_times(summaries)?),
    ];
    let mut written = Vec::new();
    for (name, content) in files {
        let Some(content) = content else { continue };
        let file = folder.join(name);
        fs::write(&file, content).with_context(|| format!("writing {}", untrusted::path(&file)))?;
        written.push(name.to_owned());
    }
    Ok(written)
}
