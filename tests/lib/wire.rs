//! One NVMe/TCP connection, PDU by PDU, as a test wants them: right, wrong, or cut short.
//!
//! Built from bytes and sharing no code with the product, so that both cannot be wrong in the same way. Layouts
//! are those of the NVMe TCP Transport Specification 1.0, section 3.6.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// PDU types.
pub mod kind {
    /// Initialize Connection Request.
    pub const IC_REQ: u8 = 0x00;
    /// Initialize Connection Response.
    pub const IC_RESP: u8 = 0x01;
    /// Host to Controller Terminate Connection Request.
    pub const H2C_TERM_REQ: u8 = 0x02;
    /// Controller to Host Terminate Connection Request.
    pub const C2H_TERM_REQ: u8 = 0x03;
    /// Command Capsule.
    pub const CAPSULE_CMD: u8 = 0x04;
    /// Response Capsule.
    pub const CAPSULE_RESP: u8 = 0x05;
    /// Host to Controller Data.
    pub const H2C_DATA: u8 = 0x06;
    /// Controller to Host Data.
    pub const C2H_DATA: u8 = 0x07;
    /// Ready to Transfer.
    pub const R2T: u8 = 0x09;
}

/// Fatal Error Status of a Terminate Connection Request.
pub mod fes {
    /// Invalid PDU Header Field.
    pub const INVALID_HEADER_FIELD: u16 = 1;
    /// PDU Sequence Error.
    pub const SEQUENCE_ERROR: u16 = 2;
    /// Header Digest Error.
    pub const HEADER_DIGEST_ERROR: u16 = 3;
    /// Data Transfer Out of Range.
    pub const DATA_OUT_OF_RANGE: u16 = 4;
    /// Data Transfer Limit Exceeded, or R2T Limit Exceeded.
    pub const DATA_LIMIT_EXCEEDED: u16 = 5;
    /// Unsupported Parameter.
    pub const UNSUPPORTED_PARAMETER: u16 = 6;
}

/// Flag: a header digest follows the header.
pub const HDGSTF: u8 = 0x01;
/// Flag: a data digest follows the data.
pub const DDGSTF: u8 = 0x02;
/// Flag of data PDUs: the last of its transfer.
pub const LAST_PDU: u8 = 0x04;
/// Flag of C2HData: the command succeeded and no response capsule follows.
pub const SUCCESS: u8 = 0x08;

/// A PDU as received, its digests checked and taken off.
#[derive(Debug, Clone)]
pub struct Pdu {
    /// PDU type.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// The whole header: common part and type-specific part.
    pub header: Vec<u8>,
    /// The data.
    pub data: Vec<u8>,
}

/// Why no PDU came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The controller closed the connection.
    Closed,
    /// Nothing within the time limit.
    Silent,
}

/// A connection and the digests agreed on it.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    header_digest: bool,
    data_digest: bool,
    /// Largest H2CData payload that the controller takes (MAXH2CDATA), in bytes.
    pub h2c_data_bytes_max: usize,
}

impl Wire {
    /// Connects without saying anything.
    ///
    /// # Errors
    /// If the port does not accept.
    pub fn open(port: u16) -> io::Result<Self> {
        Self::open_to(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    /// Connects to an address without saying anything.
    ///
    /// # Errors
    /// If the address does not accept.
    pub fn open_to(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, header_digest: false, data_digest: false, h2c_data_bytes_max: 0 })
    }

    /// Connects and initializes the connection; checks what every ICResp must hold.
    ///
    /// # Panics
    /// If the controller refuses, or answers what Linux would refuse.
    #[must_use]
    pub fn initialized(port: u16, header_digest: bool, data_digest: bool) -> Self {
        let mut wire = Self::open(port).expect("connect to the I/O port");
        wire.initialize(header_digest, data_digest);
        wire
    }

    /// Exchanges ICReq and ICResp.
    ///
    /// # Panics
    /// As [`Wire::initialized`].
    pub fn initialize(&mut self, header_digest: bool, data_digest: bool) {
        let digests = u8::from(header_digest) | u8::from(data_digest) << 1;
        self.send(&ic_req(digests)).expect("send ICReq");
        let response = self.receive().expect("an ICResp");
        assert_eq!(response.kind, kind::IC_RESP, "{response:?}");
        assert_eq!(response.header.len(), 128, "ICResp's length");
        assert_eq!(word(&response.header, 8), 0, "PFV");
        assert_eq!(response.header[10], 0, "CPDA");
        assert_eq!(response.header[11], digests, "digests as asked");
        let bytes_max = double_word(&response.header, 12);
        assert!(bytes_max >= 4096 && bytes_max.is_multiple_of(4), "MAXH2CDATA {bytes_max}");
        self.h2c_data_bytes_max = bytes_max as usize;
        self.header_digest = header_digest;
        self.data_digest = data_digest;
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the connection is gone or the controller reads nothing for [`PATIENCE`].
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a PDU with the digests agreed on. `header` is whole but for flags, PDO and PLEN.
    ///
    /// # Errors
    /// As [`Wire::send`].
    pub fn send_pdu(&mut self, header: &[u8], data: &[u8]) -> io::Result<()> {
        let bytes = self.pdu(header, data);
        self.send(&bytes)
    }

    /// The bytes of a PDU with the digests agreed on.
    #[must_use]
    pub fn pdu(&self, header: &[u8], data: &[u8]) -> Vec<u8> {
        let mut bytes = header.to_vec();
        if self.header_digest {
            bytes[1] |= HDGSTF;
        }
        if self.data_digest && !data.is_empty() {
            bytes[1] |= DDGSTF;
        }
        let header_end = header.len() + if self.header_digest { 4 } else { 0 };
        let data_end = header_end + data.len();
        let length = data_end + if self.data_digest && !data.is_empty() { 4 } else { 0 };
        bytes[2] = u8::try_from(header.len()).expect("a header below 256 bytes");
        bytes[3] = if data.is_empty() { 0 } else { u8::try_from(header_end).expect("a short header") };
        bytes[4..8].copy_from_slice(&u32::try_from(length).expect("a PDU below 4 GiB").to_le_bytes());
        if self.header_digest {
            bytes.extend_from_slice(&crc32c(&bytes.clone()).to_le_bytes());
        }
        bytes.extend_from_slice(data);
        if self.data_digest && !data.is_empty() {
            bytes.extend_from_slice(&crc32c(data).to_le_bytes());
        }
        bytes
    }

    /// Receives a PDU; checks its lengths and digests.
    ///
    /// # Errors
    /// If none comes.
    ///
    /// # Panics
    /// If what comes is no right PDU.
    pub fn receive(&mut self) -> Result<Pdu, End> {
        let mut common = [0; 8];
        self.read(&mut common)?;
        let (kind, flags, header_length) = (common[0], common[1], usize::from(common[2]));
        let length = double_word(&common, 4) as usize;
        assert!(header_length >= 8 && length >= header_length && length < 64 << 20, "PDU {common:02x?}");
        let mut rest = vec![0; length - 8];
        self.read(&mut rest)?;
        let mut bytes = common.to_vec();
        bytes.append(&mut rest);
        let digested = kind != kind::IC_RESP && kind != kind::C2H_TERM_REQ;
        let header_digest = digested && self.header_digest;
        assert_eq!(flags & HDGSTF != 0, header_digest, "HDGSTF of PDU {common:02x?}");
        let data_begin = if header_digest {
            let digest = double_word(&bytes, header_length);
            assert_eq!(digest, crc32c(&bytes[..header_length]), "header digest of PDU {common:02x?}");
            header_length + 4
        } else {
            header_length
        };
        let mut data = bytes.split_off(data_begin);
        if digested && self.data_digest && !data.is_empty() {
            assert!(flags & DDGSTF != 0, "DDGSTF of PDU {common:02x?}");
            let digest = double_word(&data, data.len() - 4);
            data.truncate(data.len() - 4);
            assert_eq!(digest, crc32c(&data), "data digest of PDU {common:02x?}");
        }
        bytes.truncate(header_length);
        Ok(Pdu { kind, flags, header: bytes, data })
    }

    /// Expects a C2HTermReq with one of the statuses, then the end of the connection.
    ///
    /// # Panics
    /// If anything else comes.
    pub fn expect_termination(&mut self, statuses: &[u16]) {
        let pdu = loop {
            match self.receive() {
                // What was under way before the fault may still be answered.
                Ok(pdu) if pdu.kind != kind::C2H_TERM_REQ => {}
                Ok(pdu) => break pdu,
                Err(end) => panic!("no C2HTermReq but {end:?}"),
            }
        };
        assert_eq!(pdu.header.len(), 24, "C2HTermReq's header");
        assert!(pdu.data.len() <= 128, "C2HTermReq's data: {}", pdu.data.len());
        let status = word(&pdu.header, 8);
        assert!(statuses.contains(&status), "Fatal Error Status {status}, not one of {statuses:?}");
        self.expect_closed();
    }

    /// Expects the end of the connection.
    ///
    /// # Panics
    /// If it stays open.
    pub fn expect_closed(&mut self) {
        loop {
            match self.receive() {
                Ok(_) => {}
                Err(End::Closed) => return,
                Err(End::Silent) => panic!("the connection stays open"),
            }
        }
    }

    /// Sets how long [`Wire::receive`] waits.
    ///
    /// # Panics
    /// If the socket refuses.
    pub fn set_patience(&mut self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("set a read timeout");
    }

    /// The socket.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), End> {
        let mut done = 0;
        while done < bytes.len() {
            match self.stream.read(&mut bytes[done..]) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(End::Silent);
                }
                // A reset: unread bytes of ours were thrown away at the close.
                Err(_) => return Err(End::Closed),
            }
        }
        Ok(())
    }
}

/// An ICReq that asks for digests: bit 0 of the header, bit 1 of the data.
#[must_use]
pub fn ic_req(digests: u8) -> [u8; 128] {
    let mut pdu = [0; 128];
    pdu[0] = kind::IC_REQ;
    pdu[2] = 128;
    pdu[4] = 128;
    pdu[11] = digests;
    pdu
}

/// The header of a command capsule around a submission queue entry.
#[must_use]
pub fn capsule(entry: &[u8; 64]) -> [u8; 72] {
    let mut header = [0; 72];
    header[0] = kind::CAPSULE_CMD;
    header[8..].copy_from_slice(entry);
    header
}

/// The header of an H2CData PDU.
#[must_use]
pub fn h2c_data(cid: u16, ttag: u16, offset: u32, length: u32, flags: u8) -> [u8; 24] {
    let mut header = [0; 24];
    header[0] = kind::H2C_DATA;
    header[1] = flags;
    header[8..10].copy_from_slice(&cid.to_le_bytes());
    header[10..12].copy_from_slice(&ttag.to_le_bytes());
    header[12..16].copy_from_slice(&offset.to_le_bytes());
    header[16..20].copy_from_slice(&length.to_le_bytes());
    header
}

/// Two bytes, little endian.
#[must_use]
pub fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes, little endian.
#[must_use]
pub fn double_word(bytes: &[u8], at: usize) -> u32 {
    u32::from(word(bytes, at)) | u32::from(word(bytes, at + 2)) << 16
}

/// CRC-32C (Castagnoli), bit by bit in a table of 256.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut value, mut bit) = (byte as u32, 0);
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0x82F6_3B78 } else { value >> 1 };
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| crc >> 8 ^ TABLE[((crc ^ u32::from(*byte)) & 0xFF) as usize])
}

/// How long a healthy controller may take for anything, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod test {
    #[test]
    fn crc32c_has_the_known_vector() {
        assert_eq!(super::crc32c(b"123456789"), 0xE306_9283);
    }
}
