//! Rows of two reactors: what a second one adds.
//!
//! Machines with two CPUs have no third for the load. So the drive is in memory, where a command costs the target several
//! times what it costs the load, and the load sleeps between its commands on the same two CPUs.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use dataplane::load::{LoadOptions, LoadReport, Pattern, Waiting};

use crate::rows::{Bar, Bench, Row, Sample, Unit};
use crate::snapshots::fill;
use crate::target::Target;

/// The rows, in the order of the table.
pub(crate) static ROWS: &[Row] = &[
    Row {
        what: "4 KiB random read, pool in memory, 4 queues of QD 32, two reactors against one",
        unit: Unit::Iops,
        bar: Bar::AtLeast(1.2),
        once: true,
        measure: |bench| growth(bench, Pattern::RandRead),
    },
    Row {
        what: "4 KiB random write, pool in memory, 4 queues of QD 32, two reactors against one",
        unit: Unit::Iops,
        bar: Bar::AtLeast(1.2),
        once: true,
        measure: |bench| growth(bench, Pattern::RandWrite),
    },
];

const DRIVE_MIB: u64 = 2048;
const VOLUME_BYTES: u64 = 512 << 20;
const ROUNDS: usize = 5;

/// By turns, with as many shards in both pools. Where there is one reactor, the load has the other CPU.
fn growth(bench: &Bench, pattern: Pattern) -> Result<Sample, String> {
    let (target_cpu, load_cpu) = bench.cpus();
    let cpus = [target_cpu, load_cpu];
    // Declared first, and gone last.
    let drives = [MemoryDrive::new(DRIVE_MIB)?, MemoryDrive::new(DRIVE_MIB)?];
    let start = |count: usize| {
        let arguments = ["--shards", "4", "--pool", &drives[count - 1].path];
        Target::start_on(&cpus[..count], 0, VOLUME_BYTES, load_cpu, &arguments)
    };
    let (one, two) = (start(1), start(2));
    let measure = |target: &Target, load_cpus: &[u32]| -> Result<LoadReport, String> {
        let volume = target.volume.ok_or("measured with a pool only")?;
        Target::run(&LoadOptions {
            queues: 4,
            cpus: load_cpus.to_vec(),
            waiting: Waiting::Block,
            ..target.load(volume, pattern, 32, bench.time())
        })
    };
    for target in [&one, &two] {
        fill(target, target.volume.unwrap_or_default(), VOLUME_BYTES, |load| load)?;
        // Memory that is written for the first time is slow.
        while pattern.writes() && target.metric("host_written_bytes_total")? < (DRIVE_MIB << 20) as f64 {
            measure(target, &cpus[1..])?;
        }
    }
    let (mut rounds, mut last) = (Vec::new(), None);
    for _ in 0..ROUNDS {
        let alone = measure(&one, &cpus[1..])?;
        let together = measure(&two, &cpus)?;
        rounds.push((together.all.iops, alone.all.iops));
        last = Some(together);
    }
    let last = last.ok_or("nothing was measured")?;
    Ok(Sample::of_rounds(&rounds).with_cores_of(&last))
}

/// A drive of the kernel's that is compressed memory.
struct MemoryDrive {
    number: String,
    path: String,
}

impl MemoryDrive {
    fn new(mib: u64) -> Result<Self, String> {
        let number = fs::read_to_string(CONTROL.to_owned() + "hot_add")
            .map_err(|error| format!("no drive in memory can be made (zram): {error}"))?;
        let number = number.trim().to_owned();
        let this = Self { path: format!("/dev/zram{number}"), number };
        let size = this.settings().join("disksize");
        fs::write(&size, format!("{mib}M")).map_err(|error| format!("{}: {error}", size.display()))?;
        Ok(this)
    }

    fn settings(&self) -> PathBuf {
        format!("/sys/block/zram{}", self.number).into()
    }
}

impl Drop for MemoryDrive {
    fn drop(&mut self) {
        // The ring of a killed server holds it for a moment longer.
        for _ in 0..500 {
            if fs::write(self.settings().join("reset"), "1").is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        if let Err(error) = fs::write(CONTROL.to_owned() + "hot_remove", &self.number) {
            eprintln!("{} stays: {error}", self.path);
        }
    }
}

const CONTROL: &str = "/sys/class/zram-control/";
