//! Draws IOPS and p99 latency over queue depth, for each path and its bound, as an SVG picture.

use std::fmt::Write as _;

use dataplane::load::{LoadOptions, Pattern};

use crate::bound::{READ, WRITE};
use crate::rows::{Bench, DEEP};
use crate::target::Target;

const DEPTHS: [u16; 8] = [1, 2, 4, 8, 16, 32, 64, DEEP];
const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 200.0;
/// Room left of a panel for the numbers of its axis, and right of it for the names of its curves.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 96.0;
/// Room above a panel for its title, and below it for the depths.
const ABOVE: f64 = 48.0;
const BELOW: f64 = 40.0;

const READ_COLOR: &str = "#1f6fb4";
const WRITE_COLOR: &str = "#c0561a";
const INK: &str = "#333";

/// What one measurement gave.
#[derive(Clone, Copy, Debug)]
struct Point {
    iops: f64,
    p99_us: f64,
}

/// A line of a panel: by depth, what was measured, if it could be.
struct Curve {
    name: &'static str,
    color: &'static str,
    /// Bounds are dashed.
    is_bound: bool,
    points: Vec<Option<Point>>,
}

/// A path through the server, beside what bounds it: a row of the picture.
struct Path {
    title: &'static str,
    curves: Vec<Curve>,
}

/// A panel's place and scale.
struct Panel {
    left: f64,
    top: f64,
    low: f64,
    high: f64,
    is_log: bool,
}

/// Measures every depth of every path once, and draws.
pub(crate) fn draw(bench: &Bench) -> String {
    let paths = measure(bench);
    let row = ABOVE + HEIGHT + BELOW;
    let column = LEFT + WIDTH + RIGHT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"{INK}\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        2.0 * column,
        row * paths.len() as f64 + 16.0
    );
    for (index, path) in paths.iter().enumerate() {
        let top = row * index as f64 + ABOVE;
        let highest = path.values(|point| point.iops / 1e3).fold(0.0, f64::max);
        let iops = Panel { left: LEFT, top, low: 0.0, high: ceiling(highest), is_log: false };
        iops.draw(&mut svg, &format!("{}: IOPS in thousands", path.title), path, |point| point.iops / 1e3);
        let p99 = |point: &Point| point.p99_us;
        let (low, high) = path
            .values(p99)
            .fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let [low, high] =
            [low.max(1.0).log10().floor(), high.max(10.0).log10().ceil()].map(|power| 10_f64.powf(power));
        let latency = Panel { left: column + LEFT, top, low, high, is_log: true };
        latency.draw(&mut svg, &format!("{}: 99th percentile in us", path.title), path, p99);
    }
    svg += "</svg>\n";
    svg
}

fn measure(bench: &Bench) -> Vec<Path> {
    let sweep = |name, color, is_bound, measured: &dyn Fn(u16) -> Result<Point, String>| {
        let point = |depth: &u16| {
            measured(*depth).inspect_err(|error| eprintln!("{name} at QD {depth}: {error}")).ok()
        };
        Curve { name, color, is_bound, points: DEPTHS.iter().map(point).collect() }
    };
    let ours = |options: Result<LoadOptions, String>| {
        let report = Target::run(&options?)?.all;
        Ok(Point { iops: report.iops, p99_us: report.latency.p99 as f64 / 1e3 })
    };
    let echo = |exchange, depth: u16| {
        bench.echo(exchange, depth.into()).map(|echo| Point { iops: echo.iops, p99_us: echo.p99_us })
    };
    let raw = |rw, depth: u16| {
        bench.raw(rw, "4k", depth.into()).map(|raw| Point { iops: raw.iops, p99_us: raw.p99_us })
    };
    let path = |title, load: &dyn Fn(Pattern, u16) -> Result<LoadOptions, String>, bounds: [Curve; 2]| {
        let read = sweep("read", READ_COLOR, false, &|depth| ours(load(Pattern::RandRead, depth)));
        let write = sweep("write", WRITE_COLOR, false, &|depth| ours(load(Pattern::RandWrite, depth)));
        let [read_bound, write_bound] = bounds;
        Path { title, curves: vec![read_bound, write_bound, read, write] }
    };
    let echoes = || {
        [
            sweep("read, echo", READ_COLOR, true, &|depth| echo(READ, depth)),
            sweep("write, echo", WRITE_COLOR, true, &|depth| echo(WRITE, depth)),
        ]
    };
    let mut paths = vec![
        path("4 KiB random, null", &|pattern, depth| Ok(bench.null(pattern, depth)), echoes()),
        path("4 KiB random, RAM", &|pattern, depth| Ok(bench.ram(pattern, depth)), echoes()),
    ];
    if bench.pool_mib().is_ok() && bench.fill().is_ok() {
        let bounds = [
            sweep("read, raw", READ_COLOR, true, &|depth| raw("randread", depth)),
            sweep("write, raw", WRITE_COLOR, true, &|depth| raw("randwrite", depth)),
        ];
        paths.push(path("4 KiB random, pool", &|pattern, depth| bench.volume(pattern, depth), bounds));
    }
    paths
}

impl Path {
    fn values(&self, value: impl Fn(&Point) -> f64) -> impl Iterator<Item = f64> {
        self.curves.iter().flat_map(|curve| &curve.points).flatten().map(value)
    }
}

impl Panel {
    fn draw(&self, svg: &mut String, title: &str, path: &Path, value: impl Fn(&Point) -> f64) {
        let (left, right, bottom) = (self.left, self.left + WIDTH, self.top + HEIGHT);
        let above = self.top - 14.0;
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{above}\" font-weight=\"bold\" font-size=\"13\">{title}</text>"
        );
        for mark in self.marks() {
            let at = self.y(mark);
            let _ = writeln!(
                svg,
                "<line x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{mark}</text>",
                left - 6.0,
                at + 4.0
            );
        }
        for (index, depth) in DEPTHS.iter().enumerate() {
            let (at, below) = (self.x(index), bottom + 16.0);
            let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{depth}</text>");
        }
        let (middle, below) = (f64::midpoint(left, right), bottom + 30.0);
        let _ = writeln!(svg, "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">queue depth</text>");
        let mut ends: Vec<(f64, &Curve)> = Vec::new();
        for curve in &path.curves {
            if let Some(end) = self.draw_curve(svg, curve, &value) {
                ends.push((end, curve));
            }
        }
        // Names stand where the curves end, pushed apart where those meet.
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut free = self.top;
        for (end, curve) in ends {
            let at = end.max(free);
            free = at + 13.0;
            let (color, name) = (curve.color, curve.name);
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{:.1}\" fill=\"{color}\">{name}</text>",
                right + 8.0,
                at + 4.0
            );
        }
    }

    /// Draws a curve; returns the height at which it ends.
    fn draw_curve(&self, svg: &mut String, curve: &Curve, value: impl Fn(&Point) -> f64) -> Option<f64> {
        let color = curve.color;
        let points = curve.points.iter().enumerate();
        let places: Vec<(f64, f64)> =
            points.filter_map(|(index, point)| Some((self.x(index), self.y(value(&(*point)?))))).collect();
        let line: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let dashes = if curve.is_bound { " stroke-dasharray=\"5 4\"" } else { "" };
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.8\"{dashes}/>",
            line.join(" ")
        );
        for (x, y) in places.iter().filter(|_| !curve.is_bound) {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\" fill=\"{color}\"/>");
        }
        places.last().map(|(_, y)| *y)
    }

    fn x(&self, index: usize) -> f64 {
        self.left + WIDTH * index as f64 / (DEPTHS.len() - 1) as f64
    }

    fn y(&self, value: f64) -> f64 {
        let share = if self.is_log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.top + HEIGHT * (1.0 - share.clamp(0.0, 1.0))
    }

    /// The values that have a line.
    fn marks(&self) -> Vec<f64> {
        if self.is_log {
            let decades = (self.high / self.low).log10().round() as i32;
            (0..=decades).map(|power| self.low * 10_f64.powi(power)).collect()
        } else {
            (0..=4).map(|step| self.low + (self.high - self.low) * f64::from(step) / 4.0).collect()
        }
    }
}

/// The next number above whose quarters are round.
fn ceiling(value: f64) -> f64 {
    let unit = 10_f64.powf(value.max(1.0).log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * unit).find(|round| *round >= value).unwrap_or(10.0 * unit)
}
