//! What a run of the whole target went through, to see that runs are worth their time.

/// What a run went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetReport {
    /// Commands that completed.
    pub completed: u64,
    /// Of these without success.
    pub refused: u64,
    /// Of these for lack of room.
    pub full: u64,
    /// Of these for what could not be read.
    pub unreadable: u64,
    /// Commands that were aborted.
    pub aborted: u64,
    /// Halves of fused pairs that succeeded.
    pub fused: u64,
    /// Commands that were lost with their connection.
    pub lost: u64,
    /// Hosts.
    pub hosts: u64,
    /// Associations that became ready.
    pub associations: u64,
    /// Changes by management that were answered.
    pub changes: u64,
    /// Crashes.
    pub crashes: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Of these such as were read, each a cut through its volume's history.
    pub cuts: u64,
    /// Clones.
    pub clones: u64,
    /// Rollbacks.
    pub rollbacks: u64,
    /// Controllers that were shut down in order.
    pub shutdowns: u64,
    /// Diffs.
    pub diffs: u64,
    /// Drives that joined while hosts were there.
    pub joined: u64,
    /// Drives that joined and were written to.
    pub drives_used: u64,
}
