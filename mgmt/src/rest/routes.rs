//! The route table: the whole contract, and this server's own additions.

use hyper::Method;

use super::router::{Handler, Route};
use super::schema::{self, requests, site, tenants};
use super::{
    access, admin, cluster, cluster_federation, devices, encryption, events, federated_authentication, hosts,
    idp, logs, metrics, openapi, policies, projects, roles, schedules, servers, settings, snapshots, trusted,
    users, vault, volumes,
};

/// Every route that this server serves.
pub(super) fn table() -> Vec<Route> {
    let groups =
        [own(), site(), configuration(), authentication(), tenants(), volume_routes(), token_routes()];
    groups.into_iter().flatten().collect()
}

/// A row: method, path, operation, request and answer, the errors of the contract, and who may ask what.
macro_rules! row {
    ($method:ident $path:literal $operation:ident ($request:path) -> $answer:path, $errors:expr, $handler:expr) => {
        Route {
            method: Method::$method,
            path: $path,
            operation: stringify!($operation),
            request: &$request,
            answer: &$answer,
            errors: &$errors,
            handler: $handler,
        }
    };
}

/// A row for whoever shows a token.
macro_rules! token {
    ($method:ident $path:literal $operation:ident ($request:path) -> $answer:path, $errors:expr => $handler:path) => {
        row!($method $path $operation($request) -> $answer, $errors,
            Handler::Token(|api, caller, request| Box::pin($handler(api, caller, request))))
    };
}

/// A row for everyone.
macro_rules! open {
    ($method:ident $path:literal $operation:ident ($request:path) -> $answer:path, $errors:expr => $handler:path) => {
        row!($method $path $operation($request) -> $answer, $errors,
            Handler::Open(|api, caller, request| Box::pin($handler(api, caller, request))))
    };
}

fn own() -> Vec<Route> {
    vec![
        open!(GET "/healthz" GetHealth(schema::EMPTY) -> schema::STREAM, [503] => cluster::health),
        open!(GET "/metrics" GetMetrics(schema::EMPTY) -> schema::STREAM, [503] => metrics::page),
        open!(GET "/api/v2/openapi.json" GetOpenApi(schema::EMPTY) -> schema::STREAM, [] => openapi::document),
    ]
}

fn site() -> Vec<Route> {
    vec![
        open!(GET "/api/v2/version" GetVersion(requests::GET_VERSION_REQUEST) -> site::VERSION, [] => cluster::version),
        token!(GET "/api/v2/cluster" GetCluster(requests::GET_CLUSTER_REQUEST) -> site::CLUSTER_INFO, [401, 403, 500] => cluster::cluster),
        token!(GET "/api/v2/clusterinfo" GetClusterInfo(requests::GET_CLUSTER_REQUEST) -> site::CLUSTER_INFO_V2, [401, 403, 500] => cluster::cluster_info),
        token!(GET "/api/v2/connectedHosts/{hostNQN}" GetHost(requests::GET_HOST_REQUEST) -> site::CONNECTED_HOST, [401, 403, 404, 500] => hosts::get),
        token!(GET "/api/v2/connectedHosts" ListHosts(requests::LIST_HOSTS_REQUEST) -> site::LIST_HOSTS_RESPONSE, [400, 401, 403, 404, 500] => hosts::list),
        token!(GET "/api/v2/nodes" ListNodes(requests::LIST_NODE_REQUEST) -> site::LIST_NODES_RESPONSE, [400, 401, 403, 500] => cluster::nodes),
        token!(GET "/api/v2/nodes/{UUID}" GetNode(requests::GET_NODE_REQUEST) -> site::DUROS_NODE_INFO, [401, 403, 404, 500] => cluster::node),
        token!(POST "/api/v2/nodes/{SrcNodeUUID}/replace" ReplaceNode(requests::REPLACE_NODE_REQUEST) -> schema::EMPTY, [400, 401, 403, 404, 409, 412, 429, 500] => servers::replace_node),
        token!(GET "/api/v2/nvmeDevices" ListNvmeDevices(requests::LIST_NVME_DEVICES_REQUEST) -> site::LIST_NVME_DEVICES_RESPONSE, [401, 403, 500] => devices::list),
        token!(GET "/api/v2/nvmeDevices/{Serial}" GetNvmeDevice(requests::GET_NVME_DEVICE_REQUEST) -> site::USER_NVME_DEVICES_RESPONSE, [401, 403, 404, 500] => devices::get),
        token!(POST "/api/v2/nvmeDevices/{serialNumber}" UpdateNvmeDevice(requests::UPDATE_NVME_DEVICE_REQUEST) -> schema::EMPTY, [400, 401, 403, 404, 409, 412, 500] => devices::update),
        token!(POST "/api/v2/nvmeDevices" AddNvmeDevice(requests::ADD_NVME_DEVICE_REQUEST) -> schema::EMPTY, [400, 401, 403, 404, 409, 412, 500] => devices::add),
        token!(GET "/api/v2/servers/{UUID}" GetServer(requests::GET_SERVER_REQUEST) -> site::SERVER, [401, 403, 404, 500] => servers::get),
        token!(GET "/api/v2/servers" ListServers(requests::LIST_SERVERS_REQUEST) -> site::LIST_SERVERS_RESPONSE, [401, 403, 500] => servers::list),
        token!(POST "/api/v2/servers" CreateServer(requests::CREATE_SERVER_REQUEST) -> site::SERVER, [400, 401, 403, 409, 500] => servers::create),
        token!(DELETE "/api/v2/servers/{UUID}" DeleteServer(requests::DELETE_SERVER_REQUEST) -> schema::EMPTY, [400, 401, 403, 404, 409, 412, 500] => servers::delete),
        token!(POST "/api/v2/servers/{UUID}/enable" EnableServer(requests::ENABLE_SERVER_REQUEST) -> site::SERVER, [401, 403, 404, 409, 412, 500] => servers::enable),
        token!(POST "/api/v2/servers/{UUID}/disable" DisableServer(requests::DISABLE_SERVER_REQUEST) -> schema::EMPTY, [400, 401, 403, 404, 409, 500] => servers::disable),
        token!(POST "/api/v2/servers/{UUID}/upgrade" UpgradeServer(requests::UPGRADE_SERVER_REQUEST) -> schema::EMPTY, [400, 401, 403, 404, 409, 412, 500] => servers::upgrade),
        token!(POST "/api/v2/cluster/upgrade" UpgradeCluster(requests::UPGRADE_CLUSTER_REQUEST) -> schema::EMPTY, [400, 401, 403, 404, 500] => servers::upgrade_cluster),
    ]
}

fn tenants() -> Vec<Route> {
    vec![
        token!(POST "/api/v2/projects" CreateProject(requests::CREATE_PROJECT_REQUEST) -> tenants::PROJECT, [400, 401, 403, 409, 500] => projects::create),
        token!(PUT "/api/v2/projects/{projectName}" UpdateProject(requests::UPDATE_PROJECT_REQUEST) -> schema::EMPTY, [400, 401, 403, 500] => projects::update),
        token!(DELETE "/api/v2/projects/{name}" DeleteProject(requests::DELETE_PROJECT_REQUEST) -> schema::EMPTY, [400, 401, 403, 404, 412, 500] => projects::delete),
        token!(GET "/api/v2/projects" ListProjects(requests::LIST_PROJECTS_REQUEST) -> tenants::LIST_PROJECTS_RESPONSE, [400, 401, 403, 500] => projects::list),
        token!(GET "/api/v2/projects/{name}" GetProject(requests::GET_PROJECT_REQUEST) -> tenants::PROJECT, [400, 401, 403, 404, 500] => projects::get),
        token!(POST "/api/v2/projects/{projectName}/credentials" CreateCredential(requests::CREATE_CREDENTIAL_REQUEST) -> tenants::CREDENTIAL, [400, 401, 403, 409, 500] => access::create_credential),
        token!(DELETE "/api/v2/projects/{projectName}/credentials/{ID}" DeleteCredential(requests::DELETE_CREDENTIAL_REQUEST) -> schema::EMPTY, [400, 401, 403, 404, 412, 500] => access::delete_credential),
        token!(GET "/api/v2/projects/{projectName}/credentials" ListCredentials(requests::LIST_CREDENTIALS_REQUEST) -> tenants::LIST_CREDENTIALS_RESPONSE, [400, 401, 403, 500] => access::list_credentials),
        token!(GET "/api/v2/projects/{projectName}/credentials/{ID}" GetCredential(requests::GET_CREDENTIAL_REQUEST) -> tenants::CREDENTIAL, [400, 401, 403, 404, 500] => access::get_credential),
        token!(GET "/api/v2/projects/{projectName}/roles/{name}" GetRole(requests::GET_ROLE_REQUEST) -> tenants::GET_ROLE_RESPONSE, [400, 401, 403, 404, 500] => roles::get),
        token!(GET "/api/v2/projects/{projectName}/roles" ListRoles(requests::LIST_ROLES_REQUEST) -> tenants::LIST_ROLES_RESPONSE, [400, 401, 403, 500] => roles::list),
        token!(POST "/api/v2/projects/{projectName}/resourcePolicies" CreateResourcePolicy(requests::CREATE_RESOURCE_POLICY_REQUEST) -> tenants::RESOURCE_POLICY, [400, 404, 409, 500] => schedules::create),
        token!(POST "/api/v2/policies" CreatePolicy(requests::CREATE_POLICY_REQUEST) -> tenants::POLICY, [400, 404, 409, 500] => policies::create),
        token!(PUT "/api/v2/policies/{UUID}" UpdatePolicy(requests::UPDATE_POLICY_REQUEST) -> schema::EMPTY, [400, 404, 500] => policies::update),
        token!(PUT "/api/v2/projects/{projectName}/resourcePolicies/{UUID}" UpdateResourcePolicy(requests::UPDATE_RESOURCE_POLICY_REQUEST) -> schema::EMPTY, [400, 404, 500] => schedules::update),
        token!(GET "/api/v2/policies/{UUID}" GetPolicy(requests::GET_POLICY_REQUEST) -> tenants::POLICY, [400, 404, 500] => policies::get),
        token!(GET "/api/v2/policies" ListPolicies(requests::LIST_POLICIES_REQUEST) -> tenants::LIST_POLICIES_RESPONSE, [400, 404, 500] => policies::list),
        token!(GET "/api/v2/projects/{projectName}/resourcePolicies" ListResourcePolicies(requests::LIST_RESOURCE_POLICIES_REQUEST) -> tenants::LIST_RESOURCE_POLICIES_RESPONSE, [400, 404, 500] => schedules::list),
        token!(GET "/api/v2/projects/{projectName}/resourcePolicies/{UUID}" GetResourcePolicy(requests::GET_RESOURCE_POLICY_REQUEST) -> tenants::RESOURCE_POLICY, [400, 404, 500] => schedules::get),
        token!(DELETE "/api/v2/projects/{projectName}/resourcePolicies/{UUID}" DeleteResourcePolicy(requests::DELETE_RESOURCE_POLICY_REQUEST) -> schema::EMPTY, [400, 404, 500] => schedules::delete),
        token!(DELETE "/api/v2/policies/{UUID}" DeletePolicy(requests::DELETE_POLICY_REQUEST) -> schema::EMPTY, [400, 404, 500] => policies::delete),
        token!(POST "/api/v2/cluster/inBandAuth/enable" EnableClusterInBandAuth(requests::ENABLE_CLUSTER_IN_BAND_AUTH_REQUEST) -> schema::EMPTY, [401, 403] => trusted::enable),
        token!(POST "/api/v2/cluster/inBandAuth/disable" DisableClusterInBandAuth(requests::DISABLE_CLUSTER_IN_BAND_AUTH_REQUEST) -> schema::EMPTY, [401, 403] => trusted::disable),
        token!(POST "/api/v2/projects/{projectName}/trustedHosts" CreateTrustedHost(requests::CREATE_TRUSTED_HOST_REQUEST) -> tenants::TRUSTED_HOST, [400, 401, 403, 409] => trusted::create),
        token!(DELETE "/api/v2/projects/{projectName}/trustedHosts/{name}" DeleteTrustedHost(requests::DELETE_TRUSTED_HOST_REQUEST) -> schema::EMPTY, [400, 401, 403, 404] => trusted::delete),
        token!(GET "/api/v2/projects/{projectName}/trustedHosts/{name}" GetTrustedHost(requests::GET_TRUSTED_HOST_REQUEST) -> tenants::TRUSTED_HOST, [400, 401, 403, 404] => trusted::get),
        token!(GET "/api/v2/projects/{projectName}/trustedHosts" ListTrustedHosts(requests::LIST_TRUSTED_HOSTS_REQUEST) -> tenants::LIST_TRUSTED_HOSTS_RESPONSE, [400, 401, 403, 404] => trusted::list),
        token!(GET "/api/v2/hosts" ListTrustedHosts(requests::LIST_TRUSTED_HOSTS_REQUEST) -> tenants::LIST_TRUSTED_HOSTS_RESPONSE, [400, 401, 403, 404] => trusted::list),
        token!(PUT "/api/v2/projects/{projectName}/trustedHosts/{name}" UpdateTrustedHost(requests::UPDATE_TRUSTED_HOST_REQUEST) -> tenants::TRUSTED_HOST, [400, 401, 403, 404] => trusted::update),
        token!(PUT "/api/v2/projects/{projectName}/trustedHostSecrets/{name}" SetTrustedHostSecret(requests::SET_TRUSTED_HOST_SECRETS_REQUEST) -> schema::EMPTY, [400, 401, 404] => trusted::set_secret),
        token!(GET "/api/v2/projects/{projectName}/trustedHostSecrets/{name}" GetTrustedHostSecret(requests::GET_TRUSTED_HOST_SECRETS_REQUEST) -> tenants::GET_TRUSTED_HOST_SECRETS_RESPONSE, [400, 401, 404] => trusted::get_secret),
    ]
}

fn volume_routes() -> Vec<Route> {
    vec![
        token!(POST "/api/v2/projects/{projectName}/volumes" CreateVolume(requests::CREATE_VOLUME_REQUEST) -> tenants::VOLUME, [400, 401, 403, 409, 500] => volumes::create),
        token!(POST "/api/v2/volumes" CreateVolume(requests::CREATE_VOLUME_REQUEST) -> tenants::VOLUME, [400, 401, 403, 409, 500] => volumes::create),
        token!(DELETE "/api/v2/projects/{projectName}/volumes/{UUID}" DeleteVolume(requests::DELETE_VOLUME_REQUEST) -> schema::EMPTY, [400, 401, 403, 404, 409, 412, 500, 503] => volumes::delete),
        token!(DELETE "/api/v2/volumes/{UUID}" DeleteVolume(requests::DELETE_VOLUME_REQUEST) -> schema::EMPTY, [400, 401, 403, 404, 409, 412, 500, 503] => volumes::delete),
        token!(GET "/api/v2/projects/{projectName}/volumes" ListVolumes(requests::LIST_VOLUME_REQUEST) -> tenants::LIST_VOLUMES_RESPONSE, [400, 401, 403, 500] => volumes::list),
        token!(GET "/api/v2/volumes" ListVolumes(requests::LIST_VOLUME_REQUEST) -> tenants::LIST_VOLUMES_RESPONSE, [400, 401, 403, 500] => volumes::list),
        token!(GET "/api/v2/projects/{projectName}/volumes/{UUID}" GetVolume(requests::GET_VOLUME_REQUEST) -> tenants::VOLUME, [400, 401, 403, 404, 500] => volumes::get),
        token!(GET "/api/v2/volumes/{UUID}" GetVolume(requests::GET_VOLUME_REQUEST) -> tenants::VOLUME, [400, 401, 403, 404, 500] => volumes::get),
        token!(PUT "/api/v2/projects/{projectName}/volumes/{UUID}" UpdateVolume(requests::UPDATE_VOLUME_REQUEST) -> schema::EMPTY, [400, 401, 403, 404, 409, 412, 500, 501, 503] => volumes::update),
        token!(PUT "/api/v2/volumes/{UUID}" UpdateVolume(requests::UPDATE_VOLUME_REQUEST) -> schema::EMPTY, [400, 401, 403, 404, 409, 412, 500, 501, 503] => volumes::update),
        token!(PUT "/api/v2/projects/{projectName}/volumes/{UUID}/rollback" RollbackVolume(requests::ROLLBACK_VOLUME_REQUEST) -> schema::EMPTY, [400, 401, 403, 404, 500, 503] => snapshots::roll_back),
        token!(POST "/api/v2/projects/{projectName}/snapshots" CreateSnapshot(requests::CREATE_SNAPSHOT_REQUEST) -> tenants::SNAPSHOT, [400, 401, 403, 404, 409, 500, 501] => snapshots::create),
        token!(GET "/api/v2/projects/{projectName}/snapshots/{UUID}" GetSnapshot(requests::GET_SNAPSHOT_REQUEST) -> tenants::SNAPSHOT, [400, 401, 403, 404, 500] => snapshots::get),
        token!(GET "/api/v2/projects/{projectName}/snapshots" ListSnapshots(requests::LIST_SNAPSHOTS_REQUEST) -> tenants::LIST_SNAPSHOTS_RESPONSE, [400, 401, 403, 500] => snapshots::list),
        token!(DELETE "/api/v2/projects/{projectName}/snapshots/{UUID}" DeleteSnapshot(requests::DELETE_SNAPSHOT_REQUEST) -> schema::EMPTY, [400, 404, 409, 412, 500, 503] => snapshots::delete),
        token!(GET "/api/v2/projects/{projectName}/snapshots/diff/{snapshotUUID}" ListChangedBlocks(requests::LIST_CHANGED_BLOCKS_REQUEST) -> tenants::LIST_CHANGED_BLOCKS_RESPONSE, [400, 401, 403, 404, 500] => snapshots::diff),
    ]
}

fn authentication() -> Vec<Route> {
    vec![
        token!(POST "/api/v2/cluster/encryption/enable" EnableClusterEncryption(requests::ENABLE_CLUSTER_ENCRYPTION_REQUEST) -> schema::EMPTY, [400, 401, 403, 409, 412, 500, 501] => encryption::enable),
        token!(POST "/api/v2/cluster/clusterRootKey/rotate" RotateClusterRootKey(requests::ROTATE_CLUSTER_ROOT_KEY_REQUEST) -> schema::EMPTY, [401, 403, 404, 409, 412, 500, 501] => encryption::rotate),
        token!(GET "/api/v2/cluster/clusterRootkey" GetClusterRootKey(requests::GET_CLUSTER_ROOT_KEY_REQUEST) -> site::GET_CLUSTER_ROOT_KEY_RESPONSE, [401, 501] => encryption::root_key),
        token!(POST "/api/v2/cluster/IdpConfiguration" CreateIdpConfiguration(requests::CREATE_IDP_CONFIGURATION_REQUEST) -> site::IDP_CONFIGURATION, [400, 401, 403] => idp::create),
        token!(DELETE "/api/v2/cluster/IdpConfiguration/{name}" DeleteIdpConfiguration(requests::DELETE_IDP_CONFIGURATION_REQUEST) -> schema::EMPTY, [400, 401, 403, 404] => idp::delete),
        token!(PUT "/api/v2/cluster/IdpConfiguration" UpdateIdpConfiguration(requests::UPDATE_IDP_CONFIGURATION_REQUEST) -> site::IDP_CONFIGURATION, [400, 401, 403, 404] => idp::update),
        token!(GET "/api/v2/cluster/IdpConfiguration" ListIdpConfigurations(requests::LIST_IDP_CONFIGURATIONS_REQUEST) -> site::LIST_IDP_CONFIGURATIONS_RESPONSE, [400, 401, 403] => idp::list),
        token!(GET "/api/v2/cluster/IdpConfiguration/{name}" GetIdpConfiguration(requests::GET_IDP_CONFIGURATION_REQUEST) -> site::IDP_CONFIGURATION, [400, 401, 403, 404] => idp::get),
        token!(POST "/api/v2/cluster/idpClientConfs" CreateIdpClientConf(requests::CREATE_IDP_CLIENT_CONF_REQUEST) -> site::IDP_CLIENT_CONF, [400, 401, 403] => idp::clients::create),
        token!(DELETE "/api/v2/cluster/idpClientConfs/{name}" DeleteIdpClientConf(requests::DELETE_IDP_CLIENT_CONF_REQUEST) -> schema::EMPTY, [400, 401, 403, 404] => idp::clients::delete),
        token!(PUT "/api/v2/cluster/idpClientConfs/{name}" UpdateIdpClientConf(requests::UPDATE_IDP_CLIENT_CONF_REQUEST) -> site::IDP_CLIENT_CONF, [400, 401, 403, 404] => idp::clients::update),
        token!(GET "/api/v2/cluster/idpClientConfs" ListIdpClientConfs(requests::LIST_IDP_CLIENT_CONFS_REQUEST) -> site::LIST_IDP_CLIENT_CONFS_RESPONSE, [400, 401, 403] => idp::clients::list),
        token!(GET "/api/v2/cluster/idpClientConfs/{name}" GetIdpClientConf(requests::GET_IDP_CLIENT_CONF_REQUEST) -> site::IDP_CLIENT_CONF, [400, 401, 403, 404] => idp::clients::get),
        token!(POST "/api/v2/cluster/authMaps" CreateAuthMapEntry(requests::CREATE_AUTH_MAP_ENTRY_REQUEST) -> site::AUTH_MAP_ENTRY, [400, 401, 403] => idp::maps::create),
        token!(PUT "/api/v2/cluster/authMaps/{name}" UpdateAuthMapEntry(requests::UPDATE_AUTH_MAP_ENTRY_REQUEST) -> site::AUTH_MAP_ENTRY, [400, 401, 403, 404] => idp::maps::update),
        token!(DELETE "/api/v2/cluster/authMaps/{name}" DeleteAuthMapEntry(requests::DELETE_AUTH_MAP_ENTRY_REQUEST) -> schema::EMPTY, [400, 401, 403, 404] => idp::maps::delete),
        token!(GET "/api/v2/cluster/authMaps/{name}" GetAuthMapEntry(requests::GET_AUTH_MAP_ENTRY_REQUEST) -> site::AUTH_MAP_ENTRY, [400, 401, 403, 404] => idp::maps::get),
        token!(GET "/api/v2/cluster/authMaps" ListAuthMapEntries(requests::LIST_AUTH_MAP_ENTRIES_REQUEST) -> site::LIST_AUTH_MAP_ENTRIES_RESPONSE, [400, 401, 403] => idp::maps::list),
        token!(POST "/api/v2/cluster/federatedAuthentication/enable" EnableFederatedAuthentication(requests::ENABLE_FEDERATED_AUTHENTICATION_REQUEST) -> schema::EMPTY, [401, 403] => idp::enable),
        token!(POST "/api/v2/cluster/federatedAuthentication/disable" DisableFederatedAuthentication(requests::DISABLE_FEDERATED_AUTHENTICATION_REQUEST) -> schema::EMPTY, [401, 403] => idp::disable),
        token!(POST "/cflogin" CFLogin(requests::CF_LOGIN_REQUEST) -> site::CF_LOGIN_RESPONSE, [401, 500] => cluster_federation::create),
        token!(GET "/api/v2/clusters" ListClusters(requests::LIST_CLUSTERS_REQUEST) -> site::LIST_CLUSTERS_RESPONSE, [401] => cluster_federation::list),
        token!(DELETE "/api/v2/clusters/{cid}" DetachCluster(requests::DETACH_CLUSTER_REQUEST) -> schema::EMPTY, [400, 401, 500] => cluster_federation::delete),
        token!(POST "/api/v2/clusters" AttachCluster(site::ATTACH_CLUSTER_REQUEST) -> site::ATTACH_CLUSTER_RESPONSE, [400, 401, 500] => cluster_federation::create),
        token!(GET "/api/v2/cf-service-credentials" GetCFServiceCredentials(requests::GET_CF_SERVICE_CREDENTIALS_REQUEST) -> site::GET_CF_SERVICE_CREDENTIALS_RESPONSE, [401] => cluster_federation::get),
        token!(GET "/api/v2/workflows" ListWorkflows(requests::LIST_WORKFLOWS_REQUEST) -> site::LIST_WORKFLOWS_RESPONSE, [400, 401, 500] => cluster_federation::list),
        token!(GET "/api/v2/workflows/{workflowId}" GetWorkflow(requests::GET_WORKFLOW_REQUEST) -> site::GET_WORKFLOW_RESPONSE, [400, 401, 500] => cluster_federation::get),
    ]
}

fn configuration() -> Vec<Route> {
    vec![
        token!(GET "/api/v2/projects/{projectName}/events" ListEvents(requests::LIST_EVENTS_REQUEST) -> site::LIST_EVENTS_RESPONSE, [400, 401, 403, 404, 500, 501] => events::list),
        token!(GET "/api/v2/events" ListEvents(requests::LIST_EVENTS_REQUEST) -> site::LIST_EVENTS_RESPONSE, [400, 401, 403, 404, 500, 501] => events::list),
        token!(GET "/api/v2/logs" FetchLogs(requests::LOG_REQUEST) -> schema::STREAM, [401, 403, 500] => logs::fetch),
        token!(POST "/api/v2/adminEndpoints" CreateAdminEndpoint(requests::CREATE_ADMIN_ENDPOINT_REQUEST) -> site::ADMIN_ENDPOINT, [400, 401, 403, 409, 500] => admin::create),
        token!(DELETE "/api/v2/adminEndpoints/{port}" DeleteAdminEndpoint(requests::DELETE_ADMIN_ENDPOINT_REQUEST) -> schema::EMPTY, [400, 401, 403, 404, 409, 412, 500, 503] => admin::delete),
        token!(GET "/api/v2/adminEndpoints" ListAdminEndpoints(requests::LIST_ADMIN_ENDPOINTS_REQUEST) -> site::LIST_ADMIN_ENDPOINTS_RESPONSE, [400, 401, 403, 500] => admin::list),
        token!(PUT "/api/v2/adminEndpoints/{port}" UpdateAdminEndpoint(requests::UPDATE_ADMIN_ENDPOINT_REQUEST) -> site::ADMIN_ENDPOINT, [400, 401, 403, 404, 409, 412, 500, 503] => admin::update),
        token!(GET "/api/v2/adminEndpoints/{port}" GetAdminEndpoint(requests::GET_ADMIN_ENDPOINT_REQUEST) -> site::ADMIN_ENDPOINT, [400, 401, 403, 404, 500] => admin::get),
        token!(GET "/api/v2/featureFlags/{name}" GetFeatureFlag(requests::GET_FEATURE_FLAG_REQUEST) -> site::FEATURE_FLAG_STATUS, [400, 401, 403, 500] => settings::get_flag),
        token!(POST "/api/v2/featureFlags/{name}/enable" EnableFeatureFlag(requests::ENABLE_FEATURE_FLAG_REQUEST) -> schema::EMPTY, [400, 401, 403, 500] => settings::enable_flag),
        token!(POST "/api/v2/featureFlags/{name}/disable" DisableFeatureFlag(requests::DISABLE_FEATURE_FLAG_REQUEST) -> schema::EMPTY, [400, 401, 403, 500, 501] => settings::disable_flag),
        token!(GET "/api/v2/featureFlags" ListFeatureFlags(requests::LIST_FEATURE_FLAGS_REQUEST) -> site::LIST_FEATURE_FLAGS_RESPONSE, [400, 401, 403, 500] => settings::list_flags),
        token!(GET "/api/v2/clusterConfig/{name}" GetClusterConfigParam(requests::GET_CLUSTER_CONFIG_PARAM_REQUEST) -> site::CLUSTER_CONFIG_PARAM, [400, 404, 500] => settings::get),
        token!(PUT "/api/v2/clusterConfig/{configParam.name}" UpdateClusterConfigParam(requests::UPDATE_CLUSTER_CONFIG_PARAM_REQUEST) -> schema::EMPTY, [400, 404, 500] => settings::update),
        token!(GET "/api/v2/clusterConfig" ListClusterConfigParams(requests::LIST_CLUSTER_CONFIG_PARAMS_REQUEST) -> site::LIST_CLUSTER_CONFIG_PARAMS_RESPONSE, [400, 500] => settings::list),
    ]
}

/// A row outside the contract, for whoever shows a token; its handler reads the request itself.
macro_rules! further {
    ($method:ident $path:literal $operation:ident => $handler:path) => {
        token!($method $path $operation(schema::ANY) -> schema::ANY, [] => $handler)
    };
}

/// Outside the contract: users, logins, roles that issue tokens.
fn token_routes() -> Vec<Route> {
    vec![
        open!(GET "/auth/federation" DescribeFederation(schema::EMPTY) -> schema::ANY, [] => federated_authentication::describe),
        open!(GET "/login" GetLogin(schema::ANY) -> schema::STREAM, [] => users::login_page),
        open!(POST "/login" LogIn(schema::ANY) -> schema::STREAM, [] => users::log_in),
        open!(POST "/logout" LogOut(schema::ANY) -> schema::STREAM, [] => users::log_out),
        further!(GET "/auth/users" ListUsers => users::list),
        further!(POST "/auth/users/{name}" PutUser => users::put),
        further!(DELETE "/auth/users/{name}" DeleteUser => users::delete),
        further!(POST "/auth/users/{name}/jwt" IssueUserToken => users::issue),
        further!(POST "/auth/revocations" RevokeToken => users::revoke),
        further!(POST "/v1/sys/mounts/{name}" MountBackend => vault::mount),
        further!(GET "/v1/jwt/roles" ListIssuingRoles => vault::list),
        further!(GET "/v1/jwt/roles/{name}" ReadIssuingRole => vault::read),
        further!(POST "/v1/jwt/roles/{name}" WriteIssuingRole => vault::write),
        further!(PUT "/v1/jwt/roles/{name}" WriteIssuingRole => vault::write),
        further!(DELETE "/v1/jwt/roles/{name}" DeleteIssuingRole => vault::delete),
        further!(GET "/v1/jwt/issue/{name}" IssueToken => vault::issue),
        further!(POST "/v1/jwt/issue/{name}" IssueToken => vault::issue),
        further!(PUT "/v1/jwt/issue/{name}" IssueToken => vault::issue),
        further!(GET "/jwt/roles" ListIssuingRoles => vault::list),
        further!(GET "/jwt/roles/{name}" ReadIssuingRole => vault::read),
        further!(POST "/jwt/roles/{name}" WriteIssuingRole => vault::write),
        further!(PUT "/jwt/roles/{name}" WriteIssuingRole => vault::write),
        further!(DELETE "/jwt/roles/{name}" DeleteIssuingRole => vault::delete),
        further!(GET "/jwt/issue/{name}" IssueToken => vault::issue),
        further!(POST "/jwt/issue/{name}" IssueToken => vault::issue),
        further!(PUT "/jwt/issue/{name}" IssueToken => vault::issue),
    ]
}
