//! The log: to standard error, for people or for machines, and to files of bounded size in the state folder.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::MakeWriter;

use super::options::LogFormat;

/// Starts logging; later calls have no effect.
pub(crate) fn start(format: LogFormat, level: tracing::Level, folder: &Path) {
    let files = Files { folder: folder.to_owned(), open: Mutex::new(None) };
    let log = fmt().with_writer(files).with_ansi(false).with_max_level(LevelFilter::from_level(level));
    let outcome = match format {
        LogFormat::Human => log.with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    // Only a second call fails, and then there is a log already.
    drop(outcome);
}

/// Standard error, and the newest of a few files.
struct Files {
    folder: PathBuf,
    open: Mutex<Option<(File, u64)>>,
}

/// One line on its way.
struct Line<'a>(&'a Files);

impl<'a> MakeWriter<'a> for Files {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(self)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A file that cannot be written, on a full disk perhaps, does not keep the line from standard error. Neither failure
        // is given back: it would be told on standard error, with a panic where that fails.
        drop(self.0.append(bytes));
        drop(io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Files {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_some_and(|(_, size)| *size >= FILE_BYTES_MAX) {
            *open = None;
            self.rotate()?;
        }
        if open.is_none() {
            let path = self.path(0);
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            let size = file.metadata()?.len();
            *open = Some((file, size));
        }
        if let Some((file, size)) = open.as_mut() {
            file.write_all(bytes)?;
            *size += bytes.len() as u64;
        }
        Ok(())
    }

    fn rotate(&self) -> io::Result<()> {
        for number in (0..FILES_MAX - 1).rev() {
            match std::fs::rename(self.path(number), self.path(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn path(&self, number: u32) -> PathBuf {
        match number {
            0 => self.folder.join("ferrule.log"),
            number => self.folder.join(format!("ferrule.log.{number}")),
        }
    }
}

const FILE_BYTES_MAX: u64 = 8 << 20;
const FILES_MAX: u32 = 4;

#[cfg(test)]
mod test {
    use super::super::files::test::Folder;
    use super::*;

    #[test]
    fn the_log_keeps_few_files_of_bounded_size() {
        let folder = Folder::new("log");
        let files = Files { folder: folder.path().to_owned(), open: Mutex::new(None) };
        let line = vec![b'x'; 1 << 20];
        for _ in 0..50 {
            files.append(&line).unwrap();
        }
        let mut sizes: Vec<u64> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [2 << 20, 8 << 20, 8 << 20, 8 << 20]);
    }
}
