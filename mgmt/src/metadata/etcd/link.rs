//! A connection to etcd whose schema has been settled, and the task that keeps one and tells what others change.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etcd_client::{
    Client, Compare, CompareOp, Error, EventType, GetOptions, KeyValue, ResponseHeader, Txn, TxnOp,
    WatchOptions, WatchResponse, WatchStream,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::super::transfer::Mark;
use super::super::{Changed, Loaded, News, Record, StoreError, schema};
use super::Shared;
use super::keys::{Keys, Named};

/// A connection, and the schema that it found.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) schema: Schema,
    /// etcd's revision of the schema: every commit is made only while it is this.
    pub(super) schema_revision: i64,
}

/// The schema as it is kept.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Schema {
    version: u64,
    /// Revisions are this and etcd's own.
    pub(super) base: u64,
    /// Which store this is: another one after everything was lost.
    id: String,
    /// How far a move has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mark: Option<Mark>,
}

/// Keeps a link, and tells `news` of what is changed, until nobody listens.
pub(super) async fn follow(shared: Arc<Shared>, news: mpsc::Sender<News>) {
    let mut told = true;
    loop {
        let error = match life(&shared, &news, &mut told).await {
            Ok(()) => return,
            Err(error) => error,
        };
        if told {
            told = false;
            tracing::warn!(store = %shared.location, %error, "the metadata store is lost; trying again");
        }
        // Whatever it is: nothing is changed here before there is another link.
        drop(shared.note::<()>(Err(match error {
            StoreError::Failed { .. } | StoreError::Conflict { .. } => {
                StoreError::Unavailable(error.to_string())
            }
            error => error,
        })));
        tokio::select! {
            () = sleep(AGAIN) => {}
            () = news.closed() => return,
        }
    }
}

/// One link, from its beginning to its end; `Ok` when nobody listens any more.
async fn life(shared: &Arc<Shared>, news: &mpsc::Sender<News>, told: &mut bool) -> Result<(), StoreError> {
    let mut link = Link::begin(shared).await?;
    if let Some(mark) = &link.schema.mark {
        return Err(mark.refusal(&shared.location.to_string()));
    }
    let (loaded, revision) = link.load(&shared.keys).await?;
    let mut guard = link.own_revision(loaded.guard);
    let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
    let mut stream = limited(link.client.watch(shared.keys.prefix(), Some(options))).await?;
    // No change of ours is made before the news of everything are on their way.
    shared.keep(link.clone());
    if news.send(News::All(loaded)).await.is_err() {
        return Ok(());
    }
    if !std::mem::replace(told, true) {
        tracing::info!(store = %shared.location, "the metadata store is back");
    }
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut behind = 0;
    loop {
        tokio::select! {
            message = next(&mut stream) => {
                let some = link.read(&shared.keys, &message?)?;
                if let News::Some { guard: Some(moved), .. } = &some {
                    guard = link.own_revision(*moved);
                }
                if news.send(some).await.is_err() {
                    return Ok(());
                }
            }
            _ = beat.tick() => {
                // A read that a majority has to answer: it tells that this is no member that was left behind.
                let found = limited(link.client.get(shared.keys.guard(), None)).await?;
                shared.hear(&link);
                let newest = found.kvs().first().map_or(0, KeyValue::mod_revision);
                behind = if newest == guard { 0 } else { behind + 1 };
                if behind > BEHIND_MAX {
                    return Err(StoreError::Unavailable("its watch has told nothing for too long".to_owned()));
                }
            }
            () = news.closed() => return Ok(()),
        }
    }
}

async fn next(stream: &mut WatchStream) -> Result<WatchResponse, StoreError> {
    let message = stream.message().await.map_err(|error| refusal(&error))?;
    message.ok_or_else(|| StoreError::Unavailable("its watch has ended".to_owned()))
}

impl Link {
    /// Connects, and settles the schema.
    pub(super) async fn begin(shared: &Shared) -> Result<Self, StoreError> {
        let options = shared.access.connect_options(&shared.location)?;
        let mut client = limited(Client::connect(shared.location.endpoints(), Some(options))).await?;
        for _ in 0..ATTEMPTS {
            let found = limited(client.get(shared.keys.schema(), None)).await?;
            if let Some(kept) = found.kvs().first() {
                let schema: Schema = serde_json::from_slice(kept.value())
                    .map_err(|error| StoreError::failed("the schema cannot be read", error))?;
                let mut link = Self { client: client.clone(), schema, schema_revision: kept.mod_revision() };
                if link.schema.version == schema::VERSION || link.upgrade(&shared.keys).await? {
                    return Ok(link);
                }
            } else {
                initialize(&mut client, &shared.keys).await?;
            }
        }
        Err(StoreError::Unavailable("its schema changes all the time".to_owned()))
    }

    /// Brings an older schema up to date; false if another server was faster.
    async fn upgrade(&mut self, keys: &Keys) -> Result<bool, StoreError> {
        let found = self.schema.version;
        let (loaded, _) = self.load(keys).await?;
        let changes = schema::upgrade(found, &loaded.records)?;
        self.schema.version = schema::VERSION;
        let mut ops = vec![TxnOp::put(keys.schema(), self.schema.text(), None)];
        ops.extend(changes.into_iter().map(|change| {
            let key = keys.record(change.kind, &change.key);
            match change.value {
                Some(value) => TxnOp::put(key, value, None),
                None => TxnOp::delete(key, None),
            }
        }));
        let same = Compare::mod_revision(keys.schema(), CompareOp::Equal, self.schema_revision);
        let ops = super::folded(ops, 1);
        let answer = limited(self.client.txn(Txn::new().when([same]).and_then(ops))).await?;
        self.schema_revision = answer.header().map_or(0, ResponseHeader::revision);
        if answer.succeeded() {
            tracing::info!(found, now = schema::VERSION, "brought the metadata up to date");
        }
        Ok(answer.succeeded())
    }

    /// Writes the schema that this link has. With a revision, only if no record has been changed since.
    pub(super) async fn write_schema(
        &mut self,
        keys: &Keys,
        unchanged_since: Option<u64>,
    ) -> Result<(), StoreError> {
        let mut compares = vec![Compare::mod_revision(keys.schema(), CompareOp::Equal, self.schema_revision)];
        if let Some(since) = unchanged_since {
            let limit = self.own_revision(since) + 1;
            for prefix in [keys.records(), keys.guard()] {
                compares.push(Compare::mod_revision(prefix, CompareOp::Less, limit).with_prefix());
            }
        }
        let put = TxnOp::put(keys.schema(), self.schema.text(), None);
        let answer = limited(self.client.txn(Txn::new().when(compares).and_then([put]))).await?;
        if !answer.succeeded() {
            return Err(StoreError::Conflict { kind: super::super::Kind::Cluster, key: String::new() });
        }
        self.schema_revision = answer.header().map_or(0, ResponseHeader::revision);
        Ok(())
    }

    /// Reads everything as it was at one moment, some keys at a time; also returns etcd's own revision of then.
    pub(super) async fn load(&mut self, keys: &Keys) -> Result<(Loaded, i64), StoreError> {
        let mut loaded = Loaded::default();
        let (mut moment, mut limit) = (0, PAGE);
        let mut first = keys.prefix().as_bytes().to_vec();
        loop {
            let options = GetOptions::new().with_range(keys.end()).with_limit(limit).with_revision(moment);
            let answer = self.client.get(first.clone(), Some(options));
            let answer = async {
                match answer.await {
                    Err(Error::GRpcStatus(status)) if status.code() as i32 == TOO_LARGE && limit > 1 => {
                        Ok(None)
                    }
                    answer => answer.map(Some),
                }
            };
            let Some(page) = limited(answer).await? else {
                limit /= 2;
                continue;
            };
            if moment == 0 {
                moment = page.header().map_or(0, ResponseHeader::revision);
            }
            for kept in page.kvs() {
                let revision = self.revision(kept.mod_revision());
                match keys.parse(kept.key()) {
                    Named::Guard => loaded.guard = revision,
                    Named::Record(kind, key) => {
                        loaded.records.push(Record { kind, key, revision, value: kept.value().to_vec() });
                    }
                    Named::Schema if kept.mod_revision() != self.schema_revision => {
                        return Err(StoreError::Unavailable("its schema has just changed".to_owned()));
                    }
                    Named::Schema | Named::Other => {}
                }
            }
            match page.kvs().last() {
                // The next key after the last one.
                Some(last) if page.more() => first = [last.key(), &[0]].concat(),
                _ => break,
            }
        }
        loaded.revision = self.revision(moment);
        loaded.records.sort_by(|one, other| (one.kind, &one.key).cmp(&(other.kind, &other.key)));
        Ok((loaded, moment))
    }

    /// What a message of the watch tells.
    fn read(&self, keys: &Keys, message: &WatchResponse) -> Result<News, StoreError> {
        if message.canceled() {
            return Err(StoreError::Unavailable(format!("its watch has ended: {}", message.cancel_reason())));
        }
        let (mut changes, mut guard) = (Vec::new(), None);
        for event in message.events() {
            let Some(kept) = event.kv() else { continue };
            let revision = self.revision(kept.mod_revision());
            match keys.parse(kept.key()) {
                Named::Record(kind, key) => {
                    let value = (event.event_type() == EventType::Put).then(|| kept.value().to_vec());
                    changes.push(Changed { kind, key, revision, value });
                }
                Named::Guard if event.event_type() == EventType::Put => guard = Some(revision),
                Named::Guard => guard = Some(0),
                Named::Schema if kept.mod_revision() > self.schema_revision => {
                    let reason = "it was upgraded, moved or emptied, and is being looked at anew";
                    return Err(StoreError::Unavailable(reason.to_owned()));
                }
                Named::Schema | Named::Other => {}
            }
        }
        Ok(News::Some { changes, guard })
    }

    /// Our revision for etcd's; 0 stays what it is: nothing.
    pub(super) fn revision(&self, own: i64) -> u64 {
        u64::try_from(own).ok().filter(|own| *own > 0).map_or(0, |own| self.schema.base + own)
    }

    /// etcd's revision for ours; one that this store has never given is none of etcd's.
    pub(super) fn own_revision(&self, revision: u64) -> i64 {
        match revision {
            0 => 0,
            revision => {
                revision.checked_sub(self.schema.base).and_then(|own| i64::try_from(own).ok()).unwrap_or(-1)
            }
        }
    }
}

impl Schema {
    fn text(&self) -> String {
        serde_json::to_string(self).expect("plain values")
    }
}

/// Makes the schema where there is none; another server may be faster.
async fn initialize(client: &mut Client, keys: &Keys) -> Result<(), StoreError> {
    let options = GetOptions::new().with_prefix().with_count_only();
    if limited(client.get(keys.records(), Some(options))).await?.count() > 0 {
        return Err(StoreError::Moved(format!(
            "{} has records without a schema: its key was deleted, or this is not ferrule's prefix; choose another, or \
             remove what is there",
            keys.prefix()
        )));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let schema = Schema {
        version: schema::VERSION,
        // A store that was emptied gives greater revisions than before: etcd makes no change in a microsecond.
        base: u64::try_from(now).unwrap_or_default(),
        id: uuid::Uuid::new_v4().to_string(),
        mark: None,
    };
    let absent = Compare::create_revision(keys.schema(), CompareOp::Equal, 0);
    let put = TxnOp::put(keys.schema(), schema.text(), None);
    limited(client.txn(Txn::new().when([absent]).and_then([put]))).await?;
    Ok(())
}

/// Waits for an answer of etcd, but not for ever.
pub(super) async fn limited<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
    match timeout(ANSWER_LIMIT, answer).await {
        Ok(answer) => answer.map_err(|error| refusal(&error)),
        Err(_) => Err(StoreError::Unavailable(format!("no answer within {} s", ANSWER_LIMIT.as_secs()))),
    }
}

/// Tells an etcd that is away from one that will not have us.
fn refusal(error: &Error) -> StoreError {
    let text = match error {
        Error::GRpcStatus(status) => status.message().to_owned(),
        error => error.to_string(),
    };
    let refused = match error {
        Error::GRpcStatus(status) => REFUSALS.contains(&(status.code() as i32)),
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => true,
        _ => false,
    };
    if refused {
        StoreError::failed("etcd refuses this server", std::io::Error::other(text))
    } else {
        StoreError::Unavailable(text)
    }
}

/// gRPC's INVALID_ARGUMENT (also a wrong password), PERMISSION_DENIED, UNAUTHENTICATED.
const REFUSALS: [i32; 3] = [3, 7, 16];
/// An answer takes milliseconds; an election, one to two seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// Between attempts to connect.
const AGAIN: Duration = Duration::from_millis(500);
const BEAT: Duration = Duration::from_secs(2);
/// Heartbeats that may find a guard which the watch has not told of.
const BEHIND_MAX: u32 = 2;
const ATTEMPTS: u32 = 8;
/// Keys in one answer, which may have 4 MiB: where they are large, fewer are asked for. etcd keeps none over 1.5 MiB.
const PAGE: i64 = 256;
/// gRPC's OUT_OF_RANGE, which also is the client's own for an answer that is too large.
const TOO_LARGE: i32 = 11;
