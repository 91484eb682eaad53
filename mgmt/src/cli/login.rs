//! `login` and `logout`: a token from the cluster's identity provider, by the device flow of RFC 8628, kept in a file.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Environment;
use super::client::{Call, Client};
use super::failure::Failure;
use super::run::with_client;
use super::settings::{ClientArgs, own_folder};
use crate::auth::expiry;
use crate::serve::files;
use crate::web;

/// What to log in with.
#[derive(Args, Debug)]
pub(super) struct LogIn {
    /// The issuer [default: the server's]
    #[arg(long, value_name = "URL")]
    issuer_url: Option<String>,
    /// The client's name at the issuer [default: the server's]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// A login as its file has it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Kept {
    token: String,
}

/// What an issuer answers to a device.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Device {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

impl LogIn {
    pub(super) fn run(self, environment: Environment<'_>) -> Result<String, Failure> {
        let path = file(environment)?;
        let (issuer, id) = (self.issuer_url, self.client_id);
        with_client(self.client, environment, async |client| {
            let (issuer, id) = match (issuer, id) {
                (Some(issuer), Some(id)) => (issuer, id),
                (issuer, id) => {
                    let (known_issuer, known_id) = ask_server(client).await?;
                    (issuer.unwrap_or(known_issuer), id.unwrap_or(known_id))
                }
            };
            let token = by_device(&issuer, &id).await?;
            let text = serde_json::to_vec(&Kept { token })
                .map_err(|error| Failure::Unreadable(error.to_string()))?;
            let failed = |error: std::io::Error| Failure::File {
                path: path.display().to_string(),
                reason: error.to_string(),
            };
            files::make_folder(path.parent().unwrap_or(&path)).map_err(failed)?;
            files::replace(&path, &text, 0o600).map_err(failed)?;
            Ok("Logged in. Try: ferrule list volumes\n".to_owned())
        })
    }
}

/// Runs `logout`.
pub(super) fn log_out(environment: Environment<'_>) -> Result<String, Failure> {
    let path = file(environment)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::File { path: path.display().to_string(), reason: error.to_string() })
        }
        _ => Ok(String::new()),
    }
}

/// The token of the login, while it lasts.
pub(super) fn token(environment: Environment<'_>) -> Option<String> {
    let text = std::fs::read(file(environment).ok()?).ok()?;
    let kept: Kept = serde_json::from_slice(&text).ok()?;
    expiry(&kept.token).is_some_and(|end| end > jsonwebtoken::get_current_timestamp()).then_some(kept.token)
}

fn file(environment: Environment<'_>) -> Result<PathBuf, Failure> {
    let folder = own_folder(environment).ok_or_else(|| Failure::Wrong {
        what: "$HOME".to_owned(),
        reason: "is not set: there is no place for a login".to_owned(),
    })?;
    Ok(folder.join("login.json"))
}

/// The issuer and the client that the server takes tokens of.
async fn ask_server(client: &Client) -> Result<(String, String), Failure> {
    let mut call = Call::new(Method::GET, "/auth/federation".to_owned());
    call.token = false;
    let answer = client.send(call).await?;
    let text = |name: &str| answer[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    text("issuer").zip(text("clientId")).ok_or_else(|| Failure::Wrong {
        what: "the server".to_owned(),
        reason: "takes no tokens of other issuers; its administrator turns that on with: ferrule enable \
                 federated-authentication"
            .to_owned(),
    })
}

/// Asks the issuer for a code, shows it, and waits until someone has entered it.
async fn by_device(issuer: &str, id: &str) -> Result<String, Failure> {
    let wrong = |reason: String| Failure::Wrong { what: "login".to_owned(), reason };
    let base = issuer.trim_end_matches('/');
    let (status, found) =
        web::fetch(&format!("{base}/.well-known/openid-configuration"), None).await.map_err(wrong)?;
    let endpoint = |name: &str| {
        let missing = || wrong(format!("{issuer} has no {name} (status {status}): it knows no device flow"));
        found[name].as_str().map(str::to_owned).ok_or_else(missing)
    };
    let (devices, tokens) = (endpoint("device_authorization_endpoint")?, endpoint("token_endpoint")?);
    let asked = [("client_id", id), ("scope", "openid profile")];
    let (status, answer) = web::fetch(&devices, Some(&asked)).await.map_err(wrong)?;
    let device: Device = serde_json::from_value(answer.clone()).unwrap_or_default();
    if device.device_code.is_empty() {
        return Err(wrong(format!("the issuer refused (status {status}): {}", complaint(&answer))));
    }
    match &device.verification_uri_complete {
        Some(page) => eprintln!("Open {page} and confirm the code {}", device.user_code),
        None => eprintln!("Open {} and enter the code {}", device.verification_uri, device.user_code),
    }
    // RFC 8628 section 3.5: five seconds unless the issuer says otherwise, and five more each time it is too fast.
    let mut pause = Duration::from_secs(device.interval.unwrap_or(5).clamp(1, 60));
    let end = tokio::time::Instant::now() + Duration::from_secs(device.expires_in.clamp(1, 3600));
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    let poll = [("grant_type", grant), ("device_code", device.device_code.as_str()), ("client_id", id)];
    loop {
        tokio::time::sleep(pause).await;
        if tokio::time::Instant::now() >= end {
            return Err(wrong("nobody has entered the code in time; try again".to_owned()));
        }
        let (status, answer) = web::fetch(&tokens, Some(&poll)).await.map_err(wrong)?;
        match answer["error"].as_str() {
            None if status == 200 => {
                let token = answer["id_token"].as_str().or_else(|| answer["access_token"].as_str());
                let token = token.filter(|token| expiry(token).is_some());
                return token.map(str::to_owned).ok_or_else(|| wrong("the issuer sent no token".to_owned()));
            }
            Some("authorization_pending") => {}
            Some("slow_down") => pause += Duration::from_secs(5),
            _ => return Err(wrong(format!("the issuer refused: {}", complaint(&answer)))),
        }
    }
}

/// What an issuer complains of, fit for a terminal.
fn complaint(answer: &Value) -> String {
    let text = answer["error_description"]
        .as_str()
        .or_else(|| answer["error"].as_str())
        .unwrap_or("no reason given");
    text.chars().filter(|letter| !letter.is_control()).take(200).collect()
}

pub(super) const LOGIN_HELP: &str = "\
Example:
  ferrule login
  ferrule list volumes
  ferrule logout";
