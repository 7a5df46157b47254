//! A plot of curves as an SVG in the book's style: classes instead of colours, so that it follows the page's theme.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 330.0;
/// The plot's corners.
const LEFT: f64 = 66.0;
const RIGHT: f64 = 745.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 272.0;

pub struct Figure {
    pub name: &'static str,
    pub title: &'static str,
    pub x_axis: &'static str,
    pub y_axis: &'static str,
    pub curves: Vec<Curve>,
}

pub struct Curve {
    /// One of the book's classes for curves.
    pub class: &'static str,
    pub label: &'static str,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

impl Figure {
    pub fn to_svg(&self) -> String {
        let all = || self.curves.iter().flat_map(|curve| &curve.points);
        let (x_step, x_max) = ticks(all().map(|point| point.0).fold(0.0, f64::max));
        let (y_step, y_max) = ticks(all().map(|point| point.1).fold(0.0, f64::max));
        let x = |value: f64| LEFT + (RIGHT - LEFT) * value / x_max;
        let y = |value: f64| BOTTOM - (BOTTOM - TOP) * value / y_max;

        let (name, title) = (self.name, self.title);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"figure\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-labelledby=\"{name}-title\">\n<title id=\"{name}-title\">{title}</title>\n"
        );
        let mut line = |text: String| svg.push_str(&(text + "\n"));
        for value in steps(y_step, y_max) {
            line(format!("<path class=\"dash\" d=\"M{LEFT} {at:.1} L{RIGHT} {at:.1}\"/>", at = y(value)));
            line(format!(
                "<text class=\"small end\" x=\"{:.1}\" y=\"{:.1}\">{value}</text>",
                LEFT - 8.0,
                y(value) + 4.0
            ));
        }
        for value in steps(x_step, x_max) {
            line(format!("<text class=\"small mid\" x=\"{:.1}\" y=\"{:.1}\">{value}</text>", x(value), BOTTOM + 20.0));
        }
        line(format!("<path class=\"line\" d=\"M{LEFT} {TOP} L{LEFT} {BOTTOM} L{RIGHT} {BOTTOM}\"/>"));
        for (index, curve) in self.curves.iter().enumerate() {
            let mut path = String::new();
            for (at, &(px, py)) in curve.points.iter().enumerate() {
                // Writing to a string cannot fail.
                let _ = write!(path, "{}{:.1} {:.1}", if at == 0 { "M" } else { " L" }, x(px), y(py));
            }
            line(format!("<path class=\"{}\" d=\"{path}\"/>", curve.class));
            let legend = TOP + 14.0 + 22.0 * index as f64;
            let start = LEFT + 24.0;
            line(format!("<path class=\"{}\" d=\"M{start} {legend} L{} {legend}\"/>", curve.class, start + 28.0));
            line(format!("<text x=\"{}\" y=\"{}\">{}</text>", start + 38.0, legend + 5.0, curve.label));
        }
        let middle = (TOP + BOTTOM) / 2.0;
        line(format!(
            "<text class=\"small mid\" x=\"{}\" y=\"{}\">{}</text>",
            (LEFT + RIGHT) / 2.0,
            BOTTOM + 44.0,
            self.x_axis
        ));
        line(format!(
            "<text class=\"small mid\" x=\"18\" y=\"{middle}\" transform=\"rotate(-90 18 {middle})\">{}</text>",
            self.y_axis
        ));
        svg + "</svg>\n"
    }
}

/// A round distance between ticks, about five of them, and the axis's end.
fn ticks(largest: f64) -> (f64, f64) {
    let rough = (largest / 5.0).max(f64::MIN_POSITIVE);
    let power = 10.0_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|&step| step >= rough).unwrap_or(rough);
    (step, largest)
}

fn steps(step: f64, end: f64) -> impl Iterator<Item = f64> {
    (0..).map(move |n| f64::from(n) * step).take_while(move |&value| value <= end)
}
