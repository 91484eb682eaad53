//! I/O commands: from a submission queue entry to a checked plan in bytes. NVM command set spec 1.0, section 3.

use io::{Buffer, Shared, Slice};
use nvme::command::{DatasetManagement, DsmRange, IoFlags, LbaRange, NvmCommand};
use nvme::{Sqe, Status};

use crate::limits::{DSM_RANGE_CHARGE_BYTES, PAGE_BYTES, STRIPE_BYTES, TRANSFER_BYTES_MAX, VSL};
use crate::{ByteRange, NamespaceShape, Operation};

/// What a command will do, every check passed that does not need its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Flush,
    Write { range: ByteRange, fua: bool },
    Read { range: ByteRange },
    Compare { range: ByteRange },
    WriteZeroes { range: ByteRange, deallocate: bool, fua: bool },
    DatasetManagement(DatasetManagement),
    Verify { range: ByteRange },
}

/// Where a command's data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Nothing,
    /// This many bytes from the host.
    FromHost(u32),
    /// This many bytes to the host.
    ToHost(u32),
}

impl Plan {
    /// Checks a command for `namespace`.
    pub(crate) fn new(sqe: &Sqe, command: NvmCommand, namespace: &NamespaceShape) -> Result<Self, Status> {
        debug_assert_eq!(sqe.nsid, namespace.nsid);
        let most = u64::from(TRANSFER_BYTES_MAX);
        match command {
            NvmCommand::Flush => Ok(Self::Flush),
            NvmCommand::Write(lbas) => {
                let range = bytes(namespace, &lbas, most)?;
                Ok(Self::Write { range, fua: lbas.flags.contains(IoFlags::FUA) })
            }
            NvmCommand::Read(lbas) => Ok(Self::Read { range: bytes(namespace, &lbas, most)? }),
            NvmCommand::Compare(lbas) => Ok(Self::Compare { range: bytes(namespace, &lbas, most)? }),
            NvmCommand::WriteZeroes(lbas) => {
                let range = bytes(namespace, &lbas, u64::MAX)?;
                let fua = lbas.flags.contains(IoFlags::FUA);
                Ok(Self::WriteZeroes { range, deallocate: lbas.flags.contains(IoFlags::DEAC), fua })
            }
            NvmCommand::DatasetManagement(command) => Ok(Self::DatasetManagement(command)),
            NvmCommand::Verify(lbas) => {
                Ok(Self::Verify { range: bytes(namespace, &lbas, u64::from(PAGE_BYTES) << VSL)? })
            }
        }
    }

    /// Checks the plan once more for a namespace that has changed since it was made.
    pub(crate) fn recheck(&self, namespace: &NamespaceShape) -> Result<(), Status> {
        let range = match self {
            // Range lists are checked when they are read.
            Self::Flush | Self::DatasetManagement(_) => return Ok(()),
            Self::Write { range, .. }
            | Self::Read { range }
            | Self::Compare { range }
            | Self::WriteZeroes { range, .. }
            | Self::Verify { range } => range,
        };
        let size_bytes = namespace.size_blocks << namespace.sector.shift();
        if range.offset_bytes + range.len_bytes <= size_bytes {
            Ok(())
        } else {
            Err(Status::LBA_OUT_OF_RANGE.dnr())
        }
    }

    /// What counts for the quota of the connection: bytes of payload, and ranges to deallocate, whose pieces take far
    /// more memory than their list.
    pub(crate) fn charge(&self) -> u32 {
        if let Self::DatasetManagement(command) = self
            && command.deallocate
        {
            return u32::from(command.count_ranges) * DSM_RANGE_CHARGE_BYTES;
        }
        match self.flow() {
            Flow::Nothing => 0,
            Flow::FromHost(len) | Flow::ToHost(len) => len,
        }
    }

    /// What is to be done; `None` where the data is missing, or the plan is not whole.
    pub(crate) fn operation<B: Buffer>(self, data: Option<Slice<B::Shared>>) -> Option<Operation<B>> {
        Some(match self {
            Self::Flush => Operation::Flush,
            Self::Write { range, fua } => {
                Operation::Write { offset_bytes: range.offset_bytes, data: data?, fua }
            }
            Self::Read { range } => Operation::Read { range },
            Self::Compare { range } => Operation::Compare { offset_bytes: range.offset_bytes, data: data? },
            Self::WriteZeroes { range, deallocate, fua } => Operation::WriteZeroes { range, deallocate, fua },
            Self::Verify { range } => Operation::Verify { range },
            Self::DatasetManagement(_) => return None,
        })
    }

    /// Where its data goes, and how much of it.
    pub(crate) fn flow(&self) -> Flow {
        // Every length here is bounded by `TRANSFER_BYTES_MAX` or by 256 range descriptors.
        let len = |range: &ByteRange| u32::try_from(range.len_bytes).unwrap_or(u32::MAX);
        match self {
            Self::Flush | Self::WriteZeroes { .. } | Self::Verify { .. } => Flow::Nothing,
            Self::Write { range, .. } | Self::Compare { range } => Flow::FromHost(len(range)),
            Self::Read { range } => Flow::ToHost(len(range)),
            Self::DatasetManagement(command) => {
                Flow::FromHost(u32::try_from(command.list_len()).unwrap_or(u32::MAX))
            }
        }
    }
}

/// Checks a fused pair: Compare then Write of the same range, within the unit that is atomic. NVM command set spec 1.0,
/// sections 2.1.4 and 2.4.
pub(crate) fn check_pair(first: &Plan, second: &Plan, namespace: &NamespaceShape) -> Result<(), Status> {
    let (Plan::Compare { range: compare }, Plan::Write { range: write, .. }) = (first, second) else {
        return Err(Status::INVALID_FIELD.dnr());
    };
    if compare != write {
        return Err(Status::INVALID_FIELD.dnr());
    }
    let stripe = u64::from(STRIPE_BYTES);
    let last = write.offset_bytes + write.len_bytes - 1;
    let crosses = write.offset_bytes / stripe != last / stripe;
    if crosses || write.len_bytes > u64::from(namespace.atomic_bytes) {
        return Err(Status::ATOMIC_WRITE_UNIT_EXCEEDED.dnr());
    }
    Ok(())
}

/// The ranges to deallocate in order, empty ones left out, and those made one that overlap or adjoin: each becomes a
/// piece for every shard that it touches.
pub(crate) fn dsm_ranges<S: Shared>(
    list: &Slice<S>,
    namespace: &NamespaceShape,
) -> Result<Vec<ByteRange>, Status> {
    let shift = namespace.sector.shift();
    let mut ranges = Vec::with_capacity(list.len() / DsmRange::LEN);
    let (descriptors, _) = list.as_chunks::<{ DsmRange::LEN }>();
    for range in descriptors.iter().map(DsmRange::parse) {
        if !range.fits(namespace.size_blocks) {
            return Err(Status::LBA_OUT_OF_RANGE.dnr());
        }
        if range.count_blocks > 0 {
            ranges.push(ByteRange {
                offset_bytes: range.slba << shift,
                len_bytes: u64::from(range.count_blocks) << shift,
            });
        }
    }
    ranges.sort_unstable_by_key(|range| range.offset_bytes);
    ranges.dedup_by(|next, last| {
        let last_end = last.offset_bytes + last.len_bytes;
        let is_joined = next.offset_bytes <= last_end;
        if is_joined {
            last.len_bytes = last_end.max(next.offset_bytes + next.len_bytes) - last.offset_bytes;
        }
        is_joined
    });
    Ok(ranges)
}

fn bytes(namespace: &NamespaceShape, lbas: &LbaRange, most: u64) -> Result<ByteRange, Status> {
    let shift = namespace.sector.shift();
    let len_bytes = u64::from(lbas.count_blocks) << shift;
    if len_bytes > most {
        return Err(Status::INVALID_FIELD.dnr());
    }
    if !lbas.fits(namespace.size_blocks) {
        return Err(Status::LBA_OUT_OF_RANGE.dnr());
    }
    Ok(ByteRange { offset_bytes: lbas.slba << shift, len_bytes })
}
