//! Messages of the cluster: nodes, servers, drives, events, configuration, authentication.

use super::Kind::{
    Bool, Bytes, Double, Duration, Enum, Int32, List, Map, Message as Nested, Text, Time, Uint32, Uint64,
};
use super::{Message, choice, enums, field};

pub(crate) static ADMIN_ENDPOINT: Message = Message {
    name: "AdminEndpoint",
    fields: &[field("port", Uint32), field("ips", List(&Text)), field("ETag", Text)],
};
pub(crate) static ATTACH_CLUSTER_REQUEST: Message =
    Message { name: "AttachClusterRequest", fields: &[field("apiEndpoint", Text)] };
pub(crate) static ATTACH_CLUSTER_RESPONSE: Message =
    Message { name: "AttachClusterResponse", fields: &[field("workflowId", Text)] };
pub(crate) static AUTH_MAP_ENTRY: Message = Message {
    name: "AuthMapEntry",
    fields: &[
        field("UUID", Text),
        field("name", Text),
        field("identifier", Text),
        field("scope", Text),
        field("role", Text),
        field("idpConfigurationName", Text),
    ],
};
pub(crate) static CF_LOGIN_RESPONSE: Message = Message {
    name: "CFLoginResponse",
    fields: &[field("tokenType", Text), field("expiresIn", Uint64), field("idToken", Text)],
};
pub(crate) static CLUSTER: Message = Message {
    name: "Cluster",
    fields: &[
        field("id", Text),
        field("name", Text),
        field("version", Text),
        field("subsystemNqn", Text),
        field("apiEndpoints", List(&Text)),
        field("discoveryEndpoints", List(&Text)),
        field("clusterConnectionStatus", Nested(&CLUSTER_CLUSTER_CONNECTION_STATUS)),
    ],
};
pub(crate) static CLUSTER_CLUSTER_CONNECTION_STATUS: Message = Message {
    name: "Cluster.ClusterConnectionStatus",
    fields: &[field("accessConnectionStatus", Enum(&enums::CLUSTER_CLUSTER_STATUS))],
};
pub(crate) static CLUSTER_CONFIG_PARAM: Message =
    Message { name: "ClusterConfigParam", fields: &[field("name", Text), field("value", Text)] };
pub(crate) static CLUSTER_ENCRYPTION_STATUS: Message = Message {
    name: "ClusterEncryptionStatus",
    fields: &[
        field("encryptionState", Enum(&enums::CLUSTER_ENCRYPTION_STATUS_STATE)),
        field("kekGeneration", Uint64),
        field("kekUpdateDate", Time),
        field("previousKekGenerations", List(&Uint64)),
        field("rotationState", Enum(&enums::CLUSTER_ENCRYPTION_STATUS_ROTATION_STATE)),
    ],
};
pub(crate) static CLUSTER_HEALTH: Message = Message {
    name: "ClusterHealth",
    fields: &[
        field("state", Enum(&enums::CLUSTER_HEALTH_STATE)),
        field("numDegradedVolumes", Uint32),
        field("numReadOnlyVolumes", Uint32),
        field("numNotAvailableVolumes", Uint32),
        field("numInactiveNodes", Uint32),
        field("numHealthyVolumes", Uint32),
    ],
};
pub(crate) static CLUSTER_INFO: Message = Message {
    name: "ClusterInfo",
    fields: &[
        field("UUID", Text),
        field("subsystemNQN", Text),
        field("currentMaxReplicas", Uint32),
        field("supportedMaxReplicas", Uint32),
        field("statistics", Nested(&CLUSTER_STATISTICS_API)),
        field("ETag", Text),
        field("health", Nested(&CLUSTER_HEALTH)),
        field("MinVersionInCluster", Text),
        field("MinAllowedVersion", Text),
        field("MaxAllowedVersion", Text),
        field("apiEndpoints", List(&Text)),
        field("discoveryEndpoints", List(&Text)),
        field("clusterName", Text),
        field("lastUpgrade", Nested(&CLUSTER_LAST_UPGRADE)),
        field("inBandAuthMode", Enum(&enums::CLUSTER_INFO_AUTHENTICATION_MODE)),
        field("encryptionStatus", Nested(&CLUSTER_ENCRYPTION_STATUS)),
        field("federatedAuthenticationStatus", Nested(&FEDERATED_AUTHENTICATION_STATUS)),
    ],
};
pub(crate) static CLUSTER_INFO_V2: Message = Message {
    name: "ClusterInfoV2",
    fields: &[
        field("UUID", Text),
        field("subsystemNQN", Text),
        field("currentMaxReplicas", Uint32),
        field("supportedMaxReplicas", Uint32),
        field("ETag", Text),
        field("apiEndpoints", List(&Text)),
        field("discoveryEndpoints", List(&Text)),
        field("nvmeEndpoints", List(&Text)),
        field("clusterName", Text),
        field("lastUpgrade", Nested(&CLUSTER_LAST_UPGRADE)),
        field("encryptionStatus", Nested(&CLUSTER_ENCRYPTION_STATUS)),
    ],
};
pub(crate) static CLUSTER_LAST_UPGRADE: Message = Message {
    name: "ClusterLastUpgrade",
    fields: &[
        field("Status", Enum(&enums::CLUSTER_LAST_UPGRADE_UPGRADE_STATUS_ENUM)),
        field("StartTime", Time),
        field("EndTime", Time),
        field("TargetVersion", Text),
        field("ErrorMessage", Text),
        field("ProgressStep", Uint32),
        field("ProgressTotal", Uint32),
    ],
};
pub(crate) static CLUSTER_STATISTICS_API: Message = Message {
    name: "ClusterStatisticsApi",
    fields: &[
        field("installedPhysicalStorage", Uint64),
        field("managedPhysicalStorage", Uint64),
        field("effectivePhysicalStorage", Uint64),
        field("logicalStorage", Uint64),
        field("logicalUsedStorage", Uint64),
        field("physicalUsedStorage", Uint64),
        field("physicalUsedStorageIncludingParity", Uint64),
        field("freePhysicalStorage", Uint64),
        field("estimatedFreeLogicalStorage", Uint64),
        field("estimatedLogicalStorage", Uint64),
        field("compressionRatio", Double),
    ],
};
pub(crate) static COMPONENT_CLUSTER_INFO: Message =
    Message { name: "ComponentClusterInfo", fields: &[field("ID", Text), field("Name", Text)] };
pub(crate) static COMPONENT_DATA_INTEGRITY_INFO: Message = Message {
    name: "ComponentDataIntegrityInfo",
    fields: &[field("NodeUUID", Text), field("ServerUUID", Text), field("SSDs", List(&Text))],
};
pub(crate) static COMPONENT_NV_ME_SSD_INFO: Message =
    Message { name: "ComponentNVMeSSDInfo", fields: &[field("ID", Text), field("Name", Text)] };
pub(crate) static COMPONENT_NODE_INFO: Message =
    Message { name: "ComponentNodeInfo", fields: &[field("ID", Text), field("Name", Text)] };
pub(crate) static COMPONENT_SERVER_INFO: Message =
    Message { name: "ComponentServerInfo", fields: &[field("ID", Text), field("Name", Text)] };
pub(crate) static COMPONENT_VOLUME_INFO: Message =
    Message { name: "ComponentVolumeInfo", fields: &[field("ID", Text), field("Name", Text)] };
pub(crate) static COMPONENT_VOLUMES_INFO: Message = Message {
    name: "ComponentVolumesInfo",
    fields: &[field("ProjectVolumesMap", Map(&VOLUME_COMPONENT_INFO_LIST))],
};
pub(crate) static CONNECTED_HOST: Message = Message {
    name: "ConnectedHost",
    fields: &[
        field("hostNQN", Text),
        field("iPAddress", Text),
        field("hostname", Text),
        field("volumeUUIDs", List(&Text)),
    ],
};
pub(crate) static DUROS_NODE_INFO: Message = Message {
    name: "DurosNodeInfo",
    fields: &[
        field("name", Text),
        field("UUID", Text),
        field("state", Enum(&enums::DUROS_NODE_INFO_STATE)),
        field("status", Enum(&enums::DUROS_NODE_INFO_STATUS_ENUM)),
        field("nvmeEndpoint", Text),
        field("failureDomains", List(&Text)),
        field("failureInfo", Text),
        field("hostname", Text),
        field("inLocalRebuild", Bool),
        field("localRebuildProgress", Uint32),
        field("numManagedDevices", Int32),
        field("maxNvmeDevices", Uint32),
        field("ec", Bool),
        field("statistics", Nested(&NODE_STATISTICS_API)),
        field("serverUUID", Text),
        field("ETag", Text),
        field("readOnly", Bool),
        field("powerupProgress", Uint32),
        field("permanentFailure", Bool),
    ],
};
pub(crate) static EVENT: Message = Message {
    name: "Event",
    fields: &[
        field("ID", Text),
        field("Time", Time),
        field("Type", Enum(&enums::EVENT_EVENT_TYPE)),
        field("Severity", Enum(&enums::EVENT_EVENT_SEVERITY)),
        field("EventName", Text),
        field("EventCode", Uint32),
        field("ReportingService", Enum(&enums::EVENT_EVENT_REPORTING_SERVICE)),
        field("AssociatedEventID", Text),
        field("Status", Text),
        field("CauseCode", Uint32),
        field("Description", Text),
        choice("ComponentVolumesInfo", Nested(&COMPONENT_VOLUMES_INFO)),
        choice("ComponentNVMeSSDInfo", Nested(&COMPONENT_NV_ME_SSD_INFO)),
        choice("ComponentNodeInfo", Nested(&COMPONENT_NODE_INFO)),
        choice("ComponentServerInfo", Nested(&COMPONENT_SERVER_INFO)),
        choice("ComponentClusterInfo", Nested(&COMPONENT_CLUSTER_INFO)),
        choice("ComponentDataIntegrityInfo", Nested(&COMPONENT_DATA_INTEGRITY_INFO)),
    ],
};
pub(crate) static FEATURE_FLAG_STATUS: Message =
    Message { name: "FeatureFlagStatus", fields: &[field("name", Text), field("enabled", Bool)] };
pub(crate) static FEDERATED_AUTHENTICATION_STATUS: Message = Message {
    name: "FederatedAuthenticationStatus",
    fields: &[
        field("federatedAuthenticationEnabled", Bool),
        field("idpHealthInfos", List(&Nested(&IDP_HEALTH_INFO))),
    ],
};
pub(crate) static GET_CF_SERVICE_CREDENTIALS_RESPONSE: Message = Message {
    name: "GetCFServiceCredentialsResponse",
    fields: &[field("pubKeyId", Text), field("pubKey", Text)],
};
pub(crate) static GET_CLUSTER_ROOT_KEY_RESPONSE: Message = Message {
    name: "GetClusterRootKeyResponse",
    fields: &[field("key", Nested(&GET_CLUSTER_ROOT_KEY_RESPONSE_KEY_OBJECT))],
};
pub(crate) static GET_CLUSTER_ROOT_KEY_RESPONSE_KEY_OBJECT: Message = Message {
    name: "GetClusterRootKeyResponse.KeyObject",
    fields: &[field("encryptedKey", Bytes), field("encryptingKeyGeneration", Uint64)],
};
pub(crate) static GET_WORKFLOW_RESPONSE: Message =
    Message { name: "GetWorkflowResponse", fields: &[field("workflow", Nested(&WORKFLOW))] };
pub(crate) static IDP_CONFIGURATION: Message = Message {
    name: "IDPConfiguration",
    fields: &[
        field("name", Text),
        field("idpIssuerURL", Text),
        field("state", Enum(&enums::IDP_CONFIGURATION_IDP_CONFIGURATION_STATE)),
        field("type", Enum(&enums::IDP_TYPE)),
        field("UUID", Text),
        field("proxyInfo", Nested(&PROXY_INFO)),
    ],
};
pub(crate) static IDP_CLIENT_CONF: Message = Message {
    name: "IdpClientConf",
    fields: &[
        field("UUID", Text),
        field("name", Text),
        field("clientId", Text),
        field("idpConfigurationName", Text),
        field("claimName", Text),
        field("authzMode", Enum(&enums::AUTHORIZATION_MODE)),
    ],
};
pub(crate) static IDP_HEALTH_INFO: Message = Message {
    name: "IdpHealthInfo",
    fields: &[
        field("serverName", Text),
        field("idpHealthStatus", Enum(&enums::IDP_HEALTH_STATUS)),
        field("timestamp", Time),
        field("healthErrorMessage", Text),
    ],
};
pub(crate) static LIST_ADMIN_ENDPOINTS_RESPONSE: Message = Message {
    name: "ListAdminEndpointsResponse",
    fields: &[field("adminEndpoints", List(&Nested(&ADMIN_ENDPOINT)))],
};
pub(crate) static LIST_AUTH_MAP_ENTRIES_RESPONSE: Message = Message {
    name: "ListAuthMapEntriesResponse",
    fields: &[field("authMapEntries", List(&Nested(&AUTH_MAP_ENTRY)))],
};
pub(crate) static LIST_CLUSTER_CONFIG_PARAMS_RESPONSE: Message = Message {
    name: "ListClusterConfigParamsResponse",
    fields: &[field("values", List(&Nested(&CLUSTER_CONFIG_PARAM)))],
};
pub(crate) static LIST_CLUSTERS_RESPONSE: Message =
    Message { name: "ListClustersResponse", fields: &[field("clusters", List(&Nested(&CLUSTER)))] };
pub(crate) static LIST_EVENTS_RESPONSE: Message = Message {
    name: "ListEventsResponse",
    fields: &[field("events", List(&Nested(&EVENT))), field("nextToken", Text)],
};
pub(crate) static LIST_FEATURE_FLAGS_RESPONSE: Message =
    Message { name: "ListFeatureFlagsResponse", fields: &[field("featureFlags", Map(&FEATURE_FLAG_STATUS))] };
pub(crate) static LIST_HOSTS_RESPONSE: Message =
    Message { name: "ListHostsResponse", fields: &[field("connectedHosts", List(&Nested(&CONNECTED_HOST)))] };
pub(crate) static LIST_IDP_CONFIGURATIONS_RESPONSE: Message = Message {
    name: "ListIDPConfigurationsResponse",
    fields: &[field("idpConfigurations", List(&Nested(&IDP_CONFIGURATION)))],
};
pub(crate) static LIST_IDP_CLIENT_CONFS_RESPONSE: Message = Message {
    name: "ListIdpClientConfsResponse",
    fields: &[field("idpClientConfigurations", List(&Nested(&IDP_CLIENT_CONF)))],
};
pub(crate) static LIST_NODES_RESPONSE: Message =
    Message { name: "ListNodesResponse", fields: &[field("nodes", List(&Nested(&DUROS_NODE_INFO)))] };
pub(crate) static LIST_NVME_DEVICES_RESPONSE: Message = Message {
    name: "ListNvmeDevicesResponse",
    fields: &[field("NvmeDevices", List(&Nested(&USER_NVME_DEVICES_RESPONSE)))],
};
pub(crate) static LIST_SERVERS_RESPONSE: Message =
    Message { name: "ListServersResponse", fields: &[field("servers", List(&Nested(&SERVER)))] };
pub(crate) static LIST_WORKFLOWS_RESPONSE: Message = Message {
    name: "ListWorkflowsResponse",
    fields: &[field("workflows", List(&Nested(&WORKFLOW))), field("nextPageToken", Bytes)],
};
pub(crate) static NODE_STATISTICS_API: Message = Message {
    name: "NodeStatisticsApi",
    fields: &[
        field("managedPhysicalStorage", Uint64),
        field("effectivePhysicalStorage", Uint64),
        field("logicalStorage", Uint64),
        field("logicalUsedStorage", Uint64),
        field("physicalUsedStorage", Uint64),
        field("physicalUsedStorageIncludingParity", Uint64),
        field("freePhysicalStorage", Uint64),
        field("estimatedFreeLogicalStorage", Uint64),
        field("estimatedLogicalStorage", Uint64),
        field("compressionRatio", Double),
        field("UnrecoverableDataIntegrityErrors", Uint32),
        field("RecoverableDataIntegrityErrors", Uint32),
        field("GarbageCollectorDataIntegrityErrors", Uint64),
        field("metadataUtilization", Double),
    ],
};
pub(crate) static NVME_DEVICE_STATISTICS_API: Message = Message {
    name: "NvmeDeviceStatisticsApi",
    fields: &[
        field("UnrecoverableDataIntegrityErrors", Uint32),
        field("RecoverableDataIntegrityErrors", Uint32),
    ],
};
pub(crate) static PROGRESS: Message =
    Message { name: "Progress", fields: &[field("percent", Int32), field("stage", Text)] };
pub(crate) static PROXY_INFO: Message = Message {
    name: "ProxyInfo",
    fields: &[field("URL", Text), field("Username", Text), field("Password", Text)],
};
pub(crate) static SERVER: Message = Message {
    name: "Server",
    fields: &[
        field("UUID", Text),
        field("name", Text),
        field("RiskOfServiceLossState", Enum(&enums::SERVER_RISK_OF_SERVICE_LOSS_ENUM)),
        field("NodesUUIDs", List(&Text)),
        field("state", Enum(&enums::SERVER_SERVER_STATE_ENUM)),
        field("ServerEndpoints", List(&Text)),
        field("ETag", Text),
        field("LightOSVersion", Text),
        field("UpgradeStatus", Enum(&enums::SERVER_UPGRADE_STATUS_ENUM)),
        field("ApiEndpoints", List(&Text)),
        field("LastUpgrade", Nested(&SERVER_LAST_UPGRADE)),
        field("IsWitness", Bool),
        field("LastEviction", Nested(&SERVER_EVICTION_STATUS)),
        field("health", Enum(&enums::CLUSTER_HEALTH_STATE)),
        field("ServerPermanenetFailureTimeout", Duration),
        field("tpm2IsSupported", Bool),
    ],
};
pub(crate) static SERVER_EVICTION_STATUS: Message = Message {
    name: "ServerEvictionStatus",
    fields: &[
        field("status", Enum(&enums::SERVER_EVICTION_STATUS_STATUS_ENUM)),
        field("startTime", Time),
        field("endTime", Time),
        field("errorMessage", Text),
        field("progress", Uint32),
    ],
};
pub(crate) static SERVER_LAST_UPGRADE: Message = Message {
    name: "ServerLastUpgrade",
    fields: &[
        field("Status", Enum(&enums::SERVER_LAST_UPGRADE_UPGRADE_STATUS_ENUM)),
        field("StartTime", Time),
        field("EndTime", Time),
        field("TargetVersion", Text),
        field("ErrorMessage", Text),
        field("ProgressStep", Uint32),
        field("ProgressTotal", Uint32),
    ],
};
pub(crate) static USER_NVME_DEVICES_RESPONSE: Message = Message {
    name: "UserNvmeDevicesResponse",
    fields: &[
        field("size", Uint64),
        field("numaNodeID", Uint64),
        field("model", Text),
        field("serial", Text),
        field("serverUUID", Text),
        field("state", Enum(&enums::USER_NVME_DEVICES_RESPONSE_STATE_ENUM)),
        field("failureTime", Time),
        field("rebuildCompletionTime", Time),
        field("name", Text),
        field("nodeUUID", Text),
        field("ETag", Text),
        field("statistics", Nested(&NVME_DEVICE_STATISTICS_API)),
    ],
};
pub(crate) static VERSION: Message = Message { name: "Version", fields: &[field("apiVersion", Text)] };
pub(crate) static VOLUME_COMPONENT_INFO_LIST: Message = Message {
    name: "VolumeComponentInfoList",
    fields: &[field("VolumeComponentInfoList", List(&Nested(&COMPONENT_VOLUME_INFO)))],
};
pub(crate) static WORKFLOW: Message = Message {
    name: "Workflow",
    fields: &[
        field("id", Text),
        field("createdAt", Time),
        field("startedAt", Time),
        field("endedAt", Time),
        field("type", Text),
        field("state", Text),
        field("msg", Text),
        field("progress", Nested(&PROGRESS)),
        choice("attachClusterRequest", Nested(&ATTACH_CLUSTER_REQUEST)),
    ],
};
