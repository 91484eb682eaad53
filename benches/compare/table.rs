//! Medians, spread, and the table.

use std::fmt::Write as _;

use crate::machine::SAME_WITHIN;
use crate::options::Options;
use crate::rows::{Bar, Rounds, Row, Sample, Unit};

/// All measurements of a row.
#[derive(Debug)]
pub(crate) struct Measured {
    row: &'static Row,
    samples: Vec<Sample>,
    /// Why there are none.
    missing: Option<String>,
    /// What a cache line took between the two CPUs beside them, in nanoseconds.
    lines: Vec<f64>,
}

impl Measured {
    /// None so far.
    pub(crate) fn new(row: &'static Row) -> Self {
        Self { row, samples: Vec::new(), missing: None, lines: Vec::new() }
    }

    /// Adds one.
    pub(crate) fn add(&mut self, sample: Result<Sample, String>) {
        match sample {
            Ok(sample) => self.samples.push(sample),
            Err(why) => self.missing = Some(why),
        }
    }

    /// Notes what a cache line took between the two CPUs.
    pub(crate) fn note_lines(&mut self, nanos: Vec<f64>) {
        self.lines = nanos;
    }

    /// The row as the table has it.
    pub(crate) fn line(&self) -> String {
        let Row { what, bar, unit, .. } = self.row;
        if self.samples.is_empty() {
            let why = self.missing.as_deref().unwrap_or("not measured");
            return format!("| {what} | {why} | | | {bar} | - | | |");
        }
        let of = |value: fn(&Sample) -> f64| median(self.samples.iter().map(value).collect());
        let Rounds { least: low, median: value, most: high } = match self.samples[..] {
            [Sample { rounds: Some(rounds), .. }] => rounds,
            _ => Rounds::of(self.samples.iter().map(Sample::value).collect()),
        };
        let has_bound = self.samples.iter().all(|sample| sample.bound.is_some());
        let bound =
            if has_bound { unit.show(of(|sample| sample.bound.unwrap_or(0.0))) } else { "-".to_owned() };
        let (shown, spread) = if has_bound {
            (format!("{value:.2}"), format!("{low:.2} to {high:.2}"))
        } else {
            (unit.show(value), format!("{} to {}", unit.show(low), unit.show(high)))
        };
        let verdict = if bar.is_met(value) { "met" } else { "missed" };
        let cores = (of(|sample| sample.target_cores), of(|sample| sample.load_cores));
        let cores =
            if cores == (0.0, 0.0) { String::new() } else { format!("{:.2} / {:.2}", cores.0, cores.1) };
        let lines = match Rounds::of(self.lines.clone()) {
            _ if self.lines.is_empty() => String::new(),
            Rounds { least, most, .. } if most <= least * SAME_WITHIN => {
                format!("{:.0}", least.midpoint(most))
            }
            Rounds { least, most, .. } => format!("{least:.0} to {most:.0}"),
        };
        let ours = unit.show(of(|sample| sample.ours));
        format!("| {what} | {ours} | {bound} | {shown} ({spread}) | {bar} | {verdict} | {cores} | {lines} |")
    }
}

/// The table in Markdown.
pub(crate) fn render(measured: &[Measured], options: &Options) -> String {
    let mut text = format!(
        "Medians of {}, {:.1} s each; target on CPU {}, load on CPU {}. Cores: in use by the target / by the load, which \
         spins. Line: nanoseconds that a cache line took from one CPU to the other and back.\n\n\
         | what | ours | bound | ratio or value (spread) | bar | | cores | line |\n|---|---|---|---|---|---|---|---|\n",
        options.rounds,
        options.time.as_secs_f64(),
        options.target_cpu,
        options.load_cpu
    );
    for row in measured {
        let _ = writeln!(text, "{}", row.line());
    }
    text
}

/// The middle value, the mean of the two middle ones of an even number, 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.get(middle) {
        None => 0.0,
        Some(value) if values.len() % 2 == 1 => *value,
        Some(value) => f64::midpoint(*value, values[middle - 1]),
    }
}

impl Sample {
    /// Rounds of ours and of its bound by turns: the median of their ratios counts, not the ratio of the medians.
    pub(crate) fn of_rounds(rounds: &[(f64, f64)]) -> Self {
        let ratios = rounds.iter().map(|(ours, bound)| if *bound > 0.0 { ours / bound } else { 0.0 });
        Self {
            ours: median(rounds.iter().map(|(ours, _)| *ours).collect()),
            bound: Some(median(rounds.iter().map(|(_, bound)| *bound).collect())),
            rounds: Some(Rounds::of(ratios.collect())),
            ..Self::default()
        }
    }

    /// Rounds of a figure that is compared with nothing.
    pub(crate) fn of_figures(rounds: &[f64]) -> Self {
        Self { ours: median(rounds.to_vec()), rounds: Some(Rounds::of(rounds.to_vec())), ..Self::default() }
    }
}

impl Rounds {
    fn of(values: Vec<f64>) -> Self {
        let least = values.iter().copied().fold(f64::MAX, f64::min);
        let most = values.iter().copied().fold(f64::MIN, f64::max);
        Self { least, median: median(values), most }
    }
}

impl Unit {
    /// A value with its unit.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Iops if value >= 1e6 => format!("{:.2} M/s", value / 1e6),
            Self::Iops => format!("{:.1} k/s", value / 1e3),
            Self::BytesPerSecond => format!("{:.2} GB/s", value / 1e9),
            Self::Micros => format!("{value:.2} us"),
            Self::Mebibytes => format!("{value:.1} MiB"),
            Self::Kibibytes => format!("{value:.0} KiB"),
            Self::Percent => format!("{value:.1} %"),
            Self::Count => format!("{value:.2}"),
        }
    }
}

impl Bar {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bar) => value >= bar,
            Self::AtMost(bar) => value <= bar,
        }
    }
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bar) => write!(f, "at least {bar}"),
            Self::AtMost(bar) => write!(f, "at most {bar}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }

    #[test]
    fn rounds_that_a_row_took_by_itself_are_its_spread() {
        let row = &crate::rows::ROWS[0];
        let mut measured = Measured::new(row);
        measured.add(Ok(Sample::of_rounds(&[(3.0, 1.0), (8.0, 10.0), (2.0, 1.0)])));
        let line = measured.line();
        assert!(line.contains("| 2.00 (0.80 to 3.00) |"), "{line}");
    }
}
