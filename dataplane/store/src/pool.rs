//! The pool: drives that belong together, what is fixed when they are made one, and where everything lies on them.

pub(crate) mod bytes;
mod layout;
pub(crate) mod step;

pub use layout::*;
