//! The drive's bound: fio on a file beside the pool, io_uring with registered buffers and direct I/O.
//!
//! fio runs on the CPU that the target has otherwise, and the CPU of the load is kept as busy as a load keeps it. Where the
//! drive's interrupts arrive on one CPU, or the drive itself is emulated beside the CPUs of a virtual machine, an idle
//! CPU makes it faster than any target can find it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::bound::pin;

/// fio, and the file that it works on.
#[derive(Debug)]
pub(crate) struct Raw {
    file: PathBuf,
    size_mib: u64,
    cpu: u32,
    /// The CPU that is kept busy meanwhile.
    busy_cpu: Option<u32>,
}

/// What fio did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) iops: f64,
    /// Mean latency of the whole of a command in microseconds.
    pub(crate) mean_us: f64,
    /// 99 % take no longer.
    pub(crate) p99_us: f64,
}

impl Raw {
    /// Writes the file once in full, as a pool's file is.
    pub(crate) fn prepare(
        folder: &Path,
        size_mib: u64,
        cpu: u32,
        busy_cpu: Option<u32>,
    ) -> Result<Self, String> {
        let raw = Self { file: folder.join("raw"), size_mib, cpu, busy_cpu };
        raw.run(&["--rw=write", "--bs=1M", "--iodepth=4"], None)?;
        Ok(raw)
    }

    /// Random or sequential commands of `block` at `depth`.
    pub(crate) fn measure(&self, rw: &str, block: &str, depth: u32, time: Duration) -> Result<Done, String> {
        let arguments = [format!("--rw={rw}"), format!("--bs={block}"), format!("--iodepth={depth}")];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.run_beside_load(&arguments, time)
    }

    /// A write of 4 KiB, then fdatasync, one after the other: the time of both.
    pub(crate) fn measure_synced(&self, time: Duration) -> Result<Done, String> {
        let arguments = ["--rw=randwrite", "--bs=4k", "--iodepth=1", "--fdatasync=1"];
        let done = self.run_beside_load(&arguments, time)?;
        Ok(Done { mean_us: 1e6 / done.iops, ..done })
    }

    fn run_beside_load(&self, arguments: &[&str], time: Duration) -> Result<Done, String> {
        let Some(cpu) = self.busy_cpu else { return self.run(arguments, Some(time)) };
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Elsewhere it would disturb what is measured.
                if pin(cpu).is_ok() {
                    while !ended.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                }
            });
            let done = self.run(arguments, Some(time));
            ended.store(true, Ordering::Relaxed);
            done
        })
    }

    fn run(&self, arguments: &[&str], time: Option<Duration>) -> Result<Done, String> {
        let mut command = Command::new("fio");
        command
            .args(["--name=raw", "--ioengine=io_uring", "--fixedbufs", "--registerfiles", "--direct=1"])
            .args(["--group_reporting", "--output-format=json", "--norandommap"])
            .arg(format!("--filename={}", self.file.display()))
            .arg(format!("--size={}M", self.size_mib))
            .arg(format!("--cpus_allowed={}", self.cpu))
            .args(arguments);
        if let Some(time) = time {
            command.arg("--time_based").arg(format!("--runtime={}ms", time.as_millis().max(1_000)));
        }
        let output = command.output().map_err(|error| format!("fio does not run ({error}); install it"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let json = text.find('{').and_then(|start| serde_json::from_str::<Value>(&text[start..]).ok());
        let job = json.as_ref().map(|json| &json["jobs"][0]);
        match job {
            Some(job) if output.status.success() => {
                let side =
                    if job["read"]["total_ios"].as_u64() > Some(0) { &job["read"] } else { &job["write"] };
                let field = |value: &Value| value.as_f64().unwrap_or(0.0);
                let p99_us = field(&side["clat_ns"]["percentile"]["99.000000"]) / 1e3;
                let mean_us = field(&side["lat_ns"]["mean"]) / 1e3;
                Ok(Done { iops: field(&side["iops"]), mean_us, p99_us })
            }
            _ => Err(format!("fio failed: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
    }
}
