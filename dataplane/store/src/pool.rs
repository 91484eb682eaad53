//! The pool: drives that belong together, what is fixed when they are made one, and where everything lies on them.

mod layout;

pub use layout::*;
