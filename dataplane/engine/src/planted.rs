//! Deliberately wrong behaviour, compiled in only for the tests of the tests.

/// What goes wrong on purpose; the simulator must catch each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A change is answered before every reactor has drained what it fences.
    AnswerBeforeFence,
    /// A volume that becomes smaller keeps its blocks beyond the new end.
    ForgetClear,
    /// The queues of an association that has ended go on.
    KeepStaleQueues,
    /// A flush asks one shard only.
    FlushOneShard,
    /// The second stripe of a write gets the data of the first.
    RepeatFirstStripe,
    /// A command ends as its last piece did, whatever the others said.
    ForgetOtherPieces,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::AnswerBeforeFence,
        Self::ForgetClear,
        Self::KeepStaleQueues,
        Self::FlushOneShard,
        Self::RepeatFirstStripe,
        Self::ForgetOtherPieces,
    ];
}
