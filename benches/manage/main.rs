//! Measures the management plane: requests a second, creation of volumes, lists, and what all that does to a host's I/O.
//!
//! Everything stays on the loopback and in the build folder. Ours and what it is compared with are measured in turn,
//! round after round; a line has the median of the rounds' ratios, with the least and the greatest.

mod beside;
mod hello;
mod limits;
mod rest;
mod rows;
mod site;

use std::process::ExitCode;
use std::time::Duration;

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// How often each pair is measured.
    pub(crate) rounds: usize,
    /// Length of one measurement.
    pub(crate) time: Duration,
    /// Volumes of the long list.
    pub(crate) volumes: usize,
    only: Option<String>,
}

/// One line of the report.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What it is.
    pub(crate) what: String,
    /// The figure of each round that the bar is for.
    pub(crate) rounds: Vec<f64>,
    /// The bar; none is for information.
    pub(crate) bar: Option<Bar>,
    /// What stands behind it.
    pub(crate) note: String,
}

/// What must be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
    /// So near to 1.
    Within(f64),
}

/// Measures one or a few figures.
type Measure = fn(&Options) -> Result<Vec<Figure>, String>;

const ROWS: &[(&str, Measure)] = &[
    ("requests", rows::requests),
    ("creation", rows::creation),
    ("list", rows::list),
    ("beside", beside::reads_beside_management),
    ("limit", limits::limit_and_neighbour),
];

const USAGE: &str = "\
manage: measure the management plane of `ferrule serve` on this machine, on the loopback

  --rounds N      pairs of measurements, of which the median counts [5]
  --time SECONDS  length of each [2]
  --volumes N     volumes of the long list [10000]
  --only TEXT     only rows with TEXT in their name: requests, creation, list, beside, limit

Build the server first, beside this program: cargo build --release --package mgmt";

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let load = || std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average {}", load().trim());
    let mut failed = false;
    for (name, measure) in ROWS {
        if options.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        // On a thread of its own: a row that pins its thread pins no later row's server.
        let outcome = std::thread::scope(|scope| scope.spawn(|| measure(&options)).join());
        match outcome.unwrap_or_else(|_| Err("the measurement panicked".to_owned())) {
            Ok(figures) => figures.iter().for_each(|figure| println!("{}", figure.line())),
            Err(reason) => {
                failed = true;
                println!("{name}: {reason}");
            }
        }
    }
    println!("load average {}", load().trim());
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

impl Figure {
    fn line(&self) -> String {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (rounds.first(), rounds.last()) else {
            return format!("{}: nothing measured", self.what);
        };
        let median = rounds[rounds.len() / 2];
        let verdict = match self.bar {
            None => String::new(),
            Some(Bar::AtLeast(bar)) => verdict("at least", bar, median >= bar),
            Some(Bar::AtMost(bar)) => verdict("at most", bar, median <= bar),
            Some(Bar::Within(bar)) => verdict("1 within", bar, (median - 1.0).abs() <= bar),
        };
        format!("{}: {median:.3} ({least:.3} to {most:.3}){verdict}; {}", self.what, self.note)
    }
}

fn verdict(words: &str, bar: f64, met: bool) -> String {
    format!(", bar {words} {bar}: {}", if met { "met" } else { "missed" })
}

/// The middle of some figures.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { rounds: 5, time: Duration::from_secs(2), volumes: 10_000, only: None };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n\n{USAGE}"));
        let wrong = |text: &str| format!("{word} {text}: not a number\n\n{USAGE}");
        match word.as_str() {
            "--rounds" => {
                let text = value()?;
                options.rounds = text.parse::<usize>().map_err(|_| wrong(&text))?.max(1);
            }
            "--time" => {
                let text = value()?;
                let seconds: f64 = text.parse().map_err(|_| wrong(&text))?;
                options.time = Duration::from_secs_f64(seconds.clamp(0.1, 60.0));
            }
            "--volumes" => {
                let text = value()?;
                options.volumes = text.parse::<usize>().map_err(|_| wrong(&text))?.clamp(1, 16_000);
            }
            "--only" => options.only = Some(value()?),
            "--help" | "-h" => return Err(USAGE.to_owned()),
            _ => return Err(format!("unknown argument {word}\n\n{USAGE}")),
        }
    }
    Ok(options)
}
