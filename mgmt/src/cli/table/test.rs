//! Every endpoint of the contract has its verb and noun.

use super::{Place, all};

/// Endpoints of commands that are written out, and forms of a path that another form stands for.
const WRITTEN_OUT: &[(&str, &str)] = &[
    ("GET", "/api/v2/cluster"),
    ("GET", "/api/v2/clusterinfo"),
    ("GET", "/api/v2/connectedHosts"),
    ("GET", "/api/v2/connectedHosts/{hostNQN}"),
    ("GET", "/api/v2/logs"),
    ("GET", "/api/v2/nodes"),
    ("GET", "/api/v2/nodes/{UUID}"),
    ("GET", "/api/v2/projects"),
    ("GET", "/api/v2/projects/{name}"),
    ("GET", "/api/v2/projects/{projectName}/credentials"),
    ("POST", "/api/v2/projects/{projectName}/credentials"),
    ("DELETE", "/api/v2/projects/{projectName}/credentials/{ID}"),
    ("GET", "/api/v2/projects/{projectName}/credentials/{ID}"),
    ("GET", "/api/v2/projects/{projectName}/volumes"),
    ("POST", "/api/v2/projects/{projectName}/volumes"),
    ("DELETE", "/api/v2/projects/{projectName}/volumes/{UUID}"),
    ("GET", "/api/v2/projects/{projectName}/volumes/{UUID}"),
    ("PUT", "/api/v2/projects/{projectName}/volumes/{UUID}"),
    ("GET", "/api/v2/projects/{projectName}/snapshots"),
    ("POST", "/api/v2/projects/{projectName}/snapshots"),
    ("GET", "/api/v2/projects/{projectName}/snapshots/diff/{snapshotUUID}"),
    ("DELETE", "/api/v2/projects/{projectName}/snapshots/{UUID}"),
    ("GET", "/api/v2/projects/{projectName}/snapshots/{UUID}"),
    ("PUT", "/api/v2/projects/{projectName}/volumes/{UUID}/rollback"),
    ("GET", "/api/v2/version"),
    ("GET", "/api/v2/volumes"),
    ("POST", "/api/v2/volumes"),
    ("DELETE", "/api/v2/volumes/{UUID}"),
    ("GET", "/api/v2/volumes/{UUID}"),
    ("PUT", "/api/v2/volumes/{UUID}"),
];

#[test]
fn every_endpoint_has_its_verb_and_noun() {
    assert_eq!(CONTRACT.len(), 109);
    for (method, path) in CONTRACT {
        let own = all().any(|row| {
            row.method.as_str() == *method && [Some(row.path), row.everywhere].contains(&Some(path))
        });
        assert!(own || WRITTEN_OUT.contains(&(method, path)), "no command: {method} {path}");
    }
    for row in all() {
        assert!(
            CONTRACT.contains(&(row.method.as_str(), row.path)),
            "{} {}: no endpoint",
            row.verb,
            row.noun
        );
    }
}

#[test]
fn every_option_with_a_place_in_the_path_is_in_the_path() {
    for row in all() {
        let given: Vec<_> = row.options.iter().filter(|option| option.place == Place::Path).collect();
        for option in &given {
            assert!(row.path.contains(&format!("{{{}}}", option.field)), "{} {}", row.verb, row.noun);
        }
        let variables = row.path.matches('{').count();
        let project = usize::from(
            row.path.contains("{projectName}") && !given.iter().any(|one| one.field == "projectName"),
        );
        assert_eq!(given.len() + project, variables, "{} {}: a variable has no option", row.verb, row.noun);
    }
}

const CONTRACT: &[(&str, &str)] = &[
    ("GET", "/api/v2/adminEndpoints"),
    ("POST", "/api/v2/adminEndpoints"),
    ("DELETE", "/api/v2/adminEndpoints/{port}"),
    ("GET", "/api/v2/adminEndpoints/{port}"),
    ("PUT", "/api/v2/adminEndpoints/{port}"),
    ("GET", "/api/v2/cf-service-credentials"),
    ("GET", "/api/v2/cluster"),
    ("GET", "/api/v2/cluster/IdpConfiguration"),
    ("POST", "/api/v2/cluster/IdpConfiguration"),
    ("PUT", "/api/v2/cluster/IdpConfiguration"),
    ("DELETE", "/api/v2/cluster/IdpConfiguration/{name}"),
    ("GET", "/api/v2/cluster/IdpConfiguration/{name}"),
    ("GET", "/api/v2/cluster/authMaps"),
    ("POST", "/api/v2/cluster/authMaps"),
    ("DELETE", "/api/v2/cluster/authMaps/{name}"),
    ("GET", "/api/v2/cluster/authMaps/{name}"),
    ("PUT", "/api/v2/cluster/authMaps/{name}"),
    ("POST", "/api/v2/cluster/clusterRootKey/rotate"),
    ("GET", "/api/v2/cluster/clusterRootkey"),
    ("POST", "/api/v2/cluster/encryption/enable"),
    ("POST", "/api/v2/cluster/federatedAuthentication/disable"),
    ("POST", "/api/v2/cluster/federatedAuthentication/enable"),
    ("GET", "/api/v2/cluster/idpClientConfs"),
    ("POST", "/api/v2/cluster/idpClientConfs"),
    ("DELETE", "/api/v2/cluster/idpClientConfs/{name}"),
    ("GET", "/api/v2/cluster/idpClientConfs/{name}"),
    ("PUT", "/api/v2/cluster/idpClientConfs/{name}"),
    ("POST", "/api/v2/cluster/inBandAuth/disable"),
    ("POST", "/api/v2/cluster/inBandAuth/enable"),
    ("POST", "/api/v2/cluster/upgrade"),
    ("GET", "/api/v2/clusterConfig"),
    ("PUT", "/api/v2/clusterConfig/{configParam.name}"),
    ("GET", "/api/v2/clusterConfig/{name}"),
    ("GET", "/api/v2/clusterinfo"),
    ("GET", "/api/v2/clusters"),
    ("POST", "/api/v2/clusters"),
    ("DELETE", "/api/v2/clusters/{cid}"),
    ("GET", "/api/v2/connectedHosts"),
    ("GET", "/api/v2/connectedHosts/{hostNQN}"),
    ("GET", "/api/v2/events"),
    ("GET", "/api/v2/featureFlags"),
    ("GET", "/api/v2/featureFlags/{name}"),
    ("POST", "/api/v2/featureFlags/{name}/disable"),
    ("POST", "/api/v2/featureFlags/{name}/enable"),
    ("GET", "/api/v2/hosts"),
    ("GET", "/api/v2/logs"),
    ("GET", "/api/v2/nodes"),
    ("POST", "/api/v2/nodes/{SrcNodeUUID}/replace"),
    ("GET", "/api/v2/nodes/{UUID}"),
    ("GET", "/api/v2/nvmeDevices"),
    ("POST", "/api/v2/nvmeDevices"),
    ("GET", "/api/v2/nvmeDevices/{Serial}"),
    ("POST", "/api/v2/nvmeDevices/{serialNumber}"),
    ("GET", "/api/v2/policies"),
    ("POST", "/api/v2/policies"),
    ("DELETE", "/api/v2/policies/{UUID}"),
    ("GET", "/api/v2/policies/{UUID}"),
    ("PUT", "/api/v2/policies/{UUID}"),
    ("GET", "/api/v2/projects"),
    ("POST", "/api/v2/projects"),
    ("DELETE", "/api/v2/projects/{name}"),
    ("GET", "/api/v2/projects/{name}"),
    ("PUT", "/api/v2/projects/{projectName}"),
    ("GET", "/api/v2/projects/{projectName}/credentials"),
    ("POST", "/api/v2/projects/{projectName}/credentials"),
    ("DELETE", "/api/v2/projects/{projectName}/credentials/{ID}"),
    ("GET", "/api/v2/projects/{projectName}/credentials/{ID}"),
    ("GET", "/api/v2/projects/{projectName}/events"),
    ("GET", "/api/v2/projects/{projectName}/resourcePolicies"),
    ("POST", "/api/v2/projects/{projectName}/resourcePolicies"),
    ("DELETE", "/api/v2/projects/{projectName}/resourcePolicies/{UUID}"),
    ("GET", "/api/v2/projects/{projectName}/resourcePolicies/{UUID}"),
    ("PUT", "/api/v2/projects/{projectName}/resourcePolicies/{UUID}"),
    ("GET", "/api/v2/projects/{projectName}/roles"),
    ("GET", "/api/v2/projects/{projectName}/roles/{name}"),
    ("GET", "/api/v2/projects/{projectName}/snapshots"),
    ("POST", "/api/v2/projects/{projectName}/snapshots"),
    ("GET", "/api/v2/projects/{projectName}/snapshots/diff/{snapshotUUID}"),
    ("DELETE", "/api/v2/projects/{projectName}/snapshots/{UUID}"),
    ("GET", "/api/v2/projects/{projectName}/snapshots/{UUID}"),
    ("GET", "/api/v2/projects/{projectName}/trustedHostSecrets/{name}"),
    ("PUT", "/api/v2/projects/{projectName}/trustedHostSecrets/{name}"),
    ("GET", "/api/v2/projects/{projectName}/trustedHosts"),
    ("POST", "/api/v2/projects/{projectName}/trustedHosts"),
    ("DELETE", "/api/v2/projects/{projectName}/trustedHosts/{name}"),
    ("GET", "/api/v2/projects/{projectName}/trustedHosts/{name}"),
    ("PUT", "/api/v2/projects/{projectName}/trustedHosts/{name}"),
    ("GET", "/api/v2/projects/{projectName}/volumes"),
    ("POST", "/api/v2/projects/{projectName}/volumes"),
    ("DELETE", "/api/v2/projects/{projectName}/volumes/{UUID}"),
    ("GET", "/api/v2/projects/{projectName}/volumes/{UUID}"),
    ("PUT", "/api/v2/projects/{projectName}/volumes/{UUID}"),
    ("PUT", "/api/v2/projects/{projectName}/volumes/{UUID}/rollback"),
    ("GET", "/api/v2/servers"),
    ("POST", "/api/v2/servers"),
    ("DELETE", "/api/v2/servers/{UUID}"),
    ("GET", "/api/v2/servers/{UUID}"),
    ("POST", "/api/v2/servers/{UUID}/disable"),
    ("POST", "/api/v2/servers/{UUID}/enable"),
    ("POST", "/api/v2/servers/{UUID}/upgrade"),
    ("GET", "/api/v2/version"),
    ("GET", "/api/v2/volumes"),
    ("POST", "/api/v2/volumes"),
    ("DELETE", "/api/v2/volumes/{UUID}"),
    ("GET", "/api/v2/volumes/{UUID}"),
    ("PUT", "/api/v2/volumes/{UUID}"),
    ("GET", "/api/v2/workflows"),
    ("GET", "/api/v2/workflows/{workflowId}"),
    ("POST", "/cflogin"),
];
