//! Deliberately wrong behaviour, compiled in only for the tests of the tests.

/// What goes wrong on purpose; the simulator must catch each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// Writes are answered when they are submitted to the drive.
    AcknowledgeBeforeWritten,
    /// Batches are acknowledged in the order in which the drive completes them.
    AcknowledgeOutOfOrder,
    /// A flush answers without asking the drives.
    FlushNothing,
    /// A root is written without a flush of what it refers to.
    RootWithoutFlush,
    /// Emptied segments are used again before a root without them is durable.
    ReuseTooEarly,
    /// Emptied segments are used again while reads of them are under way.
    ReuseUnderReads,
    /// Emptied segments are used again without a checkpoint although replay begins in them, or before.
    ReuseUnderReplay,
    /// Emptied segments are used again without a checkpoint although something was cut off from the map since.
    ReuseInexact,
    /// Replay does not check that a batch follows the one before.
    IgnoreChain,
    /// Replay does not check payloads in the tail of the log.
    IgnoreTornPayload,
    /// A partial write does not wait for an earlier write to the same block.
    ForgetPendingVersion,
    /// A full write does not wait for an earlier partial write or fused pair.
    IgnoreGuards,
    /// A moved block replaces whatever the map says by then.
    MoveOverwrites,
    /// Recovery goes on in the old epoch.
    KeepEpoch,
    /// Replay skips deallocation.
    ForgetUnmaps,
    /// Checksums are not verified on read.
    SkipChecksums,
    /// What an image overwrites is given back whoever else holds it.
    FreeShared,
    /// What an image overwrites is never given back where another page may hold it.
    KeepShared,
    /// A copied page does not tell the page that it was copied from.
    CopyInSilence,
    /// A move changes one of the pages that hold the block.
    MoveInOneImage,
    /// A dropped image leaves those that it connected apart.
    DropConnections,
    /// A manifest does not say which images may share blocks.
    ForgetCliques,
    /// Replay makes no images.
    ForgetForks,
    /// A fork is answered before it is safe from a power cut.
    ForkWithoutFlush,
    /// A compressed block that cleaning moved is taken for one that is stored as it is.
    MovePackedAsRaw,
    /// Replay does not check compressed payloads in the tail of the log.
    IgnoreTornPacked,
    /// A compressed block is taken for whatever it decompresses to, unchecked and of any length.
    TrustPacked,
    /// Leaves leave memory although they differ from what was written.
    EvictDirty,
    /// A leaf that was read in is taken for one whose blocks nobody else holds.
    LoadAsOwn,
    /// A leaf that several pages refer to is read in for one of them alone.
    LoadTwice,
    /// Nobody minds that pages above the leaves that are not in memory refer to leaves, too.
    ForgetAway,
    /// A page above the leaves that was read in does not look for its leaves among those that are in memory.
    LoadApart,
    /// What replay puts into a leaf of the map together is in the wrong order.
    ReplayOutOfOrder,
    /// Cleaning does not begin while a change waits for the room that it would make.
    RestInNeed,
}

impl Planted {
    /// Those that show only where there are forks.
    pub const OF_IMAGES: [Self; 12] = [
        Self::FreeShared,
        Self::KeepShared,
        Self::CopyInSilence,
        Self::MoveInOneImage,
        Self::DropConnections,
        Self::ForgetCliques,
        Self::ForgetForks,
        Self::ForkWithoutFlush,
        Self::LoadAsOwn,
        Self::LoadTwice,
        Self::ForgetAway,
        Self::LoadApart,
    ];

    /// All of them.
    pub const ALL: [Self; 34] = [
        Self::AcknowledgeBeforeWritten,
        Self::AcknowledgeOutOfOrder,
        Self::FlushNothing,
        Self::RootWithoutFlush,
        Self::ReuseTooEarly,
        Self::ReuseUnderReads,
        Self::ReuseUnderReplay,
        Self::ReuseInexact,
        Self::IgnoreChain,
        Self::IgnoreTornPayload,
        Self::ForgetPendingVersion,
        Self::IgnoreGuards,
        Self::MoveOverwrites,
        Self::KeepEpoch,
        Self::ForgetUnmaps,
        Self::SkipChecksums,
        Self::FreeShared,
        Self::KeepShared,
        Self::CopyInSilence,
        Self::MoveInOneImage,
        Self::DropConnections,
        Self::ForgetCliques,
        Self::ForgetForks,
        Self::ForkWithoutFlush,
        Self::MovePackedAsRaw,
        Self::IgnoreTornPacked,
        Self::TrustPacked,
        Self::EvictDirty,
        Self::LoadAsOwn,
        Self::LoadTwice,
        Self::ForgetAway,
        Self::LoadApart,
        Self::ReplayOutOfOrder,
        Self::RestInNeed,
    ];
}
