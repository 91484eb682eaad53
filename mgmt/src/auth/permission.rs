//! The permission table, and the permits that it gives.
//!
//! Each role has rules, each rule resources and verbs: the shape in which clients read roles.

use super::{Caller, Role, SYSTEM};

/// What a caller wants to touch, by the contract's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Further addresses of the REST interface.
    AdminEndpoints,
    /// Whether other issuers' tokens are taken.
    Authentications,
    /// Which role a claim of another issuer gives.
    AuthMapEntries,
    /// Parameters of the cluster.
    ClusterConfigs,
    /// Clusters that are managed together.
    ClusterFederations,
    /// The cluster as tenants see it.
    ClusterInfos,
    /// The cluster with its statistics.
    Clusters,
    /// Keys that verify tokens.
    Credentials,
    /// Encryption at rest and its root key.
    Encryptions,
    /// What has happened.
    Events,
    /// Features that can be turned on and off.
    FeatureFlags,
    /// Connected hosts.
    Hosts,
    /// How tokens of other issuers are read.
    IdpClientConfs,
    /// Issuers of tokens beside this cluster.
    IdpConfigurations,
    /// Authentication of hosts on their NVMe connections.
    InBandAuths,
    /// The server's log.
    Logs,
    /// Metrics that name volumes.
    Metrics,
    /// Nodes.
    Nodes,
    /// The pool's drives.
    NvmeDevices,
    /// Policies that volumes can have.
    Policies,
    /// Projects.
    Projects,
    /// Schedules of snapshots.
    Schedules,
    /// Roles and their rules.
    Roles,
    /// Servers.
    Servers,
    /// Snapshots of volumes.
    Snapshots,
    /// Secrets of hosts that authenticate.
    TrustedHostSecrets,
    /// Hosts that authenticate.
    TrustedHosts,
    /// Users, roles that issue tokens, revocations.
    Tokens,
    /// What this server does not do yet.
    Unsupported,
    /// Upgrades of the program.
    Upgrades,
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
    owner: Option<String>,
}

/// The caller's roles do not allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denied;

impl Resource {
    /// Every resource.
    pub(crate) const ALL: [Self; 31] = [
        Self::AdminEndpoints,
        Self::Authentications,
        Self::AuthMapEntries,
        Self::ClusterConfigs,
        Self::ClusterFederations,
        Self::ClusterInfos,
        Self::Clusters,
        Self::Credentials,
        Self::Encryptions,
        Self::Events,
        Self::FeatureFlags,
        Self::Hosts,
        Self::IdpClientConfs,
        Self::IdpConfigurations,
        Self::InBandAuths,
        Self::Logs,
        Self::Metrics,
        Self::Nodes,
        Self::NvmeDevices,
        Self::Policies,
        Self::Projects,
        Self::Schedules,
        Self::Roles,
        Self::Servers,
        Self::Snapshots,
        Self::TrustedHostSecrets,
        Self::TrustedHosts,
        Self::Tokens,
        Self::Unsupported,
        Self::Upgrades,
        Self::Volumes,
    ];

    /// Its name in a role's rules.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AdminEndpoints => "adminEndpoints",
            Self::Authentications => "authentications",
            Self::AuthMapEntries => "authMapEntries",
            Self::ClusterConfigs => "clusterConfigs",
            Self::ClusterFederations => "clusterFederations",
            Self::ClusterInfos => "clusterInfos",
            Self::Clusters => "clusters",
            Self::Credentials => "credentials",
            Self::Encryptions => "encryptions",
            Self::Events => "events",
            Self::FeatureFlags => "featureFlags",
            Self::Hosts => "hosts",
            Self::IdpClientConfs => "idpClientConfs",
            Self::IdpConfigurations => "idpConfigurations",
            Self::InBandAuths => "inBandAuths",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Nodes => "nodes",
            Self::NvmeDevices => "nvmeDevices",
            Self::Policies => "policies",
            Self::Projects => "projects",
            Self::Schedules => "resourcePolicies",
            Self::Roles => "roles",
            Self::Servers => "servers",
            Self::Snapshots => "snapshots",
            Self::TrustedHostSecrets => "trustedHostSecrets",
            Self::TrustedHosts => "trustedHosts",
            Self::Tokens => "tokens",
            Self::Unsupported => "unsupported",
            Self::Upgrades => "upgrades",
            Self::Volumes => "volumes",
        }
    }
}

impl Verb {
    /// Its name in a role's rules.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Get => "get",
            Self::List => "list",
            Self::Update => "update",
        }
    }
}

impl Permit {
    /// The only project that the permit is good for; none means all.
    pub(crate) fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// Whether the permit covers what belongs to `project`, whoever owns it.
    pub(crate) fn covers(&self, project: &str) -> bool {
        self.owner.is_none() && self.project.as_deref().is_none_or(|own| own == project)
    }

    /// Whether the permit covers what `owner` made in `project`.
    pub(crate) fn covers_owned(&self, project: &str, owner: Option<&str>) -> bool {
        self.project.as_deref().is_none_or(|own| own == project)
            && self.owner.as_deref().is_none_or(|own| owner == Some(own))
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
        granted.then_some(Permit { project, owner: None }).ok_or(Denied)
    }

    /// Asks for a permit for volumes, which may be limited to those that the caller made.
    ///
    /// Only who checks owners may ask here: [`Self::permit`] refuses who may touch no more than their own.
    pub(crate) fn permit_volumes(&self, verb: Verb, scope: Scope<'_>) -> Result<Permit, Denied> {
        self.permit_own(Resource::Volumes, verb, scope)
    }

    /// The same for snapshots.
    pub(crate) fn permit_snapshots(&self, verb: Verb, scope: Scope<'_>) -> Result<Permit, Denied> {
        self.permit_own(Resource::Snapshots, verb, scope)
    }

    fn permit_own(&self, resource: Resource, verb: Verb, scope: Scope<'_>) -> Result<Permit, Denied> {
        let all = self.permit(resource, verb, scope);
        let Scope::Project(project) = scope else { return all };
        let user = self.roles.iter().any(|role| matches!(role, Role::ProjectUser(own) if own == project));
        all.or_else(|denied| {
            let own = Permit { project: Some(project.to_owned()), owner: Some(self.subject.clone()) };
            user.then_some(own).ok_or(denied)
        })
    }

    /// The projects in which the caller may do it; none means in all.
    pub(crate) fn projects_for(&self, resource: Resource, verb: Verb) -> Option<Vec<&str>> {
        let mut projects = Vec::new();
        for role in &self.roles {
            match role {
                Role::ClusterAdmin | Role::ClusterViewer | Role::ClusterUser => {
                    if role.allows(resource, verb, Scope::Cluster) {
                        return None;
                    }
                }
                Role::ProjectAdmin(project) | Role::ProjectViewer(project) | Role::ProjectUser(project) => {
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
            Self::ClusterAdmin => (SYSTEM, CLUSTER_ADMIN),
            Self::ClusterViewer => (SYSTEM, CLUSTER_VIEWER),
            Self::ClusterUser => (SYSTEM, CLUSTER_USER),
            Self::ProjectUser(project) => (project.as_str(), PROJECT_USER),
            Self::ProjectAdmin(project) => (project.as_str(), PROJECT_ADMIN),
            Self::ProjectViewer(project) => (project.as_str(), PROJECT_VIEWER),
        };
        let in_scope = match scope {
            _ if own == SYSTEM => true,
            Scope::Cluster => TENANT_VISIBLE.contains(&resource),
            Scope::Project(project) => project == own,
        };
        let ruled = |rule: &Rule| rule.resources.contains(&resource) && rule.verbs.contains(&verb);
        in_scope && rules.iter().any(ruled)
    }
}

/// What a role may do to which resources.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// The resources.
    pub(crate) resources: &'static [Resource],
    /// What may be done to them.
    pub(crate) verbs: &'static [Verb],
}

/// The roles of a scope by their names, with their rules.
pub(crate) fn roles_of(scope: &str) -> &'static [(&'static str, &'static [Rule])] {
    if scope == SYSTEM { CLUSTER_ROLES } else { PROJECT_ROLES }
}

const READ: &[Verb] = &[Verb::Get, Verb::List];
const ALL: &[Verb] = &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Update];

/// Resources that belong to no project and are shown to tenants: their clients begin by reading these.
const TENANT_VISIBLE: &[Resource] = &[Resource::ClusterInfos, Resource::Nodes, Resource::Policies];

/// The cluster's administrator.
const CLUSTER_ADMIN: &[Rule] = &[Rule { resources: &Resource::ALL, verbs: ALL }];

/// Who sees everything but secrets, and changes nothing.
const CLUSTER_VIEWER: &[Rule] = &[Rule {
    resources: &[
        Resource::AdminEndpoints,
        Resource::Authentications,
        Resource::AuthMapEntries,
        Resource::ClusterConfigs,
        Resource::ClusterFederations,
        Resource::ClusterInfos,
        Resource::Clusters,
        Resource::Events,
        Resource::FeatureFlags,
        Resource::Hosts,
        Resource::IdpClientConfs,
        Resource::IdpConfigurations,
        Resource::InBandAuths,
        Resource::Metrics,
        Resource::Nodes,
        Resource::NvmeDevices,
        Resource::Policies,
        Resource::Projects,
        Resource::Schedules,
        Resource::Roles,
        Resource::Servers,
        Resource::Snapshots,
        Resource::TrustedHosts,
        Resource::Unsupported,
        Resource::Upgrades,
        Resource::Volumes,
    ],
    verbs: READ,
}];

/// A user of all projects' volumes and snapshots.
const CLUSTER_USER: &[Rule] = &[
    Rule { resources: &[Resource::Snapshots, Resource::Volumes], verbs: ALL },
    Rule {
        resources: &[Resource::ClusterInfos, Resource::Nodes, Resource::Policies, Resource::Projects],
        verbs: READ,
    },
];

const CLUSTER_ROLES: &[(&str, &[Rule])] =
    &[("cluster-admin", CLUSTER_ADMIN), ("cluster-user", CLUSTER_USER), ("cluster-viewer", CLUSTER_VIEWER)];

const PROJECT_ROLES: &[(&str, &[Rule])] =
    &[("admin", PROJECT_ADMIN), ("user", PROJECT_USER), ("viewer", PROJECT_VIEWER)];

/// A user of a project: own volumes besides, by [`Caller::permit_volumes`].
const PROJECT_USER: &[Rule] = &[Rule {
    resources: &[Resource::ClusterInfos, Resource::Nodes, Resource::Policies, Resource::Projects],
    verbs: READ,
}];

/// An administrator of a project.
const PROJECT_ADMIN: &[Rule] = &[
    Rule {
        resources: &[
            Resource::Credentials,
            Resource::Schedules,
            Resource::Snapshots,
            Resource::TrustedHostSecrets,
            Resource::TrustedHosts,
            Resource::Unsupported,
            Resource::Volumes,
        ],
        verbs: ALL,
    },
    Rule {
        resources: &[
            Resource::ClusterInfos,
            Resource::Events,
            Resource::Nodes,
            Resource::Policies,
            Resource::Projects,
            Resource::Roles,
        ],
        verbs: READ,
    },
];

/// A viewer of a project: credentials and secrets are not shown.
const PROJECT_VIEWER: &[Rule] = &[Rule {
    resources: &[
        Resource::ClusterInfos,
        Resource::Events,
        Resource::Nodes,
        Resource::Policies,
        Resource::Projects,
        Resource::Schedules,
        Resource::Roles,
        Resource::Snapshots,
        Resource::TrustedHosts,
        Resource::Unsupported,
        Resource::Volumes,
    ],
    verbs: READ,
}];

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_table_is_this_one() {
        use Resource as R;
        let admin = Role::ProjectAdmin("p".to_owned());
        let viewer = Role::ProjectViewer("p".to_owned());
        for resource in R::ALL {
            for verb in ALL.iter().copied() {
                let reads = READ.contains(&verb);
                let tenant = matches!(resource, R::ClusterInfos | R::Nodes | R::Policies);
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
                let secret = matches!(resource, R::Credentials | R::TrustedHostSecrets);
                let changes = secret
                    || matches!(
                        resource,
                        R::Schedules | R::Snapshots | R::TrustedHosts | R::Unsupported | R::Volumes
                    );
                let shown = changes || tenant || matches!(resource, R::Events | R::Projects | R::Roles);
                assert_eq!(
                    admin.allows(resource, verb, own),
                    changes || shown && reads,
                    "{resource:?} {verb:?}"
                );
                let shown = shown && !secret;
                assert_eq!(viewer.allows(resource, verb, own), shown && reads, "{resource:?} {verb:?}");
            }
        }
    }

    fn caller(roles: Vec<Role>) -> Caller {
        Caller { subject: "me".to_owned(), roles, _verified: crate::auth::token::Verified::new() }
    }

    #[test]
    fn a_cluster_viewer_reads_everything_but_secrets() {
        use Resource as R;
        for resource in R::ALL {
            let secret = matches!(
                resource,
                R::Credentials | R::Encryptions | R::Logs | R::Tokens | R::TrustedHostSecrets
            );
            for scope in [Scope::Cluster, Scope::Project("p")] {
                assert_eq!(Role::ClusterViewer.allows(resource, Verb::List, scope), !secret, "{resource:?}");
                assert!(!Role::ClusterViewer.allows(resource, Verb::Create, scope), "{resource:?}");
            }
        }
        assert!(Role::ClusterUser.allows(R::Volumes, Verb::Delete, Scope::Project("p")));
        assert!(!Role::ClusterUser.allows(R::Clusters, Verb::Get, Scope::Cluster));
    }

    #[test]
    fn a_user_gets_no_permit_that_reaches_others_volumes() {
        let user = caller(vec![Role::ProjectUser("p".to_owned())]);
        for verb in ALL.iter().copied() {
            assert!(user.permit(Resource::Volumes, verb, Scope::Project("p")).is_err());
            assert!(user.permit(Resource::Snapshots, verb, Scope::Project("p")).is_err());
            let permit = user.permit_volumes(verb, Scope::Project("p")).unwrap();
            assert!(permit.covers_owned("p", Some("me")));
            assert!(!permit.covers_owned("p", Some("you")) && !permit.covers_owned("p", None));
            assert!(!permit.covers_owned("q", Some("me")) && !permit.covers("p"));
            assert!(user.permit_volumes(verb, Scope::Project("q")).is_err());
            assert!(user.permit_volumes(verb, Scope::Cluster).is_err());
        }
        let admin = caller(vec![Role::ProjectAdmin("p".to_owned())]);
        let permit = admin.permit_volumes(Verb::Get, Scope::Project("p")).unwrap();
        assert!(permit.covers_owned("p", None) && permit.covers("p"));
    }
}
