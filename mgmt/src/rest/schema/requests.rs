//! Messages of requests: bodies, queries and path variables together.

use super::Kind::{Bool, Bytes, Duration, Enum, Int32, Int64, List, Message as Nested, Text, Uint32, Uint64};
use super::site::{CLUSTER_CONFIG_PARAM, PROXY_INFO};
use super::tenants::{
    DEFAULT_POLICY, LABEL, LABEL_MATCH_EXPRESSION, QO_S_RATE_LIMIT_POLICY, SCHEDULE_POLICY, STRING_LIST,
};
use super::{Message, choice, enums, field, required};

pub(crate) static ADD_NVME_DEVICE_REQUEST: Message = Message {
    name: "AddNvmeDeviceRequest",
    fields: &[required("serialNumber", Text), required("nodeUUID", Text)],
};
pub(crate) static CF_LOGIN_REQUEST: Message = Message { name: "CFLoginRequest", fields: &[] };
pub(crate) static CREATE_ADMIN_ENDPOINT_REQUEST: Message = Message {
    name: "CreateAdminEndpointRequest",
    fields: &[required("port", Uint32), required("ips", List(&Text))],
};
pub(crate) static CREATE_AUTH_MAP_ENTRY_REQUEST: Message = Message {
    name: "CreateAuthMapEntryRequest",
    fields: &[
        required("name", Text),
        required("identifier", Text),
        required("scope", Text),
        required("role", Text),
        required("idpConfigurationName", Text),
    ],
};
/// Issuer and audience are this server's own.
pub(crate) static CREATE_CREDENTIAL_REQUEST: Message = Message {
    name: "CreateCredentialRequest",
    fields: &[
        field("projectName", Text),
        required("ID", Text),
        required("type", Enum(&enums::CREDS_TYPE)),
        required("payload", Bytes),
        field("issuer", Text),
        field("audience", Text),
    ],
};
pub(crate) static CREATE_IDP_CONFIGURATION_REQUEST: Message = Message {
    name: "CreateIDPConfigurationRequest",
    fields: &[
        required("name", Text),
        required("idpIssuerURL", Text),
        required("type", Enum(&enums::IDP_TYPE)),
        field("proxyInfo", Nested(&PROXY_INFO)),
    ],
};
pub(crate) static CREATE_IDP_CLIENT_CONF_REQUEST: Message = Message {
    name: "CreateIdpClientConfRequest",
    fields: &[
        required("name", Text),
        required("clientId", Text),
        required("idpConfigurationName", Text),
        field("claimName", Text),
        required("authzMode", Enum(&enums::AUTHORIZATION_MODE)),
    ],
};
pub(crate) static CREATE_POLICY_REQUEST: Message = Message {
    name: "CreatePolicyRequest",
    fields: &[
        required("name", Text),
        field("description", Text),
        choice("qoSRateLimitPolicy", Nested(&QO_S_RATE_LIMIT_POLICY)),
    ],
};
pub(crate) static CREATE_PROJECT_REQUEST: Message = Message {
    name: "CreateProjectRequest",
    fields: &[
        required("name", Text),
        field("description", Text),
        field("defaultPolicies", List(&Nested(&DEFAULT_POLICY))),
    ],
};
pub(crate) static CREATE_RESOURCE_POLICY_REQUEST: Message = Message {
    name: "CreateResourcePolicyRequest",
    fields: &[
        required("name", Text),
        field("resourceUUID", Text),
        field("resourceName", Text),
        field("projectName", Text),
        required("schedulePolicy", Nested(&SCHEDULE_POLICY)),
        field("description", Text),
    ],
};
pub(crate) static CREATE_SERVER_REQUEST: Message = Message {
    name: "CreateServerRequest",
    fields: &[
        required("serverEndpoints", List(&Text)),
        required("serverUUID", Text),
        field("reuseIP", Bool),
        field("extendCluster", Bool),
    ],
};
pub(crate) static CREATE_SNAPSHOT_REQUEST: Message = Message {
    name: "CreateSnapshotRequest",
    fields: &[
        required("name", Text),
        field("sourceVolumeUUID", Text),
        field("sourceVolumeName", Text),
        field("retentionTime", Duration),
        field("description", Text),
        field("projectName", Text),
    ],
};
pub(crate) static CREATE_TRUSTED_HOST_REQUEST: Message = Message {
    name: "CreateTrustedHostRequest",
    fields: &[
        required("name", Text),
        field("projectName", Text),
        required("hostNqn", Text),
        field("labels", List(&Nested(&LABEL))),
        field("authRequired", Text),
    ],
};
pub(crate) static CREATE_VOLUME_REQUEST: Message = Message {
    name: "CreateVolumeRequest",
    fields: &[
        required("name", Text),
        required("size", Text),
        required("acl", Nested(&STRING_LIST)),
        field("compression", Text),
        required("replicaCount", Uint32),
        field("IPAcl", Nested(&STRING_LIST)),
        field("minReplicas", Uint32),
        field("sectorSize", Enum(&enums::CREATE_VOLUME_REQUEST_SECTOR_SIZE_ENUM)),
        required("projectName", Text),
        field("sourceSnapshotUUID", Text),
        field("sourceSnapshotName", Text),
        field("placementRestrictions", List(&Nested(&LABEL_MATCH_EXPRESSION))),
        choice("qosPolicyUUID", Text),
        choice("qosPolicyName", Text),
        field("labels", List(&Nested(&LABEL))),
    ],
};
pub(crate) static DELETE_ADMIN_ENDPOINT_REQUEST: Message =
    Message { name: "DeleteAdminEndpointRequest", fields: &[field("port", Uint32)] };
pub(crate) static DELETE_AUTH_MAP_ENTRY_REQUEST: Message =
    Message { name: "DeleteAuthMapEntryRequest", fields: &[field("name", Text)] };
pub(crate) static DELETE_CREDENTIAL_REQUEST: Message =
    Message { name: "DeleteCredentialRequest", fields: &[field("ID", Text), field("projectName", Text)] };
pub(crate) static DELETE_IDP_CONFIGURATION_REQUEST: Message =
    Message { name: "DeleteIDPConfigurationRequest", fields: &[field("name", Text)] };
pub(crate) static DELETE_IDP_CLIENT_CONF_REQUEST: Message =
    Message { name: "DeleteIdpClientConfRequest", fields: &[field("name", Text)] };
pub(crate) static DELETE_POLICY_REQUEST: Message =
    Message { name: "DeletePolicyRequest", fields: &[field("UUID", Text), field("name", Text)] };
pub(crate) static DELETE_PROJECT_REQUEST: Message =
    Message { name: "DeleteProjectRequest", fields: &[field("name", Text)] };
pub(crate) static DELETE_RESOURCE_POLICY_REQUEST: Message = Message {
    name: "DeleteResourcePolicyRequest",
    fields: &[field("UUID", Text), field("projectName", Text)],
};
pub(crate) static DELETE_SERVER_REQUEST: Message = Message {
    name: "DeleteServerRequest",
    fields: &[field("UUID", Text), field("name", Text), field("forceDelete", Bool)],
};
pub(crate) static DELETE_SNAPSHOT_REQUEST: Message = Message {
    name: "DeleteSnapshotRequest",
    fields: &[field("UUID", Text), field("name", Text), field("projectName", Text)],
};
pub(crate) static DELETE_TRUSTED_HOST_REQUEST: Message =
    Message { name: "DeleteTrustedHostRequest", fields: &[field("name", Text), field("projectName", Text)] };
pub(crate) static DELETE_VOLUME_REQUEST: Message = Message {
    name: "DeleteVolumeRequest",
    fields: &[field("UUID", Text), field("name", Text), required("projectName", Text)],
};
pub(crate) static DETACH_CLUSTER_REQUEST: Message =
    Message { name: "DetachClusterRequest", fields: &[field("cid", Text)] };
pub(crate) static DISABLE_CLUSTER_IN_BAND_AUTH_REQUEST: Message =
    Message { name: "DisableClusterInBandAuthRequest", fields: &[field("subsystemNqnName", Text)] };
pub(crate) static DISABLE_FEATURE_FLAG_REQUEST: Message =
    Message { name: "DisableFeatureFlagRequest", fields: &[field("name", Text)] };
pub(crate) static DISABLE_FEDERATED_AUTHENTICATION_REQUEST: Message =
    Message { name: "DisableFederatedAuthenticationRequest", fields: &[] };
pub(crate) static DISABLE_SERVER_REQUEST: Message = Message {
    name: "DisableServerRequest",
    fields: &[
        field("UUID", Text),
        field("ForceDisable", Bool),
        field("name", Text),
        field("evictData", Bool),
        field("permanentFailureTimeout", Duration),
    ],
};
pub(crate) static ENABLE_CLUSTER_ENCRYPTION_REQUEST: Message = Message {
    name: "EnableClusterEncryptionRequest",
    fields: &[field("keyStore", Enum(&enums::ENABLE_CLUSTER_ENCRYPTION_REQUEST_KEY_STORE))],
};
pub(crate) static ENABLE_CLUSTER_IN_BAND_AUTH_REQUEST: Message =
    Message { name: "EnableClusterInBandAuthRequest", fields: &[field("subsystemNqnName", Text)] };
pub(crate) static ENABLE_FEATURE_FLAG_REQUEST: Message =
    Message { name: "EnableFeatureFlagRequest", fields: &[field("name", Text)] };
pub(crate) static ENABLE_FEDERATED_AUTHENTICATION_REQUEST: Message =
    Message { name: "EnableFederatedAuthenticationRequest", fields: &[] };
pub(crate) static ENABLE_SERVER_REQUEST: Message =
    Message { name: "EnableServerRequest", fields: &[field("UUID", Text), field("name", Text)] };
pub(crate) static GET_ADMIN_ENDPOINT_REQUEST: Message =
    Message { name: "GetAdminEndpointRequest", fields: &[field("port", Uint32)] };
pub(crate) static GET_AUTH_MAP_ENTRY_REQUEST: Message =
    Message { name: "GetAuthMapEntryRequest", fields: &[field("name", Text)] };
pub(crate) static GET_CF_SERVICE_CREDENTIALS_REQUEST: Message =
    Message { name: "GetCFServiceCredentialsRequest", fields: &[] };
pub(crate) static GET_CLUSTER_CONFIG_PARAM_REQUEST: Message =
    Message { name: "GetClusterConfigParamRequest", fields: &[field("name", Text)] };
pub(crate) static GET_CLUSTER_REQUEST: Message = Message { name: "GetClusterRequest", fields: &[] };
pub(crate) static GET_CLUSTER_ROOT_KEY_REQUEST: Message = Message {
    name: "GetClusterRootKeyRequest",
    fields: &[field("encryptingKeyGeneration", Uint64), required("userPublicKey", Bytes)],
};
pub(crate) static GET_CREDENTIAL_REQUEST: Message =
    Message { name: "GetCredentialRequest", fields: &[field("ID", Text), field("projectName", Text)] };
pub(crate) static GET_FEATURE_FLAG_REQUEST: Message =
    Message { name: "GetFeatureFlagRequest", fields: &[field("name", Text)] };
pub(crate) static GET_HOST_REQUEST: Message =
    Message { name: "GetHostRequest", fields: &[field("hostNQN", Text)] };
pub(crate) static GET_IDP_CONFIGURATION_REQUEST: Message =
    Message { name: "GetIDPConfigurationRequest", fields: &[field("name", Text)] };
pub(crate) static GET_IDP_CLIENT_CONF_REQUEST: Message =
    Message { name: "GetIdpClientConfRequest", fields: &[field("name", Text)] };
pub(crate) static GET_NODE_REQUEST: Message =
    Message { name: "GetNodeRequest", fields: &[field("UUID", Text)] };
pub(crate) static GET_NVME_DEVICE_REQUEST: Message =
    Message { name: "GetNvmeDeviceRequest", fields: &[field("Serial", Text)] };
pub(crate) static GET_POLICY_REQUEST: Message = Message {
    name: "GetPolicyRequest",
    fields: &[field("UUID", Text), field("name", Text), field("projectName", Text)],
};
pub(crate) static GET_PROJECT_REQUEST: Message =
    Message { name: "GetProjectRequest", fields: &[field("name", Text)] };
pub(crate) static GET_RESOURCE_POLICY_REQUEST: Message =
    Message { name: "GetResourcePolicyRequest", fields: &[field("UUID", Text), field("projectName", Text)] };
pub(crate) static GET_ROLE_REQUEST: Message =
    Message { name: "GetRoleRequest", fields: &[field("name", Text), field("projectName", Text)] };
pub(crate) static GET_SERVER_REQUEST: Message =
    Message { name: "GetServerRequest", fields: &[field("UUID", Text)] };
pub(crate) static GET_SNAPSHOT_REQUEST: Message = Message {
    name: "GetSnapshotRequest",
    fields: &[field("UUID", Text), field("Name", Text), field("projectName", Text)],
};
pub(crate) static GET_TRUSTED_HOST_REQUEST: Message =
    Message { name: "GetTrustedHostRequest", fields: &[field("name", Text), field("projectName", Text)] };
pub(crate) static GET_TRUSTED_HOST_SECRETS_REQUEST: Message = Message {
    name: "GetTrustedHostSecretsRequest",
    fields: &[field("name", Text), field("projectName", Text)],
};
pub(crate) static GET_VERSION_REQUEST: Message = Message { name: "GetVersionRequest", fields: &[] };
pub(crate) static GET_VOLUME_REQUEST: Message = Message {
    name: "GetVolumeRequest",
    fields: &[field("UUID", Text), field("name", Text), required("projectName", Text)],
};
pub(crate) static GET_WORKFLOW_REQUEST: Message =
    Message { name: "GetWorkflowRequest", fields: &[field("workflowId", Text)] };
pub(crate) static LIST_ADMIN_ENDPOINTS_REQUEST: Message =
    Message { name: "ListAdminEndpointsRequest", fields: &[field("port", Uint32)] };
pub(crate) static LIST_AUTH_MAP_ENTRIES_REQUEST: Message =
    Message { name: "ListAuthMapEntriesRequest", fields: &[] };
pub(crate) static LIST_CHANGED_BLOCKS_REQUEST: Message = Message {
    name: "ListChangedBlocksRequest",
    fields: &[
        field("snapshotUUID", Text),
        field("baseSnapshotUUID", Text),
        field("projectName", Text),
        field("offsetLBA", Uint64),
        field("snapshotName", Text),
        field("baseSnapshotName", Text),
    ],
};
pub(crate) static LIST_CLUSTER_CONFIG_PARAMS_REQUEST: Message =
    Message { name: "ListClusterConfigParamsRequest", fields: &[] };
pub(crate) static LIST_CLUSTERS_REQUEST: Message = Message { name: "ListClustersRequest", fields: &[] };
pub(crate) static LIST_CREDENTIALS_REQUEST: Message =
    Message { name: "ListCredentialsRequest", fields: &[field("projectName", Text)] };
pub(crate) static LIST_EVENTS_REQUEST: Message = Message {
    name: "ListEventsRequest",
    fields: &[
        field("projectName", Text),
        field("nextToken", Text),
        field("since", Text),
        field("until", Text),
        field("limit", Int64),
        field("severity", List(&Text)),
        field("componentType", Text),
    ],
};
pub(crate) static LIST_FEATURE_FLAGS_REQUEST: Message =
    Message { name: "ListFeatureFlagsRequest", fields: &[] };
pub(crate) static LIST_HOSTS_REQUEST: Message =
    Message { name: "ListHostsRequest", fields: &[field("hostNQN", Text), field("volumeUUID", Text)] };
pub(crate) static LIST_IDP_CONFIGURATIONS_REQUEST: Message =
    Message { name: "ListIDPConfigurationsRequest", fields: &[] };
pub(crate) static LIST_IDP_CLIENT_CONFS_REQUEST: Message =
    Message { name: "ListIdpClientConfsRequest", fields: &[] };
pub(crate) static LIST_NODE_REQUEST: Message = Message {
    name: "ListNodeRequest",
    fields: &[field("name", Text), field("UUID", Text), field("failureDomain", Text)],
};
pub(crate) static LIST_NVME_DEVICES_REQUEST: Message =
    Message { name: "ListNvmeDevicesRequest", fields: &[field("nodeUUID", Text), field("serverUUID", Text)] };
pub(crate) static LIST_POLICIES_REQUEST: Message = Message {
    name: "ListPoliciesRequest",
    fields: &[field("UUID", Text), field("name", Text), field("projectName", Text)],
};
pub(crate) static LIST_PROJECTS_REQUEST: Message = Message { name: "ListProjectsRequest", fields: &[] };
pub(crate) static LIST_RESOURCE_POLICIES_REQUEST: Message = Message {
    name: "ListResourcePoliciesRequest",
    fields: &[field("UUID", Text), field("projectName", Text), field("volumeUUID", Text)],
};
pub(crate) static LIST_ROLES_REQUEST: Message =
    Message { name: "ListRolesRequest", fields: &[field("projectName", Text)] };
pub(crate) static LIST_SERVERS_REQUEST: Message = Message {
    name: "ListServersRequest",
    fields: &[
        field("UUID", Text),
        field("Name", Text),
        field("RiskOfServiceLoss", Enum(&enums::SERVER_RISK_OF_SERVICE_LOSS_ENUM)),
    ],
};
pub(crate) static LIST_SNAPSHOTS_REQUEST: Message = Message {
    name: "ListSnapshotsRequest",
    fields: &[
        field("UUID", Text),
        field("Name", Text),
        field("projectName", Text),
        field("offsetUUID", Text),
        field("limit", Int64),
        field("showAll", Bool),
    ],
};
pub(crate) static LIST_TRUSTED_HOSTS_REQUEST: Message = Message {
    name: "ListTrustedHostsRequest",
    fields: &[
        field("projectName", Text),
        field("labels", List(&Nested(&LABEL))),
        field("offsetUUID", Text),
        field("limit", Int64),
    ],
};
pub(crate) static LIST_VOLUME_REQUEST: Message = Message {
    name: "ListVolumeRequest",
    fields: &[
        field("UUID", Text),
        field("name", Text),
        field("failureDomain", Text),
        field("offsetUUID", Text),
        field("limit", Int64),
        field("projectName", Text),
        field("snapshotUUID", Text),
        field("showAll", Bool),
    ],
};
pub(crate) static LIST_WORKFLOWS_REQUEST: Message = Message {
    name: "ListWorkflowsRequest",
    fields: &[field("pageSize", Int32), field("nextPageToken", Bytes)],
};
pub(crate) static LOG_REQUEST: Message = Message {
    name: "LogRequest",
    fields: &[
        field("SkipStatistics", Bool),
        field("CaptureCpuAndTcpDump", Bool),
        field("NumOfDaysToCollectLogs", Uint32),
        field("CollectServicesLbcliEtcd", Bool),
        field("IntervalBetweenBEReadCycles", Uint32),
        field("DontCollectlogs", Bool),
        field("LogFilename", Text),
        field("NumOfstatisticsToCapture", Uint32),
        field("DontCompressOutput", Bool),
        field("IoNice", Bool),
        field("UseHighCompression", Bool),
    ],
};
pub(crate) static REPLACE_NODE_REQUEST: Message = Message {
    name: "ReplaceNodeRequest",
    fields: &[
        field("SrcNodeUUID", Text),
        required("TargetNodeUUID", Text),
        field("ReplaceWhileActive", Bool),
    ],
};
pub(crate) static ROLLBACK_VOLUME_REQUEST: Message = Message {
    name: "RollbackVolumeRequest",
    fields: &[
        field("UUID", Text),
        field("srcSnapshotUUID", Text),
        field("projectName", Text),
        field("Name", Text),
        field("srcSnapshotName", Text),
    ],
};
pub(crate) static ROTATE_CLUSTER_ROOT_KEY_REQUEST: Message =
    Message { name: "RotateClusterRootKeyRequest", fields: &[] };
pub(crate) static SET_TRUSTED_HOST_SECRETS_REQUEST: Message = Message {
    name: "SetTrustedHostSecretsRequest",
    fields: &[
        field("name", Text),
        field("projectName", Text),
        required("hostSecret", Text),
        field("targetSecret", Text),
        field("targetSecretType", Enum(&enums::TARGET_SECRET_TYPE)),
    ],
};
pub(crate) static UPDATE_ADMIN_ENDPOINT_REQUEST: Message = Message {
    name: "UpdateAdminEndpointRequest",
    fields: &[field("port", Uint32), required("ips", List(&Text))],
};
pub(crate) static UPDATE_AUTH_MAP_ENTRY_REQUEST: Message = Message {
    name: "UpdateAuthMapEntryRequest",
    fields: &[
        field("name", Text),
        required("scope", Text),
        required("role", Text),
        required("identifier", Text),
        required("idpConfigurationName", Text),
    ],
};
pub(crate) static UPDATE_CLUSTER_CONFIG_PARAM_REQUEST: Message = Message {
    name: "UpdateClusterConfigParamRequest",
    fields: &[required("configParam", Nested(&CLUSTER_CONFIG_PARAM))],
};
pub(crate) static UPDATE_IDP_CONFIGURATION_REQUEST: Message = Message {
    name: "UpdateIDPConfigurationRequest",
    fields: &[
        required("name", Text),
        field("idpIssuerURL", Text),
        field("type", Enum(&enums::IDP_TYPE)),
        field("proxyInfo", Nested(&PROXY_INFO)),
    ],
};
pub(crate) static UPDATE_IDP_CLIENT_CONF_REQUEST: Message = Message {
    name: "UpdateIdpClientConfRequest",
    fields: &[field("name", Text), required("claimName", Text)],
};
pub(crate) static UPDATE_NVME_DEVICE_REQUEST: Message = Message {
    name: "UpdateNvmeDeviceRequest",
    fields: &[required("serverUUID", Text), field("serialNumber", Text), required("ledPattern", Text)],
};
pub(crate) static UPDATE_POLICY_REQUEST: Message = Message {
    name: "UpdatePolicyRequest",
    fields: &[
        field("UUID", Text),
        field("name", Text),
        field("description", Text),
        choice("qoSRateLimitPolicy", Nested(&QO_S_RATE_LIMIT_POLICY)),
    ],
};
pub(crate) static UPDATE_PROJECT_REQUEST: Message = Message {
    name: "UpdateProjectRequest",
    fields: &[field("projectName", Text), required("defaultPolicies", List(&Nested(&DEFAULT_POLICY)))],
};
pub(crate) static UPDATE_RESOURCE_POLICY_REQUEST: Message = Message {
    name: "UpdateResourcePolicyRequest",
    fields: &[
        field("UUID", Text),
        field("projectName", Text),
        required("schedulePolicy", Nested(&SCHEDULE_POLICY)),
        field("description", Text),
    ],
};
pub(crate) static UPDATE_TRUSTED_HOST_REQUEST: Message = Message {
    name: "UpdateTrustedHostRequest",
    fields: &[
        field("name", Text),
        field("projectName", Text),
        field("hostNqn", Text),
        field("labels", List(&Nested(&LABEL))),
        field("authRequired", Text),
    ],
};
pub(crate) static UPDATE_VOLUME_REQUEST: Message = Message {
    name: "UpdateVolumeRequest",
    fields: &[
        field("UUID", Text),
        field("acl", Nested(&STRING_LIST)),
        field("IPAcl", Nested(&STRING_LIST)),
        field("size", Text),
        field("compression", Text),
        required("projectName", Text),
        choice("qosPolicyUUID", Text),
        choice("qosPolicyName", Text),
        field("Force", Bool),
        field("name", Text),
        field("labels", List(&Nested(&LABEL))),
        field("newName", Text),
    ],
};
pub(crate) static UPGRADE_CLUSTER_REQUEST: Message = Message {
    name: "UpgradeClusterRequest",
    fields: &[
        required("InstallPkgUri", Text),
        field("UUIDs", List(&Text)),
        field("ProxyInfo", Nested(&PROXY_INFO)),
    ],
};
pub(crate) static UPGRADE_SERVER_REQUEST: Message = Message {
    name: "UpgradeServerRequest",
    fields: &[
        field("UUID", Text),
        required("InstallPkgUri", Text),
        field("ForceUpgrade", Bool),
        field("ProxyInfo", Nested(&PROXY_INFO)),
    ],
};
