//! What Get Log Page returns. Base spec 2.0, section 5.16.

use io::Time;
use nvme::Status;
use nvme::command::{AdminOpcode, NvmOpcode};
use nvme::identify::CSI_NVM;
use nvme::log::{
    AnaGroup, AnaHeader, AnaState, CommandEffects, CommandsEffectsLog, FirmwareSlotLog, GetLogPage,
    HealthLog, LogPage, LogPageSupport, ReservationNotification, SupportedLogPages,
};
use nvme::text::Ascii;

use super::controller::Kind;
use super::event::Notice;
use super::identify::{ANA_GROUP, Scene, seen};
use super::{HealthTotals, discovery, feature};
use crate::limits::TRANSFER_BYTES_MAX;

/// What the pages need beside what Identify tells of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters<'a> {
    /// Generation of the discovery log.
    pub(crate) generation: u64,
    /// Changes of namespaces since the start.
    pub(crate) changes: u64,
    pub(crate) health: &'a HealthTotals,
    /// When the desk first ran.
    pub(crate) since: Time,
    pub(crate) now: Time,
}

/// Bytes that the command returns.
pub(crate) fn reply_len(command: &GetLogPage) -> Result<usize, Status> {
    if command.len_bytes > u64::from(TRANSFER_BYTES_MAX) {
        return Err(Status::INVALID_FIELD.dnr());
    }
    usize::try_from(command.len_bytes).map_err(|_| Status::INVALID_FIELD.dnr())
}

/// The part of the page asked for. What lies beyond the page's end reads as zeros.
pub(crate) fn read(
    scene: &Scene<'_>,
    counters: &Counters<'_>,
    command: &GetLogPage,
) -> Result<Vec<u8>, Status> {
    let len = reply_len(command)?;
    let mut page = page(scene, counters, command)?;
    // No page here takes an index for an offset; an offset beyond the page is an error.
    let start = usize::try_from(command.offset).unwrap_or(usize::MAX);
    if command.is_index || !command.offset.is_multiple_of(4) || start > page.len() {
        return Err(Status::INVALID_FIELD.dnr());
    }
    page.drain(..start);
    page.resize(len, 0);
    Ok(page)
}

/// The event that reading the page clears.
pub(crate) const fn clears(page: LogPage) -> Option<Notice> {
    match page {
        LogPage::ChangedNamespaces => Some(Notice::Namespaces),
        LogPage::Ana => Some(Notice::Ana),
        LogPage::Discovery => Some(Notice::DiscoveryLog),
        _ => None,
    }
}

fn page(scene: &Scene<'_>, counters: &Counters<'_>, command: &GetLogPage) -> Result<Vec<u8>, Status> {
    let controller = scene.controller;
    if !supported(controller.kind).contains(&command.page) {
        return Err(Status::INVALID_LOG_PAGE.dnr());
    }
    Ok(match command.page {
        LogPage::Supported => {
            let mut log = SupportedLogPages::default();
            for page in supported(controller.kind) {
                log.pages[usize::from(page.code())] = LogPageSupport::SUPPORTED;
            }
            log.encode().to_vec()
        }
        LogPage::Error => controller.errors.page(),
        LogPage::Health => health(scene, counters, command.nsid)?,
        LogPage::FirmwareSlot => {
            let mut revisions = [Ascii::new(""); 7];
            revisions[0] = Ascii::new(&scene.config.firmware);
            FirmwareSlotLog { active: 1, revisions }.encode().to_vec()
        }
        LogPage::ChangedNamespaces => controller.changed.page().to_vec(),
        LogPage::CommandsEffects => effects(command.csi).encode().to_vec(),
        LogPage::Ana => ana(scene, counters.changes, command.specific & GetLogPage::ANA_GROUPS_ONLY != 0),
        LogPage::FeatureEffects => feature::effects(controller.kind),
        LogPage::Discovery => {
            discovery::page(scene.config, scene.namespaces, counters.generation, &controller.path.host)
        }
        LogPage::ReservationNotification => ReservationNotification::default().encode().to_vec(),
        LogPage::Other(_) => return Err(Status::INVALID_LOG_PAGE.dnr()),
    })
}

const fn supported(kind: Kind) -> &'static [LogPage] {
    match kind {
        Kind::Discovery => &[LogPage::Supported, LogPage::Error, LogPage::FeatureEffects, LogPage::Discovery],
        Kind::Io => &[
            LogPage::Supported,
            LogPage::Error,
            LogPage::Health,
            LogPage::FirmwareSlot,
            LogPage::ChangedNamespaces,
            LogPage::CommandsEffects,
            LogPage::Ana,
            LogPage::FeatureEffects,
            LogPage::ReservationNotification,
        ],
    }
}

fn health(scene: &Scene<'_>, counters: &Counters<'_>, nsid: u32) -> Result<Vec<u8>, Status> {
    // The page is not kept per namespace (LPA bit 0).
    if nsid != 0 && nsid != nvme::sqe::NSID_ALL {
        return Err(Status::INVALID_FIELD.dnr());
    }
    let totals = counters.health;
    let units = |bytes: u64| u128::from(bytes.div_ceil(512 * 1000));
    let hours = counters.now.since(counters.since).as_secs() / 3600;
    Ok(HealthLog {
        available_spare_percent: totals.free_percent.min(100),
        data_units_read: units(totals.read_bytes),
        data_units_written: units(totals.written_bytes),
        host_reads: totals.reads.into(),
        host_writes: totals.writes.into(),
        power_on_hours: hours.into(),
        media_errors: totals.media_errors.into(),
        error_log_entries: scene.controller.errors.count().into(),
        ..HealthLog::default()
    }
    .encode()
    .to_vec())
}

/// Every namespace that the host sees, in the one group.
fn ana(scene: &Scene<'_>, changes: u64, groups_only: bool) -> Vec<u8> {
    let nsids: Vec<u32> = seen(scene.namespaces, scene.controller).map(|shape| shape.nsid).collect();
    let listed = if groups_only { &[][..] } else { &nsids[..] };
    let group = AnaGroup {
        group_id: ANA_GROUP,
        count_nsids: u32::try_from(listed.len()).unwrap_or(u32::MAX),
        change_count: changes,
        state: AnaState::Optimized,
    };
    let mut page = AnaHeader { change_count: changes, count_groups: 1 }.encode().to_vec();
    page.extend_from_slice(&group.encode());
    page.extend(listed.iter().flat_map(|nsid| nsid.to_le_bytes()));
    page
}

/// A command set that is not supported has no commands: nvme-cli asks for one after the other.
fn effects(csi: u8) -> CommandsEffectsLog {
    let mut log = CommandsEffectsLog::default();
    for opcode in [
        AdminOpcode::GetLogPage,
        AdminOpcode::Identify,
        AdminOpcode::Abort,
        AdminOpcode::SetFeatures,
        AdminOpcode::GetFeatures,
        AdminOpcode::AsyncEventRequest,
        AdminOpcode::KeepAlive,
    ] {
        log.admin[usize::from(opcode.code())] = CommandEffects::SUPPORTED;
    }
    if csi != CSI_NVM {
        return log;
    }
    for opcode in [NvmOpcode::Flush, NvmOpcode::Read, NvmOpcode::Compare, NvmOpcode::Verify] {
        log.io[usize::from(opcode.code())] = CommandEffects::SUPPORTED;
    }
    for opcode in [NvmOpcode::Write, NvmOpcode::WriteZeroes, NvmOpcode::DatasetManagement] {
        log.io[usize::from(opcode.code())] = CommandEffects::SUPPORTED.with(CommandEffects::CONTENT_CHANGE);
    }
    log
}
