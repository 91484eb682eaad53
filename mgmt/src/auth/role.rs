//! Roles: what this server knows, and what the claims of other products' tokens mean here.
//!
//! A claim with a colon is `<scope>:<role>`. Without one it is a user's role (`admin`, `api`, `user`, with the claim
//! `projects`) or a storage role (`system.admin`, `system.view`, `system.user`, with the claim `groups`).

use super::SYSTEM;

/// A role that this server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// `system:cluster-admin`: everything.
    ClusterAdmin,
    /// `system:cluster-viewer`: everything, without changing it.
    ClusterViewer,
    /// `system:cluster-user`: volumes of all projects.
    ClusterUser,
    /// `<project>:admin`: what belongs to the project.
    ProjectAdmin(String),
    /// `<project>:viewer`: what belongs to the project, without changing it.
    ProjectViewer(String),
    /// `<project>:user`: the caller's own volumes in the project.
    ProjectUser(String),
}

/// What a token says of its bearer's rights.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RoleClaims<'a> {
    /// `roles`.
    pub(crate) roles: &'a [String],
    /// `groups`, beside storage roles.
    pub(crate) groups: &'a [String],
    /// `projects`, beside users' roles.
    pub(crate) projects: &'a [String],
}

impl Role {
    /// Reads `<scope>:<role>`; none where this server has no such role.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scope, role) = text.rsplit_once(':')?;
        match (scope, role) {
            ("", _) => None,
            (SYSTEM, "cluster-admin") => Some(Self::ClusterAdmin),
            (SYSTEM, "cluster-viewer") => Some(Self::ClusterViewer),
            (SYSTEM, "cluster-user") => Some(Self::ClusterUser),
            (SYSTEM, _) => None,
            (project, "admin") => Some(Self::ProjectAdmin(project.to_owned())),
            (project, "viewer") => Some(Self::ProjectViewer(project.to_owned())),
            (project, "user") => Some(Self::ProjectUser(project.to_owned())),
            _ => None,
        }
    }

    /// All roles that the claims give, none of them twice.
    pub(crate) fn of_claims(claims: RoleClaims<'_>) -> Vec<Self> {
        let mut roles: Vec<Self> = Vec::new();
        for text in claims.roles.iter().take(CLAIMS_MAX) {
            for role in Self::of_claim(text, claims) {
                if !roles.contains(&role) {
                    roles.push(role);
                }
            }
        }
        roles
    }

    fn of_claim(text: &str, claims: RoleClaims<'_>) -> Vec<Self> {
        let everywhere = claims.groups.iter().any(|group| group == "*");
        let groups = claims.groups.iter().take(CLAIMS_MAX).filter(|group| is_project(group)).cloned();
        let own = [DEFAULT.to_owned()];
        let projects = if claims.projects.is_empty() { &own } else { claims.projects };
        let projects = projects.iter().take(CLAIMS_MAX).filter(|project| is_project(project)).cloned();
        match text {
            "admin" => vec![Self::ClusterAdmin],
            "api" => projects.map(Self::ProjectAdmin).collect(),
            "user" => projects.map(Self::ProjectViewer).collect(),
            "system.admin" if everywhere => vec![Self::ClusterAdmin],
            "system.admin" => groups.map(Self::ProjectAdmin).collect(),
            "system.view" if everywhere => vec![Self::ClusterViewer],
            "system.view" => groups.map(Self::ProjectViewer).collect(),
            "system.user" if everywhere => vec![Self::ClusterUser],
            "system.user" => own.iter().cloned().chain(groups).map(Self::ProjectUser).collect(),
            text => Self::parse(text).into_iter().collect(),
        }
    }

    /// The project that the role is of.
    pub(crate) fn scope(&self) -> &str {
        match self {
            Self::ClusterAdmin | Self::ClusterViewer | Self::ClusterUser => SYSTEM,
            Self::ProjectAdmin(project) | Self::ProjectViewer(project) | Self::ProjectUser(project) => {
                project
            }
        }
    }
}

/// A group or project from a claim: never the cluster itself under a project's role.
fn is_project(name: &str) -> bool {
    !name.is_empty() && name != SYSTEM && name != "*"
}

/// The project that is always there.
const DEFAULT: &str = "default";
/// Claims beyond these are not read.
const CLAIMS_MAX: usize = 64;

#[cfg(test)]
mod test {
    use super::*;

    fn roles(roles: &[&str], groups: &[&str], projects: &[&str]) -> Vec<Role> {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (roles, groups, projects) = (own(roles), own(groups), own(projects));
        Role::of_claims(RoleClaims { roles: &roles, groups: &groups, projects: &projects })
    }

    #[test]
    fn only_known_roles_are_read() {
        assert_eq!(Role::parse("system:cluster-admin"), Some(Role::ClusterAdmin));
        assert_eq!(Role::parse("system:cluster-viewer"), Some(Role::ClusterViewer));
        assert_eq!(Role::parse("p:admin"), Some(Role::ProjectAdmin("p".to_owned())));
        assert_eq!(Role::parse("p:viewer"), Some(Role::ProjectViewer("p".to_owned())));
        assert_eq!(Role::parse("p:user"), Some(Role::ProjectUser("p".to_owned())));
        for text in
            ["", "admin", ":admin", "system:admin", "system:viewer", "system:user", "p:cluster-admin", "p:"]
        {
            assert_eq!(Role::parse(text), None, "{text}");
        }
    }

    #[test]
    fn users_roles_are_of_their_projects() {
        let admin = |project: &str| Role::ProjectAdmin(project.to_owned());
        assert_eq!(roles(&["admin"], &[], &[]), [Role::ClusterAdmin]);
        assert_eq!(roles(&["api"], &[], &[]), [admin("default")]);
        assert_eq!(roles(&["api"], &["*"], &["a", "system", "b"]), [admin("a"), admin("b")]);
        assert_eq!(roles(&["user", "user"], &[], &[]), [Role::ProjectViewer("default".to_owned())]);
    }

    #[test]
    fn storage_roles_are_of_their_groups() {
        let user = |project: &str| Role::ProjectUser(project.to_owned());
        assert_eq!(roles(&["system.admin"], &["*"], &[]), [Role::ClusterAdmin]);
        assert_eq!(roles(&["system.view"], &["*"], &[]), [Role::ClusterViewer]);
        assert_eq!(roles(&["system.user"], &["*"], &[]), [Role::ClusterUser]);
        assert_eq!(roles(&["system.admin"], &["a"], &[]), [Role::ProjectAdmin("a".to_owned())]);
        assert_eq!(roles(&["system.view"], &["a"], &[]), [Role::ProjectViewer("a".to_owned())]);
        assert_eq!(roles(&["system.user"], &["kubernetes"], &[]), [user("default"), user("kubernetes")]);
        assert_eq!(roles(&["system.user"], &[], &[]), [user("default")]);
        assert_eq!(roles(&["system.admin", "system.view"], &["system", ""], &[]), []);
        assert_eq!(roles(&["system.guest", "root", ""], &["*"], &[]), []);
    }
}
