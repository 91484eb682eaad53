//! From the directory's words to the target's and to management's.

use std::fmt::Write as _;

use nvme::Nqn;
use store::directory::{Access, SnapshotRecord, VolumeRecord, VolumeState};
use subsystem::{NamespaceShape, Rate, Rates};

use crate::action;
use crate::message::{Backing, Image, NamespaceChange};

/// Bytes that a write has at most to be atomic across a power cut: one block of the store.
pub(crate) const ATOMIC_BYTES: u32 = 4096;

/// A volume as hosts see it.
pub(crate) fn of(volume: &VolumeRecord) -> NamespaceShape {
    let sector = match volume.sector {
        store::directory::SectorSize::B512 => subsystem::SectorSize::B512,
        store::directory::SectorSize::B4096 => subsystem::SectorSize::B4096,
    };
    NamespaceShape {
        nsid: volume.nsid,
        uuid: volume.uuid,
        sector,
        size_blocks: volume.size_bytes / u64::from(sector.bytes()),
        atomic_bytes: ATOMIC_BYTES,
        hosts: match &volume.acl {
            Access::Any => subsystem::HostAcl::Any,
            Access::None => subsystem::HostAcl::None,
            // An entry that is no NQN can be no host's name.
            Access::Only(hosts) => {
                subsystem::HostAcl::Hosts(hosts.iter().filter_map(|host| Nqn::new(host).ok()).collect())
            }
        },
        addresses: match &volume.ip_acl {
            Access::Any => subsystem::IpAcl::Any,
            Access::None => subsystem::IpAcl::None,
            Access::Only(addresses) => subsystem::IpAcl::Addresses(addresses.clone()),
        },
    }
}

/// What every reactor has to know of a volume as it now is.
pub(crate) fn change(volume: &VolumeRecord) -> NamespaceChange {
    match volume.state {
        VolumeState::Available => {
            let image =
                Image { image: volume.image, lineage: volume.lineage, compression: volume.compression };
            NamespaceChange::Set(of(volume).into(), Backing::Volume(image), rates(volume))
        }
        VolumeState::Deleting => NamespaceChange::Remove(volume.nsid),
    }
}

/// What a volume's limits are at its size.
fn rates(volume: &VolumeRecord) -> Rates {
    let limits = &volume.limits;
    let rate = |ios: u64, per_gib: u64, bytes: u64| {
        let by_size = u128::from(per_gib) * u128::from(volume.size_bytes) / (1 << 30);
        // However small the volume is, a limit is not its end.
        let by_size = if per_gib > 0 { u64::try_from(by_size).unwrap_or(u64::MAX).max(1) } else { 0 };
        let least = [ios, by_size].into_iter().filter(|limit| *limit > 0).min();
        Rate { ios: least.unwrap_or(0), bytes }
    };
    Rates {
        read: rate(limits.read_ios, limits.read_ios_per_gib, limits.read_bytes),
        write: rate(limits.write_ios, limits.write_ios_per_gib, limits.write_bytes),
    }
}

/// What management asked for, as the directory's words.
pub(crate) fn limits(limits: action::Limits) -> store::directory::Limits {
    let action::Limits { read_ios, write_ios, read_bytes, write_bytes, read_ios_per_gib, write_ios_per_gib } =
        limits;
    store::directory::Limits {
        read_ios,
        write_ios,
        read_bytes,
        write_bytes,
        read_ios_per_gib,
        write_ios_per_gib,
    }
}

/// What management asked for, as the directory's words.
pub(crate) fn acl(acl: action::HostAcl) -> Access<String> {
    match acl {
        action::HostAcl::Any => Access::Any,
        action::HostAcl::None => Access::None,
        action::HostAcl::Hosts(hosts) => Access::Only(hosts),
    }
}

/// What management asked for, as the directory's words.
pub(crate) fn ip_acl(acl: action::IpAcl) -> Access<std::net::IpAddr> {
    match acl {
        action::IpAcl::Any => Access::Any,
        action::IpAcl::None => Access::None,
        action::IpAcl::Addresses(addresses) => Access::Only(addresses),
    }
}

/// What management asked for, as the directory's words.
pub(crate) fn sector(sector: action::SectorSize) -> store::directory::SectorSize {
    match sector {
        action::SectorSize::B512 => store::directory::SectorSize::B512,
        action::SectorSize::B4096 => store::directory::SectorSize::B4096,
    }
}

/// A volume as management sees it, without what only reactors know.
pub(crate) fn to_management(volume: &VolumeRecord) -> action::Volume {
    action::Volume {
        spec: action::VolumeSpec {
            uuid: action::VolumeUuid(volume.uuid),
            project: volume.project.clone(),
            name: volume.name.clone(),
            size_bytes: volume.size_bytes,
            sector: managed_sector(volume.sector),
            acl: managed_acl(&volume.acl),
            ip_acl: managed_ip_acl(&volume.ip_acl),
            compression: volume.compression,
            limits: action::Limits {
                read_ios: volume.limits.read_ios,
                write_ios: volume.limits.write_ios,
                read_bytes: volume.limits.read_bytes,
                write_bytes: volume.limits.write_bytes,
                read_ios_per_gib: volume.limits.read_ios_per_gib,
                write_ios_per_gib: volume.limits.write_ios_per_gib,
            },
            attributes: volume.attributes.clone(),
        },
        nsid: volume.nsid,
        revision: volume.revision,
        created_unix_ns: volume.created_unix_ns,
        source: (volume.source != [0; 16]).then_some(action::VolumeUuid(volume.source)),
        source_name: String::new(),
        state: managed_state(volume.state),
        connected_hosts: Vec::new(),
        usage: action::VolumeUsage::default(),
    }
}

/// A snapshot as management sees it, without what only others know.
pub(crate) fn to_snapshot(snapshot: &SnapshotRecord) -> action::Snapshot {
    action::Snapshot {
        spec: action::SnapshotSpec {
            uuid: action::VolumeUuid(snapshot.uuid),
            name: snapshot.name.clone(),
            source: action::VolumeUuid(snapshot.source),
            retention_s: snapshot.retention_s,
            attributes: snapshot.attributes.clone(),
        },
        project: snapshot.project.clone(),
        source_name: snapshot.source_name.clone(),
        size_bytes: snapshot.size_bytes,
        sector: managed_sector(snapshot.sector),
        acl: managed_acl(&snapshot.acl),
        ip_acl: managed_ip_acl(&snapshot.ip_acl),
        compression: snapshot.compression,
        sequence: snapshot.id.0,
        lineage: snapshot.lineage.0,
        revision: snapshot.revision,
        created_unix_ns: snapshot.created_unix_ns,
        state: managed_state(snapshot.state),
        clones: 0,
        usage: action::VolumeUsage::default(),
    }
}

fn managed_sector(sector: store::directory::SectorSize) -> action::SectorSize {
    match sector {
        store::directory::SectorSize::B512 => action::SectorSize::B512,
        store::directory::SectorSize::B4096 => action::SectorSize::B4096,
    }
}

fn managed_acl(acl: &Access<String>) -> action::HostAcl {
    match acl {
        Access::Any => action::HostAcl::Any,
        Access::None => action::HostAcl::None,
        Access::Only(hosts) => action::HostAcl::Hosts(hosts.clone()),
    }
}

fn managed_ip_acl(acl: &Access<std::net::IpAddr>) -> action::IpAcl {
    match acl {
        Access::Any => action::IpAcl::Any,
        Access::None => action::IpAcl::None,
        Access::Only(addresses) => action::IpAcl::Addresses(addresses.clone()),
    }
}

fn managed_state(state: VolumeState) -> action::VolumeState {
    match state {
        VolumeState::Available => action::VolumeState::Available,
        VolumeState::Deleting => action::VolumeState::Deleting,
    }
}

/// A UUID as people write it.
pub(crate) fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (place, byte) in uuid.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        write!(text, "{byte:02x}").expect("writing to a string succeeds");
    }
    text
}
