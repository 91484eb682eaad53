//! Reads the values of `ferrule serve`'s options; every error says what would be right.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use dataplane::{Bench, PoolDrive, Reactors};

use crate::rest::DOMAIN_LENGTH_MAX;
use crate::size::parse_size;

/// The port of NVMe/TCP I/O.
pub(super) const IO_PORT: u16 = 4420;
/// The port of the discovery service.
pub(super) const DISCOVERY_PORT: u16 = 8009;
/// The port of the REST interface.
pub(super) const API_PORT: u16 = 8443;

/// `PATH` or `PATH:SIZE`: what follows the last colon is a size only if it reads as one, and if there is no such path with
/// it.
pub(super) fn pool_drive(text: &str) -> Result<PoolDrive, String> {
    let (path, size_bytes) = match text.rsplit_once(':') {
        Some(_) if Path::new(text).exists() => (text, None),
        Some((path, size)) => match parse_size(size) {
            Ok(bytes) => (path, Some(bytes)),
            Err(_) => (text, None),
        },
        None => (text, None),
    };
    if path.is_empty() {
        return Err("a path is missing".to_owned());
    }
    if size_bytes == Some(0) {
        return Err("a pool cannot have size 0".to_owned());
    }
    Ok(PoolDrive { path: PathBuf::from(path), size_bytes })
}

/// A size in memory.
pub(super) fn memory(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| error.to_string())
}

/// What is written between two checkpoints.
pub(super) fn checkpoint_distance(text: &str) -> Result<u64, String> {
    match memory(text)? {
        bytes if bytes >= CHECKPOINT_BYTES_MIN => Ok(bytes),
        _ => Err("at least 1MiB: a checkpoint must be worth what it costs".to_owned()),
    }
}

/// A number of reactors, or a list of CPUs such as `0,2,4-7`.
pub(super) fn reactors(text: &str) -> Result<Reactors, String> {
    let hint = || "expected a number, a list of CPUs such as 0,2,4-7, or auto".to_owned();
    if text == "auto" {
        return Ok(Reactors::Auto);
    }
    if let Ok(count) = text.parse::<u16>() {
        return if count == 0 {
            Err("at least 1 reactor is needed".to_owned())
        } else {
            Ok(Reactors::Count(count))
        };
    }
    cpu_list(text).map(Reactors::Cpus).ok_or_else(hint)
}

/// CPUs and ranges of them, `0,2,4-7`, each once and in their order; `None` where it is no such list.
pub(crate) fn cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= CPUS_MAX {
            return None;
        }
        cpus.extend((first..=last).filter(|cpu| !cpus.contains(cpu)).collect::<Vec<u32>>());
    }
    (!cpus.is_empty()).then_some(cpus)
}

/// An address of the I/O listeners.
pub(super) fn io_address(text: &str) -> Result<SocketAddr, String> {
    address(text, IO_PORT)
}

/// An address of the discovery service.
pub(super) fn discovery_address(text: &str) -> Result<SocketAddr, String> {
    address(text, DISCOVERY_PORT)
}

/// An address of the REST interface.
pub(super) fn api_address(text: &str) -> Result<SocketAddr, String> {
    address(text, API_PORT)
}

/// The name of a failure domain.
pub(super) fn failure_domain(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    let rule = || format!("a failure domain has 1 to {DOMAIN_LENGTH_MAX} characters");
    (1..=DOMAIN_LENGTH_MAX).contains(&length).then(|| text.to_owned()).ok_or_else(rule)
}

/// `null:SIZE` or `ram:SIZE`.
pub(super) fn bench(text: &str) -> Result<Bench, String> {
    let hint = || "expected null:SIZE or ram:SIZE, such as ram:1GiB".to_owned();
    let (kind, size) = text.split_once(':').ok_or_else(hint)?;
    let size_bytes = parse_size(size).map_err(|error| error.to_string())?;
    if size_bytes == 0 || size_bytes % SECTOR_BYTES != 0 {
        return Err(format!("the size must be a multiple of {SECTOR_BYTES} bytes, and not 0"));
    }
    match kind {
        "null" => Ok(Bench::Null { size_bytes }),
        "ram" => Ok(Bench::Ram { size_bytes }),
        _ => Err(hint()),
    }
}

/// A level of the log.
pub(super) fn log_level(text: &str) -> Result<tracing::Level, String> {
    text.parse().map_err(|_| "expected error, warn, info, debug or trace".to_owned())
}

/// `ADDR:PORT`, `[ADDR]:PORT` or an address alone.
fn address(text: &str, default_port: u16) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, default_port));
    }
    Err("expected an IP address with an optional port, such as 127.0.0.1:4420 or [::1]:4420".to_owned())
}

/// More than any machine has; keeps a range from filling the memory.
const CPUS_MAX: u32 = 4096;
const CHECKPOINT_BYTES_MIN: u64 = 1 << 20;
const SECTOR_BYTES: u64 = 4096;

#[cfg(test)]
mod test {
    use super::super::files::test::Folder;
    use super::*;

    #[test]
    fn pools_are_paths_with_an_optional_size() {
        let drive = |path: &str, size_bytes| Ok(PoolDrive { path: path.into(), size_bytes });
        assert_eq!(pool_drive("/dev/nvme0n1"), drive("/dev/nvme0n1", None));
        assert_eq!(pool_drive("p:4GiB"), drive("p", Some(4 << 30)));
        assert_eq!(pool_drive("/dev/disk/by-path/pci-0000:01:00.0-nvme-1"), {
            drive("/dev/disk/by-path/pci-0000:01:00.0-nvme-1", None)
        });
        // Names of SCSI devices by their path end in what reads as a size.
        let folder = Folder::new("drives");
        let named = folder.path().join("pci-0000:00:05.0-scsi-0:0:0:0").display().to_string();
        std::fs::write(&named, "").unwrap();
        assert_eq!(pool_drive(&named), drive(&named, None));
        assert_eq!(pool_drive(&format!("{named}:1GiB")), drive(&named, Some(1 << 30)));
        assert!(pool_drive("").is_err());
        assert!(pool_drive(":4GiB").is_err());
        assert!(pool_drive("p:0").is_err());
    }

    #[test]
    fn checkpoints_are_not_closer_than_they_are_worth() {
        assert_eq!(checkpoint_distance("1MiB"), Ok(1 << 20));
        assert_eq!(checkpoint_distance("1TiB"), Ok(1 << 40));
        assert!(checkpoint_distance("1023KiB").is_err());
        assert!(checkpoint_distance("far").is_err());
    }

    #[test]
    fn reactors_are_a_number_or_cpus() {
        assert_eq!(reactors("4"), Ok(Reactors::Count(4)));
        assert_eq!(reactors("auto"), Ok(Reactors::Auto));
        assert_eq!(reactors("0,2,4-6,5"), Ok(Reactors::Cpus(vec![0, 2, 4, 5, 6])));
        assert_eq!(reactors("3,"), Ok(Reactors::Cpus(vec![3])));
        for text in ["", "0", "x", "5-3", "0-99999", "-1", ","] {
            assert!(reactors(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_have_a_default_port() {
        assert_eq!(io_address("10.0.0.1:1"), Ok("10.0.0.1:1".parse().unwrap()));
        assert_eq!(io_address("[::]"), Ok("[::]:4420".parse().unwrap()));
        assert_eq!(discovery_address("::1"), Ok("[::1]:8009".parse().unwrap()));
        assert_eq!(api_address("127.0.0.1"), Ok("127.0.0.1:8443".parse().unwrap()));
        assert!(api_address("localhost").is_err());
        assert!(api_address("10.0.0.1:99999").is_err());
    }

    #[test]
    fn bench_namespaces_have_a_size() {
        assert_eq!(bench("ram:1GiB"), Ok(Bench::Ram { size_bytes: 1 << 30 }));
        assert_eq!(bench("null:1TiB"), Ok(Bench::Null { size_bytes: 1 << 40 }));
        for text in ["ram", "disk:1GiB", "ram:0", "ram:100", "ram:x"] {
            assert!(bench(text).is_err(), "{text}");
        }
    }
}
