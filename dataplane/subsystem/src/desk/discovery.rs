//! The Discovery log page: where a host may connect to. Base spec 2.0, section 5.16.1.23.

use std::net::SocketAddr;

use nvme::Nqn;
use nvme::log::{
    AddressFamily, DiscoveryEntry, DiscoveryFlags, DiscoveryHeader, SubsystemType, TransportRequirements,
    TransportType,
};
use nvme::text::Text;

use super::DeskConfig;
use super::identify::Namespaces;
use crate::NamespaceShape;
use crate::limits::ADMIN_QUEUE_ENTRIES_TOLD;

/// True if the subsystem has anything for the host named `host`. The address does not count here: a host with several
/// addresses may ask from one and connect from another.
pub(crate) fn offers(namespaces: &Namespaces, host: &Nqn) -> bool {
    namespaces.values().any(|shape| offers_one(shape, host))
}

/// True if the namespace is reason enough to show the subsystem to the host.
pub(crate) fn offers_one(shape: &NamespaceShape, host: &Nqn) -> bool {
    shape.hosts.allows(host)
}

/// The page for the host named `host`.
pub(crate) fn page(config: &DeskConfig, namespaces: &Namespaces, generation: u64, host: &Nqn) -> Vec<u8> {
    let addresses: &[SocketAddr] = if offers(namespaces, host) { &config.advertised } else { &[] };
    let header = DiscoveryHeader { generation, count_records: addresses.len() as u64, record_format: 0 };
    let mut page = header.encode().to_vec();
    for (index, address) in addresses.iter().enumerate() {
        let port_id = u16::try_from(index + 1).unwrap_or(u16::MAX);
        page.extend_from_slice(&entry(config, *address, port_id).encode());
    }
    page
}

fn entry(config: &DeskConfig, address: SocketAddr, port_id: u16) -> DiscoveryEntry {
    let address_family = if address.is_ipv4() { AddressFamily::Ipv4 } else { AddressFamily::Ipv6 };
    DiscoveryEntry {
        transport: TransportType::Tcp,
        address_family,
        subsystem_type: SubsystemType::Nvm,
        requirements: TransportRequirements::SECURE_CHANNEL_NOT_REQUIRED
            | TransportRequirements::SQ_FLOW_CONTROL_DISABLE,
        port_id,
        // The dynamic controller model.
        cntlid: 0xffff,
        admin_queue_entries_max: ADMIN_QUEUE_ENTRIES_TOLD,
        flags: DiscoveryFlags::default(),
        service_id: Text::new(&address.port().to_string()).unwrap_or_default(),
        subnqn: config.subsystem_nqn.encode(),
        address: Text::new(&address.ip().to_string()).unwrap_or_default(),
        security_type: 0,
    }
}
