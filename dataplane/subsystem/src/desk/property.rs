//! Controller properties over Fabrics. Base spec 2.0, sections 3.1.3, 6.5 and 6.6.

use nvme::Status;
use nvme::fabrics::{
    Cap, Cc, Csts, Property, PropertyGet, PropertySet, PropertySize, Shutdown, ShutdownStatus, Version,
};

use super::controller::{Controller, Kind};
use crate::limits;

/// Controller Ready Timeouts (CRTO), which CAP.CRMS makes Linux read: CRWMT in its low 16 bits.
const CRTO_AT: u32 = 0x68;

/// What a write to CC means beyond the new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// CC.EN was cleared: a controller reset. The answer waits until no command of the I/O queues runs.
    Reset,
    /// CC.SHN was set: no I/O queue may live on, and the drives are flushed; then CSTS.SHST says complete.
    Shutdown,
}

/// The value of a property.
pub(crate) fn get(controller: &Controller, command: &PropertyGet) -> Result<u64, Status> {
    if command.offset == CRTO_AT && command.size == PropertySize::Bytes4 {
        return Ok(u64::from(limits::READY_TIMEOUT_500MS));
    }
    let property = Property::parse(command.offset).ok_or(Status::INVALID_FIELD.dnr())?;
    if property.size() != command.size {
        return Err(Status::INVALID_FIELD.dnr());
    }
    match property {
        Property::Cap => Ok(cap(controller.kind).encode()),
        Property::Vs => Ok(Version::V2_0.encode().into()),
        Property::Cc => Ok(controller.cc.encode().into()),
        Property::Csts => Ok(controller.csts.encode().into()),
        // CAP.NSSRS is 0: there is no subsystem reset.
        Property::Nssr => Err(Status::INVALID_FIELD.dnr()),
    }
}

/// Writes a property; only CC can be written.
pub(crate) fn set(controller: &mut Controller, command: &PropertySet) -> Result<Change, Status> {
    let property = Property::parse(command.offset);
    if property != Some(Property::Cc) || command.size != PropertySize::Bytes4 {
        return Err(Status::INVALID_FIELD.dnr());
    }
    // A 4-byte property lies in the low half.
    let new = Cc::parse(command.value as u32);
    let old = std::mem::replace(&mut controller.cc, new);
    if old.enable && !new.enable {
        controller.csts = Csts::default();
        return Ok(Change::Reset);
    }
    if !old.enable && new.enable {
        let usable = is_usable(&new, controller.kind);
        controller.csts = Csts { ready: usable, fatal: !usable, ..Csts::default() };
    }
    if new.shutdown != Shutdown::None && old.shutdown == Shutdown::None {
        controller.csts.shutdown = ShutdownStatus::Occurring;
        return Ok(Change::Shutdown);
    }
    Ok(Change::None)
}

fn cap(kind: Kind) -> Cap {
    let command_sets = match kind {
        Kind::Io => Cap::CSS_NVM | Cap::CSS_IO_COMMAND_SETS,
        Kind::Discovery => Cap::CSS_NVM,
    };
    Cap {
        queue_entries_max: limits::QUEUE_ENTRIES_MAX,
        contiguous_queues: true,
        arbitration: 0,
        timeout_500ms: limits::READY_TIMEOUT_500MS,
        subsystem_reset: false,
        command_sets,
        page_size_min: 0,
        page_size_max: 0,
        // Ready with media.
        ready_modes: 0b01,
    }
}

/// What CAP offers is what CC may ask for. A discovery controller has no I/O queues whose entries had a size.
fn is_usable(cc: &Cc, kind: Kind) -> bool {
    let common = cc.page_size == 0 && cc.arbitration == 0 && !cc.ready_independent_of_media;
    match kind {
        Kind::Io => common && matches!(cc.command_set, 0 | 6) && cc.io_sqe_size == 6 && cc.io_cqe_size == 4,
        Kind::Discovery => common && cc.command_set == 0,
    }
}
