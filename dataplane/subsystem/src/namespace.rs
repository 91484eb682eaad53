//! Namespaces as hosts see them: shape, and who may see them.

use std::net::IpAddr;

use nvme::Nqn;

use crate::limits;

/// Which hosts see a namespace, by host NQN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostAcl {
    /// Every host (`ALLOW_ANY`).
    Any,
    /// No host (`ALLOW_NONE`).
    None,
    /// Exactly these.
    Hosts(Vec<Nqn>),
}

/// From which addresses a namespace is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpAcl {
    /// From everywhere (`ALLOW_ANY`).
    Any,
    /// From nowhere (`ALLOW_NONE`).
    None,
    /// From these alone.
    Addresses(Vec<IpAddr>),
}

/// The unit in which hosts address a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectorSize {
    /// 512 bytes.
    B512,
    /// 4096 bytes.
    B4096,
}

/// Everything that a host may learn of a namespace, and who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceShape {
    /// Namespace identifier (NSID), 1..=[`crate::limits::NAMESPACES_MAX`].
    pub nsid: u32,
    /// Namespace UUID and NGUID, RFC 9562 byte order.
    pub uuid: [u8; 16],
    /// Logical block size.
    pub sector: SectorSize,
    /// Size (NSZE and NCAP) in logical blocks.
    pub size_blocks: u64,
    /// Bytes that a write within one stripe may have and still be atomic across power loss; also the most that a
    /// fused Compare and Write may have. A multiple of 4096, 4096..=[`crate::limits::STRIPE_BYTES`].
    pub atomic_bytes: u32,
    /// Hosts that see it.
    pub hosts: HostAcl,
    /// Addresses from which it is seen; both lists must let a host pass.
    pub addresses: IpAcl,
}

impl HostAcl {
    /// True if the host named `host` passes.
    #[must_use]
    pub fn allows(&self, host: &Nqn) -> bool {
        match self {
            Self::Any => true,
            Self::None => false,
            Self::Hosts(hosts) => hosts.contains(host),
        }
    }
}

impl IpAcl {
    /// True if a host at `address` passes. An IPv4 address mapped into IPv6 is that IPv4 address.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::None => false,
            Self::Addresses(addresses) => {
                let address = address.to_canonical();
                addresses.iter().any(|allowed| allowed.to_canonical() == address)
            }
        }
    }
}

impl SectorSize {
    /// Bytes of a logical block as a power of two (LBADS).
    #[must_use]
    pub const fn shift(self) -> u8 {
        match self {
            Self::B512 => 9,
            Self::B4096 => 12,
        }
    }

    /// Bytes of a logical block.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        1 << self.shift()
    }
}

impl NamespaceShape {
    /// Holds the rules that the fields state.
    pub(crate) fn check(&self) {
        assert!(self.nsid >= 1);
        assert!(self.nsid <= limits::NAMESPACES_MAX);
        assert!(self.size_blocks > 0);
        assert!(self.size_blocks <= u64::MAX >> self.sector.shift(), "every byte offset fits in 64 bits");
        assert!(self.atomic_bytes >= 4096);
        assert!(self.atomic_bytes <= limits::STRIPE_BYTES);
        assert!(self.atomic_bytes.is_multiple_of(4096));
    }

    /// True if a host that sees both finds no difference.
    pub(crate) fn looks_like(&self, other: &Self) -> bool {
        let of = |shape: &Self| (shape.nsid, shape.uuid, shape.sector, shape.size_blocks, shape.atomic_bytes);
        of(self) == of(other)
    }

    /// True if the host named `host` sees the namespace from `address`.
    #[must_use]
    pub fn visible_to(&self, host: &Nqn, address: IpAddr) -> bool {
        self.hosts.allows(host) && self.addresses.allows(address)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_mapped_ipv4_address_passes_the_list_that_names_it() {
        let acl = IpAcl::Addresses(vec!["192.0.2.7".parse().unwrap()]);
        assert!(acl.allows("::ffff:192.0.2.7".parse().unwrap()));
        assert!(!acl.allows("::ffff:192.0.2.8".parse().unwrap()));
        let acl = IpAcl::Addresses(vec!["::ffff:192.0.2.7".parse().unwrap()]);
        assert!(acl.allows("192.0.2.7".parse().unwrap()));
    }

    #[test]
    fn both_lists_must_let_a_host_pass() {
        let host = Nqn::new("nqn.2014-08.org.example:a").unwrap();
        let other = Nqn::new("nqn.2014-08.org.example:b").unwrap();
        let address = "2001:db8::1".parse().unwrap();
        let mut shape = NamespaceShape {
            nsid: 1,
            uuid: [0; 16],
            sector: SectorSize::B512,
            size_blocks: 8,
            atomic_bytes: 4096,
            hosts: HostAcl::Hosts(vec![host]),
            addresses: IpAcl::Any,
        };
        assert!(shape.visible_to(&host, address));
        assert!(!shape.visible_to(&other, address));
        shape.addresses = IpAcl::None;
        assert!(!shape.visible_to(&host, address));
    }
}
