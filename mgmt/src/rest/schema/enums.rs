//! Enums of the contract: names and numbers; the spellings are the contract's own.

use super::Enum;

pub(crate) static AUTHORIZATION_MODE: Enum = Enum {
    name: "AuthorizationMode",
    values: &[("UnknownAuthzMode", 0), ("App", 1), ("User", 2), ("Converge", 3)],
};
pub(crate) static CLUSTER_CLUSTER_STATUS: Enum = Enum {
    name: "Cluster.ClusterStatus",
    values: &[("Connected", 0), ("Disconnected", 1), ("Unauthorized", 2)],
};
pub(crate) static CLUSTER_ENCRYPTION_STATUS_ROTATION_STATE: Enum = Enum {
    name: "ClusterEncryptionStatus.RotationState",
    values: &[("NoRotation", 0), ("DistributingKEK", 1), ("EncryptyingDEKs", 2)],
};
pub(crate) static CLUSTER_ENCRYPTION_STATUS_STATE: Enum = Enum {
    name: "ClusterEncryptionStatus.State",
    values: &[("Disabled", 0), ("Enabling", 1), ("Enabled", 2), ("Unknown", 3)],
};
pub(crate) static CLUSTER_HEALTH_STATE: Enum =
    Enum { name: "ClusterHealth.State", values: &[("None", 0), ("OK", 1), ("Warning", 2), ("Error", 3)] };
pub(crate) static CLUSTER_INFO_AUTHENTICATION_MODE: Enum = Enum {
    name: "ClusterInfo.AuthenticationMode",
    values: &[("UnKnown", 0), ("Enabled", 2), ("Disabled", 3)],
};
pub(crate) static CLUSTER_LAST_UPGRADE_UPGRADE_STATUS_ENUM: Enum = Enum {
    name: "ClusterLastUpgrade.UpgradeStatusEnum",
    values: &[("Unknown", 0), ("None", 1), ("UpgradeFailed", 2), ("Upgrading", 3)],
};
pub(crate) static CREATE_VOLUME_REQUEST_SECTOR_SIZE_ENUM: Enum = Enum {
    name: "CreateVolumeRequest.SectorSizeEnum",
    values: &[("sectorSize_Default", 0), ("sectorSize_512B", 512), ("sectorSize_4K", 4096)],
};
pub(crate) static CREDS_KIND: Enum =
    Enum { name: "CredsKind", values: &[("UserCreds", 0), ("BeaconCreds", 2), ("UnknownKind", 127)] };
/// Those from 101 on are this server's own.
pub(crate) static CREDS_TYPE: Enum = Enum {
    name: "CredsType",
    values: &[
        ("UnknownType", 0),
        ("RS256PubKey", 1),
        ("TlsCertChainPem", 2),
        ("TlsPrivKeyPem", 3),
        ("RS384PubKey", 101),
        ("RS512PubKey", 102),
        ("ES256PubKey", 103),
        ("ES384PubKey", 104),
        ("ES512PubKey", 105),
        ("EdDSAPubKey", 106),
        ("HS256Secret", 107),
        ("HS384Secret", 108),
        ("HS512Secret", 109),
    ],
};
pub(crate) static DAY_OF_WEEK: Enum = Enum {
    name: "DayOfWeek",
    values: &[
        ("DayOfWeekUnspecified", 0),
        ("Sunday", 1),
        ("Monday", 2),
        ("Tuesday", 3),
        ("Wednesday", 4),
        ("Thursday", 5),
        ("Friday", 6),
        ("Saturday", 7),
    ],
};
pub(crate) static DUROS_NODE_INFO_STATE: Enum = Enum {
    name: "DurosNodeInfo.State",
    values: &[
        ("Unknown", 0),
        ("Active", 1),
        ("Activating", 2),
        ("Inactive", 3),
        ("Unattached", 4),
        ("Attaching", 6),
        ("Detaching", 7),
    ],
};
pub(crate) static DUROS_NODE_INFO_STATUS_ENUM: Enum = Enum {
    name: "DurosNodeInfo.StatusEnum",
    values: &[("NoStatus", 0), ("ConnectivityOK", 1), ("ConnectivityProblem", 2), ("IssuedDeletePeer", 3)],
};
pub(crate) static ENABLE_CLUSTER_ENCRYPTION_REQUEST_KEY_STORE: Enum =
    Enum { name: "EnableClusterEncryptionRequest.KeyStore", values: &[("file", 0), ("tpm", 1)] };
pub(crate) static EVENT_EVENT_REPORTING_SERVICE: Enum = Enum {
    name: "Event.EventReportingService",
    values: &[("UnkownReportingService", 0), ("CM", 1), ("NM", 2), ("API", 3), ("UM", 4)],
};
pub(crate) static EVENT_EVENT_SEVERITY: Enum = Enum {
    name: "Event.EventSeverity",
    values: &[("UnkownSeverity", 0), ("Info", 1), ("Low", 2), ("Medium", 3), ("High", 4), ("Critical", 5)],
};
pub(crate) static EVENT_EVENT_TYPE: Enum = Enum {
    name: "Event.EventType",
    values: &[
        ("UnknownType", 0),
        ("Cluster", 1),
        ("Node", 2),
        ("Volume", 3),
        ("NVMeSSD", 4),
        ("Server", 5),
        ("DataIntegrity", 6),
        ("ClusterEncryption", 7),
    ],
};
pub(crate) static IDP_CONFIGURATION_IDP_CONFIGURATION_STATE: Enum = Enum {
    name: "IDPConfiguration.IDPConfigurationState",
    values: &[("Unknown", 0), ("Creating", 1), ("Active", 2), ("Updating", 3), ("Failed", 4)],
};
pub(crate) static IDP_TYPE: Enum = Enum { name: "IDPType", values: &[("unknownIdp", 0), ("ADFS", 1)] };
pub(crate) static IDP_HEALTH_STATUS: Enum = Enum {
    name: "IdpHealthStatus",
    values: &[
        ("IdpHealthStatus_Healthy", 0),
        ("IdpHealthStatus_UnHealthy", 1),
        ("IdpHealthStatus_Unknown", 2),
    ],
};
pub(crate) static LABEL_MATCH_EXPRESSION_OPERATOR: Enum =
    Enum { name: "LabelMatchExpression.Operator", values: &[("Unknown", 0), ("In", 1)] };
pub(crate) static LABEL_VALUE_KEY_PAIR_KEY: Enum =
    Enum { name: "LabelValueKeyPair.Key", values: &[("Unknown", 0), ("FD", 1), ("PrimaryFD", 2)] };
pub(crate) static POLICY_STATE: Enum = Enum {
    name: "Policy.State",
    values: &[
        ("Unknown", 0),
        ("Creating", 1),
        ("Active", 2),
        ("Updating", 3),
        ("Deprecated", 4),
        ("Failed", 5),
    ],
};
pub(crate) static POLICY_TYPE: Enum =
    Enum { name: "PolicyType", values: &[("unknown", 0), ("snapshot", 1), ("qosRateLimit", 2)] };
pub(crate) static POLICY_VISIBILITY: Enum =
    Enum { name: "PolicyVisibility", values: &[("Unavailable", 0), ("Scoped", 1), ("Global", 2)] };
pub(crate) static PROTECTION_STATE_ENUM: Enum = Enum {
    name: "ProtectionStateEnum",
    values: &[("Unknown", 0), ("FullyProtected", 1), ("Degraded", 2), ("ReadOnly", 3), ("NotAvailable", 4)],
};
pub(crate) static RESOURCE_POLICY_STATE: Enum = Enum {
    name: "ResourcePolicy.State",
    values: &[("UnknownState", 0), ("Creating", 1), ("Active", 2), ("Deleting", 3), ("Failed", 4)],
};
pub(crate) static SERVER_RISK_OF_SERVICE_LOSS_ENUM: Enum = Enum {
    name: "Server.RiskOfServiceLossEnum",
    values: &[
        ("UnknownRiskOfServiceLoss", 0),
        ("NoRiskOfServiceLoss", 1),
        ("InRiskOfServiceLoss", 2),
        ("SourceOfRiskOfServiceLoss", 3),
    ],
};
pub(crate) static SERVER_SERVER_STATE_ENUM: Enum = Enum {
    name: "Server.ServerStateEnum",
    values: &[
        ("UnknownState", 0),
        ("Creating", 1),
        ("Enabled", 2),
        ("Deleting", 3),
        ("Failed", 4),
        ("Disabled", 5),
        ("Enabling", 6),
        ("Disabling", 7),
    ],
};
pub(crate) static SERVER_UPGRADE_STATUS_ENUM: Enum = Enum {
    name: "Server.UpgradeStatusEnum",
    values: &[
        ("Unknown", 0),
        ("None", 1),
        ("UpgradeFailed", 2),
        ("Upgrading", 3),
        ("Rebooting", 4),
        ("Recovering", 5),
    ],
};
pub(crate) static SERVER_EVICTION_STATUS_STATUS_ENUM: Enum = Enum {
    name: "ServerEvictionStatus.StatusEnum",
    values: &[("None", 0), ("Failed", 1), ("Evicting", 2), ("Aborting", 3), ("Completed", 4), ("Aborted", 5)],
};
pub(crate) static SERVER_LAST_UPGRADE_UPGRADE_STATUS_ENUM: Enum = Enum {
    name: "ServerLastUpgrade.UpgradeStatusEnum",
    values: &[
        ("Unknown", 0),
        ("None", 1),
        ("UpgradeFailed", 2),
        ("Upgrading", 3),
        ("Rebooting", 4),
        ("Recovering", 5),
    ],
};
pub(crate) static SNAPSHOT_STATE_ENUM: Enum = Enum {
    name: "Snapshot.StateEnum",
    values: &[
        ("Unknown", 0),
        ("Creating", 1),
        ("Available", 2),
        ("Deleting", 3),
        ("Deleted", 4),
        ("Failed", 7),
    ],
};
pub(crate) static TARGET_SECRET_TYPE: Enum =
    Enum { name: "TargetSecretType", values: &[("Disabled", 0), ("Enabled", 1), ("AutoGenSecret", 2)] };
pub(crate) static USER_NVME_DEVICES_RESPONSE_STATE_ENUM: Enum = Enum {
    name: "UserNvmeDevicesResponse.StateEnum",
    values: &[("None", 0), ("Healthy", 1), ("Adding", 2), ("Rebuilding", 3), ("Failed", 4)],
};
pub(crate) static VOLUME_STATE_ENUM: Enum = Enum {
    name: "Volume.StateEnum",
    values: &[
        ("Unknown", 0),
        ("Creating", 1),
        ("Available", 2),
        ("Deleting", 3),
        ("Deleted", 4),
        ("Failed", 7),
        ("Updating", 8),
        ("Rollback", 9),
        ("Migrating", 10),
    ],
};
