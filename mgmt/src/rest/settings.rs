//! Parameters of the cluster and features that can be turned on and off, as far as one node has them.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::policies::Policy;
use super::request::Request;
use super::schema::{self, site};
use super::{Api, Reply, rules};
use crate::auth::{Caller, Resource, Scope, Verb};
use crate::metadata::{Change, Expect, Found, Kept, Kind, Records};

/// The parameters that have an effect here, as they are now.
#[derive(Debug)]
pub(crate) struct Parameters<'a>(pub(crate) &'a Records);

/// A parameter's value where it is not the default.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Value {
    name: String,
    value: String,
}

/// A feature that was turned on or off.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Flag {
    /// Its name, also its key.
    pub(super) name: String,
    /// Whether it is on.
    pub(super) enabled: bool,
}

struct Parameter {
    name: &'static str,
    default: &'static str,
    kind: Kinds,
}

/// What a parameter takes.
enum Kinds {
    /// A name.
    Name,
    /// The name of a policy.
    Policy,
    /// `true` or `false`.
    Bool,
    /// A duration.
    Time,
    /// Only its default: it is about what one node does not do.
    Fixed,
}

impl Kept for Value {
    const KIND: Kind = Kind::ClusterParameter;

    fn key(&self) -> String {
        self.name.clone()
    }
}

impl Kept for Flag {
    const KIND: Kind = Kind::FeatureFlag;

    fn key(&self) -> String {
        self.name.clone()
    }
}

impl Parameters<'_> {
    /// The cluster's name.
    pub(crate) fn cluster_name(&self) -> String {
        self.text("ClusterName")
    }

    /// The name of the policy of volumes that have none.
    pub(crate) fn default_policy(&self) -> String {
        self.text("DefaultQoSName")
    }

    /// Whether metrics leave single volumes out.
    pub(crate) fn hides_volumes(&self) -> bool {
        self.text("DisableVolumeStatisticsExport") == "true"
    }

    /// How long a drive that is not well is not spoken of again.
    pub(crate) fn health_interval_s(&self) -> u64 {
        schema::read_duration(&self.text("DeviceHealthIntervalForRaisingEvent")).unwrap_or(HOUR_S)
    }

    fn text(&self, name: &str) -> String {
        let kept = self.0.get::<Value>(name).map(|found| found.value.value);
        let default = || PARAMETERS.iter().find(|one| one.name == name).map_or("", |one| one.default);
        kept.unwrap_or_else(|| default().to_owned())
    }
}

/// Whether a feature is on.
pub(crate) fn is_enabled(records: &Records, name: &str) -> bool {
    match records.get::<Flag>(name) {
        Some(found) => found.value.enabled,
        None => name == EVENT_LOG,
    }
}

/// `GET /api/v2/clusterConfig`.
pub(super) async fn list(api: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::ClusterConfigs, Verb::List, Scope::Cluster)?;
    let values = PARAMETERS.iter().map(|one| current(&api, one)).collect();
    Reply::message(&site::LIST_CLUSTER_CONFIG_PARAMS_RESPONSE, &Values { values })
}

/// `GET /api/v2/clusterConfig/{name}`.
pub(super) async fn get(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::ClusterConfigs, Verb::Get, Scope::Cluster)?;
    let one = parameter(request.variable("name"))?;
    Reply::message(&site::CLUSTER_CONFIG_PARAM, &current(&api, one))
}

/// `PUT /api/v2/clusterConfig/{configParam.name}`.
pub(super) async fn update(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::ClusterConfigs, Verb::Update, Scope::Cluster)?;
    let one = parameter(request.variable("configParam.name"))?;
    let body: ParameterRequest = request.json()?;
    // A policy must not go while it is being made the default.
    let right = api.records.exclusive().await;
    let value = one.settle(&api, &body.config_param.value)?;
    let value = Value { name: one.name.to_owned(), value };
    right.commit(vec![Change::put(&value, Expect::Anything)]).await?;
    drop(right);
    api.settle_limits().await;
    Ok(Reply::done())
}

/// `GET /api/v2/featureFlags`.
pub(super) async fn list_flags(api: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::FeatureFlags, Verb::List, Scope::Cluster)?;
    let one = |(key, name): &(&'static str, &'static str)| {
        (*key, FlagBody { name, enabled: is_enabled(&api.records, key) })
    };
    Reply::message(
        &site::LIST_FEATURE_FLAGS_RESPONSE,
        &Flags { feature_flags: FLAGS.iter().map(one).collect() },
    )
}

/// `GET /api/v2/featureFlags/{name}`.
pub(super) async fn get_flag(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::FeatureFlags, Verb::Get, Scope::Cluster)?;
    let (key, name) = flag(request.variable("name"))?;
    let body = FlagBody { name, enabled: is_enabled(&api.records, key) };
    Reply::message(&site::FEATURE_FLAG_STATUS, &body)
}

/// `POST /api/v2/featureFlags/{name}/enable`.
pub(super) async fn enable_flag(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::FeatureFlags, Verb::Update, Scope::Cluster)?;
    let (key, _) = flag(request.variable("name"))?;
    let why = match key {
        EVENT_LOG => return turn(&api, key, true).await,
        "cluster-encryption" => "this server does not encrypt what it stores yet",
        "in-band-authentication" => "this server's data plane does not authenticate hosts yet",
        _ => "it moves data between nodes, and this cluster has one node",
    };
    Err(ApiError::precondition(format!("{key} cannot be enabled: {why}")))
}

/// `POST /api/v2/featureFlags/{name}/disable`.
pub(super) async fn disable_flag(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::FeatureFlags, Verb::Update, Scope::Cluster)?;
    let (key, _) = flag(request.variable("name"))?;
    turn(&api, key, false).await
}

async fn turn(api: &Api, key: &str, enabled: bool) -> Result<Reply, ApiError> {
    if is_enabled(&api.records, key) != enabled {
        api.records.write(&Flag { name: key.to_owned(), enabled }).await?;
        api.events.enable(is_enabled(&api.records, EVENT_LOG));
    }
    Ok(Reply::done())
}

/// A flag by either spelling.
fn flag(text: &str) -> Result<(&'static str, &'static str), ApiError> {
    let found = FLAGS.iter().find(|(key, name)| *key == text || *name == text);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = FLAGS.iter().map(|(key, _)| *key).collect();
        ApiError::invalid(format!("name: feature flag {text:?} is unknown; there are {}", names.join(", ")))
    })
}

fn parameter(name: &str) -> Result<&'static Parameter, ApiError> {
    let found = PARAMETERS.iter().find(|one| one.name == name);
    found.ok_or_else(|| ApiError::not_found(format!("parameter {name} does not exist")))
}

fn current(api: &Api, one: &Parameter) -> Value {
    Value { name: one.name.to_owned(), value: Parameters(&api.records).text(one.name) }
}

impl Parameter {
    /// The value to keep.
    fn settle(&self, api: &Api, text: &str) -> Result<String, ApiError> {
        let name = self.name;
        match self.kind {
            Kinds::Name => rules::name(name, text),
            Kinds::Bool => match text {
                "true" | "false" => Ok(text.to_owned()),
                _ => Err(ApiError::invalid(format!("{name}: true or false"))),
            },
            Kinds::Time => match schema::read_duration(text) {
                Some(seconds) if seconds > 0 => Ok(text.to_owned()),
                _ => Err(ApiError::invalid(format!("{name}: a time such as 20m"))),
            },
            Kinds::Policy => {
                let policies: Vec<Found<Policy>> = api.records.list("");
                let known = policies.iter().any(|found| found.value.name == text);
                known
                    .then(|| text.to_owned())
                    .ok_or_else(|| ApiError::invalid(format!("{name}: there is no policy {text:?}")))
            }
            Kinds::Fixed if text == self.default => Ok(text.to_owned()),
            Kinds::Fixed => Err(ApiError::precondition(format!(
                "{name}: only {} is possible on a cluster of one node",
                self.default
            ))),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ParameterRequest {
    config_param: ConfigParam,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigParam {
    value: String,
}

#[derive(Debug, Serialize)]
struct Values {
    values: Vec<Value>,
}

#[derive(Debug, Serialize)]
struct FlagBody {
    name: &'static str,
    enabled: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Flags {
    feature_flags: BTreeMap<&'static str, FlagBody>,
}

/// The feature that writes the events.
pub(crate) const EVENT_LOG: &str = "event-log";
const FLAGS: [(&str, &str); 6] = [
    ("cluster-encryption", "ClusterEncryption"),
    (EVENT_LOG, "EventLog"),
    ("evict-data", "EvictData"),
    ("fail-in-place", "FailInPlace"),
    ("in-band-authentication", "InBandAuthentication"),
    ("proactive-rebalance", "ProactiveRebalance"),
];
const PARAMETERS: [Parameter; 11] = [
    Parameter { name: "AllowedNumRevives", default: "3", kind: Kinds::Fixed },
    Parameter { name: "ClockDriftIntervalForRaisingEvent", default: "1h", kind: Kinds::Fixed },
    Parameter { name: "ClusterName", default: "ferrule", kind: Kinds::Name },
    Parameter { name: "DefaultQoSName", default: "no-limit-policy", kind: Kinds::Policy },
    Parameter { name: "DeviceHealthIntervalForRaisingEvent", default: "1h", kind: Kinds::Time },
    Parameter { name: "DisableVolumeStatisticsExport", default: "false", kind: Kinds::Bool },
    Parameter { name: "DurationToTurnIntoPermanentFailure", default: "4h", kind: Kinds::Fixed },
    Parameter { name: "EnableTrim", default: "true", kind: Kinds::Fixed },
    Parameter { name: "EvictionNoProgressTimeout", default: "1h", kind: Kinds::Fixed },
    Parameter { name: "RevivesWindowDuration", default: "24h", kind: Kinds::Fixed },
    Parameter { name: "VolumeDeletionFromNodeDelay", default: "0s", kind: Kinds::Fixed },
];
const HOUR_S: u64 = 3600;
