//! Other issuers of tokens: their configuration.

pub(super) mod clients;
pub(super) mod maps;

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::ApiError;
use super::request::Request;
use super::schema::site;
use super::settings::Flag;
use super::{Api, Reply, rules};
use crate::auth::{Caller, Resource, Scope, Verb};
use crate::metadata::{Found, Kept, Kind, Records};

pub(crate) use clients::ClientConf;
pub(crate) use maps::AuthMap;

/// An issuer as it is kept.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub(crate) struct IdpConfiguration {
    /// Its name, also its key.
    pub(crate) name: String,
    /// Its issuer, as tokens name it.
    #[serde(rename = "idpIssuerURL")]
    pub(crate) issuer: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "UUID")]
    uuid: String,
    #[serde(rename = "proxyInfo", skip_serializing_if = "Option::is_none")]
    proxy: Option<Proxy>,
}

/// How the issuer is reached.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
struct Proxy {
    #[serde(rename = "URL")]
    url: String,
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Password")]
    password: String,
}

impl Kept for IdpConfiguration {
    const KIND: Kind = Kind::IdpConfiguration;

    fn key(&self) -> String {
        self.name.clone()
    }
}

/// `POST /api/v2/cluster/IdpConfiguration`.
pub(super) async fn create(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::IdpConfigurations, Verb::Create, Scope::Cluster)?;
    let body: IdpRequest = request.json()?;
    let idp = IdpConfiguration {
        name: rules::name("name", &body.name)?,
        issuer: issuer_url(&body.issuer)?,
        kind: idp_type(&body.kind)?,
        uuid: Uuid::new_v4().to_string(),
        proxy: proxy(body.proxy)?,
    };
    let one = api.records.exclusive().await;
    let others = api.records.list::<IdpConfiguration>("").into_iter().map(|found| found.value);
    let others: Vec<IdpConfiguration> = others.collect();
    if others.iter().any(|other| other.name == idp.name) {
        return Err(ApiError::invalid(format!("identity provider {} exists", idp.name)));
    }
    free_issuer(&idp, &others)?;
    rules::room(others.len(), IDPS_MAX, "identity providers")?;
    one.create(&idp).await?;
    answer(&api, &idp)
}

/// `PUT /api/v2/cluster/IdpConfiguration`: what is absent stays.
pub(super) async fn update(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::IdpConfigurations, Verb::Update, Scope::Cluster)?;
    let body: IdpRequest = request.json()?;
    let one = api.records.exclusive().await;
    let found = find(&api, &body.name)?;
    request.expected_revision(found.revision)?;
    let mut idp = found.value;
    if !body.issuer.is_empty() {
        idp.issuer = issuer_url(&body.issuer)?;
        let others = api.records.list::<IdpConfiguration>("").into_iter().map(|found| found.value);
        free_issuer(&idp, &others.filter(|other| other.name != idp.name).collect::<Vec<_>>())?;
    }
    if !body.kind.is_empty() {
        idp.kind = idp_type(&body.kind)?;
    }
    if body.proxy.is_some() {
        idp.proxy = proxy(body.proxy)?;
    }
    one.replace(&idp, found.revision).await?;
    answer(&api, &idp)
}

/// `GET /api/v2/cluster/IdpConfiguration`.
pub(super) async fn list(api: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::IdpConfigurations, Verb::List, Scope::Cluster)?;
    let found = api.records.list::<IdpConfiguration>("");
    let idp_configurations = found.iter().map(|found| Body::of(&api, &found.value)).collect();
    Reply::message(&site::LIST_IDP_CONFIGURATIONS_RESPONSE, &List { idp_configurations })
}

/// `GET /api/v2/cluster/IdpConfiguration/{name}`.
pub(super) async fn get(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::IdpConfigurations, Verb::Get, Scope::Cluster)?;
    answer(&api, &find(&api, request.variable("name"))?.value)
}

/// `DELETE /api/v2/cluster/IdpConfiguration/{name}`: only one that nothing refers to.
pub(super) async fn delete(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::IdpConfigurations, Verb::Delete, Scope::Cluster)?;
    let one = api.records.exclusive().await;
    let found = find(&api, request.variable("name"))?;
    request.expected_revision(found.revision)?;
    let name = &found.value.name;
    let clients = api.records.list::<ClientConf>("");
    let maps = api.records.list::<AuthMap>("");
    if clients.iter().any(|client| client.value.idp_configuration_name == *name)
        || maps.iter().any(|map| map.value.idp_configuration_name == *name)
    {
        return Err(ApiError::precondition("client configurations or authorization maps still refer to it"));
    }
    one.remove(&found.value, found.revision).await?;
    Ok(Reply::done())
}

/// `POST /api/v2/cluster/federatedAuthentication/enable`.
pub(super) async fn enable(api: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Authentications, Verb::Update, Scope::Cluster)?;
    turn(&api, true).await
}

/// `POST /api/v2/cluster/federatedAuthentication/disable`.
pub(super) async fn disable(api: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Authentications, Verb::Update, Scope::Cluster)?;
    turn(&api, false).await
}

async fn turn(api: &Api, enabled: bool) -> Result<Reply, ApiError> {
    if enabled && api.records.count(Kind::IdpClientConf) == 0 {
        let message = "make an identity provider and a client configuration of it first";
        return Err(ApiError::precondition(message));
    }
    api.records.write(&Flag { name: FLAG.to_owned(), enabled }).await?;
    Ok(Reply::done())
}

/// Whether tokens of other issuers are taken.
pub(super) fn is_enabled(records: &Records) -> bool {
    records.get::<Flag>(FLAG).is_some_and(|found| found.value.enabled)
}

/// Refuses an issuer that another identity provider has: its tokens would be read in two ways.
fn free_issuer(idp: &IdpConfiguration, others: &[IdpConfiguration]) -> Result<(), ApiError> {
    if others.iter().any(|other| other.issuer == idp.issuer) {
        return Err(ApiError::invalid("idpIssuerURL: another identity provider has this issuer"));
    }
    Ok(())
}

fn find(api: &Api, name: &str) -> Result<Found<IdpConfiguration>, ApiError> {
    let found = api.records.get(name);
    found.ok_or_else(|| ApiError::not_found(format!("identity provider {name} does not exist")))
}

/// An issuer is an HTTPS URL without query and fragment (OpenID Connect Discovery 1.0, section 2); on the same machine
/// HTTP will do.
fn issuer_url(text: &str) -> Result<String, ApiError> {
    let wrong = || {
        ApiError::invalid("idpIssuerURL: expected an https URL without query, such as https://idp.example")
    };
    let uri: hyper::Uri = text.parse().map_err(|_| wrong())?;
    let right = crate::web::is_private(text) && uri.query().is_none();
    if right && !text.contains('#') && text.len() <= 1024 { Ok(text.to_owned()) } else { Err(wrong()) }
}

fn idp_type(text: &str) -> Result<String, ApiError> {
    match text {
        "ADFS" => Ok(text.to_owned()),
        _ => Err(ApiError::invalid("type: ADFS, which stands for every OpenID issuer")),
    }
}

/// The server speaks to issuers itself.
fn proxy(proxy: Option<Proxy>) -> Result<Option<Proxy>, ApiError> {
    match proxy {
        Some(proxy) if !proxy.url.is_empty() => {
            Err(ApiError::unimplemented("proxyInfo: this server reaches identity providers directly only"))
        }
        _ => Ok(None),
    }
}

fn answer(api: &Api, idp: &IdpConfiguration) -> Result<Reply, ApiError> {
    Reply::message(&site::IDP_CONFIGURATION, &Body::of(api, idp))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IdpRequest {
    name: String,
    #[serde(rename = "idpIssuerURL")]
    issuer: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "proxyInfo")]
    proxy: Option<Proxy>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    idp_configurations: Vec<Body>,
}

#[derive(Debug, Serialize)]
struct Body {
    #[serde(flatten)]
    idp: IdpConfiguration,
    state: &'static str,
}

impl Body {
    fn of(api: &Api, idp: &IdpConfiguration) -> Self {
        Self { idp: idp.clone(), state: api.issuers.state(&idp.issuer) }
    }
}

const FLAG: &str = "federated-authentication";
const IDPS_MAX: usize = 8;
