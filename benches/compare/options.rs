//! The command line of the comparison.

use std::path::PathBuf;
use std::time::Duration;

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// How often each row is measured.
    pub(crate) rounds: usize,
    /// Length of one measurement.
    pub(crate) time: Duration,
    /// Only rows whose name has this in it.
    pub(crate) only: Option<String>,
    /// CPU of the target's reactor.
    pub(crate) target_cpu: u32,
    /// CPU of the load.
    pub(crate) load_cpu: u32,
    /// Size of the pool's file; 0 leaves rows with a pool out.
    pub(crate) pool_mib: u64,
    /// Leave the load's CPU idle while the drive's bound is measured.
    pub(crate) raw_alone: bool,
    /// File for the table.
    pub(crate) out: Option<PathBuf>,
    /// File for a picture of IOPS and latency over queue depth.
    pub(crate) plot: Option<PathBuf>,
}

const USAGE: &str = "\
compare: measure `ferrule serve` against the bounds of this machine, on the loopback

  --rounds N        measurements of each row, of which the median counts [5]
  --time SECONDS    length of each [1]
  --only TEXT       only rows with TEXT in their name
  --target-cpu N    CPU of the server's one reactor [0]
  --load-cpu N      CPU of the load [1]
  --pool MIB        size of the pool's file, 0 for none [6144]
  --raw-alone       leave the load's CPU idle while fio measures the drive on the server's
  --out FILE        write the table to FILE too
  --plot FILE       draw IOPS and p99 over queue depth as SVG

Build the server first, beside this program: cargo build --release --package mgmt";

impl Options {
    /// Reads the arguments.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rounds: 5,
            time: Duration::from_secs(1),
            only: None,
            target_cpu: 0,
            load_cpu: 1,
            pool_mib: 6144,
            raw_alone: false,
            out: None,
            plot: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n\n{USAGE}"));
            match word.as_str() {
                "--rounds" => options.rounds = number::<usize>(&word, &value()?)?.max(1),
                "--time" => {
                    let seconds: f64 = number(&word, &value()?)?;
                    options.time =
                        Duration::try_from_secs_f64(seconds.clamp(0.1, 60.0)).unwrap_or(options.time);
                }
                "--only" => options.only = Some(value()?),
                "--target-cpu" => options.target_cpu = number(&word, &value()?)?,
                "--load-cpu" => options.load_cpu = number(&word, &value()?)?,
                "--pool" => options.pool_mib = number(&word, &value()?)?,
                "--raw-alone" => options.raw_alone = true,
                "--out" => options.out = Some(value()?.into()),
                "--plot" => options.plot = Some(value()?.into()),
                "--help" | "-h" => return Err(USAGE.to_owned()),
                _ => return Err(format!("unknown argument {word}\n\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// True for rows to measure.
    pub(crate) fn wants(&self, row: &str) -> bool {
        self.only.as_ref().is_none_or(|only| row.contains(only.as_str()))
    }

    /// The CPU to keep busy while the drive's bound is measured.
    pub(crate) fn busy_cpu(&self) -> Option<u32> {
        (!self.raw_alone).then_some(self.load_cpu)
    }

    /// CPUs of target and load.
    pub(crate) fn cpus(&self) -> (u32, u32) {
        (self.target_cpu, self.load_cpu)
    }
}

fn number<T: std::str::FromStr>(word: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{word} {value}: not a number\n\n{USAGE}"))
}
