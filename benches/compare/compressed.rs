//! The row of compression: what decompressing takes from random reads of a drive.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use dataplane::load::{LoadOptions, Pattern};

use crate::rows::{Bar, Bench, Row, Sample, Unit};
use crate::snapshots::fill;
use crate::target::Target;

/// The rows, in the order of the table.
pub(crate) static ROWS: &[Row] = &[Row {
    what: "4 KiB random read, pool, QD 32, of words that LZ4 halves, against the same words stored as they are",
    unit: Unit::Iops,
    bar: Bar::AtLeast(0.9),
    once: true,
    measure: decompressing,
}];

/// Random reads of a compressed volume and of one that is not, by turns, with the same content in the same pool.
fn decompressing(bench: &Bench) -> Result<Sample, String> {
    let pool_mib = bench.pool_mib()?;
    let bytes = (pool_mib << 20) / 8;
    // Declared first, and gone last.
    let device;
    let mut target = Target::start_pool(pool_mib, bytes, bench.cpus(), &[]);
    if !target.stores_units() {
        device = LoopDevice::new(&bench.folder().join("loop"), pool_mib << 20)?;
        target = Target::start_pool(0, bytes, bench.cpus(), &["--pool", &device.path]);
    }
    let plain = target.volume.ok_or("measured with a pool only")?;
    let packed = target.create_compressed("packed", bytes);
    let content = |options| LoadOptions { words_percent: 100, ..options };
    fill(&target, plain, bytes, content)?;
    let written = || -> Result<[f64; 2], String> {
        Ok([target.metric("device_written_bytes_total")?, target.metric("host_written_bytes_total")?])
    };
    let before = written()?;
    fill(&target, packed, bytes, content)?;
    let after = written()?;
    let share = (after[0] - before[0]) / (after[1] - before[1]).max(1.0);
    if !(0.3..0.7).contains(&share) {
        return Err(format!("{share:.2} bytes were written for each of the host's: not half of them"));
    }
    let reads = |volume| Target::run(&target.load(volume, Pattern::RandRead, 32, bench.time()));
    let (mut rounds, mut last) = (Vec::new(), None);
    for _ in 0..ROUNDS {
        let stored = reads(plain)?;
        let decompressed = reads(packed)?;
        rounds.push((decompressed.all.iops, stored.all.iops));
        last = Some(decompressed);
    }
    let last = last.ok_or("nothing was measured")?;
    Ok(Sample::of_rounds(&rounds).with_cores_of(&last))
}

/// A drive with blocks of 512 bytes, on a file of a drive with larger ones, whose blocks could not save anything.
struct LoopDevice {
    path: String,
    file: PathBuf,
}

impl LoopDevice {
    fn new(file: &Path, bytes: u64) -> Result<Self, String> {
        let made = File::create(file).and_then(|made| made.set_len(bytes));
        made.map_err(|error| format!("{}: {error}", file.display()))?;
        let mut this = Self { path: String::new(), file: file.to_owned() };
        let arguments = ["--find", "--show", "--direct-io=on", "--sector-size=512"];
        let output = Command::new("losetup").args(arguments).arg(file).output();
        let output = output.map_err(|error| format!("losetup does not run: {error}"))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(format!("this drive saves nothing, and no other can be made: {}", why.trim()));
        }
        this.path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(this)
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if !self.path.is_empty() {
            drop(Command::new("losetup").arg("--detach").arg(&self.path).status());
        }
        drop(std::fs::remove_file(&self.file));
    }
}

const ROUNDS: usize = 5;
