//! Tokens made by hand with `openssl`, as an attacker would make them: none of the product's code signs here.

use std::process::Command;

use serde_json::{Value, json};

use crate::person::{Person, run};
use crate::rest::Client;

/// What signs a token.
#[derive(Clone, Copy, Debug)]
pub enum Signer<'a> {
    /// A file with an RSA or an Ed25519 private key, and its algorithm's name.
    Key(&'a str, &'a str),
    /// A secret, with HS256.
    Secret(&'a [u8]),
}

/// A way to a token that is right, which every forgery starts from.
#[derive(Clone, Debug)]
pub struct Way<'a> {
    /// Where files may lie.
    pub person: &'a Person,
    /// The server's REST interface.
    pub endpoint: String,
    /// The `kid`, where tokens of this way have one.
    pub kid: Option<String>,
    /// Claims that are right.
    pub claims: Value,
    /// What signs them.
    pub signer: Signer<'a>,
    /// Claims that make the issuer another; or the `kid` of another, where that tells the issuer.
    pub other_issuer: Other,
}

/// How a token names another issuer.
#[derive(Clone, Debug)]
pub enum Other {
    /// By this `iss`.
    Issuer(&'static str),
    /// By this `kid`.
    Key(&'static str),
}

impl Way<'_> {
    /// A token with these claims, signed as the way's tokens are.
    #[must_use]
    pub fn token(&self, claims: &Value) -> String {
        self.signed(self.kid.as_deref(), claims, self.signer)
    }

    /// Shows that a right token is taken, and that each forgery of it is refused in the same words.
    ///
    /// # Panics
    /// If the server takes a forgery, or refuses the right token.
    pub fn expect_forgeries_refused(&self) {
        let ask = |token: &str| Client::new(&self.endpoint, token).send("GET", "/api/v2/nodes", &[], None);
        assert_eq!(ask(&self.token(&self.claims)).status, 200, "the token that forgeries start from");
        for (what, token) in self.forgeries() {
            let answer = ask(&token);
            assert_eq!(answer.status, 401, "{what}: {}", answer.text);
            answer.expect_error(401, 16);
        }
    }

    fn forgeries(&self) -> Vec<(&'static str, String)> {
        let with = |name: &str, value: Value| {
            let mut claims = self.claims.clone();
            claims[name] = value;
            claims
        };
        let good = self.token(&self.claims);
        let (message, signature) = good.rsplit_once('.').expect("three parts");
        let header = |alg: &str| self.header(alg, self.kid.as_deref());
        let unsigned = |alg: &str| format!("{}.{}", part(&header(alg)), part(&self.claims));
        let raised = with("roles", json!(["system:cluster-admin", "admin", "system.admin"]));
        let other = match &self.other_issuer {
            Other::Issuer(issuer) => self.token(&with("iss", json!(issuer))),
            Other::Key(kid) => self.signed(Some(kid), &self.claims, self.signer),
        };
        let payload = message.split_once('.').expect("two parts").0;
        let mut forged = vec![
            ("expired", self.token(&with("exp", json!(1_000_000_000)))),
            ("not valid yet", self.token(&with("nbf", json!(4_000_000_000_u64)))),
            ("without an end", self.token(&with("exp", Value::Null))),
            ("of another issuer", other),
            ("alg none", format!("{}.", unsigned("none"))),
            ("alg none with a signature", format!("{}.{signature}", unsigned("none"))),
            ("without a signature", format!("{message}.")),
            ("claims changed", format!("{payload}.{}.{signature}", part(&raised))),
            (
                "signed by another key",
                self.signed(self.kid.as_deref(), &self.claims, self.stranger().signer()),
            ),
        ];
        if let Signer::Key(path, _) = self.signer {
            let public = run(openssl().args(["pkey", "-in", path, "-pubout"])).into_bytes();
            for secret in [public.as_slice(), public.trim_ascii()] {
                let token = self.signed(self.kid.as_deref(), &self.claims, Signer::Secret(secret));
                forged.push(("HMAC with the public key", token));
            }
        }
        forged
    }

    fn header(&self, alg: &str, kid: Option<&str>) -> Value {
        kid.map_or_else(
            || json!({"alg": alg, "typ": "JWT"}),
            |kid| json!({"alg": alg, "typ": "JWT", "kid": kid}),
        )
    }

    fn signed(&self, kid: Option<&str>, claims: &Value, signer: Signer<'_>) -> String {
        let alg = match signer {
            Signer::Key(_, alg) => alg,
            Signer::Secret(_) => "HS256",
        };
        let message = format!("{}.{}", part(&self.header(alg, kid)), part(claims));
        let input = self.person.write("forge.message", &message);
        let output = self.person.path("forge.signature");
        let mut command = openssl();
        match signer {
            Signer::Key(path, "EdDSA") => {
                command.args(["pkeyutl", "-sign", "-rawin", "-inkey", path, "-in", &input, "-out", &output]);
            }
            Signer::Key(path, _) => {
                command.args(["dgst", "-sha256", "-sign", path, "-out", &output, &input]);
            }
            Signer::Secret(secret) => {
                let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
                command.args(["dgst", "-sha256", "-mac", "HMAC", "-macopt", &format!("hexkey:{hex}")]);
                command.args(["-binary", "-out", &output, &input]);
            }
        }
        run(&mut command);
        let signature = std::fs::read(&output).expect("openssl has signed");
        format!("{message}.{}", base64url(&signature))
    }

    /// A key of the same kind that nobody has registered.
    fn stranger(&self) -> Stranger {
        let (algorithm, alg) = match self.signer {
            Signer::Key(_, "EdDSA") => ("ed25519", "EdDSA"),
            Signer::Key(..) => ("rsa", "RS256"),
            Signer::Secret(_) => return Stranger::Secret,
        };
        let path = self.person.path("stranger.pem");
        run(openssl().args(["genpkey", "-algorithm", algorithm, "-out", &path]));
        Stranger::Key(path, alg)
    }
}

/// A key that nobody has registered.
enum Stranger {
    Key(String, &'static str),
    Secret,
}

impl Stranger {
    fn signer(&self) -> Signer<'_> {
        match self {
            Self::Key(path, alg) => Signer::Key(path, alg),
            Self::Secret => Signer::Secret(b"another secret of more than thirty-two bytes"),
        }
    }
}

fn openssl() -> Command {
    Command::new("openssl")
}

/// JSON as a part of a token.
fn part(value: &Value) -> String {
    base64url(value.to_string().as_bytes())
}

/// Base64 of RFC 4648 section 5, without padding.
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for letter in 0..=chunk.len() {
            text.push(char::from(LETTERS[(word >> (18 - 6 * letter)) as usize & 63]));
        }
    }
    text
}
