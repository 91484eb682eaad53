//! Records of the directory: keyed, versioned, and marked with what a reader that does not know them must do.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 2 | kind |
//! | 2 | 2 | version of the kind |
//! | 4 | 2 | flags: 1 a reader may keep it unread, 2 it removes what was stored under kind and key |
//! | 6 | 2 | zero |
//! | 8 | 8 | key |
//! | 16 | 4 | bytes of payload, which follows at 24 |
//! | 20 | 4 | zero |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::pool::VolumeId;
use crate::pool::bytes::{array, u16_at, u32_at, u64_at};

/// What a record needs beside its payload.
pub(crate) const RECORD_HEADER_BYTES: usize = 24;
/// The longest payload of a record.
pub const RECORD_BYTES_MAX: usize = 64 << 10;
/// The longest [`VolumeRecord::attributes`].
pub const ATTRIBUTES_BYTES_MAX: usize = 16 << 10;
/// The longest project or volume name.
pub const NAME_BYTES_MAX: usize = 255;
/// Namespace identifiers are 1 to this.
pub const NSID_MAX: u32 = 16_384;

pub(crate) const KIND_VOLUME: u16 = 1;
pub(crate) const KIND_MARKS: u16 = 2;
pub(crate) const KIND_SNAPSHOT: u16 = 3;
/// What is written; version 1 had no images, no sources and no limits, and is still read.
pub(crate) const VOLUME_VERSION: u16 = 2;
pub(crate) const FLAG_OPTIONAL: u16 = 1;
pub(crate) const FLAG_REMOVE: u16 = 2;

/// Who may, of hosts by NQN or of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access<T> {
    /// Everyone (`ALLOW_ANY`).
    Any,
    /// Nobody (`ALLOW_NONE`).
    None,
    /// These alone.
    Only(Vec<T>),
}

/// The unit in which hosts address a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectorSize {
    /// 512 bytes.
    B512,
    /// 4096 bytes.
    B4096,
}

/// Where a volume is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeState {
    /// It serves I/O.
    Available,
    /// It is gone for hosts and its name is free again; its space is being freed.
    Deleting,
}

/// What a volume's hosts may do in a second; zero is unlimited. Where several limit the same, the least counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Commands that read.
    pub read_ios: u64,
    /// Commands that write.
    pub write_ios: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Commands that read, for each GiB of the volume's size.
    pub read_ios_per_gib: u64,
    /// Commands that write, for each GiB of the volume's size.
    pub write_ios_per_gib: u64,
}

/// A volume as the pool describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Its name for life; from [`crate::directory::Directory::allocate_volume_id`].
    pub id: VolumeId,
    /// The image that holds its blocks in every shard: its own id, until a rollback or where it began as a clone.
    pub image: VolumeId,
    /// The volume that its first ancestor was: it says which stripe lies in which shard, and never changes.
    pub lineage: VolumeId,
    /// The UUID of the snapshot that it is a clone of; zeros for one that began empty.
    pub source: [u8; 16],
    /// What its hosts may do.
    pub limits: Limits,
    /// Namespace UUID and NGUID, RFC 9562 byte order.
    pub uuid: [u8; 16],
    /// Namespace identifier, 1 to [`NSID_MAX`].
    pub nsid: u32,
    /// The project that it belongs to, at most [`NAME_BYTES_MAX`] bytes.
    pub project: String,
    /// Its name, unique in the project among volumes that are not being deleted; at most [`NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// Size in bytes, a multiple of the sector size.
    pub size_bytes: u64,
    /// Sector size.
    pub sector: SectorSize,
    /// Hosts that see it, by NQN.
    pub acl: Access<String>,
    /// Addresses from which it is seen.
    pub ip_acl: Access<IpAddr>,
    /// Whether new blocks are compressed.
    pub compression: bool,
    /// What only the management plane understands, at most [`ATTRIBUTES_BYTES_MAX`] bytes.
    pub attributes: String,
    /// Counts its changes, from 1.
    pub revision: u64,
    /// When it was made, in nanoseconds since 1970-01-01 UTC.
    pub created_unix_ns: u64,
    /// Where it is in its life.
    pub state: VolumeState,
}

impl SectorSize {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::B512 => 9,
            Self::B4096 => 12,
        }
    }
}

impl VolumeState {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Available => 1,
            Self::Deleting => 2,
        }
    }
}

/// A record as it lies in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawRecord {
    pub(crate) kind: u16,
    pub(crate) version: u16,
    pub(crate) flags: u16,
    pub(crate) key: u64,
    pub(crate) payload: Vec<u8>,
}

impl RawRecord {
    /// Appends the record.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let len = u32::try_from(self.payload.len()).expect("payloads are bounded by RECORD_BYTES_MAX");
        out.extend_from_slice(&self.kind.to_le_bytes());
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.key.to_le_bytes());
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.payload);
    }

    /// Takes the record at the start of `body` and returns it with what follows; `None` where there is no whole one.
    pub(crate) fn parse(body: &[u8]) -> Option<(Self, &[u8])> {
        let header = body.get(..RECORD_HEADER_BYTES)?;
        let len = usize::try_from(u32_at(header, 16)).ok()?;
        if len > RECORD_BYTES_MAX {
            return None;
        }
        let end = RECORD_HEADER_BYTES + len;
        let payload = body.get(RECORD_HEADER_BYTES..end)?.to_vec();
        let record = Self {
            kind: u16_at(header, 0),
            version: u16_at(header, 2),
            flags: u16_at(header, 4),
            key: u64_at(header, 8),
            payload,
        };
        Some((record, &body[end..]))
    }

    /// Bytes that the record takes in a frame.
    pub(crate) fn encoded_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.payload.len()
    }

    /// The record that removes what is stored under `kind` and `key`.
    pub(crate) fn removal(kind: u16, version: u16, key: u64) -> Self {
        Self { kind, version, flags: FLAG_REMOVE, key, payload: Vec::new() }
    }
}

impl VolumeRecord {
    /// The name of the first field that no volume can have, with the rule it breaks.
    ///
    /// # Errors
    /// That name and rule.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let sector_bytes = match self.sector {
            SectorSize::B512 => 512,
            SectorSize::B4096 => 4096,
        };
        if self.nsid == 0 || self.nsid > NSID_MAX {
            return Err(("nsid", "1 to 16384"));
        }
        if self.project.is_empty() || self.project.len() > NAME_BYTES_MAX {
            return Err(("project", "1 to 255 bytes"));
        }
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX {
            return Err(("name", "1 to 255 bytes"));
        }
        if self.size_bytes == 0 || !self.size_bytes.is_multiple_of(sector_bytes) {
            return Err(("size", "a multiple of the sector size, not zero"));
        }
        if self.attributes.len() > ATTRIBUTES_BYTES_MAX {
            return Err(("attributes", "at most 16 KiB"));
        }
        if self.encoded_bytes() > RECORD_HEADER_BYTES + RECORD_BYTES_MAX {
            return Err(("acl", "the lists must fit 64 KiB together with the rest of the volume"));
        }
        Ok(())
    }

    /// The record of this volume.
    pub(crate) fn to_raw(&self) -> RawRecord {
        let mut out = Vec::with_capacity(self.encoded_bytes() - RECORD_HEADER_BYTES);
        out.extend_from_slice(&self.uuid);
        out.extend_from_slice(&self.nsid.to_le_bytes());
        out.push(self.sector.code());
        out.push(self.state.code());
        out.push(u8::from(self.compression));
        out.push(0);
        out.extend_from_slice(&self.size_bytes.to_le_bytes());
        out.extend_from_slice(&self.revision.to_le_bytes());
        out.extend_from_slice(&self.created_unix_ns.to_le_bytes());
        put_string(&mut out, &self.project);
        put_string(&mut out, &self.name);
        put_string(&mut out, &self.attributes);
        put_access(&mut out, &self.acl, |out, nqn| put_string(out, nqn));
        put_access(&mut out, &self.ip_acl, put_address);
        out.extend_from_slice(&self.image.0.to_le_bytes());
        out.extend_from_slice(&self.lineage.0.to_le_bytes());
        out.extend_from_slice(&self.source);
        for limit in self.limits.to_array() {
            out.extend_from_slice(&limit.to_le_bytes());
        }
        RawRecord { kind: KIND_VOLUME, version: VOLUME_VERSION, flags: 0, key: self.id.0, payload: out }
    }

    /// Whether this program knows the record's version.
    pub(crate) fn knows(record: &RawRecord) -> bool {
        (1..=VOLUME_VERSION).contains(&record.version)
    }

    /// Reads the volume from its record; `None` where a field is not what its version allows.
    pub(crate) fn parse(record: &RawRecord) -> Option<Self> {
        let mut rest = Rest(&record.payload);
        let uuid = rest.take::<16>()?;
        let nsid = rest.u32()?;
        let sector = rest.sector()?;
        let state = rest.state()?;
        let compression = rest.bool()?;
        if rest.u8()? != 0 {
            return None;
        }
        let size_bytes = rest.u64()?;
        let revision = rest.u64()?;
        let created_unix_ns = rest.u64()?;
        let project = rest.string()?;
        let name = rest.string()?;
        let attributes = rest.string()?;
        let acl = rest.access(Rest::string)?;
        let ip_acl = rest.access(Rest::address)?;
        let id = VolumeId(record.key);
        let (mut image, mut lineage, mut source, mut limits) = (id, id, [0; 16], [0; 6]);
        if record.version > 1 {
            image = VolumeId(rest.u64()?);
            lineage = VolumeId(rest.u64()?);
            source = rest.take()?;
            for limit in &mut limits {
                *limit = rest.u64()?;
            }
        }
        let volume = Self {
            id,
            image,
            lineage,
            source,
            limits: Limits::from_array(limits),
            uuid,
            nsid,
            project,
            name,
            size_bytes,
            sector,
            acl,
            ip_acl,
            compression,
            attributes,
            revision,
            created_unix_ns,
            state,
        };
        (rest.0.is_empty() && volume.check().is_ok()).then_some(volume)
    }

    /// Bytes that the record takes in a frame.
    pub(crate) fn encoded_bytes(&self) -> usize {
        const FIXED: usize = 16 + 4 + 4 + 3 * 8 + 3 * 4 + 2 * 8 + 16 + 6 * 8;
        let strings = self.project.len() + self.name.len() + self.attributes.len();
        RECORD_HEADER_BYTES + FIXED + strings + hosts_bytes(&self.acl) + addresses_bytes(&self.ip_acl)
    }
}

impl Limits {
    fn to_array(self) -> [u64; 6] {
        let Self { read_ios, write_ios, read_bytes, write_bytes, read_ios_per_gib, write_ios_per_gib } = self;
        [read_ios, write_ios, read_bytes, write_bytes, read_ios_per_gib, write_ios_per_gib]
    }

    fn from_array(array: [u64; 6]) -> Self {
        let [read_ios, write_ios, read_bytes, write_bytes, read_ios_per_gib, write_ios_per_gib] = array;
        Self { read_ios, write_ios, read_bytes, write_bytes, read_ios_per_gib, write_ios_per_gib }
    }
}

/// Bytes of an encoded list of hosts.
pub(super) fn hosts_bytes(acl: &Access<String>) -> usize {
    match acl {
        Access::Any | Access::None => 1,
        Access::Only(hosts) => 5 + hosts.iter().map(|host| 4 + host.len()).sum::<usize>(),
    }
}

/// Bytes of an encoded list of addresses.
pub(super) fn addresses_bytes(acl: &Access<IpAddr>) -> usize {
    match acl {
        Access::Any | Access::None => 1,
        Access::Only(addresses) => {
            5 + addresses.iter().map(|address| if address.is_ipv4() { 5 } else { 17 }).sum::<usize>()
        }
    }
}

pub(super) fn put_address(out: &mut Vec<u8>, address: &IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            out.push(4);
            out.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            out.push(6);
            out.extend_from_slice(&v6.octets());
        }
    }
}

pub(super) fn put_string(out: &mut Vec<u8>, string: &str) {
    // Longer ones fail `VolumeRecord::check`, which precedes every encoding.
    let len = u32::try_from(string.len()).expect("strings of a record are bounded by RECORD_BYTES_MAX");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(string.as_bytes());
}

pub(super) fn put_access<T>(out: &mut Vec<u8>, access: &Access<T>, put: impl Fn(&mut Vec<u8>, &T)) {
    match access {
        Access::Any => out.push(1),
        Access::None => out.push(2),
        Access::Only(list) => {
            out.push(3);
            let count = u32::try_from(list.len()).expect("lists of a record are bounded by RECORD_BYTES_MAX");
            out.extend_from_slice(&count.to_le_bytes());
            for item in list {
                put(out, item);
            }
        }
    }
}

/// What is left of a payload.
pub(super) struct Rest<'a>(pub(super) &'a [u8]);

impl Rest<'_> {
    pub(super) fn sector(&mut self) -> Option<SectorSize> {
        match self.u8()? {
            9 => Some(SectorSize::B512),
            12 => Some(SectorSize::B4096),
            _ => None,
        }
    }

    pub(super) fn state(&mut self) -> Option<VolumeState> {
        match self.u8()? {
            1 => Some(VolumeState::Available),
            2 => Some(VolumeState::Deleting),
            _ => None,
        }
    }

    pub(super) fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_at_checked(N)?;
        self.0 = rest;
        Some(array(taken, 0))
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn string(&mut self) -> Option<String> {
        let len = usize::try_from(self.u32()?).ok()?;
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(std::str::from_utf8(taken).ok()?.to_owned())
    }

    pub(super) fn address(&mut self) -> Option<IpAddr> {
        match self.u8()? {
            4 => Some(Ipv4Addr::from_octets(self.take()?).into()),
            6 => Some(Ipv6Addr::from_octets(self.take()?).into()),
            _ => None,
        }
    }

    pub(super) fn access<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Access<T>> {
        match self.u8()? {
            1 => Some(Access::Any),
            2 => Some(Access::None),
            3 => {
                // Nothing is reserved by the count: it is not trusted, every item has to be there.
                let count = self.u32()?;
                (0..count).map(|_| item(self)).collect::<Option<Vec<T>>>().map(Access::Only)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod test;
