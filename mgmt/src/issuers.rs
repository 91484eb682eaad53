//! What is known of other issuers of tokens: their keys, fetched over HTTPS, kept for a while, and fetched again.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// Issuers and their keys.
#[derive(Debug, Default)]
pub(crate) struct Issuers {
    known: RefCell<BTreeMap<String, bool>>,
}

impl Issuers {
    /// The contract's name of the state of an issuer's configuration.
    pub(crate) fn state(&self, issuer: &str) -> &'static str {
        match self.known.borrow().get(issuer) {
            None => "Creating",
            Some(true) => "Active",
            Some(false) => "Failed",
        }
    }
}
