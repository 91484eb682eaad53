//! The data plane's engine: target and store composed, generic over the seam.
#![forbid(unsafe_code)]

mod action;

pub use action::{
    Action, ActionError, ConnectedHost, Drive, HostAcl, Identity, IpAcl, Outcome, SectorSize, Series,
    Statistics, Volume, VolumeChange, VolumeSpec, VolumeState, VolumeUsage, VolumeUuid,
};
