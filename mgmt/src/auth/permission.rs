//! The permission table, and the permits that it gives.
//!
//! Each role has rules, each rule resources and verbs: the shape in which clients read roles.

use super::{Caller, Role};

/// What a caller wants to touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// The cluster with its statistics.
    Clusters,
    /// The cluster as tenants see it.
    ClusterInfos,
    /// Keys that verify tokens.
    Credentials,
    /// Connected hosts.
    Hosts,
    /// Metrics that name volumes.
    Metrics,
    /// Nodes.
    Nodes,
    /// Projects.
    Projects,
    /// What this server does not do yet.
    Unsupported,
    /// Volumes.
    Volumes,
}

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Makes one.
    Create,
    /// Removes one.
    Delete,
    /// Reads one.
    Get,
    /// Reads many.
    List,
    /// Changes one.
    Update,
}

/// Where a caller wants to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope<'a> {
    /// Everywhere: over all projects, or where projects play no part.
    Cluster,
    /// In one project.
    Project(&'a str),
}

/// Proof that a caller may do one thing in one scope.
#[derive(Clone, Debug)]
pub(crate) struct Permit {
    project: Option<String>,
}

/// The caller's roles do not allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denied;

impl Permit {
    /// The only project that the permit is good for; none means all.
    pub(crate) fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// Whether the permit covers what belongs to `project`.
    pub(crate) fn covers(&self, project: &str) -> bool {
        self.project.as_deref().is_none_or(|own| own == project)
    }
}

impl Caller {
    /// Asks for a permit.
    pub(crate) fn permit(&self, resource: Resource, verb: Verb, scope: Scope<'_>) -> Result<Permit, Denied> {
        let granted = self.roles.iter().any(|role| role.allows(resource, verb, scope));
        let project = match scope {
            Scope::Cluster => None,
            Scope::Project(project) => Some(project.to_owned()),
        };
        granted.then_some(Permit { project }).ok_or(Denied)
    }

    /// The projects in which the caller may do it; none means in all.
    pub(crate) fn projects_for(&self, resource: Resource, verb: Verb) -> Option<Vec<&str>> {
        let mut projects = Vec::new();
        for role in &self.roles {
            match role {
                Role::ClusterAdmin => return None,
                Role::ProjectAdmin(project) | Role::ProjectViewer(project) => {
                    if role.allows(resource, verb, Scope::Project(project)) {
                        projects.push(project.as_str());
                    }
                }
            }
        }
        Some(projects)
    }
}

impl Role {
    fn allows(&self, resource: Resource, verb: Verb, scope: Scope<'_>) -> bool {
        let (own, rules) = match self {
            Self::ClusterAdmin => return true,
            Self::ProjectAdmin(project) => (project, PROJECT_ADMIN),
            Self::ProjectViewer(project) => (project, PROJECT_VIEWER),
        };
        let in_scope = match scope {
            Scope::Cluster => TENANT_VISIBLE.contains(&resource),
            Scope::Project(project) => project == own,
        };
        let ruled = |rule: &Rule| rule.resources.contains(&resource) && rule.verbs.contains(&verb);
        in_scope && rules.iter().any(ruled)
    }
}

/// What a role may do to which resources.
struct Rule {
    resources: &'static [Resource],
    verbs: &'static [Verb],
}

const READ: &[Verb] = &[Verb::Get, Verb::List];
const ALL: &[Verb] = &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Update];

/// Resources that belong to no project and are shown to tenants: their clients begin by reading these.
const TENANT_VISIBLE: &[Resource] = &[Resource::ClusterInfos, Resource::Nodes];

/// An administrator of a project.
const PROJECT_ADMIN: &[Rule] = &[
    Rule { resources: &[Resource::Volumes, Resource::Credentials, Resource::Unsupported], verbs: ALL },
    Rule { resources: &[Resource::ClusterInfos, Resource::Nodes, Resource::Projects], verbs: READ },
];

/// A viewer of a project: credentials are not shown.
const PROJECT_VIEWER: &[Rule] = &[Rule {
    resources: &[
        Resource::ClusterInfos,
        Resource::Nodes,
        Resource::Projects,
        Resource::Unsupported,
        Resource::Volumes,
    ],
    verbs: READ,
}];

#[cfg(test)]
mod test {
    use super::*;

    const RESOURCES: [Resource; 9] = [
        Resource::Clusters,
        Resource::ClusterInfos,
        Resource::Credentials,
        Resource::Hosts,
        Resource::Metrics,
        Resource::Nodes,
        Resource::Projects,
        Resource::Unsupported,
        Resource::Volumes,
    ];

    #[test]
    fn the_table_is_this_one() {
        use Resource::{ClusterInfos, Credentials, Nodes, Projects, Unsupported, Volumes};
        let admin = Role::ProjectAdmin("p".to_owned());
        let viewer = Role::ProjectViewer("p".to_owned());
        for resource in RESOURCES {
            for verb in ALL.iter().copied() {
                let reads = READ.contains(&verb);
                let tenant = matches!(resource, ClusterInfos | Nodes);
                assert!(Role::ClusterAdmin.allows(resource, verb, Scope::Cluster));
                assert!(Role::ClusterAdmin.allows(resource, verb, Scope::Project("q")));
                for role in [&admin, &viewer] {
                    assert_eq!(role.allows(resource, verb, Scope::Cluster), tenant && reads, "{resource:?}");
                    assert!(
                        !role.allows(resource, verb, Scope::Project("q")),
                        "{resource:?} of another project"
                    );
                }
                let own = Scope::Project("p");
                let changes = matches!(resource, Credentials | Unsupported | Volumes);
                let shown = changes || tenant || resource == Projects;
                assert_eq!(
                    admin.allows(resource, verb, own),
                    changes || shown && reads,
                    "{resource:?} {verb:?}"
                );
                let shown = shown && resource != Credentials;
                assert_eq!(viewer.allows(resource, verb, own), shown && reads, "{resource:?} {verb:?}");
            }
        }
    }

    #[test]
    fn only_known_roles_are_read() {
        assert_eq!(Role::parse("system:cluster-admin"), Some(Role::ClusterAdmin));
        assert_eq!(Role::parse("p:admin"), Some(Role::ProjectAdmin("p".to_owned())));
        assert_eq!(Role::parse("p:viewer"), Some(Role::ProjectViewer("p".to_owned())));
        for text in ["", "admin", ":admin", "system:admin", "p:cluster-admin", "p:Admin", "p:admin "] {
            assert_eq!(Role::parse(text), None, "{text}");
        }
    }
}
