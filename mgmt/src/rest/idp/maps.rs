//! Which role of this cluster a client or a claim of another issuer gives.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::error::ApiError;
use super::super::request::Request;
use super::super::schema::site;
use super::super::{Api, Reply, rules};
use crate::auth::{Caller, Resource, Scope, Verb, roles_of};
use crate::metadata::{Found, Kept, Kind};

/// An authorization map's entry as it is kept and as clients read it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuthMap {
    #[serde(rename = "UUID")]
    uuid: String,
    /// Its name, also its key.
    pub(crate) name: String,
    /// The client or the claim's value.
    pub(crate) identifier: String,
    /// The project, or the cluster's own scope.
    pub(crate) scope: String,
    /// The role in that scope.
    pub(crate) role: String,
    /// The issuer's name.
    pub(crate) idp_configuration_name: String,
}

impl Kept for AuthMap {
    const KIND: Kind = Kind::AuthMap;

    fn key(&self) -> String {
        self.name.clone()
    }
}

/// `POST /api/v2/cluster/authMaps`.
pub(crate) async fn create(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::AuthMapEntries, Verb::Create, Scope::Cluster)?;
    let body: MapRequest = request.json()?;
    let map = AuthMap {
        uuid: Uuid::new_v4().to_string(),
        name: rules::name("name", &body.name)?,
        identifier: body.identifier,
        scope: body.scope,
        role: body.role,
        idp_configuration_name: body.idp_configuration_name,
    };
    let one = api.records.exclusive().await;
    check(&api, &map)?;
    if api.records.revision(Kind::AuthMap, &map.name).is_some() {
        return Err(ApiError::invalid(format!("authorization map {} exists", map.name)));
    }
    rules::room(api.records.count(Kind::AuthMap), MAPS_MAX, "authorization maps")?;
    one.create(&map).await?;
    Reply::message(&site::AUTH_MAP_ENTRY, &map)
}

/// `PUT /api/v2/cluster/authMaps/{name}`: what is absent stays.
pub(crate) async fn update(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::AuthMapEntries, Verb::Update, Scope::Cluster)?;
    let body: MapRequest = request.json()?;
    let one = api.records.exclusive().await;
    let found = find(&api, &request)?;
    request.expected_revision(found.revision)?;
    let mut map = found.value;
    for (new, old) in [
        (body.identifier, &mut map.identifier),
        (body.scope, &mut map.scope),
        (body.role, &mut map.role),
        (body.idp_configuration_name, &mut map.idp_configuration_name),
    ] {
        if !new.is_empty() {
            *old = new;
        }
    }
    check(&api, &map)?;
    one.replace(&map, found.revision).await?;
    Reply::message(&site::AUTH_MAP_ENTRY, &map)
}

/// `GET /api/v2/cluster/authMaps`.
pub(crate) async fn list(api: Rc<Api>, caller: Caller, _: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::AuthMapEntries, Verb::List, Scope::Cluster)?;
    let found = api.records.list::<AuthMap>("").into_iter().map(|found| found.value);
    Reply::message(&site::LIST_AUTH_MAP_ENTRIES_RESPONSE, &List { auth_map_entries: found.collect() })
}

/// `GET /api/v2/cluster/authMaps/{name}`.
pub(crate) async fn get(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::AuthMapEntries, Verb::Get, Scope::Cluster)?;
    Reply::message(&site::AUTH_MAP_ENTRY, &find(&api, &request)?.value)
}

/// `DELETE /api/v2/cluster/authMaps/{name}`.
pub(crate) async fn delete(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::AuthMapEntries, Verb::Delete, Scope::Cluster)?;
    let found = find(&api, &request)?;
    request.expected_revision(found.revision)?;
    api.records.remove(&found.value, found.revision).await?;
    Ok(Reply::done())
}

fn find(api: &Api, request: &Request) -> Result<Found<AuthMap>, ApiError> {
    let name = request.variable("name");
    let found = api.records.get(name);
    found.ok_or_else(|| ApiError::not_found(format!("authorization map {name} does not exist")))
}

fn check(api: &Api, map: &AuthMap) -> Result<(), ApiError> {
    if map.identifier.is_empty() || map.identifier.len() > 256 {
        return Err(ApiError::invalid("identifier: required, at most 256 bytes"));
    }
    if !api.directory.has_scope(&map.scope) {
        return Err(ApiError::invalid(format!("scope: neither system nor a project: {:?}", map.scope)));
    }
    let roles = roles_of(&map.scope);
    if !roles.iter().any(|(name, _)| *name == map.role) {
        let names: Vec<&str> = roles.iter().map(|(name, _)| *name).collect();
        return Err(ApiError::invalid(format!("role: one of {} in this scope", names.join(", "))));
    }
    if api.records.revision(Kind::IdpConfiguration, &map.idp_configuration_name).is_none() {
        return Err(ApiError::invalid("idpConfigurationName: no such identity provider"));
    }
    Ok(())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct MapRequest {
    name: String,
    identifier: String,
    scope: String,
    role: String,
    idp_configuration_name: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    auth_map_entries: Vec<AuthMap>,
}

const MAPS_MAX: usize = 1024;
