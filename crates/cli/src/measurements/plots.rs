//! The plots, as SVG.

use std::ops::Range;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::measurements::Machine;
use crate::measurements::summary::Summary;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const FONT: &str = "sans-serif";
const TEXT_SIZE: i32 = 14;
const TITLE_SIZE: i32 = 18;

/// Okabe and Ito's colours, which people with any kind of colour vision can tell apart.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(148, 148, 148),
];

fn colour(idx: usize) -> RGBColor {
    COLOURS[idx % COLOURS.len()]
}

/// Draws on a white page of `size` and returns the SVG.
fn page(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        drawn(area.fill(&WHITE))?;
        draw(&area)?;
        drawn(area.present())?;
    }
    Ok(svg)
}

/// The library's error borrows its backend; its text is all that is needed.
fn drawn<T, E: std::error::Error>(outcome: Result<T, E>) -> Result<T> {
    outcome.map_err(|error| anyhow!("drawing a plot: {error}"))
}

/// What each day bought: a bar per engine and stage, for prefill and for decode.
pub fn stages(summaries: &[Summary]) -> Result<String> {
    let height = 70 + 30 * summaries.len() as u32;
    page((900, height), |area| {
        let (left, right) = area.split_horizontally(540);
        let labels: Vec<&str> = summaries.iter().map(|summary| summary.label.as_str()).collect();
        let speeds = |speed: fn(&Summary) -> f64| summaries.iter().map(speed).collect::<Vec<_>>();
        bars(&left, "prefill, tokens/s", &labels, 180, &speeds(|summary| summary.prefill))?;
        bars(&right, "decode, tokens/s", &vec![""; labels.len()], 10, &speeds(|summary| summary.decode))
    })
}

/// Horizontal bars from the top down, each with its name to the left and its value at its end.
fn bars(area: &Area<'_>, title: &str, labels: &[&str], left_margin: i32, values: &[f64]) -> Result<()> {
    let longest = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut builder = ChartBuilder::on(area);
    builder.caption(title, (FONT, TITLE_SIZE)).margin(10).margin_left(left_margin);
    // Room for the value behind the longest bar; the first bar is on top.
    let chart = drawn(builder.build_cartesian_2d(0.0..longest * 1.25, values.len() as f64..0.0))?;
    let text = (FONT, TEXT_SIZE).into_font();
    for (idx, (label, &value)) in labels.iter().zip(values).enumerate() {
        let (top, bottom) = (idx as f64 + 0.15, idx as f64 + 0.85);
        let bar = Rectangle::new([(0.0, top), (value, bottom)], colour(idx).filled());
        drawn(chart.plotting_area().draw(&bar))?;
        let (x, y) = chart.backend_coord(&(value, idx as f64 + 0.5));
        drawn(area.draw(&absolute_text(area, &format!("{value:.1}"), (x + 6, y - TEXT_SIZE / 2), &text)))?;
        let (x, _) = chart.backend_coord(&(0.0, 0.0));
        let start = x - left_margin;
        drawn(area.draw(&absolute_text(area, label, (start, y - TEXT_SIZE / 2), &text)))?;
    }
    Ok(())
}

/// A text at a place of the whole page, although `area` counts from its own corner.
fn absolute_text<'a>(
    area: &Area<'_>,
    text: &'a str,
    place: (i32, i32),
    font: &FontDesc<'a>,
) -> Text<'a, (i32, i32), &'a str> {
    let (x, y) = area.get_base_pixel();
    Text::new(text, (place.0 - x, place.1 - y), font.clone())
}

/// A plot to the left and, to the right of it, who is who.
fn with_legend(
    size: (u32, u32),
    names: &[(RGBColor, String)],
    draw: impl FnOnce(&Area<'_>) -> Result<()>,
) -> Result<String> {
    page(size, |area| {
        let (plot, legend) = area.split_horizontally(size.0 as i32 - 210);
        for (idx, (colour, name)) in names.iter().enumerate() {
            let y = 60 + 24 * idx as i32;
            let mark = Rectangle::new([(0, y), (14, y + 14)], colour.filled());
            drawn(legend.draw(&mark))?;
            drawn(legend.draw(&Text::new(name.as_str(), (22, y), (FONT, TEXT_SIZE).into_font())))?;
        }
        draw(&plot)
    })
}

fn names(summaries: &[Summary]) -> Vec<(RGBColor, String)> {
    summaries.iter().enumerate().map(|(idx, summary)| (colour(idx), summary.label.clone())).collect()
}

/// Speed of arithmetic against operations per byte, under the machine's two limits.
pub fn roofline(machine: &Machine, summaries: &[Summary]) -> Result<String> {
    let points = || {
        summaries.iter().flat_map(|summary| {
            [(summary.decode_intensity, summary.decode_flops), (summary.prefill_intensity, summary.prefill_flops)]
        })
    };
    let ridge = machine.peak_flops / machine.bandwidth;
    let xs = around(points().map(|(x, _)| x).chain([ridge]), 2.0);
    let ys = around(points().map(|(_, y)| y).chain([machine.peak_flops]), 1.5);
    let giga = ys.start / 1e9..ys.end / 1e9;
    let limits = format!("limits: {:.1} GB/s, {:.0} GFLOP/s", machine.bandwidth / 1e9, machine.peak_flops / 1e9);
    let names = [names(summaries), vec![(BLACK, limits)]].concat();
    with_legend((900, 520), &names, |area| {
        let mut builder = ChartBuilder::on(area);
        builder.caption("roofline: circles decode, triangles prefill", (FONT, TITLE_SIZE));
        builder.margin(15).x_label_area_size(50).y_label_area_size(70);
        let mut chart = drawn(builder.build_cartesian_2d(xs.clone().log_scale(), giga.log_scale()))?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc("operations per byte moved").y_desc("GFLOP/s").label_style((FONT, TEXT_SIZE));
        mesh.light_line_style(TRANSPARENT).x_label_formatter(&number).y_label_formatter(&number);
        drawn(mesh.draw())?;

        let roof = |x: f64| (x, machine.peak_flops.min(machine.bandwidth * x) / 1e9);
        drawn(chart.draw_series(LineSeries::new([xs.start, ridge, xs.end].map(roof), BLACK.stroke_width(2))))?;
        for (idx, summary) in summaries.iter().enumerate() {
            let style = colour(idx).filled();
            let decode = Circle::new((summary.decode_intensity, summary.decode_flops / 1e9), 6, style);
            let prefill = TriangleMarker::new((summary.prefill_intensity, summary.prefill_flops / 1e9), 8, style);
            drawn(chart.draw_series([decode]))?;
            drawn(chart.draw_series([prefill]))?;
        }
        Ok(())
    })
}

/// A range in which all values lie, with room of a factor on both sides.
fn around(values: impl Iterator<Item = f64>, factor: f64) -> Range<f64> {
    // What follows from numbers that were written by hand may be anything, and a logarithmic axis for 1e308 has no end.
    let usable = values.filter(|value| (1e-15..=1e30).contains(value));
    let (min, max) = usable.fold((f64::INFINITY, 0.0), |(min, max): (f64, f64), v| (min.min(v), max.max(v)));
    if min > max { 0.1..10.0 } else { min / factor..max * factor }
}

fn number(value: &f64) -> String {
    if *value >= 10.0 { format!("{value:.0}") } else { format!("{value}") }
}

/// One line of a plot: `(x, y)`, from left to right.
type Points = Vec<(f64, f64)>;

/// Speed of decoding against the length of the context; `None` if nobody was measured so.
pub fn context_sweep(summaries: &[Summary]) -> Result<Option<String>> {
    lines("decode behind a context", "tokens in the context", "tokens/s", summaries, |summary| {
        summary.context_sweep.iter().map(|&(context, speed)| (context as f64, speed)).collect()
    })
}

/// Time of each token; `None` if there are none.
pub fn token_times(summaries: &[Summary]) -> Result<Option<String>> {
    lines("time of each token", "generated token", "ms", summaries, |summary| {
        (2..).map(f64::from).zip(summary.token_seconds.iter().map(|seconds| seconds * 1e3)).collect()
    })
}

/// A line for each engine that has points. Upwards logarithmic, because engines differ by factors.
fn lines(
    title: &str,
    x_name: &str,
    y_name: &str,
    summaries: &[Summary],
    points: impl Fn(&Summary) -> Points,
) -> Result<Option<String>> {
    // An engine has the same colour in every plot, whether or not it is in this one.
    let all = names(summaries).into_iter().zip(summaries.iter().map(points));
    let (names, lines): (Vec<_>, Vec<Points>) = all.filter(|(_, points)| !points.is_empty()).unzip();
    let points = || lines.iter().flatten().copied();
    let right = points().map(|(x, _)| x).fold(0.0, f64::max);
    if right == 0.0 {
        return Ok(None);
    }
    let ys = around(points().map(|(_, y)| y), 1.5);
    let svg = with_legend((900, 460), &names, |area| {
        let mut builder = ChartBuilder::on(area);
        builder.caption(title, (FONT, TITLE_SIZE)).margin(15).x_label_area_size(50).y_label_area_size(70);
        let mut chart = drawn(builder.build_cartesian_2d(0.0..right * 1.02, ys.log_scale()))?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(x_name).y_desc(y_name).label_style((FONT, TEXT_SIZE)).light_line_style(TRANSPARENT);
        drawn(mesh.x_label_formatter(&number).y_label_formatter(&number).draw())?;
        for ((colour, _), points) in names.iter().zip(&lines) {
            drawn(chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)).point_size(2)))?;
        }
        Ok(())
    })?;
    Ok(Some(svg))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurements::examples::{measurements, run};
    use crate::measurements::summary::summarize;

    fn three() -> (Machine, Vec<Summary>) {
        let runs = vec![
            run("reference", Some("dense"), 0.5, 0.4),
            run("reference", Some("flash"), 0.2, 0.005),
            run("llama.cpp", None, 0.25, 0.0075),
        ];
        let all = measurements(runs);
        let summaries = summarize(&all);
        (all.machine, summaries)
    }

    fn assert_shows(svg: &str, texts: &[&str]) {
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
        for text in texts {
            assert!(svg.contains(text), "{text} is not in the plot");
        }
    }

    #[test]
    fn bars_have_names_and_values() {
        let svg = stages(&three().1).unwrap();
        assert_shows(
            &svg,
            &["prefill, tokens/s", "decode, tokens/s", "reference, dense", "reference, flash", "llama.cpp"],
        );
        assert_shows(&svg, &["256.0", "640.0", "512.0", "2.5", "200.0", "133.3"]);
        // The page and three bars on each side.
        assert_eq!(svg.matches("<rect ").count(), 1 + 2 * 3);
    }

    #[test]
    fn the_roofline_has_a_roof_and_two_points_for_each() {
        let (machine, summaries) = three();
        let svg = roofline(&machine, &summaries).unwrap();
        assert_shows(
            &svg,
            &["operations per byte moved", "limits: 40.0 GB/s, 200 GFLOP/s", "reference, dense", "llama.cpp"],
        );
        assert_eq!(svg.matches("<circle ").count(), 3);
        assert_eq!(svg.matches("<polygon ").count(), 3);
    }

    #[test]
    fn an_axis_has_an_end() {
        let around = |values: &[f64]| around(values.iter().copied(), 2.0);
        assert_eq!(around(&[4.0, 1.0, f64::NAN, f64::INFINITY, 0.0, -1.0, 1e308, 1e-320]), 0.5..8.0);
        assert_eq!(around(&[1e308]), 0.1..10.0);
        // A model without parameters and a run of a thousand billion tokens: whatever the plots show, they are drawn.
        let mut all = measurements(vec![run("x", None, 1e9, 1e-9)]);
        all.model.parameters = 0;
        all.runs[0].weight_bytes_per_token = 0;
        all.runs[0].prompt_tokens = 1 << 40;
        let summaries = summarize(&all);
        assert_shows(&roofline(&all.machine, &summaries).unwrap(), &["roofline"]);
        assert_shows(&token_times(&summaries).unwrap().unwrap(), &["time of each token"]);
    }

    #[test]
    fn lines_are_drawn_for_whom_there_are_points() {
        let (_, mut summaries) = three();
        summaries[0].context_sweep.clear();
        let svg = context_sweep(&summaries).unwrap().unwrap();
        assert_shows(&svg, &["decode behind a context", "tokens in the context", "reference, flash", "llama.cpp"]);
        assert!(!svg.contains("reference, dense"));
        for summary in &mut summaries {
            summary.context_sweep.clear();
        }
        assert!(context_sweep(&summaries).unwrap().is_none());
        assert_shows(&token_times(&summaries).unwrap().unwrap(), &["time of each token", "reference, dense", "ms"]);
    }
}
