//! `ferrule import volume`.
//!
//! While a volume is imported its access list has two entries: the host that carries the stream, and how many chunks are
//! safe. So nobody else can use it, an interrupted import is seen as such, and one request ends both.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::carrier::{Carrier, InOrder};
use super::changes::Changes;
use super::export::{READ_BYTES, describe};
use super::lookup::{Project, host_nqn, number, text, wrong};
use super::signals::Signals;
use super::{ImportVolume, PIPE, bar, image_failure};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output::{self, Shape, render};
use crate::image::{BLOCK_BYTES, Header, ImageError, Part, Reader};

/// Runs `import volume`.
pub(in crate::cli) async fn import(client: &Client, arguments: ImportVolume) -> Result<String, Failure> {
    let mut signals = Signals::take()?;
    let work = async {
        let mut source = Source::open(&arguments.file)?;
        let header = source.header().await?;
        let target = Target { project: Project { client }, header: &header, arguments: &arguments };
        target.run(&mut source).await
    };
    let volume = signals.guard(work).await?;
    render(&volume, client.settings.output, Shape::One(output::VOLUMES))
}

/// A volume that a stream is applied to.
struct Target<'a> {
    project: Project<'a>,
    header: &'a Header,
    arguments: &'a ImportVolume,
}

/// Where an import begins.
struct Begin {
    volume: Value,
    /// Chunks that are in the volume already.
    chunks: u64,
}

impl Target<'_> {
    async fn run(&self, source: &mut Source) -> Result<Value, Failure> {
        let name = &self.arguments.name;
        let begin = match self.project.volume_named(name).await? {
            None => self.create().await?,
            Some(volume) => match self.reopen(&volume).await? {
                Some(chunks) => Begin { volume, chunks },
                None if self.is_done(&volume).await? => return Ok(volume),
                None => self.take(volume).await?,
            },
        };
        let uuid = text(&begin.volume, "UUID").to_owned();
        self.fill(source, &begin).await?;
        if self.imported(&uuid).await?.is_none() {
            let description = description(&self.header.snapshot.uuid.to_string());
            self.project.take_snapshot(&uuid, self.snapshot_name(), &description).await?;
        }
        let acl = match self.arguments.acl.as_slice() {
            [] => json!([NOBODY]),
            hosts => json!(hosts),
        };
        self.project.update_volume(&uuid, json!({"acl": {"values": acl}}), None).await?;
        let volume = self.project.volume_named(name).await?;
        volume.ok_or_else(|| wrong(name, "the volume was deleted while it was imported".to_owned()))
    }

    /// Makes the volume of a full stream.
    async fn create(&self) -> Result<Begin, Failure> {
        if let Some(base) = &self.header.base {
            return Err(wrong(
                &self.arguments.name,
                format!(
                    "there is no such volume, and the stream has only what changed since snapshot {} ({}): import that \
                     first",
                    base.name, base.uuid
                ),
            ));
        }
        self.check_snapshot_name().await?;
        let volume = &self.header.volume;
        let compression = self.arguments.compression.unwrap_or(volume.compression);
        let body = json!({
            "name": self.arguments.name,
            "size": volume.size_bytes.to_string(),
            "acl": {"values": self.acl(0)},
            "compression": compression.to_string(),
            "replicaCount": 1,
            "sectorSize": volume.sector_bytes,
        });
        Ok(Begin { volume: self.project.create_volume(body).await?, chunks: 0 })
    }

    /// Chunks that an interrupted import of this stream has left in the volume; none if there was no such import.
    async fn reopen(&self, volume: &Value) -> Result<Option<u64>, Failure> {
        let entries = acl(volume);
        let Some(chunks) = entries.iter().find_map(|entry| entry.strip_prefix(PROGRESS)?.parse().ok()) else {
            return Ok(None);
        };
        let name = &self.arguments.name;
        if !entries.contains(&host_nqn(self.header.stream).as_str()) {
            let reason = "an import of another stream into this volume was interrupted: go on with that one by \
                          --resume, or delete the volume";
            return Err(wrong(name, reason.to_owned()));
        }
        if !self.arguments.resume {
            let reason =
                "an import of this stream was interrupted: go on with it by --resume, or delete the volume";
            return Err(wrong(name, reason.to_owned()));
        }
        Ok(Some(chunks))
    }

    /// True if a run that is gone on with had ended before.
    async fn is_done(&self, volume: &Value) -> Result<bool, Failure> {
        Ok(self.arguments.resume && self.imported(text(volume, "UUID")).await?.is_some())
    }

    /// The snapshot that keeps what this stream gives, if it is there.
    async fn imported(&self, volume_uuid: &str) -> Result<Option<Value>, Failure> {
        self.keeper(volume_uuid, &self.header.snapshot.uuid.to_string()).await
    }

    /// The snapshot of the volume that is the snapshot `uuid`, or was imported from it.
    async fn keeper(&self, volume_uuid: &str, uuid: &str) -> Result<Option<Value>, Failure> {
        let snapshots = self.project.snapshots_of(volume_uuid).await?;
        let description = description(uuid);
        let is_it = |one: &Value| text(one, "description") == description || text(one, "UUID") == uuid;
        Ok(snapshots.into_iter().find(is_it))
    }

    /// Takes a volume that is there: it must have the content that the stream builds on.
    async fn take(&self, volume: Value) -> Result<Begin, Failure> {
        let name = &self.arguments.name;
        let wanted = &self.header.volume;
        if text(&volume, "state") != "Available" {
            return Err(wrong(name, format!("the volume's state is {}", text(&volume, "state"))));
        }
        if number(&volume, "sectorSize")? != u64::from(wanted.sector_bytes) {
            let reason = format!(
                "the volume has sectors of {} bytes, the exported one of {}",
                volume["sectorSize"], wanted.sector_bytes
            );
            return Err(wrong(name, reason));
        }
        if acl(&volume) != [NOBODY] {
            let reason = format!(
                "hosts may use the volume, and would see it change: unmount it, and run `ferrule update volume --name \
                 {name} --acl {NOBODY}` first"
            );
            return Err(wrong(name, reason));
        }
        let uuid = text(&volume, "UUID").to_owned();
        let size_bytes = number(&volume, "size")?;
        let base = match &self.header.base {
            None if size_bytes != wanted.size_bytes => {
                let reason =
                    format!("the volume has {size_bytes} bytes, the exported one {}", wanted.size_bytes);
                return Err(wrong(name, reason));
            }
            None => None,
            Some(base) => match self.keeper(&uuid, &base.uuid.to_string()).await? {
                Some(snapshot) => Some(snapshot),
                None => {
                    let reason = format!(
                        "the stream builds on snapshot {} ({}), which was not imported into this volume",
                        base.name, base.uuid
                    );
                    return Err(wrong(name, reason));
                }
            },
        };
        self.check_snapshot_name().await?;
        self.check_content(&uuid, size_bytes, base.as_ref()).await?;
        let etag = text(&volume, "ETag").to_owned();
        // One request: an import that is gone on with takes the volume's size as it finds it.
        let mut body = json!({"acl": {"values": self.acl(0)}});
        if size_bytes != wanted.size_bytes {
            body["size"] = json!(wanted.size_bytes.to_string());
            body["Force"] = json!(size_bytes > wanted.size_bytes);
        }
        self.project.update_volume(&uuid, body, Some(etag)).await?;
        Ok(Begin { volume, chunks: 0 })
    }

    /// Refuses a volume that is not as its base, or, without one, not empty.
    async fn check_content(&self, uuid: &str, size_bytes: u64, base: Option<&Value>) -> Result<(), Failure> {
        let name = &self.arguments.name;
        let probe = format!("import-{}", self.header.stream);
        if let Some(left) = self.project.snapshot_named(&probe).await? {
            self.project.delete_snapshot(text(&left, "UUID")).await?;
        }
        let snapshot = self.project.take_snapshot(uuid, &probe, "taken to look for changes").await?;
        let snapshot = text(&snapshot, "UUID");
        let base_uuid = base.map(|base| text(base, "UUID"));
        let blocks = size_bytes / BLOCK_BYTES as u64;
        let mut changes = Changes::new(self.project.client, snapshot, base_uuid, 0, blocks);
        let first = changes.next_batch().await;
        self.project.delete_snapshot(snapshot).await?;
        match (first?.is_empty(), base) {
            (true, _) => Ok(()),
            (false, None) => {
                let reason =
                    "there is data in the volume: a full stream makes a volume, or fills an empty one";
                Err(wrong(name, reason.to_owned()))
            }
            (false, Some(base)) => {
                let base = text(base, "name");
                let reason = format!(
                    "the volume is not as its snapshot {base}, on which the stream builds: something was written since. \
                     `ferrule rollback volume --name {name} --source-snapshot-name {base}` throws that away"
                );
                Err(wrong(name, reason))
            }
        }
    }

    async fn check_snapshot_name(&self) -> Result<(), Failure> {
        let name = self.snapshot_name();
        match self.project.snapshot_named(name).await? {
            None => Ok(()),
            Some(_) => {
                let reason = "there is such a snapshot already: name another for what is imported with \
                              --snapshot-name NAME";
                Err(wrong(name, reason.to_owned()))
            }
        }
    }

    fn snapshot_name(&self) -> &str {
        self.arguments.snapshot_name.as_deref().unwrap_or(&self.header.snapshot.name)
    }

    /// The access list while so many chunks are safe.
    fn acl(&self, chunks: u64) -> [String; 2] {
        [host_nqn(self.header.stream), format!("{PROGRESS}{chunks}")]
    }

    /// Applies the stream, and tells how far it has come, also when it ends early.
    async fn fill(&self, source: &mut Source, begin: &Begin) -> Result<(), Failure> {
        let endpoint = self.arguments.nvme_endpoint.as_deref();
        let options = self.project.attachment(&begin.volume, self.header.stream, endpoint).await?;
        let carrier = Carrier::open(options).await?;
        if carrier.size_bytes != self.header.volume.size_bytes {
            let reason = format!(
                "the namespace has {} bytes, not {}",
                carrier.size_bytes, self.header.volume.size_bytes
            );
            return Err(wrong(&self.arguments.name, reason));
        }
        let mut filling = Filling {
            target: self,
            carrier,
            uuid: text(&begin.volume, "UUID"),
            chunks: InOrder::after(begin.chunks),
            told: begin.chunks,
            told_at: Instant::now(),
        };
        let outcome = filling.apply(source, begin.chunks).await;
        // Where the stream ends early, what was applied is kept for another run; the failure is told all the same.
        let settled = filling.tell().await;
        outcome.and(settled)
    }
}

/// A stream that is being applied.
struct Filling<'a> {
    target: &'a Target<'a>,
    carrier: Carrier,
    uuid: &'a str,
    chunks: InOrder,
    /// Chunks that are safe and told of.
    told: u64,
    told_at: Instant,
}

impl Filling<'_> {
    async fn apply(&mut self, source: &mut Source, skip: u64) -> Result<(), Failure> {
        let header = self.target.header;
        let bar = bar(header.blocks());
        bar.set_message(header.snapshot.name.clone());
        loop {
            let chunk = match source.next().await? {
                Part::Chunk(chunk) => chunk,
                Part::End(totals) if totals.chunks < skip => {
                    let reason = format!(
                        "{skip} chunks of {} were applied, it has {}",
                        describe(header),
                        totals.chunks
                    );
                    return Err(wrong(&self.target.arguments.file, reason));
                }
                Part::End(_) => {
                    self.chunks.catch_up(0).await?;
                    bar.finish_and_clear();
                    return Ok(());
                }
            };
            bar.set_position(chunk.next_block * BLOCK_BYTES as u64);
            if chunk.index < skip {
                continue;
            }
            let promise = self.carrier.apply(chunk).await;
            self.chunks.push(promise);
            self.chunks.catch_up(WRITES_MAX).await?;
            if self.chunks.done - self.told >= TELL_CHUNKS || self.told_at.elapsed() > TELL_EVERY {
                self.tell().await?;
            }
        }
    }

    /// Makes safe what was applied, and writes down how much that is.
    async fn tell(&mut self) -> Result<(), Failure> {
        self.chunks.catch_up(0).await?;
        self.carrier.flush().await.wait().await?;
        let done = self.chunks.done;
        if done != self.told {
            let body = json!({"acl": {"values": self.target.acl(done)}});
            self.target.project.update_volume(self.uuid, body, None).await?;
            self.told = done;
        }
        self.told_at = Instant::now();
        Ok(())
    }
}

/// A thread that reads a stream and checks it.
struct Source {
    header: Option<oneshot::Receiver<Result<Header, ImageError>>>,
    parts: mpsc::Receiver<Result<Part, ImageError>>,
    file: String,
}

impl Source {
    fn open(file: &str) -> Result<Self, Failure> {
        let input: Box<dyn Read + Send> = match file {
            PIPE => Box::new(io::stdin()),
            path => Box::new(
                File::open(path)
                    .map_err(|error| Failure::File { path: path.to_owned(), reason: error.to_string() })?,
            ),
        };
        let (tell, header) = oneshot::channel();
        let (parts, queue) = mpsc::channel(PARTS_MAX);
        std::thread::spawn(move || {
            let mut reader = match Reader::open(BufReader::with_capacity(READ_BYTES, input)) {
                Ok(reader) => reader,
                Err(error) => return drop(tell.send(Err(error))),
            };
            drop(tell.send(Ok(reader.header().clone())));
            loop {
                let part = reader.next();
                let is_last = !matches!(part, Ok(Part::Chunk(_)));
                if parts.blocking_send(part).is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Self { header: Some(header), parts: queue, file: file.to_owned() })
    }

    async fn header(&mut self) -> Result<Header, Failure> {
        match self.header.take() {
            Some(header) => match header.await {
                Ok(header) => header.map_err(|error| image_failure(&self.file, error)),
                Err(_) => Err(self.ended()),
            },
            None => Err(self.ended()),
        }
    }

    async fn next(&mut self) -> Result<Part, Failure> {
        match self.parts.recv().await {
            Some(part) => part.map_err(|error| image_failure(&self.file, error)),
            None => Err(self.ended()),
        }
    }

    fn ended(&self) -> Failure {
        wrong(&self.file, "the thread that reads it has ended".to_owned())
    }
}

/// The entries of a volume's access list.
fn acl(volume: &Value) -> Vec<&str> {
    let values = volume["acl"]["values"].as_array().map(Vec::as_slice).unwrap_or_default();
    values.iter().filter_map(Value::as_str).collect()
}

/// What tells that a snapshot was imported, and from which.
fn description(uuid: &str) -> String {
    format!("imported from snapshot {uuid}")
}

/// The access list that admits nobody.
const NOBODY: &str = "ALLOW_NONE";
/// Begins the entry of an access list that tells of an import.
const PROGRESS: &str = "ferrule-import-chunks:";
/// Chunks under way at once.
const WRITES_MAX: usize = 3;
/// Parts that are read ahead.
const PARTS_MAX: usize = 2;
/// How often progress is written down, in chunks and in time.
const TELL_CHUNKS: u64 = 256;
const TELL_EVERY: Duration = Duration::from_secs(5);
