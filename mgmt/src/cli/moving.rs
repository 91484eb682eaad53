//! `ferrule move metadata`: from the state folder's file to etcd and back, without a server.

use std::path::Path;

use clap::{Args, Subcommand};

use super::failure::Failure;
use crate::metadata::transfer::{Movable, Transfer};
use crate::metadata::{Embedded, Etcd, EtcdArgs, Location, StoreError};
use crate::serve::files;

/// Nouns of `move`.
#[derive(Debug, Subcommand)]
pub(super) enum Move {
    /// Move all metadata to another store
    #[command(after_help = HELP)]
    Metadata(MoveMetadata),
}

/// From where to where.
#[derive(Args, Debug)]
pub(super) struct MoveMetadata {
    /// Where it is: a state folder, or etcd://HOST:PORT[,HOST:PORT…]/PREFIX
    #[arg(long, value_name = "STATE|URL", value_parser = Location::parse)]
    from: Location,
    /// Where it shall be; a state folder is made where there is none
    #[arg(long, value_name = "STATE|URL", value_parser = Location::parse)]
    to: Location,
    /// Throw away what the target holds
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    etcd: EtcdArgs,
}

impl Move {
    /// Moves; returns what is to be said.
    pub(super) fn run(self) -> Result<String, Failure> {
        let Self::Metadata(asked) = self;
        let what = format!("{} to {}", asked.from, asked.to);
        asked.run().map_err(|error| {
            let reason = super::chain(&error);
            match error.may_pass() {
                true => Failure::Unavailable { what, reason },
                false => Failure::Wrong { what, reason },
            }
        })
    }
}

impl MoveMetadata {
    fn run(self) -> Result<String, StoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| StoreError::Failed {
            context: "a runtime cannot be made".to_owned(),
            source: source.into(),
        })?;
        // A place that is not there holds nothing to be moved.
        if let Location::File(path) = &self.from
            && !path.exists()
        {
            return Err(StoreError::Moved(format!("{} is not there", path.display())));
        }
        if let Location::File(path) = &self.to {
            make_folder_of(path)?;
        }
        let (from_name, to_name) = (name_of(&self.from), name_of(&self.to));
        if from_name == to_name {
            return Err(StoreError::Moved("both are the same place".to_owned()));
        }
        runtime.block_on(async {
            let from = open(&self.from, &self.etcd).await?;
            let to = open(&self.to, &self.etcd).await?;
            let transfer = Transfer {
                from: (from.as_ref(), from_name.clone()),
                to: (to.as_ref(), to_name.clone()),
                replace: self.replace,
            };
            let count = transfer.run().await?;
            let next = match &self.to {
                Location::File(_) => "without --metadata-store".to_owned(),
                Location::Etcd(location) => format!("with --metadata-store {location}"),
            };
            Ok(format!(
                "{count} records are in {to_name}; {from_name} is not used any more\nStart servers {next}\n"
            ))
        })
    }
}

async fn open(location: &Location, access: &EtcdArgs) -> Result<Box<dyn Movable>, StoreError> {
    match location {
        Location::File(path) => Ok(Box::new(Embedded::open_any(path)?)),
        Location::Etcd(location) => {
            let etcd = Etcd::new(location.clone(), access.clone())?;
            etcd.open_any().await?;
            Ok(Box::new(etcd))
        }
    }
}

/// Makes the state folder of a file, as a server would, where there is none.
fn make_folder_of(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    files::make_folder(folder)
        .map_err(|error| StoreError::Failed { context: folder.display().to_string(), source: error.into() })
}

/// The place's name in marks, the same however it was typed.
fn name_of(location: &Location) -> String {
    if let Location::File(path) = location
        && let (Some(folder), Some(file)) = (path.parent(), path.file_name())
        && let Ok(folder) = std::path::absolute(folder)
    {
        return folder.canonicalize().unwrap_or(folder).join(file).display().to_string();
    }
    location.to_string()
}

const HELP: &str = "\
Stop the server that uses a state folder before it is moved from or to; its volumes are in the pool and stay there.
Servers on an etcd that is moved from refuse changes from then on. A move that was cut off leaves at most one of the two
stores in use, each says which when a server is started with it, and the same command again goes to the end.

Example:
  ferrule move metadata --from /var/lib/ferrule --to etcd://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379";

#[cfg(test)]
mod test {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::serve::files::test::Folder;

    fn moving(from: &str, to: &str) -> Result<String, Failure> {
        let place = |text| Location::parse(text).unwrap();
        let etcd = EtcdArgs::default();
        Move::Metadata(MoveMetadata { from: place(from), to: place(to), replace: false, etcd }).run()
    }

    #[test]
    fn a_target_that_is_not_there_yet_becomes_a_state_folder() {
        let folder = Folder::new("moving");
        let path = |name: &str| folder.path().join(name).display().to_string();
        drop(Embedded::open(&folder.path().join("metadata.redb")).unwrap());
        moving(&path(""), &path("a/state")).unwrap();
        let mode = |name: &str| std::fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("a/state"), mode("a/state/metadata.redb")), (0o700, 0o600));
        let failure = moving(&path("none"), &path("b/state")).unwrap_err();
        assert!(failure.to_string().contains("is not there"), "{failure}");
        assert!(!folder.path().join("b").exists(), "nothing was to be moved there");
    }

    #[test]
    fn a_store_that_does_not_answer_has_the_exit_code_of_that() {
        let folder = Folder::new("away");
        drop(Embedded::open(&folder.path().join("metadata.redb")).unwrap());
        let failure = moving(&folder.path().display().to_string(), "etcd://127.0.0.1:1").unwrap_err();
        assert_eq!(failure.exit_code(), 3, "{failure}");
        assert!(failure.to_string().contains("127.0.0.1:1"), "{failure}");
    }
}
