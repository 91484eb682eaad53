//! What is known of other issuers of tokens: their keys, fetched over HTTPS, kept for a while, and fetched again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::auth::federation::Jwk;
use crate::events::now_ns;
use crate::web;

/// Issuers and their keys.
#[derive(Debug, Default)]
pub(crate) struct Issuers {
    known: RefCell<BTreeMap<String, Rc<Issuer>>>,
}

/// One issuer.
#[derive(Debug, Default)]
struct Issuer {
    known: RefCell<Option<Known>>,
    /// The one request to it that is under way.
    asking: RefCell<Option<Asking>>,
}

/// What an issuer has told.
#[derive(Clone, Debug)]
struct Known {
    keys: Vec<Jwk>,
    asked: Instant,
    /// When the issuer has told them.
    told: Option<Instant>,
    health: Health,
}

/// A request that is under way.
#[derive(Clone, Debug)]
struct Asking {
    begun: Instant,
    /// Closed when the request has ended.
    ended: watch::Receiver<()>,
}

/// How an issuer was when it was asked last.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    /// When that was, in nanoseconds since 1970.
    pub(crate) asked_ns: u64,
    /// Why its keys could not be had.
    pub(crate) error: Option<String>,
}

impl Issuers {
    /// The contract's name of the state of an issuer's configuration.
    pub(crate) fn state(&self, issuer: &str) -> &'static str {
        match self.health(issuer) {
            None => "Creating",
            Some(health) if health.error.is_none() => "Active",
            Some(_) => "Failed",
        }
    }

    /// How an issuer was when it was asked last; none if it was not asked yet.
    pub(crate) fn health(&self, issuer: &str) -> Option<Health> {
        let known = self.known.borrow();
        let known = known.get(issuer)?.known.borrow();
        known.as_ref().map(|known| known.health.clone())
    }

    /// The keys of an issuer. They are fetched if they are old, or lack the one that `wanted` names: issuers change
    /// theirs. A stranger's tokens make the server ask no more than every few seconds.
    ///
    /// Who wants a key that the issuer has told within [`TRUST`] waits for a moment only, and not at all if the issuer
    /// did not answer before: then what is held has to do until it does.
    pub(crate) async fn keys(&self, issuer: &str, wanted: Option<&str>) -> Vec<Jwk> {
        let one = self.of(issuer);
        if let Some(keys) = one.fresh(wanted) {
            return keys;
        }
        let mut asking = one.ask(issuer);
        let ended = asking.ended.changed();
        match one.patience(wanted).map(|patience| asking.begun + patience) {
            None => drop(ended.await),
            Some(until) if until > Instant::now() => drop(timeout_at(until, ended).await),
            Some(_) => {}
        }
        one.keys()
    }

    fn of(&self, issuer: &str) -> Rc<Issuer> {
        let mut known = self.known.borrow_mut();
        if known.len() >= ISSUERS_MAX && !known.contains_key(issuer) {
            known.clear();
        }
        known.entry(issuer.to_owned()).or_default().clone()
    }
}

impl Issuer {
    fn keys(&self) -> Vec<Jwk> {
        self.known.borrow().as_ref().map(|known| known.keys.clone()).unwrap_or_default()
    }

    /// The keys, if there is no need to ask for them.
    fn fresh(&self, wanted: Option<&str>) -> Option<Vec<Jwk>> {
        let known = self.known.borrow();
        let known = known.as_ref()?;
        let age = known.asked.elapsed();
        let good = known.has(wanted) && known.health.error.is_none() && age < LIFETIME;
        (age < PAUSE || good).then(|| known.keys.clone())
    }

    /// How long after a request has begun its answer is waited for; none is to its end.
    fn patience(&self, wanted: Option<&str>) -> Option<Duration> {
        let known = self.known.borrow();
        let known = known.as_ref().filter(|known| known.has(wanted) && known.is_trusted())?;
        Some(if known.health.error.is_none() { PATIENCE } else { Duration::ZERO })
    }

    /// Asks the issuer for its keys, unless that is under way.
    fn ask(self: &Rc<Self>, issuer: &str) -> Asking {
        let mut asking = self.asking.borrow_mut();
        let asking = asking.get_or_insert_with(|| {
            let (end, ended) = watch::channel(());
            let (one, issuer) = (self.clone(), issuer.to_owned());
            // A task of its own: others want the answer although the first who asked is gone.
            tokio_uring::spawn(async move {
                let fetched = fetch(&issuer).await;
                one.take(&issuer, fetched);
                one.asking.take();
                drop(end);
            });
            Asking { begun: Instant::now(), ended }
        });
        asking.clone()
    }

    fn take(&self, issuer: &str, fetched: Result<Vec<Jwk>, String>) {
        let health = Health { asked_ns: now_ns(), error: fetched.as_ref().err().cloned() };
        let asked = Instant::now();
        let (keys, told) = match fetched {
            Ok(keys) => (keys, Some(asked)),
            Err(error) => {
                tracing::warn!(issuer, error, "the keys of an issuer cannot be had");
                // Keys that were right an hour ago are better than none while the issuer is away, but not for ever: it may
                // have taken them back.
                let before = self.known.take().filter(Known::is_trusted);
                before.map(|before| (before.keys, before.told)).unwrap_or_default()
            }
        };
        self.known.replace(Some(Known { keys, asked, told, health }));
    }
}

impl Known {
    fn has(&self, wanted: Option<&str>) -> bool {
        wanted.is_none() || self.keys.iter().any(|key| key.kid.as_deref() == wanted)
    }

    /// Whether its keys count although the issuer cannot be asked.
    fn is_trusted(&self) -> bool {
        self.told.is_some_and(|told| told.elapsed() < TRUST)
    }
}

/// The key set that the issuer's discovery document names. OpenID Connect Discovery 1.0, section 4.
async fn fetch(issuer: &str) -> Result<Vec<Jwk>, String> {
    let base = issuer.trim_end_matches('/');
    let (_, found) = web::fetch(&format!("{base}/.well-known/openid-configuration"), None).await?;
    let wrong = |text: &str| format!("{issuer}: its {text}");
    if found["issuer"].as_str() != Some(issuer) {
        return Err(wrong("discovery document names another issuer"));
    }
    let place = found["jwks_uri"].as_str().ok_or_else(|| wrong("discovery document has no jwks_uri"))?;
    let (_, set) = web::fetch(place, None).await?;
    let keys = set["keys"].as_array().ok_or_else(|| wrong("key set has no keys"))?;
    // A key of a kind that nobody here knows is no reason to refuse the others.
    let read = |key: &Value| serde_json::from_value::<Jwk>(key.clone()).ok();
    Ok(keys.iter().take(KEYS_MAX).filter_map(read).collect())
}

/// How long keys are good without asking again.
const LIFETIME: Duration = Duration::from_secs(3600);
/// How long keys are good while the issuer cannot be asked.
const TRUST: Duration = Duration::from_secs(24 * 3600);
/// How long an issuer that has answered before keeps those waiting whose keys are held: time enough to take one back.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two requests to one issuer.
const PAUSE: Duration = Duration::from_secs(5);
const ISSUERS_MAX: usize = 64;
const KEYS_MAX: usize = 64;

#[cfg(test)]
mod test {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{advance, pause, timeout};

    use super::*;

    /// An issuer on a port of its own, which answers so many requests, then accepts and is silent.
    async fn issuer(answers: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = format!("http://{}", listener.local_addr().unwrap());
        let own = name.clone();
        tokio_uring::spawn(async move {
            let mut silent = Vec::new();
            for count in 0_usize.. {
                let (stream, _) = listener.accept().await.unwrap();
                if count < answers { answer(stream, &own).await } else { silent.push(stream) }
            }
        });
        name
    }

    async fn answer(mut stream: TcpStream, issuer: &str) {
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        let body = if request[..length].starts_with(b"GET /keys ") {
            json!({"keys": [{"kid": "one", "kty": "OKP"}]})
        } else {
            json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")})
        };
        let body = body.to_string();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).await.unwrap();
    }

    /// How many keys callers get, and how long they wait, in virtual time.
    async fn ask(issuers: &Issuers, issuer: &str, wanted: &str) -> (usize, Duration) {
        let begin = Instant::now();
        let keys = issuers.keys(issuer, Some(wanted)).await;
        (keys.len(), begin.elapsed())
    }

    #[test]
    fn an_issuer_that_hangs_delays_nobody_whose_key_is_held() {
        tokio_uring::start(async {
            let issuers = Issuers::default();
            let name = issuer(2).await;
            assert_eq!(issuers.state(&name), "Creating");
            assert_eq!(ask(&issuers, &name, "one").await.0, 1);
            assert_eq!(issuers.state(&name), "Active");
            // From here on nothing comes from outside, and time passes when all wait for it.
            pause();
            advance(LIFETIME).await;
            let (keys, waited) = ask(&issuers, &name, "one").await;
            assert_eq!(keys, 1);
            assert!(waited < Duration::from_secs(3), "{waited:?}: the issuer gets a moment to say otherwise");
            assert_eq!(ask(&issuers, &name, "one").await, (1, Duration::ZERO), "but one");
            // A stranger's key is waited for, and its absence is known for a while.
            let (keys, waited) = ask(&issuers, &name, "two").await;
            assert!(keys == 1 && waited > Duration::from_secs(6), "{keys} {waited:?}");
            assert_eq!(issuers.state(&name), "Failed");
            assert_eq!(ask(&issuers, &name, "two").await, (1, Duration::ZERO));
            for _ in 0..10 {
                assert_eq!(ask(&issuers, &name, "one").await, (1, Duration::ZERO));
                advance(Duration::from_secs(4)).await;
            }
            // Not for ever: the issuer may have taken the key back.
            advance(TRUST).await;
            assert_eq!(ask(&issuers, &name, "one").await.0, 0);
        });
    }

    #[test]
    fn an_issuer_that_hangs_delays_no_other() {
        tokio_uring::start(async {
            let issuers = Rc::new(Issuers::default());
            let (silent, good) = (issuer(0).await, issuer(2).await);
            let waiting = tokio_uring::spawn({
                let issuers = issuers.clone();
                async move { issuers.keys(&silent, Some("one")).await.len() }
            });
            tokio::task::yield_now().await;
            let keys = timeout(Duration::from_secs(5), issuers.keys(&good, Some("one"))).await;
            assert_eq!(keys.expect("the other issuer answers").len(), 1);
            assert!(!waiting.is_finished());
        });
    }
}
