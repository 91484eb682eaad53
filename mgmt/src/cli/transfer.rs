//! `ferrule export` and `ferrule import`: snapshots as streams, and volumes made of streams.
//!
//! REST tells what changed and makes what is needed; the data goes over NVMe/TCP, to and from a namespace that only this
//! process may use. An export reads a clone that lives as long as the export; its name is that of the stream, so that a
//! run that resumes a killed one finds what that has left.

mod carrier;
mod changes;
mod export;
mod import;
mod lookup;
mod signals;

use std::path::Path;

use clap::{Args, Subcommand};
use dataplane::attach::Stretch;
use indicatif::{ProgressBar, ProgressStyle};

use super::failure::Failure;
use super::verbs::WhichSnapshot;
use crate::image::{BLOCK_BYTES, Content, Extent, ImageError};
pub(super) use export::export;
pub(super) use import::import;

/// Nouns of `export`.
#[derive(Debug, Subcommand)]
pub(super) enum Export {
    /// Write a snapshot, or what changed since an earlier one, to a file or a pipe
    #[command(after_help = EXPORT_HELP)]
    Snapshot(ExportSnapshot),
}

/// Nouns of `import`.
#[derive(Debug, Subcommand)]
pub(super) enum Import {
    /// Make a volume of a stream, or bring one up to date
    #[command(after_help = IMPORT_HELP)]
    Volume(ImportVolume),
}

/// Which snapshot to write, and where.
#[derive(Args, Debug)]
pub(super) struct ExportSnapshot {
    #[command(flatten)]
    which: WhichSnapshot,
    /// Only what changed since this earlier snapshot of the same volume
    #[arg(long, alias = "base-snapshot-name", value_name = "NAME")]
    base: Option<String>,
    /// The same, by UUID
    #[arg(long, alias = "base-snapshot-uuid", value_name = "UUID", conflicts_with = "base")]
    base_uuid: Option<String>,
    /// Go on with a file that an interrupted export has left
    #[arg(long)]
    resume: bool,
    /// Where volumes are served, if it is not where the cluster says
    #[arg(long, value_name = "ADDR:PORT")]
    nvme_endpoint: Option<String>,
    /// The file to be written, or - for standard output
    file: String,
}

/// Which volume to make or to change, and of what.
#[derive(Args, Debug)]
pub(super) struct ImportVolume {
    /// The volume's name; a full stream makes it, if there is none
    #[arg(long)]
    name: String,
    /// Host NQN that may use it afterwards, or ALLOW_ANY; may be repeated [default: ALLOW_NONE]
    #[arg(long, value_delimiter = ',', value_name = "NQN")]
    acl: Vec<String>,
    /// Whether a new volume's blocks are compressed [default: as the exported one's]
    #[arg(long, value_name = "BOOL")]
    compression: Option<bool>,
    /// Name of the snapshot that keeps what was imported [default: that of the exported one]
    #[arg(long, value_name = "NAME")]
    snapshot_name: Option<String>,
    /// Go on with an import of the same stream that was interrupted
    #[arg(long)]
    resume: bool,
    /// Where volumes are served, if it is not where the cluster says
    #[arg(long, value_name = "ADDR:PORT")]
    nvme_endpoint: Option<String>,
    /// The file to be read, or - for standard input
    file: String,
}

/// Blocks of one kind, as bytes.
fn stretches(extents: &[Extent], content: Content) -> Vec<Stretch> {
    let wanted = extents.iter().filter(|extent| extent.content == content);
    wanted.map(|extent| stretch(extent.first_block, extent.count_blocks)).collect()
}

fn stretch(first_block: u64, count_blocks: u32) -> Stretch {
    let bytes = BLOCK_BYTES as u64;
    Stretch { offset_bytes: first_block * bytes, len_bytes: u64::from(count_blocks) * bytes }
}

/// A bar over the blocks of a volume on the standard error; nothing where that is no terminal.
fn bar(blocks: u64) -> ProgressBar {
    let bar = ProgressBar::new(blocks * BLOCK_BYTES as u64);
    // The template is right, so that there is always a style.
    if let Ok(style) =
        ProgressStyle::with_template("{msg}  {wide_bar} {percent:>3} %  {bytes} of {total_bytes}, {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

fn image_failure(file: &str, error: ImageError) -> Failure {
    let path = if file == PIPE { "the pipe" } else { file };
    Failure::Image { path: Path::new(path).display().to_string(), error }
}

/// The word for standard input and output.
const PIPE: &str = "-";

const EXPORT_HELP: &str = "\
The stream has only blocks that hold something, or changed; it is packed, and every part of it has a checksum.
For as long as the export runs there is a volume named export-UUID, a clone of the snapshot, which only the export sees.
If a killed export has left it, the same command with --resume takes it away; so does `ferrule delete volume`.
Examples:
  ferrule export snapshot --name s1 s1.image
  ferrule export snapshot --name s2 --base s1 s1-s2.image
  ferrule export snapshot --name s1 -

The last writes to a pipe; behind it, `ferrule import volume --name v1 -` takes the stream where it is to go.";

const IMPORT_HELP: &str = "\
While it is imported no host may use the volume, and afterwards those of --acl. What was imported is kept as a snapshot:
an incremental stream is applied only to a volume that is as the snapshot which the stream builds on.
Examples:
  ferrule import volume --name v1 s1.image
  ferrule import volume --name v1 s1-s2.image";
