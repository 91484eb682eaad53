//! A Linux host's data: file systems, verified random I/O, and every command that moves or drops blocks.

use std::time::Duration;

use serde_json::json;
use tests::guest::Guest;
use tests::linux::one_guest_at_a_time;
use tests::server::{Server, Setup};

const MIB: u64 = 1024 * 1024;

#[test]
fn bench_namespaces_measure_transport_and_memory() {
    let _turn = one_guest_at_a_time();
    let benches = vec!["null:1GiB", "ram:64MiB"];
    let server = Server::start(&Setup { pool_mib: 0, benches, ..Setup::default() });
    let mut guest = Guest::boot();
    guest.connect(&server, "127.0.0.1", "");
    let null = guest.device_of_size(1024 * MIB);
    let ram = guest.device_of_size(64 * MIB);
    guest.ok(&format!("dd if=/dev/urandom of={null} bs=64k count=16 oflag=direct"));
    guest.ok(&format!("cmp -n 1048576 {null} /dev/zero"));
    guest.ok(&format!(
        "dd if=/dev/urandom of=/tmp/f bs=64k count=64; dd if=/tmp/f of={ram} bs=64k oflag=direct"
    ));
    guest.ok(&format!("echo 3 >/proc/sys/vm/drop_caches; cmp -n 4194304 {ram} /tmp/f"));
    fio(&mut guest, &ram, "--rw=randwrite --bs=4k --size=8m");
}

#[test]
fn file_system_survives_a_remount() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let volume = server.create_volume("v1", 256 * MIB);
    let mut guest = Guest::boot();
    guest.connect(&server, "127.0.0.1", "");
    let device = guest.device(&volume);
    guest.ok(&format!("mkfs.ext4 -q {device} && mount -t ext4 {device} /mnt"));
    guest.ok("dd if=/dev/urandom of=/tmp/f bs=64k count=256; cp /tmp/f /mnt/f && sync && rm -f /mnt/none && umount /mnt");
    guest.ok("nvme disconnect-all");
    guest.wait_until_gone(&volume);
    guest.connect(&server, "127.0.0.1", "");
    let device = guest.device(&volume);
    guest.ok(&format!(
        "mount -t ext4 {device} /mnt && cmp /tmp/f /mnt/f && umount /mnt && e2fsck -fn {device}"
    ));
}

#[test]
fn random_writes_of_mixed_sizes_verify_with_digests() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let volume = server.create_volume("v1", 256 * MIB);
    let mut guest = Guest::boot();
    guest.connect(&server, "127.0.0.1", "--hdr-digest --data-digest");
    let device = guest.device(&volume);
    fio(&mut guest, &device, "--rw=randwrite --bs=4k --size=8m");
    fio(
        &mut guest,
        &device,
        "--rw=randwrite --bssplit=4k/40:8k/20:32k/20:128k/15:1m/5 --size=32m --verify_interval=4k",
    );
    fio(&mut guest, &device, "--rw=randrw --bs=16k --size=16m");
    // Writes of an odd number of blocks, across stripes.
    fio(&mut guest, &device, "--rw=write --bs=1004k --offset=36k --size=20m --verify_interval=4k");
    guest.ok("nvme disconnect-all");
    guest.connect(&server, "127.0.0.1", "--nr-io-queues=1 --queue-size=16");
    let device = guest.device(&volume);
    fio(&mut guest, &device, "--rw=randwrite --bs=4k --size=8m");
}

#[test]
fn discards_and_zeroes_read_back_as_zeroes() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let volume = server.create_volume("v1", 64 * MIB);
    let mut guest = Guest::boot();
    guest.connect(&server, "127.0.0.1", "");
    let device = guest.device(&volume);
    let fill = format!("dd if=/dev/urandom of={device} bs=1M count=64 oflag=direct 2>/dev/null");
    let is_zero = |from: u64, bytes: u64| {
        // An emulated guest takes a millisecond or more for each read.
        let at_once = if from.is_multiple_of(MIB) && bytes.is_multiple_of(MIB) { MIB } else { 4096 };
        format!(
            "dd if={device} bs={at_once} skip={} count={} iflag=direct 2>/dev/null | cmp -s -n {bytes} - /dev/zero",
            from / at_once,
            bytes / at_once
        )
    };
    guest.ok(&fill);
    guest.ok(&format!("/usr/sbin/blkdiscard -o 4096 -l {} {device}", 3 * MIB));
    guest.ok(&is_zero(4096, 3 * MIB));
    guest.fails(&is_zero(0, 4096));
    guest.fails(&is_zero(4096 + 3 * MIB, 4096));
    guest.ok(&format!("/usr/sbin/blkdiscard -z -o {} -l {} {device}", 8 * MIB, 5 * MIB));
    guest.ok(&is_zero(8 * MIB, 5 * MIB));
    guest.fails(&is_zero(13 * MIB, 4096));
    guest.ok(&format!("nvme write-zeroes {device} -s 8192 -c 15"));
    guest.ok(&is_zero(8192 * 4096, 16 * 4096));
    guest.fails(&is_zero(8192 * 4096 + 16 * 4096, 4096));
    guest.ok(&format!("nvme dsm {device} --ad --slbs=10000,11000 --blocks=8,16"));
    guest.ok(&is_zero(10000 * 4096, 8 * 4096));
    guest.ok(&is_zero(11000 * 4096, 16 * 4096));
    guest.fails(&is_zero(11016 * 4096, 4096));
    guest.ok(&format!("/usr/sbin/blkdiscard {device}"));
    guest.ok(&is_zero(0, 64 * MIB));
}

#[test]
fn compare_flush_and_verify_answer_truly() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let volume = server.create_volume("v1", 64 * MIB);
    let mut guest = Guest::boot();
    guest.connect(&server, "127.0.0.1", "");
    let device = guest.device(&volume);
    guest.ok(&format!(
        "dd if=/dev/urandom of=/tmp/f bs=4k count=4; dd if=/tmp/f of={device} bs=4k seek=5 oflag=direct"
    ));
    guest.ok(&format!("nvme compare {device} -s 5 -c 3 -z 16384 -d /tmp/f"));
    let said = guest.fails(&format!("nvme compare {device} -s 6 -c 3 -z 16384 -d /tmp/f"));
    assert!(said.to_lowercase().contains("compare"), "Compare Failure: {said}");
    guest.ok(&format!("nvme flush {device}"));
    guest.ok(&format!("nvme verify {device} -s 0 -c 63"));
    guest.ok(&format!("nvme write {device} -s 9 -c 0 -z 4096 -d /tmp/f --force-unit-access"));
    guest.ok(&format!("nvme read {device} -s 9 -c 0 -z 4096 -d /tmp/g && cmp -n 4096 /tmp/f /tmp/g"));
    // Beyond the end: LBA Out of Range, not data.
    let said = guest.fails(&format!("nvme read {device} -s {} -c 0 -z 4096 -d /tmp/g", 64 * MIB / 4096));
    assert!(said.to_lowercase().contains("lba"), "LBA Out of Range: {said}");
    guest.fails(&format!("nvme io-passthru {device} --opcode=0x7f --namespace-id={}", volume["nsid"]));
    guest.ok("grep -qx live /sys/class/nvme/*/state");
}

#[test]
fn volume_with_512_byte_sectors_holds_partial_blocks() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let volume = server.create_volume_with(&json!({
        "name": "small", "size": (64 * MIB).to_string(), "acl": {"values": ["ALLOW_ANY"]},
        "replicaCount": 1, "sectorSize": 512
    }));
    let mut guest = Guest::boot();
    guest.connect(&server, "127.0.0.1", "");
    let device = guest.device(&volume);
    guest.ok(&format!(
        "[ $(cat /sys/block/{}/queue/logical_block_size) = 512 ]",
        device.trim_start_matches("/dev/")
    ));
    fio(&mut guest, &device, "--rw=randwrite --bs=512 --size=1m");
    fio(
        &mut guest,
        &device,
        "--rw=randwrite --bssplit=512/30:1536/30:4k/20:9k/20 --size=8m --verify_interval=512",
    );
    guest.ok(&format!("dd if=/dev/urandom of={device} bs=4k count=4 oflag=direct; /usr/sbin/blkdiscard -z -o 1024 -l 2048 {device}"));
    guest.ok(&format!(
        "dd if={device} bs=512 skip=2 count=4 iflag=direct 2>/dev/null | cmp -s -n 2048 - /dev/zero"
    ));
    guest.fails(&format!(
        "dd if={device} bs=512 skip=1 count=1 iflag=direct 2>/dev/null | cmp -s -n 512 - /dev/zero"
    ));
    guest.fails(&format!(
        "dd if={device} bs=512 skip=6 count=1 iflag=direct 2>/dev/null | cmp -s -n 512 - /dev/zero"
    ));
    guest.ok(&format!(
        "mkfs.ext4 -q -b 1024 {device} && mount -t ext4 {device} /mnt && cp /bin/busybox /mnt/ && umount /mnt"
    ));
    guest.ok(&format!(
        "mount -t ext4 {device} /mnt && cmp /bin/busybox /mnt/busybox && umount /mnt && e2fsck -fn {device}"
    ));
}

/// Writes and verifies by fio; the options say what.
fn fio(guest: &mut Guest, device: &str, options: &str) {
    guest.ok_within(
        &format!(
            "fio --name=verify --filename={device} --ioengine=io_uring --iodepth=16 --direct=1 --verify=crc32c \
             --do_verify=1 --verify_fatal=1 --randseed=7 {options}"
        ),
        Duration::from_mins(4),
    );
}
