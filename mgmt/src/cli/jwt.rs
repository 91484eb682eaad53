//! Tokens made and read without a server: by a private key, by a file that describes a person.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::duration::{format_time, parse_expiry, parse_lifetime};
use super::failure::Failure;
use super::output::{self, Shape, render};
use super::settings::{Output, given_token};
use crate::auth::algorithm::Algorithm;
use crate::auth::key::{KeyError, SigningKey};
use crate::auth::{Claims, Parsed, environment, mint};

/// What a token shall say, and what signs it.
#[derive(Args, Debug)]
pub(super) struct CreateJwt {
    /// File with the private key in PEM form
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The credential that has the public half, as PROJECT:ID
    #[arg(long, value_name = "PROJECT:ID")]
    key_id: String,
    /// What it permits, as SCOPE:ROLE, such as system:cluster-admin or default:admin; may be repeated
    #[arg(long = "role", required = true, value_delimiter = ',', value_name = "SCOPE:ROLE")]
    roles: Vec<String>,
    /// Whose it is
    #[arg(long, default_value = "lightos-client")]
    subject: String,
    /// Who made it
    #[arg(long, default_value = "ferrule")]
    issuer: String,
    /// When it ends: 2030-01-31T00:00:00Z, or a time from now on such as 30d
    #[arg(long, default_value = "30d", value_name = "TIME")]
    expiry: String,
    /// The algorithm [default: RS256, ES256, ES384, ES512 or EdDSA, as the key is]
    #[arg(long, value_parser = parse_algorithm)]
    algorithm: Option<Algorithm>,
}

/// Nouns of `parse`.
#[derive(Debug, Subcommand)]
pub(super) enum Parse {
    /// Show header and claims of a token, without verifying its signature
    #[command(after_help = "Example:\n  ferrule parse jwt @system.jwt")]
    Jwt {
        /// The token, or @FILE to read it from
        token: String,
        /// How to print; in JSON and YAML times are as the token has them
        #[arg(short, long, default_value = "human-readable", value_name = "FORMAT")]
        output: Output,
        /// The same as --output json
        #[arg(long)]
        json: bool,
    },
}

/// Nouns of `auth`.
#[derive(Debug, Subcommand)]
pub(super) enum Auth {
    /// Tokens
    #[command(subcommand)]
    Token(AuthToken),
}

/// What to do with a token.
#[derive(Debug, Subcommand)]
pub(super) enum AuthToken {
    /// Make a token from a YAML file with name, email, sub, roles and groups; asks no server
    #[command(after_help = GENERATE_HELP)]
    Generate(Generate),
}

/// What signs a person's token, and how long it lasts.
#[derive(Args, Debug)]
pub(super) struct Generate {
    /// YAML file with name, email, sub, roles and groups
    #[arg(long, value_name = "FILE")]
    auth_config: PathBuf,
    /// Who makes it: the issuer under which the server knows the key
    #[arg(long)]
    issuer: String,
    #[command(flatten)]
    key: PersonKey,
    /// How long it lasts, such as 30m, 6h, 1d or 1y
    #[arg(long, default_value = "1d", value_name = "TIME", value_parser = parse_lifetime)]
    token_duration: u64,
}

/// One of three keys.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct PersonKey {
    /// A secret that the server knows too: signs with HS256
    #[arg(long, value_name = "SECRET")]
    shared_secret: Option<String>,
    /// File with a private RSA key in PEM form: signs with RS256
    #[arg(long, value_name = "FILE")]
    rsa_private_keyfile: Option<PathBuf>,
    /// File with a private ECDSA key in PEM form: signs with ES256, ES384 or ES512, as the key is
    #[arg(long, value_name = "FILE")]
    ecdsa_private_keyfile: Option<PathBuf>,
}

/// A person, as the YAML file has one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Person {
    name: String,
    email: String,
    sub: String,
    roles: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
}

impl CreateJwt {
    pub(super) fn run(self) -> Result<String, Failure> {
        let text = read(&self.key)?;
        let key = match self.algorithm {
            Some(algorithm) => SigningKey::parse(algorithm, &text),
            None => SigningKey::parse_any(&text),
        };
        let key = key.map_err(|error| wrong_key(&self.key, &error))?;
        if !self.key_id.contains(':') {
            let hint = "expected PROJECT:ID, such as system:root, under which the public half is registered";
            return Err(Failure::Wrong { what: "--key-id".to_owned(), reason: hint.to_owned() });
        }
        let now_s = jsonwebtoken::get_current_timestamp();
        let end = parse_expiry(&self.expiry, now_s);
        let exp = end.map_err(|reason| Failure::Wrong { what: "--expiry".to_owned(), reason })?;
        let roles: Vec<&str> = self.roles.iter().map(String::as_str).collect();
        let claims = Claims {
            exp,
            iat: now_s,
            sub: &self.subject,
            iss: &self.issuer,
            jti: &Uuid::new_v4().to_string(),
            roles: &roles,
        };
        let token = mint(&key, &self.key_id, &claims).map_err(|error| wrong_key(&self.key, &error))?;
        Ok(token + "\n")
    }
}

impl Parse {
    pub(super) fn run(self) -> Result<String, Failure> {
        let Self::Jwt { token, output, json } = self;
        let token = given_token(&token)?;
        let parsed = Parsed::read(&token)
            .map_err(|error| Failure::Wrong { what: "the token".to_owned(), reason: error.to_string() })?;
        let mut shown = json!({"header": {"alg": parsed.algorithm.name(), "kid": parsed.header.kid}});
        let number = |name: &str| parsed.claims.get(name).and_then(Value::as_f64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let time = |name: &str| number(name).map(|seconds| format_time(seconds as u64));
        shown["claims"] = Value::Object(parsed.claims.clone());
        match output {
            _ if json => return render(&shown, Output::Json, Shape::Fields),
            Output::HumanReadable => {}
            Output::Json | Output::Yaml => return render(&shown, output, Shape::Fields),
        }
        for name in ["exp", "iat", "nbf"] {
            if let Some(text) = time(name) {
                shown["claims"][name] = text.into();
            }
        }
        let now = crate::auth::now();
        let state = match (number("exp"), number("nbf")) {
            (None, _) => "without exp: no server accepts it",
            (Some(end), _) if end <= now => "expired",
            (_, Some(begin)) if begin > now => "not valid yet",
            _ => "not expired",
        };
        shown["state"] = state.into();
        Ok(output::fields(&shown))
    }
}

impl Auth {
    pub(super) fn run(self) -> Result<String, Failure> {
        let Self::Token(AuthToken::Generate(generate)) = self;
        generate.run()
    }
}

impl Generate {
    fn run(self) -> Result<String, Failure> {
        #[derive(Serialize)]
        struct PersonClaims<'a> {
            iss: &'a str,
            sub: &'a str,
            name: &'a str,
            email: &'a str,
            roles: &'a [String],
            groups: &'a [String],
            iat: u64,
            exp: u64,
            jti: &'a str,
        }
        let text = String::from_utf8_lossy(&read(&self.auth_config)?).into_owned();
        let person: Person = serde_norway::from_str(&text).map_err(|error| Failure::Wrong {
            what: self.auth_config.display().to_string(),
            reason: error.to_string(),
        })?;
        let key = self.key.read()?;
        let now_s = jsonwebtoken::get_current_timestamp();
        let claims = PersonClaims {
            iss: &self.issuer,
            sub: &person.sub,
            name: &person.name,
            email: &person.email,
            roles: &person.roles,
            groups: &person.groups,
            iat: now_s,
            exp: now_s + self.token_duration,
            jti: &Uuid::new_v4().to_string(),
        };
        let token = mint(&key, "", &claims);
        let token = token.map_err(|error| wrong_key(Path::new("the key"), &error))?;
        Ok(token + "\n")
    }
}

impl PersonKey {
    fn read(&self) -> Result<SigningKey, Failure> {
        use Algorithm::{ES256, ES384, ES512, HS256, RS256};
        if let Some(path) = &self.rsa_private_keyfile {
            return SigningKey::parse(RS256, &read(path)?).map_err(|error| wrong_key(path, &error));
        }
        if let Some(path) = &self.ecdsa_private_keyfile {
            let text = read(path)?;
            let fits =
                [ES256, ES384, ES512].into_iter().find_map(|curve| SigningKey::parse(curve, &text).ok());
            return fits.ok_or_else(|| wrong_key(path, &KeyError::NotPrivate("ES256, ES384 or ES512")));
        }
        let secret = self.shared_secret.as_deref().unwrap_or_default();
        SigningKey::parse(HS256, secret.as_bytes())
            .map_err(|error| wrong_key(Path::new("--shared-secret"), &error))
    }
}

/// Runs `gen-keypair`.
pub(super) fn gen_keypair() -> Result<String, Failure> {
    environment::generate().map_err(|error| wrong_key(Path::new("the key pair"), &error))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::File { path: path.display().to_string(), reason: error.to_string() })
}

fn wrong_key(path: &Path, error: &KeyError) -> Failure {
    Failure::Wrong { what: path.display().to_string(), reason: error.to_string() }
}

fn parse_algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::parse(text).ok_or_else(|| {
        let names: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

pub(super) const CREATE_JWT_HELP: &str = "\
Example:
  openssl genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:2048 -out key.pem
  openssl pkey -in key.pem -pubout -out key.pub
  ferrule create credential --project-name system --id ops --type rsa256pubkey key.pub
  ferrule create jwt --key key.pem --key-id system:ops --role system:cluster-admin --expiry 30d";

const GENERATE_HELP: &str = "\
Example:
  printf 'name: Ann\\nemail: ann@example.com\\nsub: ann\\nroles: [system.admin]\\ngroups: [\"*\"]\\n' > admin.yaml
  ferrule auth token generate --auth-config admin.yaml --issuer example.com --shared-secret \"$SECRET\" \\
    --token-duration 1d
The server must know the key under that issuer:
  ferrule create credential --project-name system --id shared --type hs256secret --issuer example.com secret.txt";

pub(super) const GEN_KEYPAIR_HELP: &str = "\
Example:
  ferrule gen-keypair > .env
  ferrule serve --env-file .env
The private key signs users' tokens; other services verify them with JWT_PUBLIC_KEY alone.";
