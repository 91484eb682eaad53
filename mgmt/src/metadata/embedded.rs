//! The store of a single node: one redb file in the state folder, written from a thread of its own.

use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Change, Expect, Kind, Pending, Record, Store, StoreError};
use crate::serve::files;

/// A redb file.
#[derive(Clone)]
pub(crate) struct Embedded {
    database: Arc<Database>,
}

impl Embedded {
    /// Opens the file, makes it where there is none, and refuses one of another schema.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let context = || format!("{}: the metadata cannot be opened", path.display());
        let file = files::open_private(path).map_err(|error| failed(context(), error))?;
        let create = |file| {
            let backend = FileBackend::new(file)?;
            Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend)
        };
        let database = create(file).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                failed(format!("{}: another server uses this state folder", path.display()), error)
            }
            error => failed(context(), error),
        })?;
        let store = Self { database: Arc::new(database) };
        store.settle_schema().map_err(|error| match error {
            Failure::Store(error) => error,
            Failure::File(error) => failed(context(), error),
        })?;
        Ok(store)
    }

    fn settle_schema(&self) -> Result<(), Failure> {
        let transaction = self.database.begin_write()?;
        {
            let mut schema = transaction.open_table(SCHEMA)?;
            let found = schema.get(SCHEMA_VERSION_KEY)?.map(|version| version.value());
            match found {
                // Version 1 has fewer kinds of records, in the same form.
                None | Some(1) => drop(schema.insert(SCHEMA_VERSION_KEY, SCHEMA_VERSION)?),
                Some(SCHEMA_VERSION) => {}
                Some(found) => return Err(StoreError::Schema { found, known: SCHEMA_VERSION }.into()),
            }
            transaction.open_table(RECORDS)?;
        }
        Ok(transaction.commit()?)
    }

    fn load_now(&self) -> Result<Vec<Record>, Failure> {
        let transaction = self.database.begin_read()?;
        let records = transaction.open_table(RECORDS)?;
        let mut found = Vec::new();
        for entry in records.iter()? {
            let (key, value) = entry?;
            let (revision, text) = value.value();
            // A kind that this version does not know belongs to a later one of the same schema.
            if let Some((kind, key)) = split_key(key.value()) {
                found.push(Record { kind, key: key.to_owned(), revision, value: text.to_vec() });
            }
        }
        Ok(found)
    }

    fn commit_now(&self, changes: &[Change]) -> Result<u64, Failure> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let revision = {
            let mut schema = transaction.open_table(SCHEMA)?;
            let revision = schema.get(REVISION_KEY)?.map_or(0, |last| last.value()) + 1;
            schema.insert(REVISION_KEY, revision)?;
            revision
        };
        {
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
        }
        transaction.commit()?;
        Ok(revision)
    }
}

impl Store for Embedded {
    fn load(&self) -> Pending<'_, Vec<Record>> {
        let store = self.clone();
        Box::pin(elsewhere("read the metadata", move || store.load_now()))
    }

    fn commit(&self, changes: Vec<Change>) -> Pending<'_, u64> {
        let store = self.clone();
        Box::pin(elsewhere("write the metadata", move || store.commit_now(&changes)))
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
        Ok(Err(Failure::Store(error))) => Err(error),
        Ok(Err(Failure::File(error))) => Err(failed(format!("cannot {doing}"), error)),
        Err(error) => Err(failed(format!("cannot {doing}"), error)),
    }
}

fn failed(context: String, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Failed { context, source: Box::new(source) }
}

fn split_key(key: &str) -> Option<(Kind, &str)> {
    let (kind, key) = key.split_once('/')?;
    Some((Kind::parse(kind)?, key))
}

/// Numbers of the file as a whole: the schema's version, the last revision.
const SCHEMA: TableDefinition<'_, &str, u64> = TableDefinition::new("schema");
/// `<kind>/<key>` to revision and JSON text.
const RECORDS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("records");
const SCHEMA_VERSION_KEY: &str = "version";
const REVISION_KEY: &str = "revision";
/// Version 1: kinds cluster, credential, project. Version 2: all kinds of [`Kind`].
const SCHEMA_VERSION: u64 = 2;
const CACHE_BYTES: usize = 4 << 20;

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
        assert_eq!(records, [expected]);
    }

    #[test]
    fn a_file_of_a_later_schema_is_refused() {
        let folder = Folder::new("schema");
        let path = folder.path().join("metadata.redb");
        {
            let store = Embedded::open(&path).unwrap();
            let transaction = store.database.begin_write().unwrap();
            transaction.open_table(SCHEMA).unwrap().insert(SCHEMA_VERSION_KEY, 3).unwrap();
            transaction.commit().unwrap();
        }
        assert!(matches!(Embedded::open(&path), Err(StoreError::Schema { found: 3, known: 2 })));
    }

    #[test]
    fn a_file_of_version_1_is_taken_over_with_all_it_holds() {
        let folder = Folder::new("upgrade");
        let path = folder.path().join("metadata.redb");
        {
            let store = Embedded::open(&path).unwrap();
            store.commit_now(&[change("a", Expect::Absent, Some("1"))]).ok().unwrap();
            let transaction = store.database.begin_write().unwrap();
            transaction.open_table(SCHEMA).unwrap().insert(SCHEMA_VERSION_KEY, 1).unwrap();
            transaction.commit().unwrap();
        }
        for _ in 0..2 {
            let store = Embedded::open(&path).unwrap();
            assert_eq!(store.load_now().ok().unwrap().len(), 1);
        }
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
