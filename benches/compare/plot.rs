//! Draws IOPS and p99 latency over queue depth, for each path and its bound, as an SVG picture.

use std::fmt::Write as _;

use dataplane::load::{LoadOptions, Pattern};

use crate::bound::{READ, WRITE};
use crate::rows::{Bench, DEEP};
use crate::table::median;
use crate::target::Target;

const DEPTHS: [u16; 8] = [1, 2, 4, 8, 16, 32, 64, DEEP];
/// Each point is the median of so many measurements at most.
const ROUNDS: usize = 3;
const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 200.0;
/// Room above all for what was measured and how.
const HEAD: f64 = 44.0;
/// Room left of a panel for the numbers of its axis, and right of it for the names of its curves.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 96.0;
/// Room above a panel for its title, and below it for the depths.
const ABOVE: f64 = 40.0;
const BELOW: f64 = 44.0;

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
struct Curve<'a> {
    name: &'static str,
    color: &'static str,
    /// Bounds are dashed.
    is_bound: bool,
    measure: Box<dyn Fn(u16) -> Result<Point, String> + 'a>,
    points: Vec<Option<Point>>,
}

/// A path through the server, beside what bounds it: a row of the picture.
struct Path<'a> {
    title: &'static str,
    curves: [Curve<'a>; 4],
}

/// A panel's place and scale, which is logarithmic.
struct Panel {
    left: f64,
    top: f64,
    low: f64,
    high: f64,
    label: fn(f64) -> String,
}

/// Measures every depth of every path in turn with its bound, and draws.
pub(crate) fn draw(bench: &Bench, rounds: usize, machine: &str) -> String {
    let rounds = rounds.min(ROUNDS);
    if let Err(error) = bench.fill_ram() {
        eprintln!("{error}");
    }
    let mut paths = paths(bench);
    paths.iter_mut().for_each(|path| path.measure(rounds));
    let row = ABOVE + HEIGHT + BELOW;
    let column = LEFT + WIDTH + RIGHT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"{INK}\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\">{2}</text>\n\
         <text x=\"{LEFT}\" y=\"38\">One queue, one reactor; medians of {rounds}. Solid: ferrule. Dashed: the bound of the \
         same sizes and depth, a bare TCP echo or fio on the drive.</text>\n",
        2.0 * column,
        HEAD + row * paths.len() as f64 + 8.0,
        machine.replace('&', "&amp;").replace('<', "&lt;")
    );
    for (index, path) in paths.iter().enumerate() {
        let top = HEAD + row * index as f64 + ABOVE;
        let iops = |point: &Point| point.iops;
        let panel = Panel::new(LEFT, top, path.values(iops), rate);
        panel.draw(&mut svg, &format!("{}: IOPS", path.title), path, iops);
        let p99 = |point: &Point| point.p99_us;
        let panel = Panel::new(column + LEFT, top, path.values(p99), |micros| format!("{micros}"));
        panel.draw(&mut svg, &format!("{}: 99th percentile of latency in us", path.title), path, p99);
    }
    svg += "</svg>\n";
    svg
}

fn paths(bench: &Bench) -> Vec<Path<'_>> {
    let ours = |options: Result<LoadOptions, String>| {
        let report = Target::run(&options?)?.all;
        Ok(Point { iops: report.iops, p99_us: report.latency.p99 as f64 / 1e3 })
    };
    let read_echo = |depth: u16| {
        bench.echo(READ, depth.into()).map(|echo| Point { iops: echo.iops, p99_us: echo.p99_us })
    };
    let write_echo = |depth: u16| {
        bench.echo(WRITE, depth.into()).map(|echo| Point { iops: echo.iops, p99_us: echo.p99_us })
    };
    let raw = |rw, depth: u16| {
        bench.raw(rw, "4k", depth.into()).map(|raw| Point { iops: raw.iops, p99_us: raw.p99_us })
    };
    let (read, write) = (Pattern::RandRead, Pattern::RandWrite);
    let echoes = |title, load: fn(&Bench, Pattern, u16) -> LoadOptions| Path {
        title,
        curves: [
            Curve::new("read, echo", READ_COLOR, true, read_echo),
            Curve::new("write, echo", WRITE_COLOR, true, write_echo),
            Curve::new("read", READ_COLOR, false, move |depth| ours(Ok(load(bench, read, depth)))),
            Curve::new("write", WRITE_COLOR, false, move |depth| ours(Ok(load(bench, write, depth)))),
        ],
    };
    let mut paths = vec![echoes("4 KiB random, null", Bench::null), echoes("4 KiB random, RAM", Bench::ram)];
    if bench.pool_mib().is_ok() && bench.fill().is_ok() {
        let curves = [
            Curve::new("read, raw", READ_COLOR, true, move |depth| raw("randread", depth)),
            Curve::new("write, raw", WRITE_COLOR, true, move |depth| raw("randwrite", depth)),
            Curve::new("read", READ_COLOR, false, move |depth| ours(bench.volume(read, depth))),
            Curve::new("write", WRITE_COLOR, false, move |depth| ours(bench.volume(write, depth))),
        ];
        paths.push(Path { title: "4 KiB random, pool", curves });
    }
    paths
}

impl<'a> Curve<'a> {
    fn new(
        name: &'static str,
        color: &'static str,
        is_bound: bool,
        measure: impl Fn(u16) -> Result<Point, String> + 'a,
    ) -> Self {
        Self { name, color, is_bound, measure: Box::new(measure), points: Vec::new() }
    }
}

impl Path<'_> {
    /// Measures all curves by turns, depth by depth.
    fn measure(&mut self, rounds: usize) {
        for depth in DEPTHS {
            let mut found = [const { Vec::new() }; 4];
            for _ in 0..rounds {
                for (curve, found) in self.curves.iter().zip(&mut found) {
                    match (curve.measure)(depth) {
                        Ok(point) => found.push(point),
                        Err(error) => eprintln!("{}, {} at QD {depth}: {error}", self.title, curve.name),
                    }
                }
            }
            for (curve, found) in self.curves.iter_mut().zip(found) {
                let of = |value: fn(&Point) -> f64| median(found.iter().map(value).collect());
                let point = Point { iops: of(|point| point.iops), p99_us: of(|point| point.p99_us) };
                curve.points.push((!found.is_empty()).then_some(point));
            }
        }
    }

    fn values(&self, value: impl Fn(&Point) -> f64) -> impl Iterator<Item = f64> {
        self.curves.iter().flat_map(|curve| &curve.points).flatten().map(value)
    }
}

impl Panel {
    /// A panel for such values: from the last round number below to the first above.
    fn new(left: f64, top: f64, values: impl Iterator<Item = f64>, label: fn(f64) -> String) -> Self {
        let positive = values.filter(|value| *value > 0.0);
        let (low, high) =
            positive.fold((f64::MAX, 1.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let low = round_numbers().take_while(|round| *round <= low.min(high)).last().unwrap_or(1.0);
        let high = round_numbers().find(|round| *round >= high && *round > low).unwrap_or(high);
        Self { left, top, low, high, label }
    }

    fn draw(&self, svg: &mut String, title: &str, path: &Path<'_>, value: impl Fn(&Point) -> f64) {
        let (left, right, bottom) = (self.left, self.left + WIDTH, self.top + HEIGHT);
        let above = self.top - 14.0;
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{above}\" font-weight=\"bold\" font-size=\"13\">{title}</text>"
        );
        let inside = |mark: &f64| *mark >= self.low && *mark <= self.high;
        for mark in round_numbers().take_while(|mark| *mark <= self.high).filter(inside) {
            let (at, label) = (self.y(mark), (self.label)(mark));
            let _ = writeln!(
                svg,
                "<line x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                left - 6.0,
                at + 4.0
            );
        }
        for (index, depth) in DEPTHS.iter().enumerate() {
            let (at, below) = (self.x(index), bottom + 16.0);
            let _ = writeln!(
                svg,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{}\" y2=\"{bottom}\" stroke=\"#eee\"/>\
                 <text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{depth}</text>",
                self.top
            );
        }
        let (middle, below) = (f64::midpoint(left, right), bottom + 30.0);
        let _ = writeln!(svg, "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">queue depth</text>");
        let mut ends: Vec<(f64, &Curve<'_>)> = Vec::new();
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
    fn draw_curve(&self, svg: &mut String, curve: &Curve<'_>, value: impl Fn(&Point) -> f64) -> Option<f64> {
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
        let share = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        self.top + HEIGHT * (1.0 - share.clamp(0.0, 1.0))
    }
}

/// 1, 2, 5, 10 and so on.
fn round_numbers() -> impl Iterator<Item = f64> {
    (0..12).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
}

/// Thousands and millions, as an axis has them.
fn rate(iops: f64) -> String {
    match iops {
        iops if iops >= 1e6 => format!("{} M", iops / 1e6),
        iops if iops >= 1e3 => format!("{} k", iops / 1e3),
        iops => format!("{iops}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_reaches_from_the_round_number_below_to_the_one_above() {
        for (values, low, high) in
            [(vec![75_000.0, 1_480_000.0], 50_000.0, 2e6), (vec![20.0], 20.0, 50.0), (vec![], 1.0, 2.0)]
        {
            let panel = Panel::new(0.0, 0.0, values.into_iter(), rate);
            assert_eq!((panel.low, panel.high), (low, high));
        }
        assert_eq!([50_000.0, 2e6].map(rate), ["50 k", "2 M"]);
    }
}
