//! Identify Namespace in its three forms: NVM command set (CNS 00h), NVM specific (05h) and
//! independent of the command set (08h). NVM command set spec 1.0, figures 97 and 98; base spec
//! 2.0, figure 280.

use crate::layout::Field;
use crate::text::{Count8, Count16};

layout! {
    /// Identify Namespace data structure. All zero for an inactive namespace.
    pub struct IdentifyNamespace: 4096 {
        /// Namespace size in logical blocks (NSZE).
        0 => nsze_blocks: u64,
        /// Namespace capacity in logical blocks (NCAP): how many may be allocated at a time.
        8 => ncap_blocks: u64,
        /// Namespace utilization in logical blocks (NUSE).
        16 => nuse_blocks: u64,
        /// Namespace features (NSFEAT).
        24 => nsfeat: NamespaceFeatures,
        /// LBA formats (NLBAF), 1..=64.
        25 => lba_formats: Count8,
        /// Formatted LBA size (FLBAS): index of the LBA format in bits 6:5 and 3:0, bit 4 metadata
        /// at the end of the data.
        26 => flbas: u8,
        /// Metadata capabilities (MC).
        27 => mc: u8,
        /// End-to-end data protection capabilities (DPC).
        28 => dpc: u8,
        /// End-to-end data protection settings (DPS).
        29 => dps: u8,
        /// Multi-path I/O and namespace sharing capabilities (NMIC).
        30 => nmic: Nmic,
        /// Reservation capabilities (RESCAP).
        31 => rescap: ReservationCapabilities,
        /// Format progress indicator (FPI): bit 7 supported, bits 6:0 per cent left.
        32 => fpi: u8,
        /// Deallocate logical block features (DLFEAT).
        33 => dlfeat: DeallocateFeatures,
        /// Namespace atomic write unit normal in logical blocks (NAWUN), 1..=65536; 1 (zero on the
        /// wire) means the controller's AWUN.
        34 => nawun_blocks: Count16,
        /// Namespace atomic write unit power fail in logical blocks (NAWUPF); 1 means AWUPF.
        36 => nawupf_blocks: Count16,
        /// Namespace atomic compare and write unit in logical blocks (NACWU); 1 means ACWU.
        38 => nacwu_blocks: Count16,
        /// Namespace atomic boundary size normal in logical blocks (NABSN); 1 means no boundary.
        40 => nabsn_blocks: Count16,
        /// Namespace atomic boundary offset (NABO): the LBA of the first boundary.
        42 => nabo_lba: u16,
        /// Namespace atomic boundary size power fail in logical blocks (NABSPF); 1 means none.
        44 => nabspf_blocks: Count16,
        /// Namespace optimal I/O boundary in logical blocks (NOIOB); 0 not reported.
        46 => noiob_blocks: u16,
        /// NVM capacity in bytes (NVMCAP).
        48 => nvmcap_bytes: u128,
        /// Namespace preferred write granularity in logical blocks (NPWG); valid with OPTPERF.
        64 => npwg_blocks: Count16,
        /// Namespace preferred write alignment in logical blocks (NPWA); valid with OPTPERF.
        66 => npwa_blocks: Count16,
        /// Namespace preferred deallocate granularity in logical blocks (NPDG); valid with OPTPERF.
        68 => npdg_blocks: Count16,
        /// Namespace preferred deallocate alignment in logical blocks (NPDA); valid with OPTPERF.
        70 => npda_blocks: Count16,
        /// Namespace optimal write size in logical blocks (NOWS); valid with OPTPERF.
        72 => nows_blocks: Count16,
        /// Maximum single source range length of Copy in logical blocks (MSSRL).
        74 => mssrl_blocks: u16,
        /// Maximum copy length in logical blocks (MCL).
        76 => mcl_blocks: u32,
        /// Maximum source range count of Copy (MSRC), 1..=256.
        80 => msrc: Count8,
        /// ANA group identifier (ANAGRPID); 0 where ANA is not supported.
        92 => anagrpid: u32,
        /// Namespace attributes (NSATTR).
        99 => nsattr: NamespaceAttributes,
        /// NVM set identifier (NVMSETID).
        100 => nvmsetid: u16,
        /// Endurance group identifier (ENDGID).
        102 => endgid: u16,
        /// Namespace globally unique identifier (NGUID), big endian.
        104 => nguid: [u8; 16],
        /// IEEE extended unique identifier (EUI64), big endian.
        120 => eui64: [u8; 8],
        /// LBA formats 0 to 63 (LBAF0 to LBAF63).
        128 => lbaf: [LbaFormat; 64],
    }
}

impl IdentifyNamespace {
    /// Index of the LBA format in use, 0..=63.
    pub const fn lba_format_index(&self) -> usize {
        ((self.flbas & 0xf) | (self.flbas >> 5 & 3) << 4) as usize
    }

    /// Bytes of data in a logical block; `None` where the format is not usable.
    pub fn lba_bytes(&self) -> Option<u32> {
        match self.lbaf[self.lba_format_index()].data_size {
            shift @ 9..=31 => Some(1 << shift),
            _ => None,
        }
    }
}

/// LBA format. NVM command set spec 1.0, figure 98.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LbaFormat {
    /// Metadata size in bytes (MS).
    pub metadata_bytes: u16,
    /// LBA data size as a power of two of bytes (LBADS), at least 9; 0 format not available.
    pub data_size: u8,
    /// Relative performance (RP): 0 best to 3 degraded.
    pub relative_performance: u8,
}

impl Field for LbaFormat {
    const LEN: usize = 4;
    fn get(bytes: &[u8]) -> Self {
        Self { metadata_bytes: Field::get(bytes), data_size: bytes[2], relative_performance: bytes[3] & 3 }
    }
    fn put(&self, out: &mut [u8]) {
        self.metadata_bytes.put(out);
        out[2] = self.data_size;
        out[3] = self.relative_performance & 3;
    }
}

layout! {
    /// I/O command set specific Identify Namespace of the NVM command set (CNS 05h, CSI 00h).
    pub struct IdentifyNamespaceNvm: 4096 {
        /// Logical block storage tag mask (LBSTM).
        0 => lbstm: u64,
        /// Protection information capabilities (PIC).
        8 => pic: u8,
        /// Extended LBA formats 0 to 63 (ELBAF0 to ELBAF63).
        12 => elbaf: [u32; 64],
    }
}

layout! {
    /// I/O command set independent Identify Namespace (CNS 08h).
    pub struct IdentifyNamespaceIndependent: 4096 {
        /// Common namespace features (NSFEAT); only UID_REUSE is defined here.
        0 => nsfeat: NamespaceFeatures,
        /// Multi-path I/O and namespace sharing capabilities (NMIC).
        1 => nmic: Nmic,
        /// Reservation capabilities (RESCAP).
        2 => rescap: ReservationCapabilities,
        /// Format progress indicator (FPI).
        3 => fpi: u8,
        /// ANA group identifier (ANAGRPID).
        4 => anagrpid: u32,
        /// Namespace attributes (NSATTR).
        8 => nsattr: NamespaceAttributes,
        /// NVM set identifier (NVMSETID).
        10 => nvmsetid: u16,
        /// Endurance group identifier (ENDGID).
        12 => endgid: u16,
        /// Namespace status (NSTAT).
        14 => nstat: NamespaceStatus,
    }
}

flags! {
    /// Namespace features (NSFEAT).
    pub struct NamespaceFeatures(u8) {
        /// Thin provisioning (THINP): NCAP and NUSE follow use.
        THIN = 1 << 0,
        /// NAWUN, NAWUPF and NACWU hold for this namespace (NSABP).
        ATOMIC_PARAMETERS = 1 << 1,
        /// Reading deallocated blocks may be an error (DAE).
        DEALLOCATED_ERROR = 1 << 2,
        /// NGUID and EUI64 are never reused (UIDREUSE).
        UID_REUSE = 1 << 3,
        /// NPWG, NPWA, NPDG, NPDA and NOWS hold for this namespace (OPTPERF).
        OPTIMAL_PERFORMANCE = 1 << 4,
    }
}

flags! {
    /// Namespace multi-path I/O and namespace sharing capabilities (NMIC).
    pub struct Nmic(u8) {
        /// May be attached to several controllers at a time.
        SHARED = 1 << 0,
    }
}

flags! {
    /// Reservation capabilities (RESCAP).
    pub struct ReservationCapabilities(u8) {
        /// Persist through power loss.
        PERSIST = 1 << 0,
        /// Write Exclusive.
        WRITE_EXCLUSIVE = 1 << 1,
        /// Exclusive Access.
        EXCLUSIVE_ACCESS = 1 << 2,
        /// Write Exclusive, registrants only.
        WRITE_EXCLUSIVE_REGISTRANTS = 1 << 3,
        /// Exclusive Access, registrants only.
        EXCLUSIVE_ACCESS_REGISTRANTS = 1 << 4,
        /// Write Exclusive, all registrants.
        WRITE_EXCLUSIVE_ALL = 1 << 5,
        /// Exclusive Access, all registrants.
        EXCLUSIVE_ACCESS_ALL = 1 << 6,
        /// Ignore Existing Key as revision 1.3 defines it.
        IGNORE_EXISTING_KEY_1_3 = 1 << 7,
    }
}

flags! {
    /// Deallocate logical block features (DLFEAT).
    pub struct DeallocateFeatures(u8) {
        /// Deallocated blocks read as zeros (bits 2:0 = 001b).
        READS_ZEROS = 0b001,
        /// Deallocated blocks read as FFh (bits 2:0 = 010b).
        READS_ONES = 0b010,
        /// Write Zeroes honours its Deallocate bit.
        WRITE_ZEROES_DEALLOCATES = 1 << 3,
        /// The guard of deallocated blocks is a CRC of the data.
        GUARD_IS_CRC = 1 << 4,
    }
}

flags! {
    /// Namespace attributes (NSATTR).
    pub struct NamespaceAttributes(u8) {
        /// Write protected by any cause.
        WRITE_PROTECTED = 1 << 0,
    }
}

flags! {
    /// Namespace status (NSTAT).
    pub struct NamespaceStatus(u8) {
        /// Ready (NRDY): commands that need the medium can run.
        READY = 1 << 0,
    }
}
