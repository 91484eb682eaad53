//! `ferrule export snapshot`.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Seek as _, SeekFrom, Write};

use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::carrier::{Carrier, Promise};
use super::changes::{Changes, Run};
use super::lookup::{Project, host_nqn, number, snapshot_of, text, uuid, wrong};
use super::signals::Signals;
use super::{ExportSnapshot, PIPE, bar, image_failure, stretch};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output::{Shape, render};
use crate::cli::print;
use crate::cli::verbs::WhichSnapshot;
use crate::image::{
    BLOCK_BYTES, Chunk, Content, Extent, Header, ImageError, Totals, VolumeOf, Writer, resume_point,
};
use crate::size::format_size;

/// Runs `export snapshot`.
pub(in crate::cli) async fn export(client: &Client, arguments: ExportSnapshot) -> Result<String, Failure> {
    let project = Project { client };
    let header = header(project, &arguments).await?;
    let begun = match begin(header, &arguments)? {
        Beginning::Part(begun) => begun,
        Beginning::Whole(header) => {
            // An export that was killed when it had written everything has left its clone.
            delete_clone(project, &header).await?;
            return Ok(format!("{} is complete\n", arguments.file));
        }
    };
    let header = begun.header.clone();
    let new_file = NewFile::of(&begun, &arguments.file);
    let mut signals = Signals::take()?;
    let clone = make_clone(project, &header).await.inspect_err(|_| new_file.remove_if_empty())?;
    let outcome = signals.guard(copy(project, begun, &clone, &arguments)).await;
    // A second signal ends this too; the clone is then left to another run.
    let deleted = signals.guard(project.delete_volume(text(&clone, "UUID"))).await;
    let (totals, bytes) = outcome.inspect_err(|_| new_file.remove_if_empty())?;
    deleted?;
    let report = json!({
        "stream": header.stream,
        "snapshot": header.snapshot.name,
        "base": header.base.as_ref().map(|base| &base.name),
        "chunks": totals.chunks,
        "dataBlocks": totals.data_blocks,
        "zeroBlocks": totals.zero_blocks,
        "data": format_size(totals.data_blocks * BLOCK_BYTES as u64),
        "written": format_size(bytes),
    });
    let report = render(&report, client.settings.output, Shape::Fields)?;
    if arguments.file == PIPE {
        print::remark(report);
        return Ok(String::new());
    }
    Ok(report)
}

/// What was found where a stream shall go.
enum Beginning {
    /// Nothing, or a part of it.
    Part(Begun),
    /// All of it.
    Whole(Header),
}

/// A stream that is to be written.
struct Begun {
    header: Header,
    writer: Writer<Box<dyn Output>>,
    /// Where to go on.
    from: u64,
    /// False for one that is gone on with.
    is_new: bool,
}

/// A file that this run has made, if it has: with a header alone it is of no use to anybody.
struct NewFile<'a> {
    path: Option<&'a str>,
    header_bytes: u64,
}

impl<'a> NewFile<'a> {
    /// The file of a stream of which the header is written.
    fn of(begun: &Begun, path: &'a str) -> Self {
        let path = (begun.is_new && path != PIPE).then_some(path);
        Self { path, header_bytes: path.map_or(0, len_of) }
    }

    /// Removes it where the export failed before anything else was written.
    fn remove_if_empty(&self) {
        if let Some(path) = self.path.filter(|path| len_of(path) <= self.header_bytes) {
            drop(std::fs::remove_file(path));
        }
    }
}

fn len_of(path: &str) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

/// Where a stream goes.
trait Output: Write + Send {
    /// Makes safe what was written.
    fn settle(&mut self) -> io::Result<()>;
}

impl Output for File {
    fn settle(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Output for io::Stdout {
    fn settle(&mut self) -> io::Result<()> {
        self.flush()
    }
}

/// What the stream will be.
async fn header(project: Project<'_>, arguments: &ExportSnapshot) -> Result<Header, Failure> {
    let snapshot = project.snapshot(&arguments.which).await?;
    let base = match (&arguments.base, &arguments.base_uuid) {
        (None, None) => None,
        (name, uuid) => {
            let which = WhichSnapshot { name: name.clone(), uuid: uuid.clone() };
            Some(project.snapshot(&which).await?)
        }
    };
    let sector_bytes = u32::try_from(number(&snapshot, "sectorSize")?).unwrap_or(0);
    Ok(Header {
        stream: Uuid::new_v4(),
        snapshot: snapshot_of(&snapshot)?,
        base: base.as_ref().map(snapshot_of).transpose()?,
        volume: VolumeOf {
            uuid: uuid(&snapshot, "sourceVolumeUUID")?,
            name: text(&snapshot, "sourceVolumeName").to_owned(),
            size_bytes: number(&snapshot, "size")?,
            sector_bytes,
            compression: snapshot["compression"].as_bool().unwrap_or(false),
        },
    })
}

/// Opens the output.
fn begin(header: Header, arguments: &ExportSnapshot) -> Result<Beginning, Failure> {
    let file = &arguments.file;
    let failed = |error| image_failure(file, error);
    let unopened = |error: io::Error| Failure::File { path: file.clone(), reason: error.to_string() };
    if file == PIPE {
        if arguments.resume {
            return Err(wrong("--resume", "a pipe cannot be gone on with: it needs a file".to_owned()));
        }
        let output: Box<dyn Output> = Box::new(io::stdout());
        let writer = Writer::begin(output, &header).map_err(failed)?;
        return Ok(Beginning::Part(Begun { header, writer, from: 0, is_new: true }));
    }
    if arguments.resume {
        return resume(&header, file);
    }
    let opened = OpenOptions::new().write(true).create_new(true).open(file);
    let opened = opened.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::File {
            path: file.clone(),
            reason: "the file exists: --resume goes on with it, or take it away".to_owned(),
        },
        _ => unopened(error),
    })?;
    let output: Box<dyn Output> = Box::new(opened);
    let writer = Writer::begin(output, &header).map_err(failed)?;
    Ok(Beginning::Part(Begun { header, writer, from: 0, is_new: true }))
}

/// Goes on behind the last whole chunk of a file.
fn resume(wanted: &Header, path: &str) -> Result<Beginning, Failure> {
    let failed = |error| image_failure(path, error);
    let opened = OpenOptions::new().read(true).write(true).open(path);
    let mut file =
        opened.map_err(|error| Failure::File { path: path.to_owned(), reason: error.to_string() })?;
    let point = resume_point(BufReader::with_capacity(READ_BYTES, &file)).map_err(failed)?;
    let header = point.header.clone();
    let base = |header: &Header| header.base.as_ref().map(|base| base.uuid);
    if header.snapshot.uuid != wanted.snapshot.uuid || base(&header) != base(wanted) {
        let of = describe(&header);
        return Err(wrong(path, format!("this is a stream of {of}: --resume needs the same snapshots")));
    }
    if point.is_complete {
        return Ok(Beginning::Whole(header));
    }
    let set = file.set_len(point.bytes).and_then(|()| file.seek(SeekFrom::End(0)));
    set.map_err(|error| failed(error.into()))?;
    let writer = Writer::resume(Box::new(file) as Box<dyn Output>, &point);
    Ok(Beginning::Part(Begun { header, writer, from: point.next_block, is_new: false }))
}

/// What a stream is of, for people.
pub(super) fn describe(header: &Header) -> String {
    let name = &header.snapshot.name;
    match &header.base {
        None => format!("snapshot {name} ({})", header.snapshot.uuid),
        Some(base) => {
            format!("snapshot {name} ({}) since {} ({})", header.snapshot.uuid, base.name, base.uuid)
        }
    }
}

/// A volume that only this process may see, with the snapshot's content.
async fn make_clone(project: Project<'_>, header: &Header) -> Result<Value, Failure> {
    delete_clone(project, header).await?;
    let body = json!({
        "name": clone_name(header),
        "size": header.volume.size_bytes.to_string(),
        "acl": {"values": [host_nqn(header.stream)]},
        "compression": header.volume.compression.to_string(),
        "replicaCount": 1,
        "sectorSize": header.volume.sector_bytes,
        "sourceSnapshotUUID": header.snapshot.uuid,
    });
    project.create_volume(body).await
}

/// Deletes the clone that a killed export of the same stream has left, if there is one.
async fn delete_clone(project: Project<'_>, header: &Header) -> Result<(), Failure> {
    match project.volume_named(&clone_name(header)).await? {
        Some(left) => project.delete_volume(text(&left, "UUID")).await,
        None => Ok(()),
    }
}

fn clone_name(header: &Header) -> String {
    format!("export-{}", header.stream)
}

/// Copies what changed from the clone to the stream.
async fn copy(
    project: Project<'_>,
    begun: Begun,
    clone: &Value,
    arguments: &ExportSnapshot,
) -> Result<(Totals, u64), Failure> {
    let Begun { header, writer, from, .. } = begun;
    let endpoint = arguments.nvme_endpoint.as_deref();
    let carrier = Carrier::open(project.attachment(clone, header.stream, endpoint).await?).await?;
    let bar = bar(header.blocks());
    bar.set_message(header.snapshot.name.clone());
    bar.set_position(from * BLOCK_BYTES as u64);
    let base = header.base.as_ref().map(|base| base.uuid.to_string());
    let snapshot = header.snapshot.uuid.to_string();
    let mut changes = Changes::new(project.client, &snapshot, base.as_deref(), from, header.blocks());
    let scribe = Scribe::start(writer, arguments.file.clone());
    let mut under_way: VecDeque<(Vec<Run>, Promise<Vec<u8>>)> = VecDeque::new();
    loop {
        let batch = changes.next_batch().await?;
        let is_last = batch.is_empty();
        if !is_last {
            let stretches = batch.iter().map(|run| stretch(run.first_block, run.count_blocks)).collect();
            let promise = carrier.read(stretches).await;
            under_way.push_back((batch, promise));
        }
        while under_way.len() > if is_last { 0 } else { READS_MAX } {
            let Some((runs, promise)) = under_way.pop_front() else { break };
            let chunk = sort_out(&runs, &promise.wait().await?, header.base.is_some());
            show(&bar, &chunk);
            // A stream of which nobody takes chunks has failed, and the end tells why.
            if scribe.parts.send(Some(chunk)).await.is_err() {
                return scribe.finish().await;
            }
        }
        if is_last {
            bar.finish_and_clear();
            return scribe.finish().await;
        }
    }
}

fn show(bar: &ProgressBar, chunk: &Chunk) {
    bar.set_position(chunk.next_block * BLOCK_BYTES as u64);
}

/// Makes a chunk of what was read: zeroes are not stored, and not even told of where all else is zero.
fn sort_out(runs: &[Run], data: &[u8], tell_zeroes: bool) -> Chunk {
    let mut chunk = Chunk::default();
    let mut blocks = data.chunks_exact(BLOCK_BYTES);
    for run in runs {
        for (number, block) in (run.first_block..).zip(blocks.by_ref().take(run.count_blocks as usize)) {
            let content = if block.iter().all(|byte| *byte == 0) { Content::Zeroes } else { Content::Data };
            if content == Content::Data {
                chunk.data.extend_from_slice(block);
            } else if !tell_zeroes {
                continue;
            }
            match chunk.extents.last_mut() {
                Some(last) if last.end() == number && last.content == content => last.count_blocks += 1,
                _ => chunk.extents.push(Extent { first_block: number, count_blocks: 1, content }),
            }
        }
        chunk.next_block = run.first_block + u64::from(run.count_blocks);
    }
    chunk
}

/// A thread that packs chunks and writes them.
struct Scribe {
    /// Chunks, then nothing for the end; a stream that gets no end is left as it is.
    parts: mpsc::Sender<Option<Chunk>>,
    done: oneshot::Receiver<Result<(Totals, u64), ImageError>>,
    file: String,
}

impl Scribe {
    fn start(writer: Writer<Box<dyn Output>>, file: String) -> Self {
        let (parts, queue) = mpsc::channel(CHUNKS_MAX);
        let (tell, done) = oneshot::channel();
        std::thread::spawn(move || {
            if let Some(outcome) = write(writer, queue).transpose() {
                drop(tell.send(outcome));
            }
        });
        Self { parts, done, file }
    }

    /// Ends the stream.
    async fn finish(self) -> Result<(Totals, u64), Failure> {
        // A thread that has gone tells why below.
        drop(self.parts.send(None).await);
        match self.done.await {
            Ok(outcome) => outcome.map_err(|error| image_failure(&self.file, error)),
            Err(_) => Err(wrong("the stream", "its thread has ended".to_owned())),
        }
    }
}

/// Writes parts until the end; nothing if there is none.
fn write(
    mut writer: Writer<Box<dyn Output>>,
    mut parts: mpsc::Receiver<Option<Chunk>>,
) -> Result<Option<(Totals, u64)>, ImageError> {
    while let Some(part) = parts.blocking_recv() {
        match part {
            Some(mut chunk) => writer.append(&mut chunk)?,
            None => {
                let totals = writer.totals();
                let (mut output, bytes) = writer.finish()?;
                output.settle()?;
                return Ok(Some((totals, bytes)));
            }
        }
    }
    Ok(None)
}

/// Batches that are read ahead.
const READS_MAX: usize = 3;
/// Chunks that may wait to be written.
const CHUNKS_MAX: usize = 4;
/// Bytes of a file that are read at once.
pub(super) const READ_BYTES: usize = 1 << 20;
