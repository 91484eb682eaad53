//! Outstanding commands and their identifiers.

use nvme::Cqe;

use super::{Cid, Lost, Payload, Refusal, Rejected};

/// A command from submission until nothing points into its payload any more.
#[derive(Debug)]
pub(super) struct Command<W, R> {
    pub(super) cid: Cid,
    data: Data<W, R>,
    /// Bytes received, or bytes that R2Ts asked for. 0 <= moved <= length of the data.
    pub(super) moved: u32,
    /// The data to write is in the capsule.
    pub(super) in_capsule: bool,
    /// The capsule has been encoded, so that the controller may know of the command.
    pub(super) begun: bool,
    /// R2Ts whose data has not been encoded whole.
    pub(super) r2ts: u32,
    /// Encoded PDUs that point into the payload and have not been sent whole.
    pub(super) pdus: u32,
    /// The C2HData PDU with LAST_PDU has come.
    pub(super) last_seen: bool,
    /// Some data failed its digest.
    pub(super) digest_failed: bool,
    /// How the command ended, while it [owes data](Self::owes_data).
    pub(super) ended: Option<Result<Cqe, Lost>>,
}

#[derive(Debug)]
enum Data<W, R> {
    Caller(Payload<W, R>),
    /// Data of the Connect that the queue sends by itself.
    Connect(Box<[u8; nvme::fabrics::ConnectData::LEN]>),
}

impl<W: AsRef<[u8]>, R: AsMut<[u8]>> Command<W, R> {
    pub(super) fn new(payload: Payload<W, R>) -> Self {
        Self::with_data(Data::Caller(payload))
    }

    pub(super) fn connect(data: [u8; nvme::fabrics::ConnectData::LEN]) -> Self {
        Self::with_data(Data::Connect(Box::new(data)))
    }

    fn with_data(data: Data<W, R>) -> Self {
        Self {
            cid: Cid(0),
            data,
            moved: 0,
            in_capsule: false,
            begun: false,
            r2ts: 0,
            pdus: 0,
            last_seen: false,
            digest_failed: false,
            ended: None,
        }
    }

    /// Bytes of data; `None` if a command cannot have so many.
    pub(super) fn len(&mut self) -> Option<u32> {
        let len = match &mut self.data {
            Data::Caller(Payload::None) => 0,
            Data::Caller(Payload::Write(data)) => data.as_ref().len(),
            Data::Caller(Payload::Read(room)) => room.as_mut().len(),
            Data::Connect(data) => data.len(),
        };
        u32::try_from(len).ok()
    }

    /// True while the controller may send PDUs for the command.
    pub(super) fn is_live(&self) -> bool {
        self.begun && self.ended.is_none()
    }

    /// True while data that the controller asked for has not left.
    pub(super) fn owes_data(&self) -> bool {
        self.r2ts > 0 || self.pdus > 0
    }

    pub(super) fn is_write(&self) -> bool {
        matches!(self.data, Data::Caller(Payload::Write(_)) | Data::Connect(_))
    }

    pub(super) fn is_connect(&self) -> bool {
        matches!(self.data, Data::Connect(_))
    }

    /// The data to write.
    pub(super) fn written(&self) -> &[u8] {
        match &self.data {
            Data::Caller(Payload::Write(data)) => data.as_ref(),
            Data::Connect(data) => &data[..],
            Data::Caller(Payload::None | Payload::Read(_)) => &[],
        }
    }

    /// The room for data read, for commands that read.
    pub(super) fn room(&mut self) -> Option<&mut [u8]> {
        match &mut self.data {
            Data::Caller(Payload::Read(room)) => Some(room.as_mut()),
            Data::Caller(Payload::None | Payload::Write(_)) | Data::Connect(_) => None,
        }
    }

    pub(super) fn reject(self, refusal: Refusal) -> Rejected<W, R> {
        let payload = match self.data {
            Data::Caller(payload) => payload,
            Data::Connect(_) => Payload::None,
        };
        Rejected { refusal, payload }
    }

    /// Identifier and payload, for commands that are the caller's.
    pub(super) fn into_payload(self) -> Option<(Cid, Payload<W, R>)> {
        match self.data {
            Data::Caller(payload) => Some((self.cid, payload)),
            Data::Connect(_) => None,
        }
    }
}

/// The outstanding commands, found by CID. A CID is a slot's index in the low bits and, where the
/// queue leaves room, a generation above, so that a stale answer is told from a fresh one.
#[derive(Debug)]
pub(super) struct Commands<W, R> {
    slots: Vec<Slot<W, R>>,
    free: Vec<u16>,
    index_bits: u32,
}

#[derive(Debug)]
struct Slot<W, R> {
    generation: u16,
    command: Option<Command<W, R>>,
}

impl<W, R> Commands<W, R> {
    /// Room for `count` commands, 1..=65535.
    pub(super) fn new(count: u32) -> Self {
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        Self {
            slots: (0..count).map(|_| Slot { generation: 0, command: None }).collect(),
            free: (0..count).rev().collect(),
            index_bits: u32::BITS - u32::from(count - 1).leading_zeros(),
        }
    }

    pub(super) fn room(&self) -> usize {
        self.free.len()
    }

    pub(super) fn outstanding(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Stores a command and gives it an identifier. Panics if there is no room.
    pub(super) fn insert(&mut self, mut command: Command<W, R>) -> Cid {
        let index = self.free.pop().expect("the caller checked for room");
        let slot = &mut self.slots[usize::from(index)];
        slot.generation = slot.generation.wrapping_add(1);
        // With 16 index bits the generation is shifted out.
        let generation = (u32::from(slot.generation) << self.index_bits) as u16;
        command.cid = Cid(index | generation);
        let cid = command.cid;
        slot.command = Some(command);
        cid
    }

    /// The outstanding command with this identifier.
    pub(super) fn find(&mut self, cid: u16) -> Option<&mut Command<W, R>> {
        let index = self.index(cid);
        self.slots.get_mut(index)?.command.as_mut().filter(|command| command.cid.0 == cid)
    }

    pub(super) fn get(&self, cid: u16) -> Option<&Command<W, R>> {
        self.slots.get(self.index(cid))?.command.as_ref().filter(|command| command.cid.0 == cid)
    }

    /// Takes the command with this identifier out.
    pub(super) fn remove(&mut self, cid: u16) -> Option<Command<W, R>> {
        self.find(cid)?;
        let index = self.index(cid);
        self.free.push(index as u16);
        self.slots[index].command.take()
    }

    /// Takes every command out, in order of slot.
    pub(super) fn drain(&mut self) -> Vec<Command<W, R>> {
        let commands: Vec<_> = self.slots.iter_mut().filter_map(|slot| slot.command.take()).collect();
        self.free = (0..self.slots.len() as u16).rev().collect();
        commands
    }

    /// Identifiers of the commands for which `wanted` holds.
    pub(super) fn cids(&self, wanted: impl Fn(&Command<W, R>) -> bool) -> Vec<u16> {
        let commands = self.slots.iter().filter_map(|slot| slot.command.as_ref());
        commands.filter(|command| wanted(command)).map(|command| command.cid.0).collect()
    }

    fn index(&self, cid: u16) -> usize {
        usize::from(cid) & ((1 << self.index_bits) - 1)
    }
}
