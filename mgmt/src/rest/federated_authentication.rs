//! Callers with tokens of other issuers, by the cluster's configuration of these.

use std::rc::Rc;

use serde_json::json;

use super::error::ApiError;
use super::idp::{self, AuthMap, ClientConf, IdpConfiguration};
use super::request::Request;
use super::{Api, Reply};
use crate::auth::federation::{self, Client, Map, Mode, Reading};
use crate::auth::{Caller, Parsed, TokenError, now};

/// Verifies a token of a configured issuer; none if it is of no such issuer, or these are not taken.
pub(super) async fn verify(api: &Api, token: &str) -> Option<Result<Caller, TokenError>> {
    if !idp::is_enabled(&api.records) {
        return None;
    }
    let parsed = Parsed::read(token).ok()?;
    let issuer = parsed.text("iss")?;
    let found = api.records.list::<IdpConfiguration>("");
    let idp = found.into_iter().map(|found| found.value).find(|idp| idp.issuer == issuer)?;
    let keys = api.issuers.keys(issuer, parsed.header.kid.as_deref()).await;
    let outcome = federation::verify(&parsed, &keys, &reading(api, &idp.name), now());
    Some(outcome.and_then(|(caller, facts)| {
        if api.tokens.is_taken_back(&facts) { Err(TokenError::Revoked) } else { Ok(caller) }
    }))
}

/// How tokens of an issuer are read.
fn reading(api: &Api, name: &str) -> Reading {
    let clients = api.records.list::<ClientConf>("").into_iter().map(|found| found.value);
    let clients = clients.filter(|client| client.idp_configuration_name == name).map(|client| Client {
        mode: match client.authz_mode.as_str() {
            "User" => Mode::User,
            "Converge" => Mode::Converge,
            _ => Mode::App,
        },
        id: client.client_id,
        claim: client.claim_name,
    });
    let maps = api.records.list::<AuthMap>("").into_iter().map(|found| found.value);
    let maps = maps
        .filter(|map| map.idp_configuration_name == name)
        .map(|map| Map { role: format!("{}:{}", map.scope, map.role), identifier: map.identifier });
    Reading { clients: clients.collect(), maps: maps.collect() }
}

/// `GET /auth/federation`: where to log in, for who has no token yet; nothing of it is secret.
pub(super) async fn describe(api: Rc<Api>, _: Option<Caller>, _: Request) -> Result<Reply, ApiError> {
    let nothing = json!({"issuer": "", "clientId": ""});
    if !idp::is_enabled(&api.records) {
        return Reply::json(&nothing);
    }
    let idps = api.records.list::<IdpConfiguration>("");
    let found = idps.iter().find_map(|idp| {
        let clients = api.records.list::<ClientConf>("").into_iter().map(|found| found.value);
        let mut own = clients.filter(|client| client.idp_configuration_name == idp.value.name);
        own.find(|client| client.authz_mode == "User")
            .map(|client| (idp.value.issuer.clone(), client.client_id))
    });
    match found {
        Some((issuer, id)) => Reply::json(&json!({"issuer": issuer, "clientId": id})),
        None => Reply::json(&nothing),
    }
}
