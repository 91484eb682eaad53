//! Who may do what: a token becomes a [`Caller`], a caller and an intention become a [`Permit`].
//!
//! Neither can be made in any other way, and everything that reads or changes a resource wants one of them: a
//! forgotten check does not compile.

pub(crate) mod algorithm;
pub(crate) mod environment;
pub(crate) mod federation;
pub(crate) mod issuing;
pub(crate) mod key;
pub(crate) mod password;
mod permission;
mod records;
mod role;
pub(crate) mod service;
pub(crate) mod token;
pub(crate) mod users;

pub(crate) use permission::{Denied, Permit, Resource, Rule, Scope, Verb, roles_of};
pub(crate) use role::Role;
pub(crate) use service::Tokens;
pub(crate) use token::{Claims, Parsed, TokenError, Trusted, claimed_roles, expiry, mint, now, verify};

/// The pseudo project of the cluster itself.
pub(crate) const SYSTEM: &str = "system";

/// Someone whose token or login was verified.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    subject: String,
    roles: Vec<Role>,
    /// Makes the type impossible to build outside this module's children.
    _verified: token::Verified,
}

impl Caller {
    /// The token's subject, for the log and for ownership.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// Whether a role over the whole cluster is held: its permits need no project.
    pub(crate) fn spans_projects(&self) -> bool {
        self.roles.iter().any(|role| role.scope() == SYSTEM)
    }

    /// Whether everything is permitted.
    #[cfg(test)]
    pub(crate) fn is_cluster_admin(&self) -> bool {
        self.roles.contains(&Role::ClusterAdmin)
    }
}
