//! Messages of what belongs to projects: volumes, snapshots, policies, credentials, trusted hosts.

use super::Kind::{Bool, Bytes, Double, Duration, Enum, List, Message as Nested, Text, Time, Uint32, Uint64};
use super::{Message, choice, enums, field};

/// Issuer and audience are this server's own.
pub(crate) static CREDENTIAL: Message = Message {
    name: "Credential",
    fields: &[
        field("projectName", Text),
        field("ID", Text),
        field("type", Enum(&enums::CREDS_TYPE)),
        field("payload", Bytes),
        field("kind", Enum(&enums::CREDS_KIND)),
        choice("issuer", Text),
        choice("audience", Text),
    ],
};
pub(crate) static DAILY_SCHEDULE: Message =
    Message { name: "DailySchedule", fields: &[field("startTime", Time), field("daysInCycle", Uint32)] };
pub(crate) static DAY_OF_WEEK_ENTRY: Message = Message {
    name: "DayOfWeekEntry",
    fields: &[field("startTime", Time), field("day", Enum(&enums::DAY_OF_WEEK))],
};
pub(crate) static DEFAULT_GLOBAL_RESOURCE_POLICY: Message = Message {
    name: "DefaultGlobalResourcePolicy",
    fields: &[field("policyType", Enum(&enums::POLICY_TYPE)), field("policyUUID", Text)],
};
pub(crate) static DEFAULT_POLICY: Message = Message {
    name: "DefaultPolicy",
    fields: &[field("policyType", Enum(&enums::POLICY_TYPE)), field("policyUUID", Text)],
};
pub(crate) static GET_ROLE_RESPONSE: Message =
    Message { name: "GetRoleResponse", fields: &[field("role", Nested(&ROLE))] };
pub(crate) static GET_TRUSTED_HOST_SECRETS_RESPONSE: Message = Message {
    name: "GetTrustedHostSecretsResponse",
    fields: &[
        field("host", Nested(&TRUSTED_HOST)),
        field("hostSecret", Text),
        field("targetSecret", Text),
        field("targetSecretType", Enum(&enums::TARGET_SECRET_TYPE)),
    ],
};
pub(crate) static HOURLY_SCHEDULE: Message =
    Message { name: "HourlySchedule", fields: &[field("startTime", Time), field("hoursInCycle", Uint32)] };
pub(crate) static LBA_RANGE: Message = Message {
    name: "LBARange",
    fields: &[field("lbaStart", Uint64), field("lbaEnd", Uint64), field("dataBitMap", Bytes)],
};
pub(crate) static LABEL: Message =
    Message { name: "Label", fields: &[field("key", Text), field("value", Text)] };
pub(crate) static LABEL_MATCH_EXPRESSION: Message = Message {
    name: "LabelMatchExpression",
    fields: &[
        field("operator", Enum(&enums::LABEL_MATCH_EXPRESSION_OPERATOR)),
        field("labelValueKeyPairs", List(&Nested(&LABEL_VALUE_KEY_PAIR))),
    ],
};
pub(crate) static LABEL_VALUE_KEY_PAIR: Message = Message {
    name: "LabelValueKeyPair",
    fields: &[field("key", Enum(&enums::LABEL_VALUE_KEY_PAIR_KEY)), field("value", Text)],
};
pub(crate) static LIST_CHANGED_BLOCKS_RESPONSE: Message = Message {
    name: "ListChangedBlocksResponse",
    fields: &[field("nextOffsetLBA", Uint64), field("lbaRanges", List(&Nested(&LBA_RANGE)))],
};
pub(crate) static LIST_CREDENTIALS_RESPONSE: Message =
    Message { name: "ListCredentialsResponse", fields: &[field("credentials", List(&Nested(&CREDENTIAL)))] };
pub(crate) static LIST_POLICIES_RESPONSE: Message =
    Message { name: "ListPoliciesResponse", fields: &[field("policies", List(&Nested(&POLICY)))] };
pub(crate) static LIST_PROJECTS_RESPONSE: Message =
    Message { name: "ListProjectsResponse", fields: &[field("projects", List(&Nested(&PROJECT)))] };
pub(crate) static LIST_RESOURCE_POLICIES_RESPONSE: Message = Message {
    name: "ListResourcePoliciesResponse",
    fields: &[
        field("resourcePolicies", List(&Nested(&RESOURCE_POLICY))),
        field("defaultResourcePolicies", List(&Nested(&DEFAULT_GLOBAL_RESOURCE_POLICY))),
    ],
};
pub(crate) static LIST_ROLES_RESPONSE: Message =
    Message { name: "ListRolesResponse", fields: &[field("roles", List(&Nested(&ROLE)))] };
pub(crate) static LIST_SNAPSHOTS_RESPONSE: Message =
    Message { name: "ListSnapshotsResponse", fields: &[field("snapshots", List(&Nested(&SNAPSHOT)))] };
pub(crate) static LIST_TRUSTED_HOSTS_RESPONSE: Message = Message {
    name: "ListTrustedHostsResponse",
    fields: &[field("hosts", List(&Nested(&TRUSTED_HOST))), field("nextOffset", Text)],
};
pub(crate) static LIST_VOLUMES_RESPONSE: Message =
    Message { name: "ListVolumesResponse", fields: &[field("volumes", List(&Nested(&VOLUME)))] };
pub(crate) static POLICY: Message = Message {
    name: "Policy",
    fields: &[
        field("UUID", Text),
        field("name", Text),
        field("description", Text),
        field("state", Enum(&enums::POLICY_STATE)),
        choice("QoSRateLimitPolicy", Nested(&QO_S_RATE_LIMIT_POLICY)),
    ],
};
pub(crate) static PROJECT: Message = Message {
    name: "Project",
    fields: &[
        field("UUID", Text),
        field("name", Text),
        field("description", Text),
        field("defaultPolicies", List(&Nested(&DEFAULT_POLICY))),
    ],
};
pub(crate) static QO_S_RATE_LIMIT_POLICY: Message = Message {
    name: "QoSRateLimitPolicy",
    fields: &[
        field("projectsNamesScope", List(&Text)),
        field("policyVisibility", Enum(&enums::POLICY_VISIBILITY)),
        choice("limitIOPS", Nested(&QO_S_RATE_LIMIT_POLICY_QO_S_LIMIT_IOPS)),
        choice("limitBw", Nested(&QO_S_RATE_LIMIT_POLICY_QO_S_LIMIT_BW)),
        choice("limitIOPSPerGB", Nested(&QO_S_RATE_LIMIT_POLICY_QO_S_LIMIT_IOPS_PER_GB)),
    ],
};
pub(crate) static QO_S_RATE_LIMIT_POLICY_QO_S_LIMIT_BW: Message = Message {
    name: "QoSRateLimitPolicy.QoSLimitBW",
    fields: &[field("writeBWLimit", Uint32), field("readBWLimit", Uint32)],
};
pub(crate) static QO_S_RATE_LIMIT_POLICY_QO_S_LIMIT_IOPS: Message = Message {
    name: "QoSRateLimitPolicy.QoSLimitIOPS",
    fields: &[field("writeIOPSLimit", Uint32), field("readIOPSLimit", Uint32)],
};
pub(crate) static QO_S_RATE_LIMIT_POLICY_QO_S_LIMIT_IOPS_PER_GB: Message = Message {
    name: "QoSRateLimitPolicy.QoSLimitIOPSPerGB",
    fields: &[field("writeIOPSPerGBLimit", Uint32), field("readIOPSPerGBLimit", Uint32)],
};
pub(crate) static RESOURCE_POLICY: Message = Message {
    name: "ResourcePolicy",
    fields: &[
        field("UUID", Text),
        field("name", Text),
        field("resourceUUID", Text),
        field("resourceName", Text),
        field("projectName", Text),
        field("schedulePolicy", Nested(&SCHEDULE_POLICY)),
        field("description", Text),
        field("state", Enum(&enums::RESOURCE_POLICY_STATE)),
    ],
};
pub(crate) static ROLE: Message = Message {
    name: "Role",
    fields: &[field("name", Text), field("projectName", Text), field("rulesJson", Text)],
};
pub(crate) static SCHEDULE_POLICY: Message = Message {
    name: "SchedulePolicy",
    fields: &[
        choice("snapshotSchedulePolicy", Nested(&SNAPSHOT_SCHEDULE_POLICY)),
        field("retentionTime", Duration),
    ],
};
pub(crate) static SNAPSHOT: Message = Message {
    name: "Snapshot",
    fields: &[
        field("state", Enum(&enums::SNAPSHOT_STATE_ENUM)),
        field("UUID", Text),
        field("name", Text),
        field("description", Text),
        field("creationTime", Time),
        field("retentionTime", Duration),
        field("sourceVolumeUUID", Text),
        field("sourceVolumeName", Text),
        field("replicaCount", Uint32),
        field("nodeList", List(&Text)),
        field("nsid", Uint32),
        field("acl", Nested(&STRING_LIST)),
        field("compression", Bool),
        field("size", Uint64),
        field("IPAcl", Nested(&STRING_LIST)),
        field("sectorSize", Uint32),
        field("statistics", Nested(&SNAPSHOT_STATISTICS_API)),
        field("ETag", Text),
        field("projectName", Text),
        field("primaryNodeUUID", Text),
        field("labels", List(&Nested(&LABEL))),
    ],
};
pub(crate) static SNAPSHOT_SCHEDULE_POLICY: Message = Message {
    name: "SnapshotSchedulePolicy",
    fields: &[
        choice("hourlySchedule", Nested(&HOURLY_SCHEDULE)),
        choice("dailySchedule", Nested(&DAILY_SCHEDULE)),
        choice("weeklySchedule", Nested(&WEEKLY_SCHEDULE)),
    ],
};
pub(crate) static SNAPSHOT_STATISTICS_API: Message = Message {
    name: "SnapshotStatisticsApi",
    fields: &[
        field("physicalCapacity", Uint64),
        field("physicalOwnedCapacity", Uint64),
        field("physicalOwnedMemory", Uint64),
        field("physicalMemory", Uint64),
        field("userWritten", Uint64),
    ],
};
pub(crate) static STRING_LIST: Message =
    Message { name: "StringList", fields: &[field("values", List(&Text))] };
pub(crate) static TRUSTED_HOST: Message = Message {
    name: "TrustedHost",
    fields: &[
        field("name", Text),
        field("projectName", Text),
        field("UUID", Text),
        field("hostNqn", Text),
        field("labels", List(&Nested(&LABEL))),
        field("authRequired", Text),
    ],
};
pub(crate) static VOLUME: Message = Message {
    name: "Volume",
    fields: &[
        field("state", Enum(&enums::VOLUME_STATE_ENUM)),
        field("protectionState", Enum(&enums::PROTECTION_STATE_ENUM)),
        field("replicaCount", Uint32),
        field("nodeList", List(&Text)),
        field("UUID", Text),
        field("nsid", Uint32),
        field("acl", Nested(&STRING_LIST)),
        field("compression", Text),
        field("size", Uint64),
        field("name", Text),
        field("rebuildProgress", Text),
        field("statistics", Nested(&VOLUME_STATISTICS_API)),
        field("IPAcl", Nested(&STRING_LIST)),
        field("ETag", Text),
        field("connectedHosts", List(&Text)),
        field("sectorSize", Uint32),
        field("projectName", Text),
        field("sourceSnapshotUUID", Text),
        field("sourceSnapshotName", Text),
        field("placementRestrictions", List(&Nested(&LABEL_MATCH_EXPRESSION))),
        field("qosPolicyUUID", Text),
        field("qosPolicyName", Text),
        field("primaryNodeUUID", Text),
        field("creationTime", Time),
        field("labels", List(&Nested(&LABEL))),
        field("clusterId", Text),
    ],
};
pub(crate) static VOLUME_STATISTICS_API: Message = Message {
    name: "VolumeStatisticsApi",
    fields: &[
        field("logicalUsedStorage", Uint64),
        field("physicalUsedStorage", Uint64),
        field("compressionRatio", Double),
        field("totalCompressionRatio", Double),
        field("physicalCapacity", Uint64),
        field("physicalOwnedCapacity", Uint64),
        field("physicalOwnedMemory", Uint64),
        field("physicalMemory", Uint64),
        field("userWritten", Uint64),
        field("unrecoverableDataIntegrityErrors", Uint32),
        field("recoverableDataIntegrityErrors", Uint32),
    ],
};
pub(crate) static WEEKLY_SCHEDULE: Message =
    Message { name: "WeeklySchedule", fields: &[field("daysOfWeek", List(&Nested(&DAY_OF_WEEK_ENTRY)))] };
