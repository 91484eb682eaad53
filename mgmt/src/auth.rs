//! Who may do what: a token becomes a [`Caller`], a caller and an intention become a [`Permit`].
//!
//! Neither can be made in any other way, and everything that reads or changes a resource wants one of them: a
//! forgotten check does not compile.

pub(crate) mod key;
mod permission;
mod token;

pub(crate) use permission::{Denied, Permit, Resource, Rule, Scope, Verb, roles_of};
pub(crate) use token::{Claims, TokenError, claimed_roles, expiry, mint, verify};

/// The pseudo project of the cluster itself.
pub(crate) const SYSTEM: &str = "system";

/// Someone whose token was verified.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    subject: String,
    roles: Vec<Role>,
    /// Makes the type impossible to build outside this module's children.
    _verified: token::Verified,
}

/// A role that this server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// `system:cluster-admin`: everything.
    ClusterAdmin,
    /// `<project>:admin`: what belongs to the project.
    ProjectAdmin(String),
    /// `<project>:viewer`: what belongs to the project, without changing it.
    ProjectViewer(String),
}

impl Caller {
    /// The token's subject, for the log.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// Whether a role over the whole cluster is held.
    pub(crate) fn is_cluster_admin(&self) -> bool {
        self.roles.contains(&Role::ClusterAdmin)
    }
}

impl Role {
    /// Reads `<scope>:<role>`; none where this server has no such role.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scope, role) = text.rsplit_once(':')?;
        match (scope, role) {
            ("", _) => None,
            (SYSTEM, "cluster-admin") => Some(Self::ClusterAdmin),
            (SYSTEM, _) => None,
            (project, "admin") => Some(Self::ProjectAdmin(project.to_owned())),
            (project, "viewer") => Some(Self::ProjectViewer(project.to_owned())),
            _ => None,
        }
    }

    /// The project that the role is of.
    fn scope(&self) -> &str {
        match self {
            Self::ClusterAdmin => SYSTEM,
            Self::ProjectAdmin(project) | Self::ProjectViewer(project) => project,
        }
    }
}
