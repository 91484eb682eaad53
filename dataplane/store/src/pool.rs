//! The pool: drives that belong together, what is fixed when they are made one, and where everything lies on them.

pub(crate) mod bytes;
mod error;
mod judge;
mod layout;
mod opening;
pub(crate) mod step;

pub use error::{DriveSet, PoolError};
pub use layout::*;
pub use opening::{FormatOptions, Opened, PoolOpening};
