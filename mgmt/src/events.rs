//! What has happened: a bounded log of events in the metadata store, written behind by a task of its own.
//!
//! Whoever notes an event never waits. Events that come faster than the store takes them are dropped and counted; the
//! oldest go when there are too many. What clients send is cut before it is part of one.

mod strangers;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::metadata::{Change, Expect, Found, Kept, Kind, Records, StoreError};
use crate::rest::Request;
use strangers::Strangers;

/// The log of events.
#[derive(Debug)]
pub(crate) struct Events {
    records: Rc<Records>,
    waiting: RefCell<VecDeque<Event>>,
    dropped: Cell<u64>,
    /// Whether audit events are written, too.
    enabled: Cell<bool>,
    strangers: RefCell<Strangers>,
    wake: Notify,
    written: Notify,
}

/// An event; serialised it is what clients read.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub(crate) struct Event {
    /// Its number, which is also its key.
    #[serde(rename = "ID")]
    pub(crate) id: String,
    /// When, in RFC 3339.
    #[serde(rename = "Time")]
    pub(crate) time: String,
    /// The contract's type of what it is about.
    #[serde(rename = "Type")]
    pub(crate) component: String,
    /// The contract's severity.
    #[serde(rename = "Severity")]
    pub(crate) severity: String,
    /// Its name.
    #[serde(rename = "EventName")]
    pub(crate) name: String,
    /// Its number among this server's kinds of events.
    #[serde(rename = "EventCode")]
    pub(crate) code: u32,
    /// Who noticed it.
    #[serde(rename = "ReportingService")]
    pub(crate) service: String,
    /// How it went.
    #[serde(rename = "Status")]
    pub(crate) status: String,
    /// The HTTP status of the request, where a request is the cause.
    #[serde(rename = "CauseCode")]
    pub(crate) cause: u32,
    /// What people read.
    #[serde(rename = "Description")]
    pub(crate) description: String,
    /// Volumes by project.
    #[serde(rename = "ComponentVolumesInfo", default, skip_serializing_if = "Option::is_none")]
    pub(crate) volumes: Option<Value>,
    /// A drive.
    #[serde(rename = "ComponentNVMeSSDInfo", default, skip_serializing_if = "Option::is_none")]
    pub(crate) drive: Option<Value>,
    /// The cluster.
    #[serde(rename = "ComponentClusterInfo", default, skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<Value>,
}

/// What is noted of a request while it is answered.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Who asks, by address.
    pub(crate) peer: Option<IpAddr>,
    /// Who asks, by the token's subject.
    pub(crate) subject: Option<String>,
    /// What is asked.
    pub(crate) operation: Option<&'static str>,
    project: String,
    uuid: String,
    name: String,
}

impl Audit {
    /// A request that has just come from `peer`.
    pub(crate) fn of(peer: Option<IpAddr>) -> Self {
        Self { peer, ..Self::default() }
    }

    /// Notes what the request is about.
    pub(crate) fn target(&mut self, request: &Request) {
        self.project = cut(request.text("projectName"));
        self.uuid = cut(request.text("UUID"));
        self.name = cut(request.text("name"));
    }

    fn event(&self, operation: &str, method: &Method, path: &str, status: StatusCode) -> Event {
        let peer = self.peer.map_or_else(|| "an unknown address".to_owned(), |peer| peer.to_string());
        let who = cut(self.subject.as_deref().unwrap_or("nobody"));
        let (name, code, severity) = match status.as_u16() {
            401 => ("RequestUnauthenticated", 3001, "Low"),
            403 => ("RequestForbidden", 3003, "Low"),
            429 => ("RequestsTooMany", 3029, "Medium"),
            500.. => (operation, 3500, "High"),
            _ => (operation, 3200, "Info"),
        };
        let (component, path, status_code) = (component_of(path), cut(path), status.as_u16());
        Event {
            time: crate::rest::timestamp(now_ns()),
            component: component.to_owned(),
            severity: severity.to_owned(),
            name: name.to_owned(),
            code,
            service: "API".to_owned(),
            status: if status.is_success() { "Finished" } else { "Failed" }.to_owned(),
            cause: status_code.into(),
            description: format!("{operation} by {who} from {peer}: {method} {path}: {status_code}"),
            ..Event::default()
        }
    }
}

impl Kept for Event {
    const KIND: Kind = Kind::Event;

    fn key(&self) -> String {
        event_key(self.id.parse().unwrap_or_default())
    }
}

impl Event {
    /// Whether it belongs to `project`.
    pub(crate) fn is_of(&self, project: &str) -> bool {
        let volumes = self.volumes.as_ref();
        volumes.is_some_and(|info| info["ProjectVolumesMap"].get(project).is_some())
    }

    /// About a volume of a project; an empty UUID names none.
    #[must_use]
    pub(crate) fn of_volume(mut self, project: &str, uuid: &str, name: &str) -> Self {
        let named = !uuid.is_empty() || !name.is_empty();
        let list: Vec<Value> = if named { vec![json!({"ID": uuid, "Name": name})] } else { Vec::new() };
        let map = json!({project: {"VolumeComponentInfoList": list}});
        self.volumes = Some(json!({"ProjectVolumesMap": map}));
        self
    }
}

impl Events {
    /// The events among `records`.
    pub(crate) fn new(records: Rc<Records>) -> Rc<Self> {
        Rc::new(Self {
            records,
            waiting: RefCell::default(),
            dropped: Cell::new(0),
            enabled: Cell::new(true),
            strangers: RefCell::default(),
            wake: Notify::new(),
            written: Notify::new(),
        })
    }

    /// Turns the log on or off.
    pub(crate) fn enable(&self, enabled: bool) {
        self.enabled.set(enabled);
    }

    /// How many events were dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    /// Notes an event; its number comes with its writing.
    pub(crate) fn note(&self, mut event: Event) {
        if !self.enabled.get() {
            return;
        }
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= WAITING_MAX {
            self.dropped.set(self.dropped.get() + 1);
            return;
        }
        if event.time.is_empty() {
            event.time = crate::rest::timestamp(now_ns());
        }
        waiting.push_back(event);
        self.wake.notify_one();
    }

    /// Notes a request that was refused, or that changed something or tried to.
    pub(crate) fn audit(&self, audit: &Audit, method: &Method, path: &str, status: StatusCode) {
        let Some(operation) = audit.operation.filter(|_| self.enabled.get()) else { return };
        let refused = matches!(status.as_u16(), 401 | 403 | 429);
        // A token that is given out is worth a note, however it was asked for.
        if *method == Method::GET && !refused && operation != "IssueToken" {
            return;
        }
        let event = audit.event(operation, method, path, status);
        // Who logs in is no stranger from then on.
        let is_known = audit.subject.is_some() || operation == "LogIn" && status.is_success();
        if !is_known && !self.strangers.borrow_mut().admit(audit.peer, &event, Instant::now()) {
            return;
        }
        let in_project = !audit.project.is_empty() && audit.project != crate::auth::SYSTEM;
        self.note(if in_project && !refused {
            let volume = component_of(path) == "Volume";
            let (uuid, name) = if volume { (audit.uuid.as_str(), audit.name.as_str()) } else { ("", "") };
            event.of_volume(&audit.project, uuid, name)
        } else {
            event
        });
    }

    /// Events from number `first` on.
    pub(crate) fn list_from(&self, first: u64) -> Vec<Found<Event>> {
        self.records.list_from(&event_key(first))
    }

    /// Waits until everything noted before is written or dropped.
    #[cfg(test)]
    pub(crate) async fn settle(&self) {
        while !self.waiting.borrow().is_empty() {
            self.written.notified().await;
        }
    }

    /// Writes events as they come; never returns.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            let counted = self.strangers.borrow_mut().take(Instant::now());
            counted.into_iter().for_each(|event| self.note(event));
            let batch: Vec<Event> = self.waiting.borrow().iter().take(BATCH_MAX).cloned().collect();
            if batch.is_empty() {
                let due = self.strangers.borrow().due();
                match due {
                    Some(due) => drop(timeout_at(due, self.wake.notified()).await),
                    None => self.wake.notified().await,
                }
                continue;
            }
            let count = batch.len();
            let outcome = self.write(batch).await;
            if outcome.as_ref().is_err_and(StoreError::may_pass) {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            if let Err(error) = outcome {
                self.dropped.set(self.dropped.get() + count as u64);
                tracing::error!(error = &error as &dyn std::error::Error, count, "events cannot be written");
            }
            self.waiting.borrow_mut().drain(..count);
            self.written.notify_waiters();
        }
    }

    async fn write(&self, batch: Vec<Event>) -> Result<(), StoreError> {
        // Another management process may take the numbers first: then with those after.
        for _ in 0..ATTEMPTS {
            let mut before = self.records.watch();
            let keys = self.records.keys(Kind::Event);
            let last: u64 = keys.last().and_then(|key| key.parse().ok()).unwrap_or(0);
            let surplus = (keys.len() + batch.len()).saturating_sub(EVENTS_MAX).min(SURPLUS_MAX);
            let surplus = keys.into_iter().take(surplus);
            let mut changes: Vec<Change> = surplus.map(|key| Change::delete(Kind::Event, key)).collect();
            for (number, event) in (last + 1..).zip(&batch) {
                let event = Event { id: number.to_string(), ..event.clone() };
                changes.push(Change::put(&event, Expect::Absent));
            }
            match self.records.commit(changes).await {
                Err(StoreError::Conflict { .. }) => self.records.catch_up(&mut before).await,
                outcome => return outcome.map(drop),
            }
        }
        Err(StoreError::Conflict { kind: Kind::Event, key: String::new() })
    }
}

/// As much of what a client has sent as an event has room for, in bytes of JSON.
fn cut(text: &str) -> String {
    let mut bytes = 0;
    let end = text.char_indices().find(|(_, character)| {
        bytes += match character {
            '"' | '\\' => 2,
            character if character.is_control() => 6,
            character => character.len_utf8(),
        };
        bytes > TEXT_BYTES_MAX
    });
    end.map_or_else(|| text.to_owned(), |(end, _)| format!("{}…", &text[..end]))
}

/// Numbers sort as texts.
fn event_key(number: u64) -> String {
    format!("{number:020}")
}

fn component_of(path: &str) -> &'static str {
    let of = |word: &str| path.split('/').any(|segment| segment == word);
    if of("volumes") || of("snapshots") || of("resourcePolicies") {
        "Volume"
    } else if of("nvmeDevices") {
        "NVMeSSD"
    } else if of("servers") {
        "Server"
    } else if of("nodes") {
        "Node"
    } else {
        "Cluster"
    }
}

/// The time.
pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Events that are kept: some 3 MiB in memory, and at most 16 MiB if all are as large as they can be.
pub(crate) const EVENTS_MAX: usize = 8192;
/// Events that wait for the store.
const WAITING_MAX: usize = 1024;
/// Events in one commit.
const BATCH_MAX: usize = 64;
/// Events forgotten in one commit: more than come, so that a backlog shrinks.
const SURPLUS_MAX: usize = 2 * BATCH_MAX;
/// Path, subject, project, UUID and name are each cut to this.
const TEXT_BYTES_MAX: usize = 256;
/// The JSON text of an event of a request.
pub(crate) const EVENT_BYTES_MAX: usize = 2048;
const ATTEMPTS: u32 = 32;
/// Between attempts while the store is away.
const AGAIN: Duration = Duration::from_secs(1);

const _: () = assert!(EVENTS_MAX * EVENT_BYTES_MAX <= 16 << 20);
// etcd takes 1.5 MiB in one commit.
const _: () = assert!(BATCH_MAX * EVENT_BYTES_MAX <= 1 << 20);
