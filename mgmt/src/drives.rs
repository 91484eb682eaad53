//! Drives that joined the pool while it was served: noted in the state folder, so that the next start names them too.

use std::io;
use std::path::{Path, PathBuf};

use dataplane::PoolDrive;
use serde::{Deserialize, Serialize};

use crate::serve::files::replace;

/// The note of one state folder.
#[derive(Clone, Debug)]
pub(crate) struct AddedDrives {
    file: PathBuf,
}

/// What is noted.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Noted {
    /// The first drive of the pool that they joined: another pool does not get them.
    pool: String,
    added: Vec<String>,
}

impl AddedDrives {
    /// The note in `file`, which need not be there.
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Names the noted drives behind those of `pool`, unless they are named already or joined another pool.
    ///
    /// # Errors
    /// If the note cannot be read.
    pub(crate) fn complete(&self, pool: &mut Vec<PoolDrive>) -> io::Result<()> {
        let noted = self.read()?;
        if pool.first().is_none_or(|first| first.path != Path::new(&noted.pool)) {
            return Ok(());
        }
        for path in noted.added.into_iter().map(PathBuf::from) {
            if pool.iter().all(|drive| drive.path != path) {
                pool.push(PoolDrive { path, size_bytes: None });
            }
        }
        Ok(())
    }

    /// Notes that the drive at `path` joined the pool that begins with the drive at `first`.
    ///
    /// # Errors
    /// If the note cannot be read or written.
    pub(crate) fn note(&self, first: &str, path: &str) -> io::Result<()> {
        let mut noted = self.read()?;
        if noted.pool != first {
            noted = Noted { pool: first.to_owned(), added: Vec::new() };
        }
        noted.added.push(path.to_owned());
        replace(&self.file, &serde_json::to_vec_pretty(&noted)?, 0o600)
    }

    fn read(&self) -> io::Result<Noted> {
        match std::fs::read(&self.file) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Noted::default()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn drive(path: &str) -> PoolDrive {
        PoolDrive { path: path.into(), size_bytes: None }
    }

    #[test]
    fn what_joined_a_pool_is_named_once_at_its_next_start_and_for_no_other_pool() {
        let folder = crate::serve::files::test::Folder::new("drives");
        let added = AddedDrives::new(folder.path().join("drives.json"));
        let completed = |paths: &[&str]| {
            let mut pool: Vec<PoolDrive> = paths.iter().map(|path| drive(path)).collect();
            added.complete(&mut pool).unwrap();
            pool.into_iter().map(|drive| drive.path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(completed(&["/dev/a"]), ["/dev/a"]);
        added.note("/dev/a", "/dev/b").unwrap();
        added.note("/dev/a", "/dev/c").unwrap();
        assert_eq!(completed(&["/dev/a"]), ["/dev/a", "/dev/b", "/dev/c"]);
        assert_eq!(completed(&["/dev/a", "/dev/b"]), ["/dev/a", "/dev/b", "/dev/c"]);
        assert_eq!(completed(&["/dev/x"]), ["/dev/x"]);
        assert_eq!(completed(&[]), [""; 0]);
        added.note("/dev/x", "/dev/y").unwrap();
        assert_eq!(completed(&["/dev/x"]), ["/dev/x", "/dev/y"]);
        assert_eq!(completed(&["/dev/a"]), ["/dev/a"]);
        std::fs::write(folder.path().join("drives.json"), "{").unwrap();
        assert!(added.complete(&mut vec![drive("/dev/x")]).is_err(), "a note that cannot be read is told");
    }
}
