//! What processes of this machine have used of its cores, from `/proc`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The process that listens on `address`, where it is of this network namespace and we may see its files.
pub(super) fn listener(address: SocketAddr) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines());
    let inode = lines.filter_map(listening).find(|(listens, _)| accepts(*listens, address))?.1;
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|link| link == Path::new(&wanted))
    })
}

/// Time on cores of all threads of a process, user and system, so far.
pub(super) fn used(pid: u32) -> Option<Duration> {
    if pid == std::process::id() {
        // The load's threads end together with the measurement: only the process's clock has their time then.
        return Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).ok();
    }
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    // To the nanosecond where the kernel keeps it; threads that have ended are missing, so that the coarser count of
    // the process decides where it is clearly more.
    let exact: u64 = tasks
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    let coarse = coarse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    let exact = Duration::from_nanos(exact);
    Some(if coarse > exact + Duration::from_millis(100) { coarse } else { exact })
}

/// Local address and inode of a line of `/proc/net/tcp` that is about a listening socket.
fn listening(line: &str) -> Option<(SocketAddr, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (*fields.get(1)?, *fields.get(3)?, *fields.get(9)?);
    if state != "0A" {
        return None;
    }
    let (ip, port) = local.split_once(':')?;
    // The kernel prints words of an address in network order as numbers of this machine.
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip = if ip.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?))
    };
    Some((SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?), inode.parse().ok()?))
}

/// True if a socket listening on `listens` takes connections to `address`.
fn accepts(listens: SocketAddr, address: SocketAddr) -> bool {
    let ip = listens.ip().to_canonical();
    listens.port() == address.port() && (ip.is_unspecified() || ip == address.ip().to_canonical())
}

/// User and system time of a line of `/proc/PID/stat`.
fn coarse(stat: &str) -> Option<Duration> {
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn listening_process_is_found() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let socket = TcpListener::bind(address).unwrap();
            let port = socket.local_addr().unwrap().port();
            let found = listener(SocketAddr::from(([127, 0, 0, 1], port)));
            assert_eq!(found, Some(std::process::id()), "{address}");
        }
    }

    #[test]
    fn time_on_cores_only_grows() {
        let here = || used(std::process::id()).unwrap();
        let before = here();
        let mut word = 1_u64;
        while here() < before + Duration::from_millis(5) {
            word = std::hint::black_box(word.rotate_left(7).wrapping_mul(3));
        }
    }

    #[test]
    fn threads_that_have_ended_count() {
        let here = || used(std::process::id()).unwrap();
        let before = here();
        let burn = Duration::from_millis(30);
        std::thread::scope(|scope| {
            scope.spawn(|| while here() < before + burn {});
        });
        assert!(here() >= before + burn);
    }

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let stat = "7 (a) b (c) R 1 1 1 0 -1 0 0 0 0 0 300 200 0 0 20 0";
        assert_eq!(coarse(stat), Some(Duration::from_secs(5)));
    }
}
