//! Users: what guessing, leaving and clocks do to their logins and tokens.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use super::super::environment::{generate, parse_file};
use super::super::users::FREE_TRIES;
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

    /// What a try says: 401 or 429 as clients see it, 200 for a login.
    async fn log_in(&self, name: &str, password: &str, now: f64) -> u16 {
        status_of(&self.tokens.log_in(name, password.to_owned(), now).await)
    }

    /// What tries at one time say, all of them begun before the first has ended.
    async fn log_in_at_once(&self, count: u32, name: &'static str, now: f64) -> Vec<u16> {
        let begin = |_| {
            let tokens = self.tokens.clone();
            tokio_uring::spawn(async move {
                status_of(&tokens.log_in(name, "not-the-password".to_owned(), now).await)
            })
        };
        let mut statuses = Vec::new();
        for task in (0..count).map(begin).collect::<Vec<_>>() {
            statuses.push(task.await.unwrap());
        }
        statuses.sort_unstable();
        statuses
    }
}

fn status_of(outcome: &Result<String, TokensError>) -> u16 {
    match outcome {
        Ok(_) => 200,
        Err(TokensError::Login) => 401,
        Err(TokensError::Slow(_)) => 429,
        Err(other) => panic!("{other}"),
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

#[test]
fn passwords_that_are_guessed_at_once_are_slowed_down_whatever_the_name() {
    tokio_uring::start(async {
        let service = Service::new().await;
        for name in ["ann", "nobody"] {
            let first = service.log_in_at_once(FREE_TRIES + 3, name, 1000.0).await;
            assert_eq!(first, [401, 401, 401, 401, 401, 429, 429, 429], "{name}");
            assert_eq!(service.log_in_at_once(3, name, 1001.0).await, [401, 429, 429], "{name}");
        }
        assert_eq!(service.log_in("ann", PASSWORD, 1002.0).await, 429);
        assert_eq!(service.log_in("ann", PASSWORD, 1003.0).await, 200);
        assert_eq!(service.log_in("ann", "not-the-password", 1003.0).await, 401, "a right one forgives");
    });
}

#[test]
fn a_password_that_none_can_be_tells_nothing_of_the_name() {
    tokio_uring::start(async {
        let service = Service::new().await;
        let long = "x".repeat(257);
        for name in ["ann", "nobody"] {
            for _ in 0..=FREE_TRIES {
                assert_eq!(service.log_in(name, &long, 1000.0).await, 401, "{name}");
            }
        }
        assert_eq!(service.log_in("ann", PASSWORD, 1000.0).await, 200);
    });
}

#[test]
fn a_guess_counts_although_its_client_is_gone() {
    tokio_uring::start(async {
        let service = Service::new().await;
        for _ in 0..FREE_TRIES {
            let mut guess = Box::pin(service.tokens.log_in("ann", "not-the-password".to_owned(), 1000.0));
            assert!(waits(&mut guess).await);
            drop(guess);
            // The next one's turn comes when this one's digest is done: two would take the memory of two.
            drop(service.tokens.hashing.acquire().await.unwrap());
        }
        assert_eq!(service.log_in("ann", PASSWORD, 1000.0).await, 429);
    });
}
