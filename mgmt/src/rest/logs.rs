//! `GET /api/v2/logs`: the server's log and what it knows of itself, as a tarball that is sent while it is read.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use hyper::body::Bytes;
use tokio::sync::mpsc;

use super::body::Body;
use super::error::ApiError;
use super::request::Request;
use super::{Api, Reply};
use crate::auth::{Caller, Resource, Scope, Verb};
use crate::events::EVENTS_MAX;

/// Streams the tarball. What this server has no use for in the request is ignored.
pub(super) async fn fetch(api: Rc<Api>, caller: Caller, request: Request) -> Result<Reply, ApiError> {
    caller.permit(Resource::Logs, Verb::Get, Scope::Cluster)?;
    let mut members = Vec::new();
    if !request.flag("DontCollectlogs") {
        members.extend(api.site.log_files().into_iter().map(Member::File));
    }
    if !request.flag("SkipStatistics") {
        let page = super::metrics::text(&api, true).await?;
        members.push(Member::Text("metrics.txt", page));
    }
    let events = api.events.list_from(0);
    let lines: Vec<String> = events
        .iter()
        .take(EVENTS_MAX)
        .filter_map(|found| serde_json::to_string(&found.value).ok())
        .map(|line| line + "\n")
        .collect();
    members.push(Member::Text("events.jsonl", lines.concat()));
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    tokio_uring::spawn(async move {
        if let Err(error) = send(members, &sender).await {
            tracing::warn!(%error, "the logs could not be sent whole");
            // The client sees a body that breaks off, not one that seems whole.
            drop(sender.send(Err(error)).await);
        }
    });
    Ok(Reply::stream("application/x-tar", Body::Pieces(pieces)))
}

enum Member {
    File(PathBuf),
    Text(&'static str, String),
}

type Sender = mpsc::Sender<io::Result<Bytes>>;

async fn send(members: Vec<Member>, sender: &Sender) -> io::Result<()> {
    for member in members {
        match member {
            Member::File(path) => send_file(&path, sender).await?,
            Member::Text(name, text) => {
                piece(sender, header(name, text.len() as u64)?.to_vec()).await?;
                let padding = padding(text.len() as u64);
                piece(sender, text.into_bytes()).await?;
                piece(sender, vec![0; padding]).await?;
            }
        }
    }
    // Two empty blocks end an archive.
    piece(sender, vec![0; 2 * BLOCK_BYTES]).await
}

/// Sends as much of a file as it had at first: it may grow meanwhile, and a part that is gone is zeros.
async fn send_file(path: &std::path::Path, sender: &Sender) -> io::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("log");
    let Ok(size) = std::fs::metadata(path).map(|metadata| metadata.len()) else { return Ok(()) };
    let file = tokio_uring::fs::File::open(path).await?;
    piece(sender, header(name, size)?.to_vec()).await?;
    let mut offset = 0;
    while offset < size {
        let want = usize::try_from(size - offset).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let (outcome, mut buffer) = file.read_at(vec![0; want], offset).await;
        let read = outcome?;
        if read > 0 {
            buffer.truncate(read);
        }
        offset += buffer.len() as u64;
        piece(sender, buffer).await?;
    }
    file.close().await?;
    piece(sender, vec![0; padding(size)]).await
}

async fn piece(sender: &Sender, bytes: Vec<u8>) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    sender.send(Ok(bytes.into())).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// A header block of POSIX.1-1988 (ustar).
fn header(name: &str, size: u64) -> io::Result<[u8; BLOCK_BYTES]> {
    let mut block = [0; BLOCK_BYTES];
    let mut put = |at: usize, text: &str| -> io::Result<()> {
        let place = block.get_mut(at..at + text.len()).ok_or(io::ErrorKind::InvalidInput)?;
        place.copy_from_slice(text.as_bytes());
        Ok(())
    };
    if name.len() > 100 || size >= 1 << 33 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    put(0, name)?;
    put(100, "0000600\0")?;
    put(108, "0000000\0")?;
    put(116, "0000000\0")?;
    put(124, &format!("{size:011o}\0"))?;
    put(136, &format!("{:011o}\0", crate::events::now_ns() / 1_000_000_000))?;
    put(148, "        ")?;
    put(156, "0")?;
    put(257, "ustar\x0000")?;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let text = format!("{sum:06o}\0 ");
    block[148..156].copy_from_slice(text.as_bytes());
    Ok(block)
}

fn padding(size: u64) -> usize {
    let rest = size % BLOCK_BYTES as u64;
    usize::try_from((BLOCK_BYTES as u64 - rest) % BLOCK_BYTES as u64).unwrap_or_default()
}

const BLOCK_BYTES: usize = 512;
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for a slow client.
const PIECES_MAX: usize = 4;
