//! Users with passwords, and their logins.

use std::cell::RefCell;
use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::password::Hashed;

/// A user as kept.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct User {
    /// `admin`, `api`, `user`.
    pub(crate) roles: Vec<String>,
    /// The projects in which `api` and `user` count; none means the default one.
    #[serde(default)]
    pub(crate) projects: Vec<String>,
    /// The password.
    pub(crate) password: Hashed,
}

/// Roles that a user may have.
pub(crate) const USER_ROLES: [&str; 3] = ["admin", "api", "user"];

/// Logins of browsers: a cookie's digest, and whose it is. Held in memory: a restart ends them.
#[derive(Debug, Default)]
pub(super) struct Logins {
    open: RefCell<BTreeMap<[u8; 32], Login>>,
    /// Tries of late, by the fingerprint of the name: whether there is such a user makes no difference to who tries.
    tries: RefCell<BTreeMap<[u8; 32], Tries>>,
}

/// Wrong passwords of one name.
#[derive(Clone, Copy, Debug)]
struct Tries {
    /// How many there were in a row.
    count: u32,
    /// When the next one is heard.
    heard: f64,
    /// Whether a user has the name.
    known: bool,
}

#[derive(Clone, Debug)]
struct Login {
    user: String,
    /// The revision of the user's record at the time.
    revision: u64,
    expires: f64,
}

impl Logins {
    /// Begins a login; the text is the cookie's value.
    pub(super) fn begin(&self, user: &str, revision: u64, now: f64) -> Option<String> {
        let mut secret = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut secret).ok()?;
        let cookie = URL_SAFE_NO_PAD.encode(secret);
        let mut open = self.open.borrow_mut();
        open.retain(|_, login| login.expires > now);
        if open.len() >= LOGINS_MAX {
            // The one that would end first makes room.
            let first = open.iter().min_by(|one, other| one.1.expires.total_cmp(&other.1.expires));
            let first = first.map(|(key, _)| *key);
            first.and_then(|key| open.remove(&key));
        }
        let login = Login { user: user.to_owned(), revision, expires: now + LIFETIME_S };
        open.insert(fingerprint(&cookie), login);
        Some(cookie)
    }

    /// Whose login a cookie is, and the revision of the user's record when it began.
    pub(super) fn user_of(&self, cookie: &str, now: f64) -> Option<(String, u64)> {
        let open = self.open.borrow();
        let login = open.get(&fingerprint(cookie)).filter(|login| login.expires > now)?;
        Some((login.user.clone(), login.revision))
    }

    /// Ends a login.
    pub(super) fn end(&self, cookie: &str) {
        self.open.borrow_mut().remove(&fingerprint(cookie));
    }

    /// Ends all logins of a user.
    pub(super) fn end_all_of(&self, user: &str) {
        self.open.borrow_mut().retain(|_, login| login.user != user);
        self.forgive(user);
    }

    /// How long a name must wait before the next try is heard.
    pub(super) fn wait_s(&self, name: &str, now: f64) -> Option<f64> {
        let tries = self.tries.borrow();
        tries.get(&fingerprint(name)).map(|tries| tries.heard - now).filter(|wait| *wait > 0.0)
    }

    /// Notes a wrong password for a name, which may be that of a user.
    pub(super) fn note_wrong(&self, name: &str, known: bool, now: f64) {
        let mut names = self.tries.borrow_mut();
        let key = fingerprint(name);
        if names.len() >= NAMES_MAX && !names.contains_key(&key) {
            // Names that nobody has make room: who invents them does not make a user's tries forgotten.
            let order = |one: &Tries, other: &Tries| {
                one.known.cmp(&other.known).then(one.heard.total_cmp(&other.heard))
            };
            let first = names.iter().min_by(|one, other| order(one.1, other.1)).map(|(key, _)| *key);
            first.and_then(|key| names.remove(&key));
        }
        let tries = names.entry(key).or_insert(Tries { count: 0, heard: now, known });
        tries.known = known;
        tries.count = tries.count.saturating_add(1);
        if tries.count >= FREE_TRIES {
            tries.heard = now + f64::from(2_u32.pow((tries.count - FREE_TRIES).min(6)));
        }
    }

    /// Forgets a name's wrong passwords.
    pub(super) fn forgive(&self, name: &str) {
        self.tries.borrow_mut().remove(&fingerprint(name));
    }
}

/// What is kept of a cookie or a name, however long: who reads the memory cannot use it.
fn fingerprint(text: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    key
}

const SECRET_BYTES: usize = 32;
const LOGINS_MAX: usize = 1024;
/// A working day.
pub(crate) const LIFETIME_S: f64 = 12.0 * 3600.0;
/// Names whose tries are remembered: more than there can be users.
const NAMES_MAX: usize = 4096;
/// Wrong passwords before tries are slowed down.
pub(super) const FREE_TRIES: u32 = 5;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_login_lasts_a_working_day_and_no_longer() {
        let logins = Logins::default();
        let cookie = logins.begin("a", 7, 0.0).unwrap();
        assert_eq!(logins.user_of(&cookie, LIFETIME_S - 1.0), Some(("a".to_owned(), 7)));
        assert_eq!(logins.user_of(&cookie, LIFETIME_S), None);
        assert_eq!(logins.user_of("guess", 1.0), None);
        logins.end(&cookie);
        assert_eq!(logins.user_of(&cookie, 1.0), None);
    }

    #[test]
    fn logins_do_not_grow_without_bound() {
        let logins = Logins::default();
        let first = logins.begin("first", 1, 0.0).unwrap();
        for number in 1..=LOGINS_MAX {
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let cookie = logins.begin("more", 1, number as f64).unwrap();
            assert_eq!(logins.user_of(&cookie, 1.0), Some(("more".to_owned(), 1)));
        }
        assert_eq!(logins.open.borrow().len(), LOGINS_MAX);
        assert_eq!(logins.user_of(&first, 1.0), None, "the oldest made room");
    }

    #[test]
    fn wrong_passwords_slow_down_and_a_right_one_forgives() {
        let logins = Logins::default();
        for _ in 1..FREE_TRIES {
            logins.note_wrong("a", true, 0.0);
            assert_eq!(logins.wait_s("a", 0.0), None);
        }
        logins.note_wrong("a", true, 0.0);
        assert_eq!(logins.wait_s("a", 0.0), Some(1.0));
        logins.note_wrong("a", true, 1.0);
        assert_eq!(logins.wait_s("a", 1.0), Some(2.0));
        for _ in 0..100 {
            logins.note_wrong("a", true, 5.0);
        }
        assert_eq!(logins.wait_s("a", 5.0), Some(64.0));
        logins.forgive("a");
        assert_eq!(logins.wait_s("a", 100.0), None);
    }

    #[test]
    fn invented_names_neither_grow_nor_make_a_users_tries_forgotten() {
        let logins = Logins::default();
        for _ in 0..FREE_TRIES {
            logins.note_wrong("ann", true, 0.0);
        }
        for number in 0..2 * NAMES_MAX {
            logins.note_wrong(&number.to_string(), false, 0.5);
        }
        assert_eq!(logins.tries.borrow().len(), NAMES_MAX);
        assert_eq!(logins.wait_s("ann", 0.5), Some(0.5));
    }
}
