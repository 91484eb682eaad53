//! The data pointer of a command: where its data is, and whether that can be.

use io::{Shared, Slice};
use nvme::{Psdt, Sgl, Sqe, Status};

/// How the host's data gets to the controller.
#[derive(Debug)]
pub(crate) enum Supply<S> {
    /// It came with the capsule.
    Here(Slice<S>),
    /// It must be asked for.
    Ask,
}

/// Finds the `needed` bytes that a command carries to the controller. The host may describe more; what is beyond is not
/// used (SGLS says so). TCP transport spec 1.0, section 3.3.2.1; Base spec 2.0, section 4.1.2.
pub(crate) fn host_data<S: Shared>(
    sqe: &Sqe,
    capsule: Option<Slice<S>>,
    needed: u32,
) -> Result<Supply<S>, Status> {
    match sgl(sqe)? {
        Sgl::InCapsule { offset_bytes, len_bytes } => {
            // ICDOFF is 0, and the data begins there.
            if offset_bytes != 0 {
                return Err(Status::SGL_OFFSET_INVALID.dnr());
            }
            let data = capsule.ok_or(Status::DATA_SGL_LENGTH_INVALID.dnr())?;
            if data.len() != len_bytes as usize || len_bytes < needed {
                return Err(Status::DATA_SGL_LENGTH_INVALID.dnr());
            }
            Ok(Supply::Here(data.first(needed as usize)))
        }
        Sgl::Transport { .. } if capsule.is_some() => Err(Status::INVALID_FIELD.dnr()),
        Sgl::Transport { len_bytes } if len_bytes < needed => Err(Status::DATA_SGL_LENGTH_INVALID.dnr()),
        Sgl::Transport { .. } => Ok(Supply::Ask),
        Sgl::Address { .. } | Sgl::Keyed { .. } => Err(Status::SGL_DESCRIPTOR_TYPE_INVALID.dnr()),
    }
}

/// Checks that the host has room for `needed` bytes of data to it.
pub(crate) fn host_room(sqe: &Sqe, needed: u32) -> Result<(), Status> {
    match sgl(sqe)? {
        Sgl::Transport { len_bytes } if len_bytes >= needed => Ok(()),
        Sgl::Transport { .. } => Err(Status::DATA_SGL_LENGTH_INVALID.dnr()),
        Sgl::Address { .. } | Sgl::InCapsule { .. } | Sgl::Keyed { .. } => {
            Err(Status::SGL_DESCRIPTOR_TYPE_INVALID.dnr())
        }
    }
}

/// Over Fabrics only PSDT 01b is allowed. Base spec 2.0, section 3.3.3.1.
fn sgl(sqe: &Sqe) -> Result<Sgl, Status> {
    if sqe.psdt != Psdt::Sgl {
        return Err(Status::INVALID_FIELD.dnr());
    }
    sqe.sgl().map_err(Status::dnr)
}
