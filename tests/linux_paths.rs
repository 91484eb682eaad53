//! A Linux host keeps its volumes through resets, lost paths, lost targets and lost state.

use std::time::Duration;

use tests::guest::{Guest, Options};
use tests::linux::one_guest_at_a_time;
use tests::proxy::Proxy;
use tests::server::{Server, Setup};

const MIB: u64 = 1024 * 1024;

#[test]
fn two_controllers_are_two_paths_to_one_volume() {
    let _turn = one_guest_at_a_time();
    let server =
        Server::start(&Setup { address: "0.0.0.0", advertise: Some("127.0.0.1"), ..Setup::default() });
    let volume = server.create_volume("v1", 128 * MIB);
    let mut guest = Guest::boot();
    let first = guest.connect(&server, "127.0.0.1", "");
    let second = guest.connect(&server, "127.0.0.2", "");
    assert_ne!(first, second);
    let device = guest.device(&volume);
    let paths = guest.ok("nvme list-subsys");
    assert!(paths.contains("127.0.0.1") && paths.contains("127.0.0.2"), "{paths}");
    assert_eq!(paths.matches(" live").count(), 2, "{paths}");
    guest.start(&writer(&device, "--size=32m"));
    guest.ok(&format!("sleep 1; nvme disconnect -d {}", second.trim_start_matches("/dev/")));
    guest.finish(Duration::from_mins(2));
    let again = guest.connect(&server, "127.0.0.2", "");
    guest.start(&writer(&device, "--size=32m"));
    guest.ok(&format!("sleep 1; nvme disconnect -d {}", first.trim_start_matches("/dev/")));
    guest.finish(Duration::from_mins(2));
    guest.ok(&format!("nvme id-ctrl {again} | grep -q cntlid"));
}

#[test]
fn reset_under_load_loses_nothing() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let volume = server.create_volume("v1", 128 * MIB);
    let mut guest = Guest::boot();
    let controller = guest.connect(&server, "127.0.0.1", "");
    let device = guest.device(&volume);
    // A reset freezes the host's queue for a moment. io_uring submits without waiting, and has been seen to hand that on as
    // EAGAIN; who waits sees only what the target does.
    guest.start(&writer(&device, "--size=48m --ioengine=libaio"));
    for _ in 0..4 {
        guest.ok(&format!("sleep 1; nvme reset {controller}"));
        guest.wait_for("grep -qx live /sys/class/nvme/*/state", Duration::from_secs(10));
    }
    guest.finish(Duration::from_mins(3));
    guest.ok("nvme disconnect-all");
}

#[test]
fn fio_finishes_clean_though_the_target_is_killed_twice() {
    let _turn = one_guest_at_a_time();
    let mut server = Server::start(&Setup::default());
    let volume = server.create_volume("v1", 128 * MIB);
    let mut guest = Guest::boot();
    guest.connect(&server, "127.0.0.1", "--reconnect-delay=1 --ctrl-loss-tmo=120 --keep-alive-tmo=5");
    let device = guest.device(&volume);
    guest.start(&writer(&device, "--size=64m"));
    for _ in 0..2 {
        std::thread::sleep(Duration::from_secs(3));
        server.kill();
        std::thread::sleep(Duration::from_secs(1));
        server.restart();
        guest.wait_for("grep -qx live /sys/class/nvme/*/state", Duration::from_secs(30));
    }
    guest.finish(Duration::from_mins(4));
    guest.ok(&format!("! dmesg | grep -i 'i/o error, dev {}'", device.trim_start_matches("/dev/")));
    assert_eq!(guest.device(&volume), device, "the namespace kept its name");
}

#[test]
fn clean_stop_and_start_under_load_loses_nothing() {
    let _turn = one_guest_at_a_time();
    let mut server = Server::start(&Setup::default());
    let volume = server.create_volume("v1", 128 * MIB);
    let mut guest = Guest::boot();
    guest.connect(&server, "127.0.0.1", "--reconnect-delay=1 --ctrl-loss-tmo=120");
    let device = guest.device(&volume);
    guest.start(&writer(&device, "--size=48m"));
    std::thread::sleep(Duration::from_secs(3));
    let status = server.terminate();
    assert!(status.success(), "SIGTERM ends the server cleanly: {status}");
    server.restart();
    guest.finish(Duration::from_mins(4));
}

#[test]
fn spoiled_bytes_are_caught_by_digests_on_both_sides() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let volume = server.create_volume("v1", 128 * MIB);
    let proxy = Proxy::before(([127, 0, 0, 1], server.port).into());
    let mut guest = Guest::boot();
    let options = "--hdr-digest --data-digest --reconnect-delay=1 --ctrl-loss-tmo=120 --keep-alive-tmo=5";
    let (port, nqn) = (proxy.address().port(), server.nqn());
    guest.ok(&format!("nvme connect -t tcp -a 127.0.0.1 -s {port} -n {nqn} {options}"));
    let device = guest.device(&volume);
    guest.start(&writer(&device, "--size=48m --bs=16k"));
    for round in 0..4 {
        std::thread::sleep(Duration::from_millis(700));
        if round % 2 == 0 { proxy.spoil_to_controller(1) } else { proxy.spoil_to_host(1) }
    }
    guest.finish(Duration::from_mins(4));
    // What fio did not read while it wrote is spoiled now.
    for _ in 0..2 {
        proxy.spoil_to_host(1);
        guest.ok(&format!("dd if={device} of=/dev/null bs=64k count=64 iflag=direct"));
    }
    assert_eq!(proxy.faults_left(), 0, "every fault was made");
    guest.ok(&verifier(&device, "--size=48m --bs=16k"));
}

#[test]
fn pool_without_its_state_serves_the_same_volumes() {
    let _turn = one_guest_at_a_time();
    let mut server = Server::start(&Setup::default());
    let nqn = server.nqn();
    let old = server.client();
    let volume = server.create_volume("precious", 64 * MIB);
    let small = server.create_volume("second", 32 * MIB);
    let mut guest = Guest::boot();
    guest.connect(&server, "127.0.0.1", "--reconnect-delay=1 --ctrl-loss-tmo=120");
    let device = guest.device(&volume);
    guest.ok(&format!(
        "dd if=/dev/urandom of=/tmp/f bs=1M count=16; dd if=/tmp/f of={device} bs=1M oflag=direct"
    ));
    server.kill();
    std::fs::remove_dir_all(server.state()).unwrap();
    server.restart();
    assert_eq!(server.nqn(), nqn, "the cluster is the same");
    old.send("GET", "/api/v2/volumes?projectName=default", &[], None).expect_error(401, 16);
    let client = server.client();
    for was in [&volume, &small] {
        let is = client.get(&tests::server::volume_path(was));
        for field in ["name", "UUID", "nsid", "size", "acl", "sectorSize", "projectName"] {
            assert_eq!(is[field], was[field], "{field}");
        }
    }
    guest.wait_for("grep -qx live /sys/class/nvme/*/state", Duration::from_secs(30));
    guest.ok(&format!("echo 3 >/proc/sys/vm/drop_caches; cmp -n 16777216 {device} /tmp/f"));
}

#[test]
fn host_connects_over_ipv6() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup { address: "[::1]", ..Setup::default() });
    let volume = server.create_volume("v1", 64 * MIB);
    let mut guest = Guest::boot_with(&Options { loop_host: false, ..Options::default() });
    // QEMU's network forwards fec0::2 to the machine's ::1, once the guest has an address of that prefix.
    guest.wait_for("busybox ip -6 addr show dev eth0 | grep -q fec0", Duration::from_secs(20));
    let log = guest.ok(&format!("nvme discover -t tcp -a fec0::2 -s {}", server.discovery));
    assert!(log.contains("ipv6") && log.contains("::1"), "{log}");
    guest.connect(&server, "fec0::2", "--hdr-digest");
    let device = guest.device(&volume);
    guest.ok_within(&writer(&device, "--size=8m"), Duration::from_mins(1));
}

#[test]
fn older_kernel_connects_and_verifies() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let volume = server.create_volume("v1", 64 * MIB);
    let mut guest = Guest::boot_with(&Options { kernel: "6.1", ..Options::default() });
    assert!(guest.ok("uname -r").starts_with("6.1."));
    guest.connect(&server, "127.0.0.1", "--data-digest");
    let device = guest.device(&volume);
    guest.ok_within(&writer(&device, "--size=8m"), Duration::from_mins(1));
    guest.ok(&format!(
        "mkfs.ext4 -q {device} && mount -t ext4 {device} /mnt && umount /mnt && e2fsck -fn {device}"
    ));
}

/// A fio command that writes at random, then verifies every block.
fn writer(device: &str, options: &str) -> String {
    format!("{FIO} --filename={device} --do_verify=1 {options}")
}

/// A fio command that verifies what [`writer`] left.
fn verifier(device: &str, options: &str) -> String {
    format!("{FIO} --filename={device} --verify_only {options}")
}

const FIO: &str = "fio --name=writer --ioengine=io_uring --iodepth=16 --direct=1 --rw=randwrite --bs=4k \
    --verify=crc32c --verify_fatal=1 --randseed=11";
