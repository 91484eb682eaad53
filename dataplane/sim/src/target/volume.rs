//! A volume of the model.

use super::images::{FirstRead, Rolling};
use crate::model::Block;

/// A volume of the model.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) spec: engine::VolumeSpec,
    pub(super) nsid: u32,
    pub(super) blocks: Vec<Block>,
    // The command that changes a block; no two do at a time, because hosts promise no order between them.
    pub(super) locks: Vec<Option<u64>>,
    pub(super) flushed_before: u64,
    // A change by management is under way.
    pub(super) changing: bool,
    // By host: it must not get through since then.
    pub(super) fenced: Vec<Option<u64>>,
    // By host: it may see the volume since then, as far as it may be sure; `u64::MAX` while it may not.
    pub(super) allowed_since: Vec<u64>,
    // When its size was changed last; `u64::MAX` while it is being changed.
    pub(super) resized_at: u64,
    // The volume whose number the bytes carry: the one from which all of its lineage comes.
    pub(super) stamp: usize,
    // The snapshot that it is a clone of.
    pub(super) origin: Option<usize>,
    // Counts its changes.
    pub(super) revision: u64,
    // It was deleted.
    pub(super) gone: bool,
    // Of a clone that nobody has read yet.
    pub(super) first_read: Option<FirstRead>,
    // When the snapshot that is being taken of it was asked for.
    pub(super) cut_at: Option<u64>,
    pub(super) rolling: Option<Rolling>,
    // Since when everybody sees that it was rolled back; `u64::MAX` while nobody knows.
    pub(super) rolled_at: u64,
}

impl Volume {
    /// A volume of so many blocks that hold nothing, as all of `hosts` hosts see it.
    pub(super) fn new(spec: engine::VolumeSpec, stamp: usize, blocks: usize, hosts: usize) -> Self {
        Self {
            spec,
            nsid: 0,
            blocks: vec![Block::default(); blocks],
            locks: vec![None; blocks],
            flushed_before: 0,
            changing: false,
            fenced: vec![None; hosts],
            allowed_since: vec![0; hosts],
            resized_at: 0,
            stamp,
            origin: None,
            revision: 1,
            gone: false,
            first_read: None,
            cut_at: None,
            rolling: None,
            rolled_at: 0,
        }
    }

    /// Whether a command that was asked for at `asked_at` may have met the volume as it was before a rollback or after.
    pub(super) fn may_be_either(&self, asked_at: u64) -> bool {
        self.rolled_at != u64::MAX && asked_at < self.rolled_at
    }

    /// A rollback is under way that nobody has seen.
    pub(super) fn is_rolling(&self) -> bool {
        self.rolled_at == u64::MAX
    }
}
