//! Snapshots as a Linux host meets them: taken under its writes, attached as clones, gone back to, and carried elsewhere.

use std::time::Duration;

use serde_json::{Value, json};
use tests::guest::Guest;
use tests::linux::one_guest_at_a_time;
use tests::scratch::Scratch;
use tests::server::{Server, Setup, volume_path};

const MIB: u64 = 1024 * 1024;
const SNAPSHOTS: &str = "/api/v2/projects/default/snapshots";

#[test]
fn snapshot_under_load_and_its_clone_beside_the_source_both_verify() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let volume = server.create_volume("v1", 128 * MIB);
    let mut guest = Guest::boot();
    guest.connect(&server, "127.0.0.1", "");
    let device = guest.device(&volume);
    let still = "--rw=write --bs=64k --verify_interval=4k --offset=0 --size=8m";
    let busy = "--bs=4k --offset=32m --size=8m";
    guest.ok_within(&fio(&device, &format!("{still} --randseed=1 --do_verify=1")), PATIENCE);
    guest.ok_within(&fio(&device, &format!("--rw=write {busy} --do_verify=0")), PATIENCE);
    guest.start(&fio(&device, &format!("--rw=randwrite {busy} --randseed=2 --do_verify=1 --loops=3")));
    guest.ok("sleep 1");
    snapshot(&server, "s1");
    guest.finish(PATIENCE);
    guest.ok_within(&fio(&device, &format!("{still} --randseed=3 --do_verify=1")), PATIENCE);

    let clone = clone(&server, "c1", "s1", 128 * MIB);
    let clone = guest.device(&clone);
    // The clone has what was there at the snapshot. Where writes were under way, each block is one of those written.
    guest.ok_within(&fio(&clone, &format!("{still} --randseed=1 --verify_only=1")), PATIENCE);
    let any = busy.replace("--bs", "--verify_header_seed=0 --bs");
    guest.ok_within(&fio(&clone, &format!("--rw=read {any}")), PATIENCE);
    // Both go on by themselves.
    guest.ok_within(&fio(&clone, &format!("--rw=randwrite {busy} --randseed=4 --do_verify=1")), PATIENCE);
    guest.ok_within(&fio(&device, &format!("{still} --randseed=3 --verify_only=1")), PATIENCE);
    guest.ok_within(&fio(&device, &format!("--rw=read {any}")), PATIENCE);
    guest.ok("grep -qx live /sys/class/nvme/*/state");
}

#[test]
fn file_system_goes_back_to_its_snapshot_and_moves_to_another_server() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let volume = server.create_volume("v1", 96 * MIB);
    let mut guest = Guest::boot();
    guest.connect(&server, "127.0.0.1", "");
    let device = guest.device(&volume);
    guest.ok(&format!("mkfs.ext4 -q {device} && mount -t ext4 {device} /mnt && mkdir /mnt/old"));
    guest.ok(
        "for n in 1 2 3 4; do dd if=/dev/urandom of=/mnt/old/$n bs=1M count=2 2>/dev/null || exit 1; done",
    );
    guest.ok("(cd /mnt && sha256sum old/*) >/tmp/old.sums && sync");
    snapshot(&server, "s1");
    guest.ok("rm /mnt/old/1 && dd if=/dev/urandom of=/mnt/old/2 bs=1M count=3 2>/dev/null && mkdir /mnt/new");
    guest.ok("dd if=/dev/urandom of=/mnt/new/f bs=1M count=20 2>/dev/null && sync && umount /mnt");

    let client = server.client();
    let looks = "dmesg | grep -c 'rescanning namespaces'";
    guest.ok(&format!("{looks} >/tmp/looks || true"));
    client.put(&format!("{}/rollback", volume_path(&volume)), &json!({"srcSnapshotName": "s1"}));
    // The host is told that the namespace has changed, and looks at it again.
    guest.wait_for(&format!("[ $({looks}) -gt $(cat /tmp/looks) ]"), Duration::from_secs(10));
    guest.ok("grep -qx live /sys/class/nvme/*/state");
    let old = "(cd /mnt && sha256sum -c /tmp/old.sums) && [ ! -e /mnt/new ]";
    guest.ok(&format!("mount -t ext4 {device} /mnt && {old} && umount /mnt && e2fsck -fn {device}"));

    snapshot(&server, "s2");
    let expected = sum(&mut guest, &device);
    let other = Server::start(&Setup { pool_mib: 512, ..Setup::default() });
    let folder = Scratch::new("linux-snapshots");
    let (full, changes) = (folder.join("full"), folder.join("changes"));
    let (full, changes) = (full.to_str().expect("UTF-8"), changes.to_str().expect("UTF-8"));
    let _ = server.cli_ok(&["export", "snapshot", "--name", "s1", full]);
    let _ = server.cli_ok(&["export", "snapshot", "--name", "s2", "--base", "s1", changes]);
    let _ = other.cli_ok(&["import", "volume", "--name", "copy", full]);
    let _ = other.cli_ok(&["import", "volume", "--name", "copy", "--acl", "ALLOW_ANY", changes]);
    let copy = other.client().get("/api/v2/projects/default/volumes/?name=copy");
    guest.connect(&other, "127.0.0.1", "");
    let copied = guest.device(&copy);
    assert_eq!(sum(&mut guest, &copied), expected);
    guest.ok(&format!("e2fsck -fn {copied} && mount -t ext4 {copied} /mnt && {old} && umount /mnt"));
}

/// The checksum of all of a device, read past every cache.
fn sum(guest: &mut Guest, device: &str) -> String {
    let said = guest.ok_within(
        &format!("dd if={device} bs=1M iflag=direct 2>/dev/null | sha256sum | cut -d' ' -f1"),
        PATIENCE,
    );
    let sum = said.trim().to_owned();
    assert_eq!(sum.len(), 64, "{said}");
    sum
}

fn snapshot(server: &Server, name: &str) {
    let taken = server.client().post(SNAPSHOTS, &json!({"name": name, "sourceVolumeName": "v1"}));
    assert_eq!(taken["state"], "Available");
}

fn clone(server: &Server, name: &str, snapshot: &str, size_bytes: u64) -> Value {
    server.create_volume_with(&json!({
        "name": name, "size": size_bytes.to_string(), "acl": {"values": ["ALLOW_ANY"]}, "replicaCount": 1,
        "sourceSnapshotName": snapshot
    }))
}

/// A run of fio; the options say what.
fn fio(device: &str, options: &str) -> String {
    format!(
        "fio --name=verify --filename={device} --ioengine=io_uring --iodepth=16 --direct=1 --verify=crc32c \
         --verify_fatal=1 {options}"
    )
}

const PATIENCE: Duration = Duration::from_mins(4);
