//! Draws IOPS and p99 latency over queue depth, ours beside the echo, as an SVG picture.

use std::fmt::Write as _;

use dataplane::load::Pattern;

use crate::bound::{READ, WRITE};
use crate::rows::{Bench, DEEP};
use crate::target::Target;

const DEPTHS: [u16; 8] = [1, 2, 4, 8, 16, 32, 64, DEEP];
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 280.0;
const MARGIN: f64 = 56.0;

/// A line of the picture.
struct Curve {
    name: &'static str,
    color: &'static str,
    /// IOPS and p99 in microseconds at each depth.
    points: Vec<(f64, f64)>,
}

/// Measures every depth once, and draws.
pub(crate) fn draw(bench: &Bench) -> String {
    let ours = |pattern| {
        let reports = DEPTHS.iter().map(move |depth| Target::run(&bench.null(pattern, *depth)));
        reports.map(|report| {
            report.map_or((0.0, 0.0), |report| (report.all.iops, report.all.latency.p99 as f64 / 1e3))
        })
    };
    let echo = |exchange| {
        let echoes = DEPTHS.iter().map(move |depth| bench.echo(exchange, usize::from(*depth)));
        echoes.map(|echo| echo.map_or((0.0, 0.0), |echo| (echo.iops, echo.p99_us)))
    };
    let curves = [
        Curve { name: "read", color: "#1f6fb4", points: ours(Pattern::RandRead).collect() },
        Curve { name: "read, echo", color: "#9cc4e4", points: echo(READ).collect() },
        Curve { name: "write", color: "#b4531f", points: ours(Pattern::RandWrite).collect() },
        Curve { name: "write, echo", color: "#e8b898", points: echo(WRITE).collect() },
    ];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" font-family=\"sans-serif\" \
         font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        2.0 * (WIDTH + MARGIN) + MARGIN,
        HEIGHT + 2.0 * MARGIN + 20.0
    );
    panel(&mut svg, MARGIN, "4 KiB, null namespace: IOPS in thousands", &curves, |point| point.0 / 1e3);
    panel(&mut svg, 2.0 * MARGIN + WIDTH, "p99 latency in us", &curves, |point| point.1);
    svg += "</svg>\n";
    svg
}

fn panel(svg: &mut String, left: f64, title: &str, curves: &[Curve], value: fn(&(f64, f64)) -> f64) {
    let top = curves.iter().flat_map(|curve| curve.points.iter().map(value)).fold(1.0, f64::max) * 1.05;
    let x = |index: usize| left + WIDTH * index as f64 / (DEPTHS.len() - 1) as f64;
    let y = |value: f64| MARGIN + HEIGHT * (1.0 - value / top);
    let _ = writeln!(svg, "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{title}</text>", MARGIN - 16.0);
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let (right, at) = (left + WIDTH, y(value));
        let _ = writeln!(svg, "<line x1=\"{left}\" x2=\"{right}\" y1=\"{at}\" y2=\"{at}\" stroke=\"#ddd\"/>");
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{value:.0}</text>",
            left - 6.0,
            at + 4.0
        );
    }
    for (index, depth) in DEPTHS.iter().enumerate() {
        let below = MARGIN + HEIGHT + 16.0;
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{below}\" text-anchor=\"middle\">{depth}</text>", x(index));
    }
    for (number, curve) in curves.iter().enumerate() {
        let points: Vec<String> = curve
            .points
            .iter()
            .enumerate()
            .map(|(index, point)| format!("{:.1},{:.1}", x(index), y(value(point))))
            .collect();
        let (points, color) = (points.join(" "), curve.color);
        let _ = writeln!(
            svg,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>"
        );
        let (at, below) = (left + 105.0 * number as f64, MARGIN + HEIGHT + 40.0);
        let _ = writeln!(
            svg,
            "<rect x=\"{at}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{color}\"/>",
            below - 9.0
        );
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{below}\">{}</text>", at + 14.0, curve.name);
    }
}
