//! What Identify returns. Base spec 2.0, section 5.17; NVM command set spec 1.0, section 4.1.5.

use std::collections::BTreeMap;
use std::sync::Arc;

use nvme::Status;
use nvme::fabrics::Version;
use nvme::identify::{
    AnaCapabilities, CSI_NVM, Cmic, Cns, CommandSetVector, ControllerAttributes, ControllerList,
    ControllerType, DeallocateFeatures, EntrySize, FabricsCommands, FusedCommands, IDENTIFY_LEN, Identify,
    IdentifyController, IdentifyControllerNvm, IdentifyNamespace, IdentifyNamespaceIndependent,
    IdentifyNamespaceNvm, LbaFormat, LogPageAttributes, NamespaceFeatures, NamespaceIdentifier,
    NamespaceStatus, Nmic, NsidList, Oncs, SglSupport, VolatileWriteCache,
};
use nvme::text::{Ascii, Count8, Count16};

use super::DeskConfig;
use super::controller::{Controller, Kind};
use super::feature;
use crate::{AssociationId, NamespaceShape, limits};

/// The one ANA group.
pub(crate) const ANA_GROUP: u32 = 1;
const MODEL: &str = "Ferrule";

pub(crate) type Namespaces = BTreeMap<u32, Arc<NamespaceShape>>;

/// Everything that Identify may tell of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) config: &'a DeskConfig,
    pub(crate) namespaces: &'a Namespaces,
    pub(crate) controllers: &'a BTreeMap<AssociationId, Controller>,
    /// The one that was asked.
    pub(crate) controller: &'a Controller,
}

/// The namespace whose allocated blocks the data structure tells of, if it is of one.
pub(crate) fn counted(scene: &Scene<'_>, command: &Identify) -> Option<u32> {
    let tells = matches!(command.cns, Cns::Namespace | Cns::AllocatedNamespace);
    let asked = tells && scene.controller.kind == Kind::Io;
    asked.then(|| active(scene, command.nsid).ok().flatten()).flatten().map(|shape| shape.nsid)
}

/// The data structure asked for. `allocated_bytes` is what a thin namespace has allocated.
pub(crate) fn identify(
    scene: &Scene<'_>,
    command: &Identify,
    allocated_bytes: Option<u64>,
) -> Result<[u8; IDENTIFY_LEN], Status> {
    if command.cns == Cns::Controller {
        return Ok(controller(scene).encode());
    }
    if scene.controller.kind == Kind::Discovery {
        return Err(Status::INVALID_FIELD.dnr());
    }
    let zeroes = [0; IDENTIFY_LEN];
    match command.cns {
        Cns::Namespace | Cns::AllocatedNamespace => {
            let known = active(scene, command.nsid)?;
            Ok(known.map_or(zeroes, |shape| namespace(shape, allocated_bytes).encode()))
        }
        Cns::ActiveNamespaces | Cns::AllocatedNamespaces => active_list(scene, command.nsid),
        Cns::NamespaceDescriptors => descriptors(scene, command.nsid),
        Cns::NamespaceOfCommandSet => {
            nvm_only(command)?;
            let known = active(scene, command.nsid)?;
            Ok(known.map_or(zeroes, |_| IdentifyNamespaceNvm::default().encode()))
        }
        Cns::ControllerOfCommandSet => {
            nvm_only(command)?;
            Ok(IdentifyControllerNvm {
                verify_size_limit: limits::VSL,
                write_zeroes_size_limit: limits::WZSL,
                ..IdentifyControllerNvm::default()
            }
            .encode())
        }
        Cns::ActiveNamespacesOfCommandSet => {
            nvm_only(command)?;
            active_list(scene, command.nsid)
        }
        Cns::NamespaceIndependent => {
            Ok(active(scene, command.nsid)?.map_or(zeroes, |_| independent().encode()))
        }
        Cns::AttachedControllers => attached(scene, command),
        Cns::Controllers => Ok(controllers(scene, command.cntid, |_| true)),
        Cns::CommandSets => Ok(CommandSetVector::encode_list(&[CommandSetVector::NVM])),
        Cns::Other(_) | Cns::Controller => Err(Status::INVALID_FIELD.dnr()),
    }
}

/// Namespaces that the controller's host sees, in order of NSID.
pub(crate) fn seen<'a>(
    namespaces: &'a Namespaces,
    controller: &'a Controller,
) -> impl Iterator<Item = &'a Arc<NamespaceShape>> {
    namespaces.values().filter(|shape| controller.sees(shape))
}

/// The namespace, or `None` for an inactive NSID: absent and masked look the same.
fn active<'a>(scene: &Scene<'a>, nsid: u32) -> Result<Option<&'a NamespaceShape>, Status> {
    // FFFF_FFFFh would be the common values that namespace management needs, which there is none of.
    if nsid == 0 || nsid > limits::NAMESPACES_MAX {
        return Err(Status::INVALID_NAMESPACE.dnr());
    }
    let shape = scene.namespaces.get(&nsid).filter(|shape| scene.controller.sees(shape));
    Ok(shape.map(|shape| &**shape))
}

fn nvm_only(command: &Identify) -> Result<(), Status> {
    if command.csi == CSI_NVM { Ok(()) } else { Err(Status::INVALID_FIELD.dnr()) }
}

fn active_list(scene: &Scene<'_>, after: u32) -> Result<[u8; IDENTIFY_LEN], Status> {
    // Base spec 2.0, section 5.17.2.2: FFFF_FFFEh and above are not a place in the list.
    if after >= nvme::sqe::NSID_ALL - 1 {
        return Err(Status::INVALID_NAMESPACE.dnr());
    }
    let beyond = scene.namespaces.range(after + 1..).map(|(_, shape)| shape);
    Ok(NsidList::encode(beyond.filter(|shape| scene.controller.sees(shape)).map(|shape| shape.nsid)))
}

fn descriptors(scene: &Scene<'_>, nsid: u32) -> Result<[u8; IDENTIFY_LEN], Status> {
    let shape = active(scene, nsid)?.ok_or(Status::INVALID_NAMESPACE.dnr())?;
    Ok(NamespaceIdentifier::encode_list(&[
        NamespaceIdentifier::Uuid(shape.uuid),
        NamespaceIdentifier::Nguid(shape.uuid),
        NamespaceIdentifier::Csi(CSI_NVM),
    ]))
}

fn attached(scene: &Scene<'_>, command: &Identify) -> Result<[u8; IDENTIFY_LEN], Status> {
    let Some(shape) = active(scene, command.nsid)? else {
        return Ok(ControllerList::encode([]));
    };
    Ok(controllers(scene, command.cntid, |controller| controller.sees(shape)))
}

fn controllers(scene: &Scene<'_>, from: u16, wanted: impl Fn(&Controller) -> bool) -> [u8; IDENTIFY_LEN] {
    let io = scene.controllers.values().filter(|controller| controller.kind == Kind::Io);
    let mut cntlids: Vec<u16> =
        io.filter(|c| c.cntlid >= from && c.is_alive() && wanted(c)).map(|c| c.cntlid).collect();
    cntlids.sort_unstable();
    ControllerList::encode(cntlids)
}

fn controller(scene: &Scene<'_>) -> IdentifyController {
    let Scene { config, controller, .. } = scene;
    let common = IdentifyController {
        serial_number: Ascii::new(&config.serial),
        model_number: Ascii::new(MODEL),
        firmware_revision: Ascii::new(&config.firmware),
        mdts: limits::MDTS,
        cntlid: controller.cntlid,
        version: Version::V2_0,
        rtd3e_us: limits::SHUTDOWN_US,
        oaes: feature::offered(controller.kind),
        ctratt: ControllerAttributes::HOST_ID_128 | ControllerAttributes::TRAFFIC_BASED_KEEP_ALIVE,
        abort_limit: count8(limits::ABORTS_MAX),
        async_event_limit: count8(limits::ASYNC_EVENTS_MAX),
        lpa: LogPageAttributes::EXTENDED_DATA | LogPageAttributes::SUPPORTED_PAGES,
        error_log_entries: count8(limits::ERROR_LOG_ENTRIES),
        kas_100ms: limits::KAS,
        maxcmd: u16::try_from(limits::QUEUE_ENTRIES_MAX).unwrap_or(u16::MAX),
        sgls: SglSupport::SUPPORTED
            | SglSupport::LONGER_THAN_DATA
            | SglSupport::OFFSET
            | SglSupport::TRANSPORT,
        subnqn: controller.subsystem.encode(),
        ..IdentifyController::default()
    };
    match controller.kind {
        Kind::Discovery => {
            IdentifyController { controller_type: ControllerType::Discovery, dctype: 1, ..common }
        }
        Kind::Io => io_controller(common),
    }
}

fn io_controller(common: IdentifyController) -> IdentifyController {
    IdentifyController {
        controller_type: ControllerType::Io,
        cmic: Cmic::MULTI_PORT | Cmic::MULTI_CONTROLLER | Cmic::ANA_REPORTING,
        // One slot, read only.
        frmw: 0b011,
        lpa: common.lpa | LogPageAttributes::COMMAND_EFFECTS,
        anatt_s: limits::ANATT_S,
        anacap: AnaCapabilities::OPTIMIZED
            | AnaCapabilities::NON_OPTIMIZED
            | AnaCapabilities::INACCESSIBLE
            | AnaCapabilities::PERSISTENT_LOSS
            | AnaCapabilities::CHANGE,
        anagrpmax: limits::ANA_GROUPS_MAX,
        nanagrpid: limits::ANA_GROUPS_MAX,
        sqes: EntrySize { required: 6, maximum: 6 },
        cqes: EntrySize { required: 4, maximum: 4 },
        nn: limits::NAMESPACES_MAX,
        mnan: limits::NAMESPACES_MAX,
        oncs: Oncs::COMPARE
            | Oncs::DATASET_MANAGEMENT
            | Oncs::WRITE_ZEROES
            | Oncs::FEATURE_SAVE
            | Oncs::TIMESTAMP
            | Oncs::VERIFY,
        fuses: FusedCommands::COMPARE_AND_WRITE,
        vwc: VolatileWriteCache::PRESENT | VolatileWriteCache::FLUSH_ALL_NOT_SUPPORTED,
        // Atomicity is told per namespace, in its own blocks.
        awun_blocks: Count16(1),
        awupf_blocks: Count16(1),
        acwu_blocks: Count16(1),
        ioccsz_16b: (64 + limits::IO_CAPSULE_BYTES_MAX) / 16,
        iorcsz_16b: 1,
        icdoff_16b: 0,
        msdbd: 1,
        ofcs: FabricsCommands::DISCONNECT,
        ..common
    }
}

/// Of a thin namespace NUSE is what is allocated, which deallocating makes less: NVM command set spec 1.0, figure 97.
/// NCAP is all of it: what the pool cannot hold is refused when it is written.
fn namespace(shape: &NamespaceShape, allocated_bytes: Option<u64>) -> IdentifyNamespace {
    let shift = shape.sector.shift();
    let thin = allocated_bytes.map_or(NamespaceFeatures(0), |_| NamespaceFeatures::THIN);
    let used = allocated_bytes.map_or(shape.size_blocks, |bytes| bytes.div_ceil(1 << shift));
    let blocks = |bytes: u32| Count16((bytes >> shift).max(1));
    let atomic = blocks(shape.atomic_bytes);
    let boundary = blocks(limits::STRIPE_BYTES);
    let store_block = blocks(limits::STORE_BLOCK_BYTES);
    let mut lbaf = [LbaFormat::default(); 64];
    lbaf[0].data_size = shift;
    IdentifyNamespace {
        nsze_blocks: shape.size_blocks,
        ncap_blocks: shape.size_blocks,
        nuse_blocks: used.min(shape.size_blocks),
        nsfeat: thin
            | NamespaceFeatures::ATOMIC_PARAMETERS
            | NamespaceFeatures::UID_REUSE
            | NamespaceFeatures::OPTIMAL_PERFORMANCE,
        lba_formats: Count8(1),
        nmic: Nmic::SHARED,
        dlfeat: DeallocateFeatures::READS_ZEROS | DeallocateFeatures::WRITE_ZEROES_DEALLOCATES,
        nawun_blocks: atomic,
        nawupf_blocks: atomic,
        nacwu_blocks: atomic,
        nabsn_blocks: boundary,
        nabspf_blocks: boundary,
        nabo_lba: 0,
        noiob_blocks: u16::try_from(boundary.0).unwrap_or(0),
        nvmcap_bytes: u128::from(shape.size_blocks) << shift,
        npwg_blocks: store_block,
        npwa_blocks: store_block,
        npdg_blocks: store_block,
        npda_blocks: store_block,
        nows_blocks: blocks(limits::OPTIMAL_WRITE_BYTES),
        anagrpid: ANA_GROUP,
        nguid: shape.uuid,
        lbaf,
        ..IdentifyNamespace::default()
    }
}

fn independent() -> IdentifyNamespaceIndependent {
    IdentifyNamespaceIndependent {
        nsfeat: NamespaceFeatures::UID_REUSE,
        nmic: Nmic::SHARED,
        anagrpid: ANA_GROUP,
        nstat: NamespaceStatus::READY,
        ..IdentifyNamespaceIndependent::default()
    }
}

fn count8(count: usize) -> Count8 {
    Count8(u16::try_from(count).unwrap_or(u16::MAX))
}
