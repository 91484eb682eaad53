//! What the command line takes: a verb, a noun, and what they need.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::settings::ClientArgs;
use crate::directory::CredentialKind;

/// A verb: where the server is, and what it shall do.
#[derive(Args, Debug)]
pub(super) struct Verb<Noun: Subcommand> {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(subcommand)]
    pub(super) noun: Noun,
}

/// Nouns of `create`.
#[derive(Debug, Subcommand)]
pub(super) enum Create {
    /// Make a volume
    Volume(CreateVolume),
    /// Take a snapshot of a volume
    Snapshot(CreateSnapshot),
    /// Register a public key or a secret whose tokens the server shall accept
    Credential(CreateCredential),
    /// Make a token with a private key of your own; asks no server
    #[command(after_help = super::jwt::CREATE_JWT_HELP)]
    Jwt(super::jwt::CreateJwt),
}

/// Nouns of `list`.
#[derive(Debug, Subcommand)]
pub(super) enum List {
    /// Volumes of a project, or of all for an administrator of the cluster
    #[command(alias = "volume")]
    Volumes(ListVolumes),
    /// Snapshots of a project
    #[command(alias = "snapshot")]
    Snapshots(ListSnapshots),
    /// Blocks that differ between two snapshots, as JSON
    ChangedBlocks(ChangedBlocks),
    /// Nodes of the cluster
    #[command(alias = "node")]
    Nodes,
    /// Projects that the token may see
    #[command(alias = "project")]
    Projects,
    /// Credentials of a project
    #[command(alias = "credential")]
    Credentials,
    /// Users with passwords
    #[command(alias = "user")]
    Users,
    /// Hosts that are connected now
    #[command(aliases = ["connected-host", "hosts", "connectedhosts"])]
    ConnectedHosts(ListHosts),
}

/// Nouns of `get`.
#[derive(Debug, Subcommand)]
pub(super) enum Get {
    /// One volume
    Volume(WhichVolume),
    /// One snapshot
    Snapshot(WhichSnapshot),
    /// The cluster with its statistics and health
    Cluster,
    /// The cluster as tenants see it
    #[command(alias = "clusterinfo")]
    ClusterInfo,
    /// One node
    Node(WhichNode),
    /// One project
    Project(WhichProject),
    /// One credential
    Credential(WhichCredential),
    /// One connected host
    #[command(alias = "host")]
    ConnectedHost(WhichHost),
    /// The version of the REST interface; needs no token
    Version,
    /// The server's log and what is known of its state, into a file
    Logs(GetLogs),
}

/// Nouns of `update`.
#[derive(Debug, Subcommand)]
pub(super) enum Update {
    /// Change a volume's size, access lists, compression, QoS policy, labels or name
    Volume(UpdateVolume),
}

/// Nouns of `delete`.
#[derive(Debug, Subcommand)]
pub(super) enum Delete {
    /// Delete a volume and all its data; its snapshots stay
    Volume(DeleteVolume),
    /// Delete a snapshot; it goes with its last clone
    Snapshot(DeleteSnapshot),
    /// Remove a credential: its tokens are refused at once
    Credential(WhichCredential),
    /// Remove a user: the user's tokens and logins end at once
    User(super::users::WhichUser),
}

/// What a new volume shall be.
#[derive(Args, Debug)]
pub(super) struct CreateVolume {
    /// Its name, unique in the project
    #[arg(long)]
    pub(super) name: String,
    /// Its size, such as 4GiB; rounded up to 4 KiB
    #[arg(long)]
    pub(super) size: String,
    /// Host NQN that may use it, or ALLOW_ANY, or ALLOW_NONE; may be repeated
    #[arg(long, required = true, value_delimiter = ',', value_name = "NQN")]
    pub(super) acl: Vec<String>,
    /// Address from which it may be used, or ALLOW_ANY, or ALLOW_NONE; may be repeated [default: ALLOW_ANY]
    #[arg(long, value_delimiter = ',', value_name = "ADDR")]
    pub(super) ip_acl: Vec<String>,
    /// Whether its blocks are compressed
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", value_name = "BOOL")]
    pub(super) compression: String,
    /// Its sector size in bytes
    #[arg(long, default_value = "4096")]
    pub(super) sector_size: SectorSize,
    /// How many nodes keep it
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(super) replica_count: u32,
    /// A label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(super) labels: Vec<(String, String)>,
    /// Failure domains of which one shall have it, as fd:A|fd:B
    #[arg(long, value_name = "fd:NAME", value_parser = parse_affinity)]
    pub(super) placement_affinity: Option<Affinity>,
    /// Begin as this snapshot is
    #[arg(long, alias = "source-snapshot", value_name = "NAME")]
    pub(super) source_snapshot_name: Option<String>,
    /// Begin as the snapshot of this UUID is
    #[arg(long, value_name = "UUID", conflicts_with = "source_snapshot_name")]
    pub(super) source_snapshot_uuid: Option<String>,
    #[command(flatten)]
    pub(super) policy: WhichPolicy,
}

/// The QoS policy of a volume, by name or UUID.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(super) struct WhichPolicy {
    /// The QoS policy that limits it [default: the project's]
    #[arg(long, value_name = "NAME")]
    pub(super) qos_policy_name: Option<String>,
    /// The same by its UUID
    #[arg(long, value_name = "UUID")]
    pub(super) qos_policy_uuid: Option<String>,
}

impl WhichPolicy {
    /// The fields of a request.
    pub(super) fn fields(self) -> [(&'static str, Option<String>); 2] {
        [("qosPolicyName", self.qos_policy_name), ("qosPolicyUUID", self.qos_policy_uuid)]
    }
}

/// Nouns of `rollback`.
#[derive(Debug, Subcommand)]
pub(super) enum Rollback {
    /// Make a volume's content that of a snapshot; unmount it first: a host's page cache knows nothing of it
    Volume(RollbackVolume),
}

/// Which volume goes back to which snapshot.
#[derive(Args, Debug)]
pub(super) struct RollbackVolume {
    #[command(flatten)]
    pub(super) which: WhichVolume,
    /// The snapshot's name
    #[arg(
        long,
        alias = "source-snapshot",
        value_name = "NAME",
        required_unless_present = "source_snapshot_uuid"
    )]
    pub(super) source_snapshot_name: Option<String>,
    /// The snapshot's UUID
    #[arg(long, value_name = "UUID", conflicts_with = "source_snapshot_name")]
    pub(super) source_snapshot_uuid: Option<String>,
    /// Refuse unless this is the volume's ETag
    #[arg(long)]
    pub(super) etag: Option<String>,
}

/// What a new snapshot shall be.
#[derive(Args, Debug)]
pub(super) struct CreateSnapshot {
    /// Its name, unique in the project
    #[arg(long)]
    pub(super) name: String,
    /// The volume's name
    #[arg(long, value_name = "NAME", required_unless_present = "source_volume_uuid")]
    pub(super) source_volume_name: Option<String>,
    /// The volume's UUID
    #[arg(long, value_name = "UUID", conflicts_with = "source_volume_name")]
    pub(super) source_volume_uuid: Option<String>,
    /// When it is deleted by itself, such as 24h; never without
    #[arg(long, value_name = "DURATION")]
    pub(super) retention_time: Option<String>,
    /// What people say of it
    #[arg(long)]
    pub(super) description: Option<String>,
}

/// Which snapshots to list.
#[derive(Args, Debug)]
pub(super) struct ListSnapshots {
    /// Only the snapshot of this name
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Also those that are being deleted
    #[arg(long)]
    pub(super) show_all: bool,
}

/// A snapshot, by name or UUID.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct WhichSnapshot {
    /// The snapshot's name
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The snapshot's UUID
    #[arg(long)]
    pub(super) uuid: Option<String>,
}

/// Which snapshot to delete.
#[derive(Args, Debug)]
pub(super) struct DeleteSnapshot {
    #[command(flatten)]
    pub(super) which: WhichSnapshot,
    /// Refuse unless this is its ETag
    #[arg(long)]
    pub(super) etag: Option<String>,
}

/// Which snapshots to compare.
#[derive(Args, Debug)]
pub(super) struct ChangedBlocks {
    /// The later snapshot's name
    #[arg(long, value_name = "NAME", required_unless_present = "current_snapshot_uuid")]
    pub(super) current_snapshot_name: Option<String>,
    /// The later snapshot's UUID
    #[arg(long, value_name = "UUID", conflicts_with = "current_snapshot_name")]
    pub(super) current_snapshot_uuid: Option<String>,
    /// The earlier snapshot's name; without an earlier one, everything that was written
    #[arg(long, value_name = "NAME")]
    pub(super) base_snapshot_name: Option<String>,
    /// The earlier snapshot's UUID
    #[arg(long, value_name = "UUID", conflicts_with = "base_snapshot_name")]
    pub(super) base_snapshot_uuid: Option<String>,
    /// Where to begin, in blocks of 4096 bytes; only the part that begins there is listed then
    #[arg(long, value_name = "LBA")]
    pub(super) offset_lba: Option<u64>,
}

/// Sector sizes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum SectorSize {
    /// 512 bytes.
    #[value(name = "512")]
    B512,
    /// 4096 bytes.
    #[value(name = "4096")]
    B4096,
}

/// What a volume shall become.
#[derive(Args, Debug)]
pub(super) struct UpdateVolume {
    #[command(flatten)]
    pub(super) which: WhichVolume,
    /// Its new size, such as 8GiB
    #[arg(long)]
    pub(super) size: Option<String>,
    /// Permit a smaller size: data beyond it is lost
    #[arg(long)]
    pub(super) force: bool,
    /// Host NQN that may use it from now on, or ALLOW_ANY, or ALLOW_NONE; may be repeated
    #[arg(long, value_delimiter = ',', value_name = "NQN")]
    pub(super) acl: Vec<String>,
    /// Address from which it may be used from now on, or ALLOW_ANY, or ALLOW_NONE; may be repeated
    #[arg(long, value_delimiter = ',', value_name = "ADDR")]
    pub(super) ip_acl: Vec<String>,
    /// Whether blocks written from now on are compressed
    #[arg(long, value_name = "BOOL")]
    pub(super) compression: Option<String>,
    /// Labels that replace those it has; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(super) labels: Vec<(String, String)>,
    /// Its new name
    #[arg(long)]
    pub(super) new_name: Option<String>,
    #[command(flatten)]
    pub(super) policy: WhichPolicy,
    /// Refuse unless this is its ETag
    #[arg(long)]
    pub(super) etag: Option<String>,
}

/// Which volume to delete.
#[derive(Args, Debug)]
pub(super) struct DeleteVolume {
    #[command(flatten)]
    pub(super) which: WhichVolume,
    /// Refuse unless this is its ETag
    #[arg(long)]
    pub(super) etag: Option<String>,
}

/// A volume, by name or UUID.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct WhichVolume {
    /// The volume's name
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The volume's UUID
    #[arg(long)]
    pub(super) uuid: Option<String>,
}

/// Which volumes to list.
#[derive(Args, Debug)]
pub(super) struct ListVolumes {
    /// Only the volume of this name
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Also those that are being deleted
    #[arg(long)]
    pub(super) show_all: bool,
}

/// Which hosts to list.
#[derive(Args, Debug)]
pub(super) struct ListHosts {
    /// Only hosts that see this volume
    #[arg(long, value_name = "UUID")]
    pub(super) volume_uuid: Option<String>,
}

/// Where logs go.
#[derive(Args, Debug)]
pub(super) struct GetLogs {
    /// The file to be written
    #[arg(long)]
    pub(super) file: PathBuf,
    /// How many days to go back
    #[arg(long, value_name = "N")]
    pub(super) days: Option<u32>,
}

/// A node.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct WhichNode {
    /// The node's name
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The node's UUID
    #[arg(long)]
    pub(super) uuid: Option<String>,
}

/// A project.
#[derive(Args, Debug)]
pub(super) struct WhichProject {
    /// The project's name
    #[arg(long)]
    pub(super) name: String,
}

/// A credential of the project.
#[derive(Args, Debug)]
pub(super) struct WhichCredential {
    /// The credential's name
    #[arg(long)]
    pub(super) id: String,
}

/// A connected host.
#[derive(Args, Debug)]
pub(super) struct WhichHost {
    /// The host's NQN
    #[arg(long, value_name = "NQN")]
    pub(super) host_nqn: String,
}

/// What a new credential shall be.
#[derive(Args, Debug)]
pub(super) struct CreateCredential {
    /// Its name: tokens carry it in their kid, as PROJECT:ID
    #[arg(long)]
    pub(super) id: String,
    /// What the key is: rs256pubkey, rs384pubkey, rs512pubkey, es256pubkey, es384pubkey, es512pubkey, eddsapubkey, hs256secret,
    /// hs384secret or hs512secret
    #[arg(long = "type", default_value = "rs256pubkey", value_parser = parse_credential_type)]
    pub(super) kind: CredentialKind,
    /// What its tokens have as iss: those without a kid are found by it
    #[arg(long)]
    pub(super) issuer: Option<String>,
    /// What its tokens have as aud; without it, tokens that have one are refused
    #[arg(long)]
    pub(super) audience: Option<String>,
    /// File with the public key in PEM form, or with a secret
    pub(super) file: PathBuf,
}

/// `rs256pubkey`, in any case, and `rsa256pubkey` for the same.
fn parse_credential_type(text: &str) -> Result<CredentialKind, String> {
    let wanted = text.to_ascii_lowercase().replace("rsa", "rs").replace("ed25519", "eddsa");
    let mut known = CredentialKind::ALL.iter().map(|(kind, _)| *kind);
    known.find(|kind| kind.name().to_ascii_lowercase() == wanted).ok_or_else(|| {
        let names: Vec<String> =
            CredentialKind::ALL.iter().map(|(kind, _)| kind.name().to_ascii_lowercase()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// Names of failure domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Affinity(pub(super) Vec<String>);

fn parse_affinity(text: &str) -> Result<Affinity, String> {
    let domain = |part: &str| {
        let name = part.strip_prefix("fd:").filter(|name| !name.is_empty());
        name.map(str::to_owned)
            .ok_or_else(|| "expected failure domains, such as fd:rack1|fd:rack2".to_owned())
    };
    text.split('|').map(domain).collect::<Result<_, _>>().map(Affinity)
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| "expected KEY=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}
