//! Snapshots as the pool describes them.

use std::net::IpAddr;

use super::record::{
    ATTRIBUTES_BYTES_MAX, Access, KIND_SNAPSHOT, NAME_BYTES_MAX, RECORD_BYTES_MAX, RECORD_HEADER_BYTES,
    RawRecord, Rest, SectorSize, VolumeState, addresses_bytes, hosts_bytes, put_access, put_address,
    put_string,
};
use crate::pool::VolumeId;

pub(crate) const SNAPSHOT_VERSION: u16 = 1;
/// What a snapshot with ancestors is written as.
const ANCESTORS_VERSION: u16 = 2;

/// Generations of clones of which a snapshot knows where they began.
const ANCESTORS_MAX: usize = 64;

/// A snapshot: an image that nobody writes, and what its volume was when it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Its image in every shard; from [`crate::directory::Directory::allocate_volume_id`]. Of two snapshots the one
    /// that was taken later has the higher one.
    pub id: VolumeId,
    /// As for a volume: the volume that its first ancestor was.
    pub lineage: VolumeId,
    /// Its UUID.
    pub uuid: [u8; 16],
    /// The project that it belongs to.
    pub project: String,
    /// Its name, unique in the project among snapshots that are not being deleted.
    pub name: String,
    /// The UUID of the volume that it was taken of, which may be gone.
    pub source: [u8; 16],
    /// That volume's name at the time.
    pub source_name: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Sector size.
    pub sector: SectorSize,
    /// The volume's hosts at the time.
    pub acl: Access<String>,
    /// The volume's addresses at the time.
    pub ip_acl: Access<IpAddr>,
    /// Whether the volume's new blocks were compressed.
    pub compression: bool,
    /// Where its volume began as a clone, and where the volume of which that was a snapshot began, and so on; the nearest
    /// first, at most 64.
    pub ancestors: Vec<Ancestor>,
    /// Seconds after which management deletes it; zero for never.
    pub retention_s: u64,
    /// What only the management plane understands.
    pub attributes: String,
    /// Counts its changes, from 1.
    pub revision: u64,
    /// When it was taken, in nanoseconds since 1970-01-01 UTC.
    pub created_unix_ns: u64,
    /// Where it is in its life.
    pub state: VolumeState,
}

/// A snapshot that a clone was made of. It and its volume may be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// The UUID of the volume that it was taken of.
    pub volume: [u8; 16],
    /// Its image.
    pub image: VolumeId,
}

impl SnapshotRecord {
    /// The ancestors of the snapshots of its clones.
    #[must_use]
    pub fn ancestors_of_clones(&self) -> Vec<Ancestor> {
        let itself = Ancestor { volume: self.source, image: self.id };
        [itself].into_iter().chain(self.ancestors.iter().copied()).take(ANCESTORS_MAX).collect()
    }

    /// Whether another snapshot is older and in its chain: of the same volume, or of one that this volume comes from, and
    /// not taken after the clone was.
    #[must_use]
    pub fn comes_after(&self, other: &Self) -> bool {
        let comes_from = |ancestor: &Ancestor| ancestor.volume == other.source && other.id <= ancestor.image;
        self.source == other.source && other.id < self.id || self.ancestors.iter().any(comes_from)
    }

    /// Whether this program knows the record's version.
    pub(crate) fn knows(record: &RawRecord) -> bool {
        (SNAPSHOT_VERSION..=ANCESTORS_VERSION).contains(&record.version)
    }

    /// Names the first field that no snapshot may have, and what it may be.
    pub(crate) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let named = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES_MAX;
        if !named(&self.project) {
            return Err(("project", "1 to 255 bytes"));
        }
        if !named(&self.name) {
            return Err(("name", "1 to 255 bytes"));
        }
        if !named(&self.source_name) {
            return Err(("source volume", "1 to 255 bytes"));
        }
        if self.size_bytes == 0 {
            return Err(("size", "not zero"));
        }
        if self.attributes.len() > ATTRIBUTES_BYTES_MAX {
            return Err(("attributes", "at most 16 KiB"));
        }
        if self.ancestors.len() > ANCESTORS_MAX {
            return Err(("ancestors", "at most 64"));
        }
        if self.encoded_bytes() > RECORD_HEADER_BYTES + RECORD_BYTES_MAX {
            return Err(("acl", "the lists must fit 64 KiB together with the rest of the snapshot"));
        }
        Ok(())
    }

    /// The record of this snapshot.
    pub(crate) fn to_raw(&self) -> RawRecord {
        let mut out = Vec::with_capacity(self.encoded_bytes() - RECORD_HEADER_BYTES);
        out.extend_from_slice(&self.lineage.0.to_le_bytes());
        out.extend_from_slice(&self.uuid);
        out.extend_from_slice(&self.source);
        out.push(self.sector.code());
        out.push(self.state.code());
        out.push(u8::from(self.compression));
        out.push(0);
        out.extend_from_slice(&self.size_bytes.to_le_bytes());
        out.extend_from_slice(&self.retention_s.to_le_bytes());
        out.extend_from_slice(&self.revision.to_le_bytes());
        out.extend_from_slice(&self.created_unix_ns.to_le_bytes());
        put_string(&mut out, &self.project);
        put_string(&mut out, &self.name);
        put_string(&mut out, &self.source_name);
        put_string(&mut out, &self.attributes);
        put_access(&mut out, &self.acl, |out, nqn| put_string(out, nqn));
        put_access(&mut out, &self.ip_acl, put_address);
        for ancestor in &self.ancestors {
            out.extend_from_slice(&ancestor.volume);
            out.extend_from_slice(&ancestor.image.0.to_le_bytes());
        }
        let version = if self.ancestors.is_empty() { SNAPSHOT_VERSION } else { ANCESTORS_VERSION };
        RawRecord { kind: KIND_SNAPSHOT, version, flags: 0, key: self.id.0, payload: out }
    }

    /// Reads the snapshot from its record; `None` where a field is not what its version allows.
    pub(crate) fn parse(record: &RawRecord) -> Option<Self> {
        let mut rest = Rest(&record.payload);
        let lineage = VolumeId(rest.u64()?);
        let (uuid, source) = (rest.take()?, rest.take()?);
        let (sector, state, compression) = (rest.sector()?, rest.state()?, rest.bool()?);
        if rest.u8()? != 0 {
            return None;
        }
        let mut snapshot = Self {
            id: VolumeId(record.key),
            lineage,
            uuid,
            source,
            sector,
            state,
            compression,
            size_bytes: rest.u64()?,
            retention_s: rest.u64()?,
            revision: rest.u64()?,
            created_unix_ns: rest.u64()?,
            project: rest.string()?,
            name: rest.string()?,
            source_name: rest.string()?,
            attributes: rest.string()?,
            acl: rest.access(Rest::string)?,
            ip_acl: rest.access(Rest::address)?,
            ancestors: Vec::new(),
        };
        while record.version >= ANCESTORS_VERSION && !rest.0.is_empty() {
            snapshot.ancestors.push(Ancestor { volume: rest.take()?, image: VolumeId(rest.u64()?) });
        }
        (rest.0.is_empty() && snapshot.check().is_ok()).then_some(snapshot)
    }

    /// Bytes that the record takes in a frame.
    pub(crate) fn encoded_bytes(&self) -> usize {
        const FIXED: usize = 8 + 16 + 16 + 4 + 4 * 8 + 4 * 4;
        const ANCESTOR_BYTES: usize = 16 + 8;
        let strings = self.project.len() + self.name.len() + self.source_name.len() + self.attributes.len();
        let lists =
            hosts_bytes(&self.acl) + addresses_bytes(&self.ip_acl) + self.ancestors.len() * ANCESTOR_BYTES;
        RECORD_HEADER_BYTES + FIXED + strings + lists
    }
}

#[cfg(test)]
mod test {
    //! Goal: a snapshot's bytes never move, and no cut or changed record is one.

    use super::*;

    fn example() -> SnapshotRecord {
        SnapshotRecord {
            id: VolumeId(0x0102),
            lineage: VolumeId(7),
            uuid: [0x5A; 16],
            project: "p".into(),
            name: "snap".into(),
            source: [0x33; 16],
            source_name: "vol".into(),
            size_bytes: 1 << 30,
            sector: SectorSize::B512,
            acl: Access::None,
            ip_acl: Access::Any,
            compression: true,
            ancestors: Vec::new(),
            retention_s: 3600,
            attributes: "{}".into(),
            revision: 1,
            created_unix_ns: 0x0708,
            state: VolumeState::Available,
        }
    }

    #[test]
    fn the_bytes_of_version_1_never_move() {
        let mut golden = vec![3, 0, 1, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 104, 0, 0, 0, 0, 0, 0, 0];
        golden.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([0x5A; 16]);
        golden.extend([0x33; 16]);
        golden.extend([9, 1, 1, 0]);
        golden.extend([0, 0, 0, 0x40, 0, 0, 0, 0]);
        golden.extend([0x10, 0x0E, 0, 0, 0, 0, 0, 0]);
        golden.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([8, 7, 0, 0, 0, 0, 0, 0]);
        golden.extend(*b"\x01\0\0\0p\x04\0\0\0snap\x03\0\0\0vol\x02\0\0\0{}\x02\x01");
        let mut bytes = Vec::new();
        example().to_raw().encode(&mut bytes);
        assert_eq!(bytes, golden);
        assert_eq!(bytes.len(), example().encoded_bytes());
        let (record, rest) = RawRecord::parse(&golden).expect("a record");
        assert!(rest.is_empty());
        assert_eq!(SnapshotRecord::parse(&record), Some(example()));
    }

    #[test]
    fn ancestors_make_it_version_2_and_follow_the_rest() {
        let ancestors = [(0x44, 9), (0x45, 8)];
        let ancestors =
            ancestors.map(|(byte, image)| Ancestor { volume: [byte; 16], image: VolumeId(image) });
        let clone = SnapshotRecord { ancestors: ancestors.to_vec(), ..example() };
        let (record, plain) = (clone.to_raw(), example().to_raw());
        assert_eq!((record.version, plain.version), (2, 1));
        let (same, more) = record.payload.split_at(plain.payload.len());
        assert_eq!(same, plain.payload);
        let expected = [&[0x44; 16][..], &[9, 0, 0, 0, 0, 0, 0, 0], &[0x45; 16], &[8, 0, 0, 0, 0, 0, 0, 0]];
        assert_eq!(more, expected.concat());
        assert_eq!(SnapshotRecord::parse(&record), Some(clone.clone()));
        assert_eq!(record.encoded_bytes(), clone.encoded_bytes());
        for len in plain.payload.len() + 1..record.payload.len() {
            let cut = RawRecord { payload: record.payload[..len].to_vec(), ..record.clone() };
            assert_eq!(
                SnapshotRecord::parse(&cut).is_none(),
                len != plain.payload.len() + 24,
                "cut at {len}"
            );
        }
        let many = SnapshotRecord { ancestors: vec![ancestors[0]; 65], ..example() };
        assert_eq!(SnapshotRecord::parse(&many.to_raw()), None);
        assert_eq!(
            SnapshotRecord { ancestors: vec![ancestors[1]; 64], ..example() }.ancestors_of_clones().len(),
            64
        );
    }

    #[test]
    fn a_chain_is_a_volumes_snapshots_and_those_that_it_comes_from() {
        let of = |volume: u8, id| SnapshotRecord { id: VolumeId(id), source: [volume; 16], ..example() };
        let (first, second, third) = (of(1, 10), of(1, 20), of(1, 40));
        let of_clone = SnapshotRecord { ancestors: second.ancestors_of_clones(), ..of(2, 30) };
        let deeper = SnapshotRecord { ancestors: of_clone.ancestors_of_clones(), ..of(3, 50) };
        let all = [&first, &second, &of_clone, &third, &deeper];
        let after = |one: &SnapshotRecord| all.map(|other| one.comes_after(other));
        assert_eq!(after(&first), [false; 5]);
        assert_eq!(after(&second), [true, false, false, false, false]);
        assert_eq!(after(&third), [true, true, false, false, false]);
        assert_eq!(after(&of_clone), [true, true, false, false, false]);
        assert_eq!(after(&deeper), [true, true, true, false, false]);
    }

    #[test]
    fn a_cut_or_longer_payload_is_no_snapshot() {
        let record = example().to_raw();
        for len in 0..record.payload.len() {
            let cut = RawRecord { payload: record.payload[..len].to_vec(), ..record.clone() };
            assert_eq!(SnapshotRecord::parse(&cut), None, "cut at {len}");
        }
        let mut longer = record;
        longer.payload.push(0);
        assert_eq!(SnapshotRecord::parse(&longer), None);
    }
}
