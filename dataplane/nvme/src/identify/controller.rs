//! Identify Controller (CNS 01h) and its NVM command set part (CNS 06h).
//! Base spec 2.0, figure 275; NVM command set spec 1.0, figure 100.

use super::capability::{
    AnaCapabilities, AsyncEvents, Cmic, ControllerAttributes, ControllerType, EntrySize, FabricsAttributes,
    FabricsCommands, FusedCommands, LogPageAttributes, Oacs, Oncs, SglSupport, VolatileWriteCache,
};
use crate::fabrics::{Nqn, NqnError, Version};
use crate::layout::Field;
use crate::text::{Ascii, Count8, Count16};

layout! {
    /// Identify Controller data structure. Fields that no Fabrics controller uses (host memory
    /// buffer, boot partitions, RPMB, thermal management limits) are left out and read as 0.
    pub struct IdentifyController: 4096 {
        /// PCI vendor identifier (VID); 0 where there is no PCI device.
        0 => vid: u16,
        /// PCI subsystem vendor identifier (SSVID).
        2 => ssvid: u16,
        /// Serial number (SN).
        4 => serial_number: Ascii<20>,
        /// Model number (MN).
        24 => model_number: Ascii<40>,
        /// Firmware revision (FR).
        64 => firmware_revision: Ascii<8>,
        /// Recommended arbitration burst (RAB), as a power of two of commands.
        72 => rab: u8,
        /// IEEE organisation identifier (IEEE), least significant byte first.
        73 => ieee: [u8; 3],
        /// Multi-path I/O and namespace sharing capabilities (CMIC).
        76 => cmic: Cmic,
        /// Maximum data transfer size (MDTS), as a power of two of the minimum page size; 0 no limit.
        77 => mdts: u8,
        /// Controller identifier (CNTLID).
        78 => cntlid: u16,
        /// Version (VER).
        80 => version: Version,
        /// RTD3 resume latency in microseconds (RTD3R).
        84 => rtd3r_us: u32,
        /// RTD3 entry latency in microseconds (RTD3E), the time a normal shutdown may take.
        88 => rtd3e_us: u32,
        /// Optional asynchronous events supported (OAES).
        92 => oaes: AsyncEvents,
        /// Controller attributes (CTRATT).
        96 => ctratt: ControllerAttributes,
        /// Read recovery levels supported (RRLS).
        100 => rrls: u16,
        /// Controller type (CNTRLTYPE).
        111 => controller_type: ControllerType,
        /// FRU globally unique identifier (FGUID).
        112 => fguid: [u8; 16],
        /// Command retry delay time 1 (CRDT1), in units of 100 ms.
        128 => crdt1_100ms: u16,
        /// Command retry delay time 2 (CRDT2), in units of 100 ms.
        130 => crdt2_100ms: u16,
        /// Command retry delay time 3 (CRDT3), in units of 100 ms.
        132 => crdt3_100ms: u16,
        /// NVM subsystem report (NVMSR).
        253 => nvmsr: u8,
        /// VPD write cycle information (VWCI).
        254 => vwci: u8,
        /// Management endpoint capabilities (MEC).
        255 => mec: u8,
        /// Optional admin command support (OACS).
        256 => oacs: Oacs,
        /// Abort commands that may be outstanding (ACL), 1..=256.
        258 => abort_limit: Count8,
        /// Asynchronous Event Requests that may be outstanding (AERL), 1..=256.
        259 => async_event_limit: Count8,
        /// Firmware updates (FRMW): bit 0 slot 1 is read only, bits 3:1 slots, bit 4 no reset needed.
        260 => frmw: u8,
        /// Log page attributes (LPA).
        261 => lpa: LogPageAttributes,
        /// Entries of the error information log (ELPE), 1..=256.
        262 => error_log_entries: Count8,
        /// Power states supported (NPSS), 1..=32.
        263 => power_states: Count8,
        /// Admin vendor specific command configuration (AVSCC).
        264 => avscc: u8,
        /// Autonomous power state transition attributes (APSTA).
        265 => apsta: u8,
        /// Warning composite temperature threshold in kelvins (WCTEMP).
        266 => wctemp_kelvin: u16,
        /// Critical composite temperature threshold in kelvins (CCTEMP).
        268 => cctemp_kelvin: u16,
        /// Maximum time for firmware activation in units of 100 ms (MTFA).
        270 => mtfa_100ms: u16,
        /// Total NVM capacity in bytes (TNVMCAP).
        280 => tnvmcap_bytes: u128,
        /// Unallocated NVM capacity in bytes (UNVMCAP).
        296 => unvmcap_bytes: u128,
        /// Keep alive support (KAS): granularity of the timer in units of 100 ms; 0 not supported.
        320 => kas_100ms: u16,
        /// Host controlled thermal management attributes (HCTMA).
        322 => hctma: u16,
        /// Sanitize capabilities (SANICAP).
        328 => sanicap: u32,
        /// Largest NVM set identifier (NSETIDMAX).
        338 => nsetidmax: u16,
        /// Largest endurance group identifier (ENDGIDMAX).
        340 => endgidmax: u16,
        /// Longest ANA transition in seconds (ANATT); not 0 where ANA is supported.
        342 => anatt_s: u8,
        /// Asymmetric namespace access capabilities (ANACAP).
        343 => anacap: AnaCapabilities,
        /// Largest ANA group identifier (ANAGRPMAX).
        344 => anagrpmax: u32,
        /// Number of ANA groups (NANAGRPID).
        348 => nanagrpid: u32,
        /// Persistent event log size in units of 64 KiB (PELS).
        352 => pels_64kib: u32,
        /// Domain identifier (DOMAINID).
        356 => domain_id: u16,
        /// Maximum endurance group capacity in bytes (MEGCAP).
        368 => megcap_bytes: u128,
        /// Submission queue entry size (SQES).
        512 => sqes: EntrySize,
        /// Completion queue entry size (CQES).
        513 => cqes: EntrySize,
        /// Commands of one queue that the controller works on at a time (MAXCMD); not 0 over Fabrics.
        514 => maxcmd: u16,
        /// Number of namespaces (NN): the largest valid NSID.
        516 => nn: u32,
        /// Optional NVM command support (ONCS).
        520 => oncs: Oncs,
        /// Fused operation support (FUSES).
        522 => fuses: FusedCommands,
        /// Format NVM attributes (FNA).
        524 => fna: u8,
        /// Volatile write cache (VWC).
        525 => vwc: VolatileWriteCache,
        /// Atomic write unit normal in logical blocks (AWUN), 1..=65536.
        526 => awun_blocks: Count16,
        /// Atomic write unit power fail in logical blocks (AWUPF), 1..=65536.
        528 => awupf_blocks: Count16,
        /// I/O command set vendor specific command configuration (ICSVSCC).
        530 => icsvscc: u8,
        /// Namespace write protection capabilities (NWPC).
        531 => nwpc: u8,
        /// Atomic compare and write unit in logical blocks (ACWU), 1..=65536.
        532 => acwu_blocks: Count16,
        /// Copy descriptor formats supported (OCFS), bit n for format n.
        534 => copy_formats: u16,
        /// SGL support (SGLS).
        536 => sgls: SglSupport,
        /// Maximum number of allowed namespaces (MNAN); at most NN, 0 the same as NN.
        540 => mnan: u32,
        /// Maximum domain namespace attachments (MAXDNA).
        544 => maxdna: u128,
        /// Maximum I/O controller namespace attachments (MAXCNA).
        560 => maxcna: u32,
        /// NVM subsystem NQN (SUBNQN); [`IdentifyController::subsystem_nqn`] reads it.
        768 => subnqn: [u8; 256],
        /// I/O queue command capsule supported size in units of 16 bytes (IOCCSZ), at least 4.
        1792 => ioccsz_16b: u32,
        /// I/O queue response capsule supported size in units of 16 bytes (IORCSZ), at least 1.
        1796 => iorcsz_16b: u32,
        /// In-capsule data offset in units of 16 bytes (ICDOFF); 0 over TCP.
        1800 => icdoff_16b: u16,
        /// Fabrics controller attributes (FCATT).
        1802 => fcatt: FabricsAttributes,
        /// Maximum SGL data block descriptors (MSDBD); 0 no limit, 1 over TCP.
        1803 => msdbd: u8,
        /// Optional Fabrics commands supported (OFCS).
        1804 => ofcs: FabricsCommands,
        /// Discovery controller type (DCTYPE): 0 not reported, 1 direct, 2 central.
        1806 => dctype: u8,
        /// Power state 0 descriptor (PSD0).
        2048 => psd0: PowerState,
    }
}

impl IdentifyController {
    /// The subsystem's NQN.
    pub fn subsystem_nqn(&self) -> Result<Nqn, NqnError> {
        Nqn::parse(&self.subnqn)
    }

    /// In-capsule data that I/O queues take, in bytes: IOCCSZ less the 64 bytes of the entry.
    pub const fn capsule_data_max_bytes(&self) -> u32 {
        self.ioccsz_16b.saturating_mul(16).saturating_sub(64)
    }

    /// Largest data transfer of a command in bytes, given CAP.MPSMIN; `None` if not limited.
    pub const fn transfer_max_bytes(&self, page_size_min: u8) -> Option<u64> {
        let shift = self.mdts as u32 + page_size_min as u32 + 12;
        if self.mdts == 0 || shift > 63 { None } else { Some(1 << shift) }
    }
}

layout! {
    /// Power state descriptor. Base spec 2.0, figure 276.
    pub struct PowerState: 32 {
        /// Maximum power (MP), in 0.01 W unless bit 0 of `flags` says 0.0001 W.
        0 => max_power: u16,
        /// Bit 0 maximum power scale (MXPS), bit 1 non-operational state (NOPS).
        3 => flags: u8,
        /// Entry latency in microseconds (ENLAT).
        4 => entry_latency_us: u32,
        /// Exit latency in microseconds (EXLAT).
        8 => exit_latency_us: u32,
    }
}

layout! {
    /// I/O command set specific Identify Controller of the NVM command set (CNS 06h, CSI 00h).
    pub struct IdentifyControllerNvm: 4096 {
        /// Verify size limit (VSL), as a power of two of the minimum page size; 0 no limit.
        0 => verify_size_limit: u8,
        /// Write Zeroes size limit (WZSL), as a power of two of the minimum page size; 0 no limit.
        1 => write_zeroes_size_limit: u8,
        /// Write Uncorrectable size limit (WUSL), as a power of two of the minimum page size.
        2 => write_uncorrectable_size_limit: u8,
        /// Dataset Management ranges limit (DMRL); 0 no limit below 256.
        3 => dsm_ranges_limit: u8,
        /// Dataset Management range size limit in logical blocks (DMRSL); 0 no limit.
        4 => dsm_range_blocks_limit: u32,
        /// Dataset Management size limit in logical blocks (DMSL); 0 no limit.
        8 => dsm_blocks_limit: u64,
    }
}

impl Field for Version {
    const LEN: usize = 4;
    fn get(bytes: &[u8]) -> Self {
        Self::parse(Field::get(bytes))
    }
    fn put(&self, out: &mut [u8]) {
        self.encode().put(out);
    }
}
