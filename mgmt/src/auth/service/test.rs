//! Users: what leaving and clocks do to their tokens.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use super::super::environment::{generate, parse_file};
use super::*;
use crate::metadata::{Change, Loaded, Pending, Store};

const PASSWORD: &str = "a-long-password";

/// A store in memory that makes changes while its gate is open.
#[derive(Debug, Default)]
struct Gated {
    gate: Mutex<()>,
    revision: AtomicU64,
}

impl Store for Gated {
    fn load(&self) -> Pending<'_, Loaded> {
        Box::pin(async { Ok(Loaded::default()) })
    }

    fn commit(&self, _: Vec<Change>, _: Option<u64>) -> Pending<'_, u64> {
        Box::pin(async {
            let _open = self.gate.lock().await;
            Ok(self.revision.fetch_add(1, Ordering::Relaxed) + 1)
        })
    }
}

/// The service with one user, `ann`.
struct Service {
    tokens: Rc<Tokens>,
    directory: Directory,
    store: Rc<Gated>,
}

impl Service {
    async fn new() -> Self {
        let store = Rc::new(Gated::default());
        let records = metadata::Records::load(store.clone()).await.unwrap();
        let variables = parse_file(&generate().unwrap()).unwrap();
        let find = |name: &str| variables.iter().find(|(known, _)| known == name).map(|one| one.1.clone());
        let tokens = Tokens::new(records.clone(), EnvironmentKeys::read(find).unwrap());
        let service = Self { tokens: Rc::new(tokens), directory: Directory::new(records), store };
        service.make("ann").await;
        service
    }

    async fn make(&self, name: &str) {
        let roles = vec!["user".to_owned()];
        self.tokens.put_user(name, roles, Vec::new(), PASSWORD.to_owned()).await.unwrap();
    }

    fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        self.tokens.verify(token, &self.directory, now())
    }
}

/// Whether a future still waits after it has done what it can.
async fn waits<T>(future: &mut Pin<Box<impl Future<Output = T>>>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[test]
fn who_is_being_deleted_gets_no_token() {
    tokio_uring::start(async {
        let service = Service::new().await;
        let issue = || service.tokens.issue_for_user("ann", now());
        let closed = service.store.gate.lock().await;
        let mut deletion = Box::pin(service.tokens.delete_user("ann"));
        assert!(waits(&mut deletion).await);
        assert!(matches!(issue(), Err(TokensError::NotFound(_))));
        // A deletion that is given up takes nothing away.
        drop(deletion);
        assert!(issue().is_ok());
        let mut deletion = Box::pin(service.tokens.delete_user("ann"));
        assert!(waits(&mut deletion).await);
        drop(closed);
        deletion.await.unwrap();
        assert!(matches!(issue(), Err(TokensError::NotFound(_))));
        service.make("ann").await;
        assert!(service.verify(&issue().unwrap().token).is_ok());
    });
}

#[test]
fn a_token_made_by_a_clock_that_was_ahead_ends_with_its_user() {
    tokio_uring::start(async {
        let service = Service::new().await;
        let issue = |now: f64| service.tokens.issue_for_user("ann", now).unwrap().token;
        let early = issue(now() + 86_400.0);
        assert!(service.verify(&early).is_ok());
        service.tokens.delete_user("ann").await.unwrap();
        assert_eq!(service.verify(&early).unwrap_err(), TokenError::Revoked);
        service.make("ann").await;
        let fresh = issue(now());
        assert!(service.verify(&fresh).is_ok(), "who comes back gets tokens that are good");
        assert_eq!(service.verify(&early).unwrap_err(), TokenError::Revoked);
        service.tokens.delete_user("ann").await.unwrap();
        assert_eq!(service.verify(&fresh).unwrap_err(), TokenError::Revoked);
    });
}
