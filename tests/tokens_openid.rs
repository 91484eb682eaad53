//! Tokens of an identity provider: the cluster's configuration of it, a login by the device flow, roles by a map.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tests::forge::{Other, Signer, Way};
use tests::person::{Person, run};
use tests::rest::Client;
use tests::scratch::wait_until;
use tests::server::{Server, Setup};

#[test]
fn a_person_logs_in_at_the_identity_provider_and_gets_the_roles_of_the_map() {
    let server = Server::start(&Setup::small());
    let admin = Person::of(&server).with("FERRULE_JWT", &server.token("system.jwt"));
    let idp = Provider::start();
    let person = Person::of(&server);

    let (said, code) = person.refused(&["login"]);
    assert!(code == 2 && said.contains("enable federated-authentication"), "{said}");
    for line in [
        format!("create idp-configuration --name corp --issuer-url {} --type ADFS", idp.issuer),
        "create idp-client-configuration --name cli --client-id ferrule --idp-configuration-name corp --authz-mode User \
         --claim-name groups"
            .to_owned(),
        "create auth-map-entry --name readers --identifier storage-readers --scope default --role viewer \
         --idp-configuration-name corp"
            .to_owned(),
    ] {
        admin.ferrule(&line.split_whitespace().collect::<Vec<_>>());
    }
    let groups = json!(["storage-readers", "others"]);
    let good = json!({"sub": "ann", "aud": "ferrule", "exp": 4_102_444_800_u64, "groups": groups});
    let token = idp.sign(&good);
    let client = |token: &str| Client::new(&server.endpoint(), token);
    client(&token).send("GET", "/api/v2/nodes", &[], None).expect_error(401, 16);
    admin.ferrule(&["enable", "federated-authentication"]);
    let _ = client(&token).get("/api/v2/projects/default/volumes");
    client(&token).send("GET", "/api/v2/cluster", &[], None).expect_error(403, 7);
    // For another client, expired, signed by another, and the rest of what an attacker tries: not let in.
    let mut claims = good.clone();
    claims["iss"] = json!(idp.issuer);
    let elsewhere = json!("other");
    let mut for_another = claims.clone();
    for_another["aud"] = elsewhere;
    client(&idp.sign(&for_another)).send("GET", "/api/v2/nodes", &[], None).expect_error(401, 16);
    let key = idp.person.path("k1.pem");
    let way = Way {
        person: &idp.person,
        endpoint: server.endpoint(),
        kid: Some("k1".to_owned()),
        claims,
        signer: Signer::Key(&key, "EdDSA"),
        other_issuer: Other::Issuer("https://elsewhere.example"),
    };
    way.expect_forgeries_refused();
    Way { other_issuer: Other::Key("k2"), ..way }.expect_forgeries_refused();

    // $ ferrule login: the code is shown, and asked for again until it has been entered.
    *idp.grants.lock().unwrap() = token;
    let output = person.try_ferrule(&["login"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("WDJB-MJHT") && said.contains("/activate"), "{said}");
    assert!(idp.polls.load(Ordering::Relaxed) >= 2, "it waits for the person");
    assert!(person.ferrule(&["list", "nodes"]).starts_with("Name"));
    let (said, code) = person.refused(&["get", "cluster"]);
    assert!(code == 1 && said.contains("403"), "{said}");
    person.ferrule(&["logout"]);
    let (said, code) = person.refused(&["list", "nodes"]);
    assert!(code == 3 && said.contains("no token"), "{said}");

    admin.ferrule(&["disable", "federated-authentication"]);
    let token = idp.grants.lock().unwrap().clone();
    client(&token).send("GET", "/api/v2/nodes", &[], None).expect_error(401, 16);
}

#[test]
fn keys_are_fetched_once_and_again_when_the_identity_provider_changes_them() {
    let server = Server::start(&Setup::small());
    let admin = Person::of(&server).with("FERRULE_JWT", &server.token("system.jwt"));
    let mut idp = Provider::start();
    for line in [
        format!("create idp-configuration --name corp --issuer-url {} --type ADFS", idp.issuer),
        "create idp-client-configuration --name cli --client-id ferrule --idp-configuration-name corp --authz-mode App"
            .to_owned(),
        "create auth-map-entry --name app --identifier ferrule --scope default --role viewer --idp-configuration-name corp"
            .to_owned(),
        "enable federated-authentication".to_owned(),
    ] {
        admin.ferrule(&line.split_whitespace().collect::<Vec<_>>());
    }
    let claims = json!({"sub": "robot", "aud": "ferrule", "exp": 4_102_444_800_u64});
    let status =
        |token: &str| Client::new(&server.endpoint(), token).send("GET", "/api/v2/nodes", &[], None).status;
    let before = idp.sign(&claims);
    for _ in 0..10 {
        assert_eq!(status(&before), 200);
    }
    assert_eq!(idp.fetches.load(Ordering::Relaxed), 1, "the keys are kept");
    // A key that nobody here has seen makes the server ask again, though not at once each time: strangers can make up names.
    idp.rotate("k2");
    let after = idp.sign(&claims);
    wait_until("the new key is known", Duration::from_secs(20), || status(&after) == 200);
    assert_eq!(status(&before), 401, "the old key is not published any more");
    assert!(idp.fetches.load(Ordering::Relaxed) <= 4, "{:?}", idp.fetches);
    // What was taken back is refused here, too, whoever has issued it.
    let mut named = claims.clone();
    named["jti"] = json!("lost");
    let lost = idp.sign(&named);
    assert_eq!(status(&lost), 200);
    admin.ferrule(&["revoke", "jwt", "--jti", "lost"]);
    assert_eq!((status(&lost), status(&after)), (401, 200));
}

/// Makes an Ed25519 key with openssl, in a file of its name; its public half as RFC 8037 has it.
fn make_key(person: &Person, name: &str) -> Value {
    let key = person.path(&format!("{name}.pem"));
    run(Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out", &key]));
    let script = format!("openssl pkey -in {key} -pubout -outform DER | tail -c 32 | {BASE64URL}");
    let x = run(person.command("sh").args(["-c", &script]));
    json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": name, "x": x.trim()})
}

/// An identity provider on this machine, with an Ed25519 key that openssl made.
struct Provider {
    issuer: String,
    person: Person,
    grants: Arc<Mutex<String>>,
    polls: Arc<AtomicU32>,
    /// The name of the key that signs, which is also its file's.
    current: String,
    /// The keys that it publishes.
    published: Arc<Mutex<Value>>,
    /// How often they were asked for.
    fetches: Arc<AtomicU32>,
}

impl Provider {
    fn start() -> Self {
        let person = Person::alone();
        let published =
            Arc::new(Mutex::new(json!([{"kty": "oct", "kid": "other"}, make_key(&person, "k1")])));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let (grants, polls) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicU32::new(0)));
        let (current, fetches) = ("k1".to_owned(), Arc::new(AtomicU32::new(0)));
        let provider = Self { issuer, person, grants, polls, current, published, fetches };
        let (issuer, grants, polls) =
            (provider.issuer.clone(), provider.grants.clone(), provider.polls.clone());
        let (published, fetches) = (provider.published.clone(), provider.fetches.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, |path| match path {
                    "/.well-known/openid-configuration" => json!({
                        "issuer": issuer, "jwks_uri": format!("{issuer}/keys"),
                        "device_authorization_endpoint": format!("{issuer}/device"),
                        "token_endpoint": format!("{issuer}/token"),
                    }),
                    "/keys" => {
                        fetches.fetch_add(1, Ordering::Relaxed);
                        json!({"keys": published.lock().expect("the keys").clone()})
                    }
                    "/device" => json!({
                        "device_code": "d", "user_code": "WDJB-MJHT", "expires_in": 60, "interval": 1,
                        "verification_uri": format!("{issuer}/activate"),
                    }),
                    "/token" if polls.fetch_add(1, Ordering::Relaxed) == 0 => {
                        json!({"error": "authorization_pending"})
                    }
                    "/token" => json!({"id_token": grants.lock().expect("a token").clone()}),
                    _ => json!({"error": "not found"}),
                });
            }
        });
        provider
    }

    /// Signs with another key from here on, and publishes that alone.
    fn rotate(&mut self, name: &str) {
        *self.published.lock().expect("the keys") = json!([make_key(&self.person, name)]);
        name.clone_into(&mut self.current);
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.issuer, claims)
    }

    /// Signs without this project's code.
    fn sign_as(&self, issuer: &str, claims: &Value) -> String {
        let mut claims = claims.clone();
        claims["iss"] = json!(issuer);
        let key = &self.current;
        let header = json!({"alg": "EdDSA", "kid": key});
        let script = format!(
            "h=$(printf %s '{header}' | {BASE64URL}); c=$(printf %s '{claims}' | {BASE64URL}); printf %s \"$h.$c\" > m\n\
             openssl pkeyutl -sign -inkey {key}.pem -rawin -in m -out s; printf %s.%s \"$(cat m)\" \"$(cat s | {BASE64URL})\"",
        );
        run(self.person.command("sh").args(["-c", &script]))
    }
}

/// Answers one request by its path; errors of the flow have status 400, as RFC 6749 has it.
fn answer(mut stream: TcpStream, body: impl Fn(&str) -> Value) {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part) {
            Ok(count @ 1..) => bytes.extend_from_slice(&part[..count]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let head_bytes = text.find("\r\n\r\n").unwrap_or(text.len()) + 4;
    let named = text
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let wanted = head_bytes + named.unwrap_or(0_usize);
    while bytes.len() < wanted {
        match stream.read(&mut part) {
            Ok(count @ 1..) => bytes.extend_from_slice(&part[..count]),
            _ => return,
        }
    }
    let path = text.split(' ').nth(1).unwrap_or_default();
    let body = body(path);
    let status = if body["error"].is_string() { "400 Bad Request" } else { "200 OK" };
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    drop(stream.write_all(format!("{head}{body}").as_bytes()));
}

const BASE64URL: &str = "base64 -w0 | tr -d = | tr '+/' '-_'";
