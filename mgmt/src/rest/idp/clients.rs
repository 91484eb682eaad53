//! How tokens of another issuer are read: for whom they are, and which claim says who the caller is.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::error::ApiError;
use super::super::request::Request;
use super::super::schema::site;
use super::super::{Api, Reply, rules};
use crate::auth::{Caller, Resource, Scope, Verb};
use crate::metadata::{Found, Kept, Kind};

/// A client configuration as it is kept and as clients read it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClientConf {
    #[serde(rename = "UUID")]
    uuid: String,
    /// Its name, also its key.
    pub(crate) name: String,
    /// The audience that tokens must have.
    pub(crate) client_id: String,
    /// The issuer's name.
    pub(crate) idp_configuration_name: String,
    /// The claim that says who the caller is.
    pub(crate) claim_name: String,
    /// `App`: the client is the caller; `User`: the claim is; `Converge`: the claim is, for any audience.
    pub(crate) authz_mode: String,
}

impl Kept for ClientConf {
    const KIND: Kind = Kind::IdpClientConf;

    fn key(&self) -> String {
        self.name.clone()
    }
}

/// `POST /api/v2/cluster/idpClientConfs`.
pub(crate) async fn create(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::IdpClientConfs, Verb::Create, Scope::Cluster)?;
    let body: ClientRequest = request.json()?;
    let conf = ClientConf {
        uuid: Uuid::new_v4().to_string(),
        name: rules::name("name", &body.name)?,
        client_id: body.client_id,
        idp_configuration_name: body.idp_configuration_name,
        claim_name: body.claim_name,
        authz_mode: body.authz_mode,
    };
    check(&conf)?;
    let one = api.records.exclusive().await;
    if api.records.revision(Kind::IdpConfiguration, &conf.idp_configuration_name).is_none() {
        return Err(ApiError::invalid("idpConfigurationName: no such identity provider"));
    }
    if api.records.revision(Kind::IdpClientConf, &conf.name).is_some() {
        return Err(ApiError::invalid(format!("client configuration {} exists", conf.name)));
    }
    rules::room(api.records.count(Kind::IdpClientConf), CONFS_MAX, "client configurations")?;
    one.create(&conf).await?;
    Reply::message(&site::IDP_CLIENT_CONF, &conf)
}

/// `PUT /api/v2/cluster/idpClientConfs/{name}`.
pub(crate) async fn update(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::IdpClientConfs, Verb::Update, Scope::Cluster)?;
    let found = find(&api, &request)?;
    request.expected_revision(found.revision)?;
    let conf = ClientConf { claim_name: request.text("claimName").to_owned(), ..found.value };
    check(&conf)?;
    api.records.replace(&conf, found.revision).await?;
    Reply::message(&site::IDP_CLIENT_CONF, &conf)
}

/// `GET /api/v2/cluster/idpClientConfs`.
pub(crate) async fn list(api: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::IdpClientConfs, Verb::List, Scope::Cluster)?;
    let found = api.records.list::<ClientConf>("").into_iter().map(|found| found.value);
    Reply::message(
        &site::LIST_IDP_CLIENT_CONFS_RESPONSE,
        &List { idp_client_configurations: found.collect() },
    )
}

/// `GET /api/v2/cluster/idpClientConfs/{name}`.
pub(crate) async fn get(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::IdpClientConfs, Verb::Get, Scope::Cluster)?;
    Reply::message(&site::IDP_CLIENT_CONF, &find(&api, &request)?.value)
}

/// `DELETE /api/v2/cluster/idpClientConfs/{name}`.
pub(crate) async fn delete(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::IdpClientConfs, Verb::Delete, Scope::Cluster)?;
    let found = find(&api, &request)?;
    request.expected_revision(found.revision)?;
    api.records.remove(&found.value, found.revision).await?;
    Ok(Reply::done())
}

fn find(api: &Api, request: &Request) -> Result<Found<ClientConf>, ApiError> {
    let name = request.variable("name");
    let found = api.records.get(name);
    found.ok_or_else(|| ApiError::not_found(format!("client configuration {name} does not exist")))
}

fn check(conf: &ClientConf) -> Result<(), ApiError> {
    if conf.client_id.is_empty() || conf.client_id.len() > 256 {
        return Err(ApiError::invalid("clientId: required, at most 256 bytes"));
    }
    if conf.claim_name.len() > 256 {
        return Err(ApiError::invalid("claimName: at most 256 bytes"));
    }
    match conf.authz_mode.as_str() {
        "App" if !conf.claim_name.is_empty() => {
            Err(ApiError::invalid("claimName: only with authzMode User or Converge"))
        }
        "App" => Ok(()),
        "User" | "Converge" if conf.claim_name.is_empty() => {
            Err(ApiError::invalid("claimName: required with authzMode User or Converge"))
        }
        "Converge" if conf.client_id != NOT_APPLICABLE => {
            Err(ApiError::invalid("clientId: NOT_APPLICABLE with authzMode Converge"))
        }
        "User" | "Converge" => Ok(()),
        _ => Err(ApiError::invalid("authzMode: App, User or Converge")),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClientRequest {
    name: String,
    client_id: String,
    idp_configuration_name: String,
    claim_name: String,
    authz_mode: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    idp_client_configurations: Vec<ClientConf>,
}

/// What the contract has in place of a client where there is none.
const NOT_APPLICABLE: &str = "NOT_APPLICABLE";
const CONFS_MAX: usize = 64;
