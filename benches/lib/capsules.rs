//! Streams of command capsules as an I/O queue receives them.

use nvme::command::{LbaRange, NvmOpcode};
use nvme::pdu::{CapsuleCmd, Codec, HEADER_LEN_MAX, Receiver};
use nvme::{Framer, Limits};

/// The checksum of PDUs.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// A codec with both digests, or without any.
#[must_use]
pub fn codec(digests: bool) -> Codec {
    Codec { header_digest: digests, data_digest: digests, ..Codec::initial(crc32c) }
}

/// A framer of a controller that takes capsules with 8 KiB.
#[must_use]
pub fn framer(digests: bool) -> Framer {
    let limits = Limits { capsule_data_max_bytes: 8192, transfer_data_max_bytes: 1 << 20 };
    let mut framer = Framer::new(Receiver::Controller, limits, crc32c);
    framer.negotiate(digests, digests, 4);
    framer
}

/// So many commands, each with so much data in its capsule.
#[must_use]
pub fn stream(codec: &Codec, opcode: NvmOpcode, count: u64, data: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in 0..count {
        let sqe = LbaRange::new(index * 8, 8).encode(opcode, 1);
        let mut header = [0; HEADER_LEN_MAX];
        let len = CapsuleCmd { sqe }.encode(codec, data, &mut header);
        bytes.extend_from_slice(&header[..len]);
        let payload = vec![index as u8; data as usize];
        bytes.extend_from_slice(&payload);
        if codec.data_digest && data > 0 {
            bytes.extend_from_slice(&crc32c(&payload).to_le_bytes());
        }
    }
    bytes
}
