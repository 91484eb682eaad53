//! A Linux host finds the target, connects and reads what it says of itself: discovery, Identify, logs, features.

use std::time::Duration;

use serde_json::Value;
use tests::guest::Guest;
use tests::linux::one_guest_at_a_time;
use tests::server::{Server, Setup};

const MIB: u64 = 1024 * 1024;

#[test]
fn host_discovers_on_both_ports_and_connects_to_all() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let volume = server.create_volume("v1", 64 * MIB);
    let nqn = server.nqn();
    let mut guest = Guest::boot();

    for port in [server.discovery, server.port] {
        let log = guest.json(&format!("nvme discover -t tcp -a 127.0.0.1 -s {port} -o json"));
        let records = log["records"].as_array().expect("records");
        let record = records.iter().find(|record| record["subnqn"] == nqn.as_str()).expect("the subsystem");
        assert_eq!(record["subtype"], "nvme subsystem", "{log}");
        assert_eq!(record["trtype"], "tcp", "{log}");
        assert_eq!(record["traddr"], "127.0.0.1", "{log}");
        assert_eq!(record["trsvcid"], server.port.to_string(), "{log}");
    }

    guest.ok(&format!("nvme connect-all -t tcp -a 127.0.0.1 -s {}", server.discovery));
    let device = guest.device(&volume);
    let list = guest.ok("nvme list");
    assert!(list.contains(&device), "{list}");
    guest.ok(&format!("nvme disconnect -n {nqn}"));
    guest.wait_until_gone(&volume);
    guest.ok("nvme disconnect-all; [ -z \"$(ls /sys/class/nvme)\" ]");
}

#[test]
fn persistent_discovery_outlives_its_keep_alive_timeout() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let mut guest = Guest::boot();
    guest.ok(&format!(
        "nvme discover -t tcp -a 127.0.0.1 -s {} --persistent --keep-alive-tmo=5",
        server.discovery
    ));
    guest
        .ok("grep -q discovery /sys/class/nvme/nvme*/cntrltype && grep -qx live /sys/class/nvme/nvme*/state");
    // Longer than the keep-alive timeout: a discovery controller must answer Keep Alive too.
    guest.ok("sleep 12; grep -qx live /sys/class/nvme/nvme*/state");
    guest.ok("! dmesg | grep -iE 'keep_alive_end_io error|error recovery|reconnect'");
}

#[test]
fn controller_identifies_itself_as_linux_needs() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let volume = server.create_volume("v1", 64 * MIB);
    let mut guest = Guest::boot();
    let controller = guest.connect(&server, "127.0.0.1", "");
    let device = guest.device(&volume);

    let id = guest.json(&format!("nvme id-ctrl {controller} -o json"));
    let field = |name: &str| number(&id, name);
    assert_eq!(id["subnqn"], server.nqn().as_str());
    assert_eq!(field("cntrltype"), 1);
    assert!(field("ver") >= 0x2_0000, "{id}");
    assert_ne!(field("kas"), 0, "keep alive support");
    assert!(field("ioccsz") >= 4 + 256, "4 KiB in the capsule: {}", field("ioccsz"));
    assert!(field("iorcsz") >= 1);
    assert_eq!(field("icdoff"), 0);
    assert_ne!(field("sgls"), 0);
    assert_ne!(field("maxcmd"), 0);
    assert_eq!(field("cmic") & 0b1010, 0b1010, "several controllers, ANA");
    assert!(field("nn") >= 16_384 && field("mnan") >= 16_384);
    assert_eq!(field("vwc") & 1, 1);
    assert_eq!(field("awupf"), 0);
    assert_ne!(field("anagrpmax"), 0);
    // The whole ANA log is read in one command: header, group descriptors, every namespace's NSID.
    let ana_log_bytes = 16 + 32 * field("nanagrpid") + 4 * field("mnan");
    let mdts = field("mdts");
    assert!(mdts == 0 || 4096 << mdts >= ana_log_bytes, "MDTS {mdts} holds {ana_log_bytes} bytes");

    let namespace = guest.json(&format!("nvme id-ns {device} -o json"));
    assert_eq!(number(&namespace, "nsze"), 64 * MIB / 4096);
    assert_eq!(number(&namespace, "nmic") & 1, 1, "shared");
    assert_ne!(number(&namespace, "anagrpid"), 0);
    let uuid = volume["UUID"].as_str().unwrap();
    assert_eq!(namespace["nguid"], uuid.replace('-', "").as_str());
    let descriptors = guest.ok(&format!("nvme ns-descs {device}"));
    assert!(descriptors.contains(uuid), "{descriptors}");

    let nsid = number(&volume, "nsid");
    let list = guest.json(&format!("nvme list-ns {controller} -o json")).to_string();
    assert!(list.contains(&nsid.to_string()), "{list}");
    // An inactive namespace identifier answers zeros, not an error.
    let inactive = guest.json(&format!("nvme id-ns {controller} -n {} --force -o json", nsid + 1));
    assert_eq!(number(&inactive, "nsze"), 0);
    guest.ok(&format!("nvme list-ctrl {controller}"));
    guest.ok(&format!("nvme cmdset-ind-id-ns {controller} -n {nsid}"));
    guest.ok(&format!("nvme nvm-id-ctrl {controller}"));
    guest.ok(&format!("nvme list-subsys; nvme show-regs {controller}"));
}

#[test]
fn logs_and_features_are_those_that_the_revision_demands() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let volume = server.create_volume("v1", 64 * MIB);
    let mut guest = Guest::boot();
    let controller = guest.connect(&server, "127.0.0.1", "--keep-alive-tmo=7");
    let device = guest.device(&volume);
    guest.ok(&format!("dd if=/dev/urandom of={device} bs=4k count=8 oflag=direct"));

    for log in [
        "smart-log",
        "effects-log",
        "ana-log",
        "changed-ns-list-log",
        "fw-log",
        "error-log",
        "supported-log-pages",
        "fid-support-effects-log",
    ] {
        guest.ok(&format!("nvme {log} {controller}"));
    }
    let smart = guest.json(&format!("nvme smart-log {controller} -o json"));
    assert_eq!(number(&smart, "critical_warning"), 0, "{smart}");
    let ana = guest.json(&format!("nvme ana-log {controller} -o json"));
    assert!(ana.to_string().contains("optimized"), "{ana}");

    for feature in [0x01, 0x02, 0x04, 0x05, 0x07, 0x0a, 0x0b, 0x0f] {
        guest.ok(&format!("nvme get-feature {controller} -f {feature}"));
    }
    let keep_alive = guest.ok(&format!("nvme get-feature {controller} -f 0xf"));
    assert!(keep_alive.contains(&format!("{:#x}", 7000)) || keep_alive.contains("1b58"), "{keep_alive}");
    // Refused, and the controller lives on.
    guest.fails(&format!("nvme get-feature {controller} -f 0xee"));
    guest.fails(&format!("nvme get-log {controller} -i 0x6f -l 512"));
    guest.fails(&format!("nvme admin-passthru {controller} --opcode=0xf3"));
    guest.ok(&format!("nvme smart-log {controller}; grep -qx live /sys/class/nvme/*/state"));
}

#[test]
fn connection_that_only_keeps_alive_stays() {
    let _turn = one_guest_at_a_time();
    let server = Server::start(&Setup::default());
    let volume = server.create_volume("v1", 64 * MIB);
    let mut guest = Guest::boot();
    guest.connect(&server, "127.0.0.1", "--keep-alive-tmo=2");
    let device = guest.device(&volume);
    let before = server.processor_time();
    let pause = Duration::from_secs(10);
    std::thread::sleep(pause);
    let busy = server.processor_time() - before;
    assert!(busy < pause / 50, "an idle connection cost {busy:?} of processor time in {pause:?}");
    guest.ok(&format!(
        "dd if={device} of=/dev/null bs=4k count=1 iflag=direct; \
         ! dmesg | grep -iE 'keep_alive_end_io error|error recovery|reconnect'"
    ));
}

/// A number that nvme-cli prints as one or as text.
fn number(value: &Value, name: &str) -> u64 {
    let field = &value[name];
    let parsed = field.as_u64().or_else(|| {
        let text = field.as_str()?;
        text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok())
    });
    parsed.unwrap_or_else(|| panic!("no number {name} in {value}"))
}
