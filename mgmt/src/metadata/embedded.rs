//! The store of a single node: one redb file in the state folder, written from a thread of its own.

use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{
    BackendError, Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable,
    StorageBackend as _, TableDefinition, WriteTransaction,
};

use super::transfer::{Mark, Movable};
use super::{Change, Expect, Kind, Loaded, Pending, Record, Store, StoreError, schema};
use crate::serve::files;

/// A redb file.
#[derive(Clone)]
pub(crate) struct Embedded {
    database: Arc<Database>,
}

impl Embedded {
    /// Opens the file, makes it where there is none, and refuses one of a later schema or one that was moved.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Self::open_any(path)?;
        match store.read_mark().map_err(|failure| failure.into_error("the metadata cannot be opened"))? {
            Some(mark) => Err(mark.refusal(&path.display().to_string())),
            None => Ok(store),
        }
    }

    /// How far a move of the file has come, if there is one and it can be read.
    pub(crate) fn mark_of(path: &Path) -> Option<Mark> {
        path.exists().then(|| Self::open_any(path).ok()?.read_mark().ok()?).flatten()
    }

    /// Opens the file, makes it where there is none, and refuses one of a later schema.
    pub(crate) fn open_any(path: &Path) -> Result<Self, StoreError> {
        let context = || format!("{}: the metadata cannot be opened", path.display());
        let file = files::open_private(path).map_err(|error| StoreError::failed(context(), error))?;
        let create = |file| {
            let backend = FileBackend::new(file)?;
            begin_anew(&backend)?;
            Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend)
        };
        let database = create(file).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::failed(
                format!("{}: another server uses this state folder", path.display()),
                error,
            ),
            error => StoreError::failed(context(), error),
        })?;
        let store = Self { database: Arc::new(database) };
        store.settle_schema().map_err(|failure| failure.into_error(&context()))?;
        Ok(store)
    }

    fn settle_schema(&self) -> Result<(), Failure> {
        let transaction = self.database.begin_write()?;
        let found = {
            let mut schema = transaction.open_table(SCHEMA)?;
            let found = schema.get(SCHEMA_VERSION_KEY)?.map(|version| version.value());
            if found.is_none() {
                schema.insert(SCHEMA_VERSION_KEY, schema::VERSION)?;
            }
            transaction.open_table(RECORDS)?;
            transaction.open_table(MARKS)?;
            found
        };
        if let Some(found) = found.filter(|found| *found != schema::VERSION) {
            let records = read_all(&transaction.open_table(RECORDS)?)?;
            let changes = schema::upgrade(found, &records)?;
            apply(&transaction, &changes)?;
            transaction.open_table(SCHEMA)?.insert(SCHEMA_VERSION_KEY, schema::VERSION)?;
            tracing::info!(found, now = schema::VERSION, "brought the metadata up to date");
        }
        Ok(transaction.commit()?)
    }

    fn load_now(&self) -> Result<Loaded, Failure> {
        let transaction = self.database.begin_read()?;
        let records = read_all(&transaction.open_table(RECORDS)?)?;
        let revision = transaction.open_table(SCHEMA)?.get(REVISION_KEY)?.map_or(0, |last| last.value());
        Ok(Loaded { records, revision, guard: 0 })
    }

    fn commit_now(&self, changes: &[Change]) -> Result<u64, Failure> {
        self.write(|transaction| apply(transaction, changes))
    }

    fn write<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    fn read_mark(&self) -> Result<Option<Mark>, Failure> {
        let transaction = self.database.begin_read()?;
        let marks = transaction.open_table(MARKS)?;
        let text = marks.get(MARK_KEY)?;
        Ok(text.map(|text| Mark::parse(text.value())))
    }
}

/// Empties a file that a start was cut off from making: redb takes an empty one, and no other without its magic number.
fn begin_anew(backend: &FileBackend) -> Result<(), BackendError> {
    if !is_unfinished(backend)? {
        return Ok(());
    }
    // It may be another server's that is making it right now; redb finds out whose it is.
    if backend.try_lock_range(Bound::Unbounded, Bound::Unbounded)? {
        if is_unfinished(backend)? {
            tracing::warn!("the first start was cut off while it made the metadata's file; making it anew");
            backend.set_len(0)?;
        }
        backend.unlock_range(Bound::Unbounded, Bound::Unbounded)?;
    }
    Ok(())
}

/// Whether a file has its size, and perhaps its header, but no magic number and nothing behind the header. redb writes the
/// magic number last, when all else is safe. A file that has lost its header has content behind it, and is left alone.
fn is_unfinished(backend: &FileBackend) -> io::Result<bool> {
    let len = backend.len()?;
    if !(HEADER_BYTES..=UNFINISHED_BYTES_MAX).contains(&len) {
        return Ok(false);
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    backend.read(0, &mut bytes)?;
    let (header, rest) = bytes.split_at(HEADER_BYTES as usize);
    Ok(header.iter().take(MAGIC_BYTES).chain(rest).all(|byte| *byte == 0))
}

/// Makes `changes`, or fails at the first whose expectation is not met; returns their revision.
fn apply(transaction: &WriteTransaction, changes: &[Change]) -> Result<u64, Failure> {
    let revision = {
        let mut schema = transaction.open_table(SCHEMA)?;
        let revision = schema.get(REVISION_KEY)?.map_or(0, |last| last.value()) + 1;
        schema.insert(REVISION_KEY, revision)?;
        revision
    };
    let mut records = transaction.open_table(RECORDS)?;
    for change in changes {
        let key = format!("{}/{}", change.kind, change.key);
        let found = records.get(key.as_str())?.map(|record| record.value().0);
        if !change.expect.met_by(found) {
            return Err(StoreError::Conflict { kind: change.kind, key: change.key.clone() }.into());
        }
        match &change.value {
            Some(value) => drop(records.insert(key.as_str(), (revision, value.as_slice()))?),
            None => drop(records.remove(key.as_str())?),
        }
    }
    Ok(revision)
}

fn read_all(table: &impl ReadableTable<&'static str, (u64, &'static [u8])>) -> Result<Vec<Record>, Failure> {
    let mut found = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        let (revision, text) = value.value();
        // A kind that this version does not know belongs to a later one of the same schema.
        if let Some((kind, key)) = split_key(key.value()) {
            found.push(Record { kind, key: key.to_owned(), revision, value: text.to_vec() });
        }
    }
    Ok(found)
}

impl Store for Embedded {
    fn load(&self) -> Pending<'_, Loaded> {
        let store = self.clone();
        Box::pin(elsewhere("read the metadata", move || store.load_now()))
    }

    /// Nobody else can change the file, and this server makes changes that need a guard one after the other.
    fn commit(&self, changes: Vec<Change>, _: Option<u64>) -> Pending<'_, u64> {
        let store = self.clone();
        Box::pin(elsewhere("write the metadata", move || store.commit_now(&changes)))
    }
}

impl Movable for Embedded {
    fn mark(&self) -> Pending<'_, Option<Mark>> {
        let store = self.clone();
        Box::pin(elsewhere("read the metadata", move || store.read_mark()))
    }

    /// Only this process can write the file while it is open: nothing has changed since any revision.
    fn set_mark(&self, mark: Option<Mark>, _: Option<u64>) -> Pending<'_, ()> {
        let store = self.clone();
        let write = move |transaction: &WriteTransaction| {
            let mut marks = transaction.open_table(MARKS)?;
            match &mark {
                Some(mark) => drop(marks.insert(MARK_KEY, mark.text().as_str())?),
                None => drop(marks.remove(MARK_KEY)?),
            }
            Ok(())
        };
        Box::pin(elsewhere("write the metadata", move || store.write(write)))
    }

    fn raise(&self, revision: u64) -> Pending<'_, ()> {
        let store = self.clone();
        let write = move |transaction: &WriteTransaction| {
            let mut schema = transaction.open_table(SCHEMA)?;
            let last = schema.get(REVISION_KEY)?.map_or(0, |last| last.value());
            schema.insert(REVISION_KEY, last.max(revision))?;
            Ok(())
        };
        Box::pin(elsewhere("write the metadata", move || store.write(write)))
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").finish_non_exhaustive()
    }
}

impl Expect {
    fn met_by(self, revision: Option<u64>) -> bool {
        match self {
            Self::Anything => true,
            Self::Absent => revision.is_none(),
            Self::Revision(expected) => revision == Some(expected),
        }
    }
}

/// Either of the two kinds of failure inside a transaction.
enum Failure {
    Store(StoreError),
    File(redb::Error),
}

impl Failure {
    fn into_error(self, context: &str) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::File(error) => StoreError::failed(context, error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::File(error.into())
    }
}

/// Runs a transaction on a thread where it may wait for the disk.
async fn elsewhere<T: Send + 'static>(
    doing: &'static str,
    transaction: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(transaction).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(failure)) => Err(failure.into_error(&format!("cannot {doing}"))),
        Err(error) => Err(StoreError::failed(format!("cannot {doing}"), error)),
    }
}

fn split_key(key: &str) -> Option<(Kind, &str)> {
    let (kind, key) = key.split_once('/')?;
    Some((Kind::parse(kind)?, key))
}

/// Numbers of the file as a whole: the schema's version, the last revision.
const SCHEMA: TableDefinition<'_, &str, u64> = TableDefinition::new("schema");
/// `<kind>/<key>` to revision and JSON text.
const RECORDS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("records");
/// Whether the file was moved, or is being written by a move.
const MARKS: TableDefinition<'_, &str, &str> = TableDefinition::new("marks");
const SCHEMA_VERSION_KEY: &str = "version";
const REVISION_KEY: &str = "revision";
const MARK_KEY: &str = "move";
const CACHE_BYTES: usize = 4 << 20;
/// Of redb's file: its magic number, the page that its header is in, and more than an empty one has.
const MAGIC_BYTES: usize = 9;
const HEADER_BYTES: u64 = 4096;
const UNFINISHED_BYTES_MAX: u64 = 16 << 20;

#[cfg(test)]
mod test {
    use super::*;
    use crate::serve::files::test::Folder;

    fn change(key: &str, expect: Expect, value: Option<&str>) -> Change {
        let value = value.map(|text| text.as_bytes().to_vec());
        Change { kind: Kind::Project, key: key.to_owned(), expect, value }
    }

    #[test]
    fn changes_are_made_whole_or_not_at_all_and_survive_a_restart() {
        let folder = Folder::new("embedded");
        let path = folder.path().join("metadata.redb");
        {
            let store = Embedded::open(&path).unwrap();
            assert_eq!(store.commit_now(&[change("a", Expect::Absent, Some("1"))]).ok(), Some(1));
            let torn = [change("b", Expect::Absent, Some("2")), change("a", Expect::Absent, Some("2"))];
            assert!(matches!(store.commit_now(&torn), Err(Failure::Store(StoreError::Conflict { .. }))));
            assert_eq!(store.commit_now(&[change("a", Expect::Revision(1), Some("3"))]).ok(), Some(2));
            assert!(store.commit_now(&[change("a", Expect::Revision(1), None)]).is_err());
        }
        let store = Embedded::open(&path).unwrap();
        let records = store.load_now().ok().unwrap();
        let expected = Record { kind: Kind::Project, key: "a".to_owned(), revision: 2, value: b"3".to_vec() };
        assert_eq!((records.records, records.revision), (vec![expected], 2));
    }

    #[test]
    fn a_file_of_a_later_schema_is_refused() {
        let folder = Folder::new("schema");
        let path = folder.path().join("metadata.redb");
        {
            let store = Embedded::open(&path).unwrap();
            let transaction = store.database.begin_write().unwrap();
            transaction.open_table(SCHEMA).unwrap().insert(SCHEMA_VERSION_KEY, schema::VERSION + 1).unwrap();
            transaction.commit().unwrap();
        }
        let refused = Embedded::open(&path).unwrap_err();
        let later = schema::VERSION + 1;
        assert!(matches!(refused, StoreError::Schema { found, known: schema::VERSION } if found == later));
    }

    #[test]
    fn files_of_earlier_versions_are_taken_over_with_all_they_hold() {
        for version in [1, 2] {
            let folder = Folder::new("upgrade");
            let path = folder.path().join("metadata.redb");
            let cluster = r#"{"uuid":"c","node_uuid":"n"}"#;
            {
                let store = Embedded::open(&path).unwrap();
                let cluster = Change { kind: Kind::Cluster, ..change("", Expect::Absent, Some(cluster)) };
                store.commit_now(&[change("a", Expect::Absent, Some("1")), cluster]).ok().unwrap();
                let transaction = store.database.begin_write().unwrap();
                transaction.open_table(SCHEMA).unwrap().insert(SCHEMA_VERSION_KEY, version).unwrap();
                transaction.delete_table(MARKS).unwrap();
                transaction.commit().unwrap();
            }
            for _ in 0..2 {
                let store = Embedded::open(&path).unwrap();
                let records = store.load_now().ok().unwrap().records;
                let found: Vec<(Kind, &str)> =
                    records.iter().map(|record| (record.kind, record.key.as_str())).collect();
                assert_eq!(found, [(Kind::Cluster, "n"), (Kind::Project, "a")]);
            }
        }
    }

    #[test]
    fn a_first_start_that_was_cut_off_costs_nothing() {
        let folder = Folder::new("cut-off");
        let path = folder.path().join("metadata.redb");
        let whole = {
            let path = folder.path().join("whole");
            drop(Embedded::open(&path).unwrap());
            std::fs::read(&path).unwrap()
        };
        // A file has its size first, then its header, and last what tells that it is whole.
        let mut headed = vec![0; whole.len()];
        headed[9..320].copy_from_slice(&whole[9..320]);
        for cut in [vec![0; whole.len()], headed] {
            std::fs::write(&path, cut).unwrap();
            let store = Embedded::open(&path).unwrap();
            store.commit_now(&[change("a", Expect::Absent, Some("1"))]).ok().unwrap();
            drop(store);
            assert_eq!(Embedded::open(&path).unwrap().load_now().ok().unwrap().records.len(), 1);
        }
    }

    #[test]
    fn a_damaged_file_is_kept() {
        let folder = Folder::new("damaged");
        let path = folder.path().join("metadata.redb");
        {
            let store = Embedded::open(&path).unwrap();
            store.commit_now(&[change("a", Expect::Absent, Some("1"))]).ok().unwrap();
        }
        let mut damaged = std::fs::read(&path).unwrap();
        damaged[..4096].fill(0);
        std::fs::write(&path, &damaged).unwrap();
        assert!(Embedded::open(&path).is_err());
        assert!(std::fs::read(&path).unwrap() == damaged, "what may be saved by hand is as it was");
    }

    #[test]
    fn a_second_server_on_the_same_file_is_refused() {
        let folder = Folder::new("second");
        let path = folder.path().join("metadata.redb");
        let _first = Embedded::open(&path).unwrap();
        let error = Embedded::open(&path).unwrap_err();
        assert!(error.to_string().contains("another server"), "{error}");
    }
}
