//! The Discovery page (70h): a header of 1024 bytes, then entries of 1024 bytes. Base spec 2.0,
//! section 5.16.1.23.

use crate::fabrics::{Nqn, NqnError};
use crate::layout::Field;
use crate::text::Text;

layout! {
    /// Header of the page.
    pub struct DiscoveryHeader: 1024 {
        /// Generation counter (GENCTR): changes with the page, so that a reader in parts can tell.
        0 => generation: u64,
        /// Number of records that follow (NUMREC).
        8 => count_records: u64,
        /// Record format (RECFMT): 0.
        16 => record_format: u16,
    }
}

layout! {
    /// One entry: a subsystem port, or a referral to another discovery service.
    pub struct DiscoveryEntry: 1024 {
        /// Transport type (TRTYPE).
        0 => transport: TransportType,
        /// Address family (ADRFAM).
        1 => address_family: AddressFamily,
        /// Subsystem type (SUBTYPE).
        2 => subsystem_type: SubsystemType,
        /// Transport requirements (TREQ).
        3 => requirements: TransportRequirements,
        /// Port identifier (PORTID), unique to an address within a subsystem.
        4 => port_id: u16,
        /// Controller identifier (CNTLID): FFFFh for the dynamic controller model.
        6 => cntlid: u16,
        /// Admin submission queue size limit in entries (ASQSZ), at least 32. Not 0's based.
        8 => admin_queue_entries_max: u16,
        /// Entry flags (EFLAGS).
        10 => flags: DiscoveryFlags,
        /// Transport service identifier (TRSVCID): over TCP the port number in decimal.
        32 => service_id: Text<32>,
        /// NQN of the subsystem (SUBNQN); [`DiscoveryEntry::subsystem_nqn`] reads it.
        256 => subnqn: [u8; 256],
        /// Transport address (TRADDR): over TCP an IPv4 or IPv6 address.
        512 => address: Text<256>,
        /// Security type in the transport specific address subtype (TSAS.SECTYPE) of TCP: 0 none,
        /// 1 TLS 1.2, 2 TLS 1.3.
        768 => security_type: u8,
    }
}

impl DiscoveryEntry {
    /// The subsystem's NQN.
    pub fn subsystem_nqn(&self) -> Result<Nqn, NqnError> {
        Nqn::parse(&self.subnqn)
    }
}

macro_rules! code_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
            /// Any other value.
            Other(u8),
        }

        impl Field for $name {
            const LEN: usize = 1;
            fn get(bytes: &[u8]) -> Self {
                match bytes[0] {
                    $($code => Self::$variant,)*
                    other => Self::Other(other),
                }
            }
            fn put(&self, out: &mut [u8]) {
                out[0] = match *self {
                    $(Self::$variant => $code,)*
                    Self::Other(code) => code,
                };
            }
        }
    };
}

code_enum! {
    /// Transport type (TRTYPE).
    pub enum TransportType {
        /// RDMA.
        Rdma = 1,
        /// Fibre Channel.
        FibreChannel = 2,
        /// TCP.
        Tcp = 3,
        /// Within one host.
        IntraHost = 254,
    }
}

code_enum! {
    /// Address family (ADRFAM).
    pub enum AddressFamily {
        /// IPv4, dotted decimal.
        Ipv4 = 1,
        /// IPv6.
        Ipv6 = 2,
        /// InfiniBand.
        InfiniBand = 3,
        /// Fibre Channel.
        FibreChannel = 4,
    }
}

code_enum! {
    /// Subsystem type (SUBTYPE).
    pub enum SubsystemType {
        /// A referral to another discovery service.
        Referral = 1,
        /// An NVM subsystem.
        Nvm = 2,
        /// The discovery subsystem that is being asked.
        CurrentDiscovery = 3,
    }
}

flags! {
    /// Transport requirements (TREQ).
    pub struct TransportRequirements(u8) {
        /// A secure channel is required (bits 1:0 = 01b).
        SECURE_CHANNEL_REQUIRED = 0b01,
        /// A secure channel is not required (bits 1:0 = 10b).
        SECURE_CHANNEL_NOT_REQUIRED = 0b10,
        /// The controller can disable SQ flow control.
        SQ_FLOW_CONTROL_DISABLE = 1 << 2,
    }
}

flags! {
    /// Entry flags (EFLAGS).
    pub struct DiscoveryFlags(u16) {
        /// Other ports of the entry's subsystem return the same page (DUPRETINFO).
        DUPLICATE = 1 << 0,
        /// The discovery subsystem supports explicit persistent connections (EPCSD).
        PERSISTENT_CONNECTIONS = 1 << 1,
        /// The entry does not describe a connectable port (NCC).
        NO_CDC_CONNECTIVITY = 1 << 2,
    }
}
