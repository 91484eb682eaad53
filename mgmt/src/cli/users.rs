//! Users with passwords and their tokens, and tokens taken back.

use std::io::{BufRead as _, IsTerminal as _};

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use super::Environment;
use super::client::{Call, encode};
use super::failure::Failure;
use super::run::with_client;
use super::settings::{ClientArgs, given_token};
use super::verbs::Verb;

/// A user to be made.
#[derive(Args, Debug)]
pub(super) struct AddUser {
    /// Name, roles (admin, api, user) and password; without the password it is asked for, or read from the standard input
    #[arg(value_name = "NAME:ROLES[:PASSWORD]")]
    user: String,
    #[command(flatten)]
    client: ClientArgs,
}

/// A user who shall have a token.
#[derive(Args, Debug)]
pub(super) struct UserJwt {
    /// The user's name
    name: String,
    #[command(flatten)]
    client: ClientArgs,
}

/// A user.
#[derive(Args, Debug)]
pub(super) struct WhichUser {
    /// The user's name
    #[arg(long)]
    pub(super) name: String,
}

/// Nouns of `revoke`.
#[derive(Debug, Subcommand)]
pub(super) enum Revoke {
    /// Take a token back: it is refused from here on
    #[command(after_help = "Example:\n  ferrule revoke jwt --jti 4f7c9b1e-3e2b-4d0c-9a51-3f5d5a1f2b6e")]
    Jwt(WhichJwt),
}

/// A token.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct WhichJwt {
    /// Its jti
    #[arg(long)]
    jti: Option<String>,
    /// The token itself, or @FILE
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

impl AddUser {
    pub(super) fn run(self, environment: Environment<'_>) -> Result<String, Failure> {
        let wrong = |reason: &str| Failure::Wrong { what: "the user".to_owned(), reason: reason.to_owned() };
        let mut parts = self.user.splitn(3, ':');
        let name = parts.next().filter(|name| !name.is_empty()).ok_or_else(|| wrong("a name is missing"))?;
        let roles = parts
            .next()
            .ok_or_else(|| wrong("expected NAME:ROLES:PASSWORD, such as ann:admin,api:secret"))?;
        let roles: Vec<&str> = roles.split(',').filter(|role| !role.is_empty()).collect();
        let password = match parts.next() {
            Some(password) => password.to_owned(),
            None => read_password()?,
        };
        let path = format!("/auth/users/{}", encode(name));
        with_client(self.client, environment, async |client| {
            let projects: Vec<String> = client.settings.project.clone().into_iter().collect();
            let mut call = Call::new(Method::POST, path);
            call.body = Some(json!({"roles": roles, "password": password, "projects": projects}));
            client.send(call).await?;
            Ok(String::new())
        })
    }
}

impl UserJwt {
    pub(super) fn run(self, environment: Environment<'_>) -> Result<String, Failure> {
        let path = format!("/auth/users/{}/jwt", encode(&self.name));
        with_client(self.client, environment, async |client| {
            let answer = client.send(Call::new(Method::POST, path)).await?;
            let token = answer["token"].as_str();
            let token = token.ok_or_else(|| Failure::Unreadable("an answer without a token".to_owned()))?;
            Ok(format!("{token}\n"))
        })
    }
}

/// Runs `revoke`.
pub(super) fn revoke(verb: Verb<Revoke>, environment: Environment<'_>) -> Result<String, Failure> {
    let Revoke::Jwt(which) = verb.noun;
    let token = which.token.as_deref().map(given_token).transpose()?.unwrap_or_default();
    with_client(verb.client, environment, async |client| {
        let mut call = Call::new(Method::POST, "/auth/revocations".to_owned());
        call.body = Some(json!({"jti": which.jti, "token": token}));
        client.send(call).await?;
        Ok(String::new())
    })
}

/// Asks for a password on a terminal, without showing it; elsewhere it is the first line of the standard input.
fn read_password() -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::File {
        path: "the standard input".to_owned(),
        reason: error.to_string(),
    };
    if std::io::stdin().is_terminal() {
        let password = rpassword::prompt_password("Password: ").map_err(failed)?;
        let again = rpassword::prompt_password("The same again: ").map_err(failed)?;
        if password != again {
            let reason = "the two are not the same; nothing was changed".to_owned();
            return Err(Failure::Wrong { what: "the password".to_owned(), reason });
        }
        return Ok(password);
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

pub(super) const ADD_USER_HELP: &str = "\
Roles:
  admin   everything
  api     the volumes of the project (--project-name, else default)
  user    reads what the project has

Example:
  ferrule add-user ann:admin,api
  ferrule add-user robot:api:a-long-password
  ferrule jwt ann
Who asks on a terminal types the password, and it is not shown. In the command itself, others on the machine may see it.";

pub(super) const JWT_HELP: &str = "\
Example:
  curl --insecure -H \"Authorization: Bearer $(ferrule jwt ann)\" https://127.0.0.1:8443/api/v2/volumes
The server needs a key pair: ferrule gen-keypair > .env; ferrule serve --env-file .env";
