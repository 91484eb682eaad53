//! Proves the guest itself: the kernel's own target and host, both in the guest, over its loopback.
//!
//! When this fails, no other guest test says anything about Ferrule.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tests::association::{Association, Identity, Payload, command};
use tests::guest::{Guest, Options};
use tests::linux::one_guest_at_a_time;
use tests::person::Person;
use tests::scratch::{Scratch, free_port};

#[test]
fn guest_connects_to_its_own_kernel_target() {
    let _turn = one_guest_at_a_time();
    let scratch = Scratch::new("harness");
    let file = scratch.join("hello");
    std::fs::write(&file, "#!/bin/sh\necho brought along\n").unwrap();
    let mut guest = Guest::boot_with(&Options {
        loop_host: false,
        files: vec![(file, "/opt/harness/hello".to_owned())],
        ..Options::default()
    });
    assert_eq!(guest.ok("/opt/harness/hello"), "brought along\n");
    assert_eq!(guest.run("echo seen; exit 7", Duration::from_secs(10)).status, 7);

    guest.ok(KERNEL_TARGET);
    let log = guest.ok("nvme discover -t tcp -a 127.0.0.1 -s 4420");
    assert!(log.contains("subnqn:  nqn.2014-08.org.example:kernel"), "{log}");
    guest.ok("nvme connect -t tcp -a 127.0.0.1 -s 4420 -n nqn.2014-08.org.example:kernel --hdr-digest --data-digest");
    guest.wait_for("[ -b /dev/nvme0n1 ]", Duration::from_secs(5));
    assert!(guest.ok("nvme list").contains("/dev/nvme0n1"));
    guest.ok("mkfs.ext4 -q /dev/nvme0n1 && mount -t ext4 /dev/nvme0n1 /mnt");
    guest.ok("dd if=/dev/urandom of=/tmp/f bs=64k count=32 2>/dev/null && cp /tmp/f /mnt/f && umount /mnt");
    guest
        .ok("mount -t ext4 /dev/nvme0n1 /mnt && cmp /tmp/f /mnt/f && umount /mnt && e2fsck -fn /dev/nvme0n1");
    guest.ok(
        "fio --name=v --filename=/dev/nvme0n1 --rw=randwrite --bs=4k --size=4m --ioengine=io_uring --iodepth=8 \
         --direct=1 --verify=crc32c --do_verify=1",
    );
    guest.ok("/usr/sbin/blkdiscard -z -o 0 -l 1048576 /dev/nvme0n1 && /usr/sbin/blkdiscard /dev/nvme0n1");
    guest.ok("nvme reset /dev/nvme0 && nvme disconnect-all");
}

#[test]
fn hosts_of_ours_speak_to_the_kernel_target() {
    let _turn = one_guest_at_a_time();
    let port = free_port();
    let mut guest = Guest::boot_with(&Options {
        loop_host: false,
        netdevs: vec![format!("user,id=n0,hostfwd=tcp:127.0.0.1:{port}-:4420")],
        ..Options::default()
    });
    guest.ok(&KERNEL_TARGET.replace("127.0.0.1", "0.0.0.0"));
    blocking_host(port);
    perf_verifies_what_the_target_keeps(port);
    guest.ok(FORGETFUL_NAMESPACE);
    perf_sees_what_the_target_forgets(port);
}

fn blocking_host(port: u16) {
    let identity = Identity::new(port, NQN, 1);
    for (header_digest, data_digest) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut association = Association::connect_with(&identity, 5000, header_digest, data_digest);
        assert_eq!(association.namespaces(), [1]);
        let mut queue = association.io_queue_with(1, header_digest, data_digest);
        for (lba, length) in [(0, 4096), (64, 512), (128, 1 << 20)] {
            let data: Vec<u8> = (0..length).map(|at| (at * 7 + at / 251) as u8).collect();
            let _ = queue.write(1, lba, 512, &data).expect_success("write");
            assert!(queue.read(1, lba, 512, length).expect_success("read").data == data);
        }
        let _ = queue.run(command(0x00, 1), Payload::None).expect_success("flush");
        assert_eq!(queue.run(command(0x7F, 1), Payload::None).status, 0x01, "Invalid Command Opcode");
    }
}

fn perf_verifies_what_the_target_keeps(port: u16) {
    for words in [&[][..], &["--hdr-digest", "--data-digest"], &["--block", "--flush", "--sq-flow-control"]] {
        let said = run_perf(port, &[words, &["-o", "json"]].concat());
        let report: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        let digests = words.contains(&"--hdr-digest");
        assert!(report["header_digest"] == digests && report["data_digest"] == digests, "{said}");
        assert_eq!(report["errors"], Value::Object(serde_json::Map::new()), "{said}");
        for direction in ["all", "reads", "writes"] {
            let Value::Object(direction) = &report[direction] else { panic!("no {direction}: {said}") };
            assert!(direction["ios"].as_u64() > Some(0) && direction["iops"].as_f64() > Some(0.0), "{said}");
            let quantile = |name: &str| direction["latency"][name].as_u64();
            assert!(Some(0) < quantile("min") && quantile("min") <= quantile("p50"), "{said}");
            assert!(quantile("p50") <= quantile("p99") && quantile("p99") <= quantile("max"), "{said}");
        }
        assert!(report["verified"]["checked"].as_u64() > Some(0), "{said}");
        assert_eq!(report["verified"]["mismatches"], 0, "{said}");
    }
    let said = run_perf(port, &["--hdr-digest", "--rate", "100000"]);
    let line =
        |label: &str| said.lines().find(|line| line.starts_with(label)).unwrap_or_else(|| panic!("{said}"));
    assert!(line("randrw").contains("4096 bytes, 1 queue of depth 32"), "{said}");
    assert!(line("with").contains(" header digests, at most 100000 commands a second"), "{said}");
    assert!(line("reads").contains(" IOPS  ") && line("writes").ends_with(" MB/s"), "{said}");
    for name in ["min ", "mean ", "p50 ", "p90 ", "p99 ", "p99.9 ", "p99.99 ", "max "] {
        assert!(line("  latency in us").contains(&format!("  {name}")), "{name}: {said}");
    }
    assert!(line("target").contains(" us of CPU a command"), "QEMU holds the port: {said}");
    assert!(line("load").contains(" us of CPU a command"), "{said}");
    assert!(line("verified").ends_with(" commands, 0 wrong"), "{said}");
}

fn perf_sees_what_the_target_forgets(port: u16) {
    let output = perf(port, "2", &[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(" wrong: LBA "), "{said}");
    let absent = perf(port, "3", &[]);
    let said = String::from_utf8_lossy(&absent.stderr);
    assert_eq!(said, "error: namespace 3 does not exist, or this host may not see it\n");
    assert_eq!(absent.status.code(), Some(1));
}

/// What `ferrule perf` prints of a load on namespace 1, which must succeed.
fn run_perf(port: u16, words: &[&str]) -> String {
    let output = perf(port, "1", words);
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {}\n{said}{errors}", output.status);
    println!("{said}");
    said
}

/// A verified load of a second on 64 MiB of a namespace of the kernel's target.
fn perf(port: u16, nsid: &str, words: &[&str]) -> Output {
    let target = format!("127.0.0.1:{port}");
    let load = ["perf", "--target", &target, "--subnqn", NQN, "--nsid", nsid, "--rw", "randrw", "--verify"];
    Person::alone().try_ferrule(&[&load[..], &["--time", "1", "--size", "64MiB"], words].concat())
}

const NQN: &str = "nqn.2014-08.org.example:kernel";

/// A subsystem of the kernel's own target with one namespace on a RAM-backed null block device.
const KERNEL_TARGET: &str = "set -e
modprobe nvmet; modprobe nvmet-tcp; modprobe null_blk nr_devices=1 memory_backed=1 gb=1 discard=1
cd /sys/kernel/config/nvmet
subsystem=subsystems/nqn.2014-08.org.example:kernel
mkdir $subsystem; echo 1 >$subsystem/attr_allow_any_host
mkdir $subsystem/namespaces/1
echo -n /dev/nullb0 >$subsystem/namespaces/1/device_path; echo 1 >$subsystem/namespaces/1/enable
mkdir ports/1
echo tcp >ports/1/addr_trtype; echo ipv4 >ports/1/addr_adrfam
echo 127.0.0.1 >ports/1/addr_traddr; echo 4420 >ports/1/addr_trsvcid
ln -s $PWD/$subsystem ports/1/subsystems/";

/// A second namespace of that subsystem, which keeps nothing of what is written.
const FORGETFUL_NAMESPACE: &str = "set -e
device=/sys/kernel/config/nullb/nullb1
mkdir $device; echo 0 >$device/memory_backed; echo 64 >$device/size; echo 1 >$device/power
namespace=/sys/kernel/config/nvmet/subsystems/nqn.2014-08.org.example:kernel/namespaces/2
mkdir $namespace; echo -n /dev/nullb1 >$namespace/device_path; echo 1 >$namespace/enable";
