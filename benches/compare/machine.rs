//! What the figures were taken on.

use std::fs;

/// Processor, cores, memory, kernel, and how busy it is before anything runs.
pub(crate) fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let kib: u64 = total.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let guest = if cpuinfo.contains(" hypervisor") { ", a virtual machine" } else { "" };
    format!(
        "{model}, {cores} CPUs{guest}, {:.0} GiB, Linux {}; {}",
        kib as f64 / 1048576.0,
        kernel.trim(),
        load()
    )
}

/// The load averages now: more than the server and the load themselves means that others ran too.
pub(crate) fn load() -> String {
    let averages = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let averages: Vec<&str> = averages.split_whitespace().take(3).collect();
    format!("load average {}", averages.join(" "))
}
