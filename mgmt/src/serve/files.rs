//! The state folder's files: private from their first byte, replaced whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes `path` a folder that only its owner enters.
///
/// A folder that exists already is narrowed only if it is empty or holds `marker`: whoever passes `/tmp` by mistake
/// shall not find it closed.
pub(crate) fn claim_folder(path: &Path, marker: &str) -> io::Result<()> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is no folder"));
        }
        Err(error) => return Err(error),
    }
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let foreign = fs::read_dir(path)?.next().is_some() && !path.join(marker).exists();
    if foreign {
        let hint = "it is open to others and holds other files; name an empty or a new folder";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, hint));
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Makes a folder inside the state folder.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens a file for reading and writing, made with mode 0600 where there is none.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Puts `content` at `path`: whoever looks sees the old file or the new one, also after a power cut.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?.to_owned();
    name.push(".new");
    let fresh = folder.join(name);
    // What a crash left behind may have any mode: begin anew.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
pub(crate) mod test {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A folder of one test, removed when dropped.
    #[derive(Debug)]
    pub(crate) struct Folder(PathBuf);

    impl Folder {
        /// A new folder.
        pub(crate) fn new(name: &str) -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("ferrule-{name}-{}-{number}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// Where it is.
        pub(crate) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_state_folder_is_closed_to_others() {
        let folder = Folder::new("claim");
        let state = folder.path().join("a/state");
        claim_folder(&state, "marker").unwrap();
        assert_eq!(mode(&state), 0o700);
        fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
        claim_folder(&state, "marker").unwrap();
        assert_eq!(mode(&state), 0o700);
    }

    #[test]
    fn a_folder_of_someone_else_is_left_alone() {
        let folder = Folder::new("foreign");
        let path = folder.path().join("x");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(path.join("file"), "").unwrap();
        assert_eq!(claim_folder(&path, "marker").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(mode(&path), 0o755);
        fs::write(path.join("marker"), "").unwrap();
        claim_folder(&path, "marker").unwrap();
    }

    #[test]
    fn a_replaced_file_is_whole_and_private() {
        let folder = Folder::new("replace");
        let path = folder.path().join("token");
        fs::write(folder.path().join("token.new"), "left by a crash").unwrap();
        replace(&path, b"one", 0o600).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
