//! What an operator changes shows at once on a connected Linux host: volumes come, grow, go; ACLs let in and out.

use std::time::Duration;

use serde_json::json;
use tests::guest::Guest;
use tests::linux::one_guest_at_a_time;
use tests::server::{Server, Setup, volume_path};

const MIB: u64 = 1024 * 1024;

#[test]
fn volumes_come_grow_and_go_without_a_rescan() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let client = server.client();
    let mut guest = Guest::boot();
    guest.connect(&server, "127.0.0.1", "");

    let volume = server.create_volume("grows", 64 * MIB);
    let device = guest.device(&volume);
    guest.ok(&format!(
        "dd if=/dev/urandom of=/tmp/f bs=1M count=4; dd if=/tmp/f of={device} bs=1M oflag=direct"
    ));
    client.put(&volume_path(&volume), &json!({"size": (128 * MIB).to_string()}));
    let size_file = format!("/sys/block/{}/size", device.trim_start_matches("/dev/"));
    guest.wait_for(&format!("[ $(cat {size_file}) = {} ]", 128 * MIB / 512), Duration::from_secs(10));
    guest.ok(&format!(
        "dd if=/tmp/f of={device} bs=1M seek=100 oflag=direct && cmp -n 4194304 {device} /tmp/f"
    ));

    let other = server.create_volume("comes", 32 * MIB);
    guest.device(&other);
    client.delete(&volume_path(&other));
    guest.wait_until_gone(&other);
    guest.ok(&format!("cmp -n 4194304 {device} /tmp/f"));
}

#[test]
fn acl_change_is_effective_on_a_live_connection() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let client = server.client();
    let mut guest = Guest::boot();
    let host = guest.ok("cat /etc/nvme/hostnqn").trim().to_owned();
    guest.connect(&server, "127.0.0.1", "");
    let volume = server.create_volume_with(&json!({
        "name": "v1", "size": (64 * MIB).to_string(), "acl": {"values": ["ALLOW_NONE"]}, "replicaCount": 1
    }));
    let path = volume_path(&volume);
    let acl = |values: &[&str]| {
        client.put(&path, &json!({"acl": {"values": values}}));
    };
    guest.wait_until_gone(&volume);
    acl(&[&host]);
    let device = guest.device(&volume);
    guest.ok(&format!(
        "dd if=/dev/urandom of=/tmp/f bs=1M count=2; dd if=/tmp/f of={device} bs=1M oflag=direct"
    ));
    let hosts = client.get("/api/v2/connectedHosts");
    assert!(hosts["connectedHosts"].to_string().contains(&host), "{hosts}");
    acl(&["nqn.2014-08.org.example:another"]);
    guest.wait_until_gone(&volume);
    acl(&["nqn.2014-08.org.example:another", &host]);
    let device = guest.device(&volume);
    guest.ok(&format!("cmp -n 2097152 {device} /tmp/f"));
    // The address list masks as the host list does.
    client.put(&path, &json!({"IPAcl": {"values": ["10.9.8.7"]}}));
    guest.wait_until_gone(&volume);
    client.put(&path, &json!({"IPAcl": {"values": ["127.0.0.1"]}}));
    guest.device(&volume);
}

#[test]
fn volume_is_fenced_while_a_host_writes() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let client = server.client();
    let mut guest = Guest::boot();
    guest.connect(&server, "127.0.0.1", "");
    let kept = server.create_volume("kept", 64 * MIB);
    let lost = server.create_volume("lost", 64 * MIB);
    let (kept_device, lost_device) = (guest.device(&kept), guest.device(&lost));
    guest.start(&format!(
        "! fio --name=w --filename={lost_device} --ioengine=io_uring --iodepth=16 --direct=1 \
        --rw=randwrite --bs=4k --time_based --runtime=60"
    ));
    guest.ok("sleep 2");
    client.delete(&volume_path(&lost));
    // The writer ends with an error at once; the connection and the other volume live on.
    guest.finish(Duration::from_secs(30));
    guest.wait_until_gone(&lost);
    guest.ok(&format!("dd if=/dev/urandom of={kept_device} bs=1M count=4 oflag=direct"));
    guest.ok("grep -qx live /sys/class/nvme/*/state");
}
