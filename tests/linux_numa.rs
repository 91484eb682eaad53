//! On a machine with two NUMA nodes and a drive on each, the server puts everything on the right one.
//!
//! The machine is a guest with emulated drives; the server runs inside it. Where memory lies is read from the kernel's own
//! `numa_maps`, never from what the server says of itself.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tests::guest::{Guest, Options};
use tests::linux::one_guest_at_a_time;
use tests::scratch::Scratch;
use tests::server::binary;

const MIB: u64 = 1024 * 1024;
/// Where the server and its libraries lie in the guest.
const PLACE: &str = "/opt/ferrule";
const PROGRAM: &str = "LD_LIBRARY_PATH=/opt/ferrule /opt/ferrule/ferrule";
const DRIVE_MIB: u64 = 512;
/// Writes that are counted, each of which makes a map page of 544 bytes; what they make in pages of the system.
const WRITES: u64 = 4096;
const MAP_PAGES: u64 = WRITES * 544 / 4096;
/// Writes before those: what the server takes once, and what it had freed and takes again, is not counted then.
const WARM_UP: u64 = 1024;

#[test]
fn reactors_memory_and_shards_are_on_the_nodes_of_their_drives() {
    let _turn = one_guest_at_a_time();
    let scratch = Scratch::new("numa");
    let mut guest = Guest::boot_with(&machine(&scratch));
    guest.ok("modprobe nvme");
    let drives = [drive_of(&mut guest, "NODE0"), drive_of(&mut guest, "NODE1")];
    let pool = format!("--pool {} --pool {} --shards 4", drives[0], drives[1]);
    // Which CPUs belong to which node is the guest's word.
    for (node, cpus) in ["0-1", "2-3"].into_iter().enumerate() {
        assert_eq!(guest.ok(&format!("cat /sys/devices/system/node/node{node}/cpulist")).trim(), cpus);
    }

    let plan =
        guest.ok(&format!("{PROGRAM} serve --state /tmp/state {pool} --reactors 2 --explain-placement"));
    for line in [
        "4 CPUs on 2 NUMA node(s) may be used".to_owned(),
        format!("drive {}: node 0\n", drives[0]),
        format!("drive {}: node 1\n", drives[1]),
        "reactor 0: CPU 1, core 1, node 0, its buffers bound to node 0; of a new pool's shards: 0 2;"
            .to_owned(),
        "reactor 1: CPU 2, core 2, node 1, its buffers bound to node 1; of a new pool's shards: 1 3\n"
            .to_owned(),
    ] {
        assert!(plan.contains(&line), "no {line:?} in the plan:\n{plan}");
    }

    // One reactor a node: each keeps its buffers and the maps of its shards at home.
    let server = Server::start(&mut guest, &pool, "2");
    assert_eq!(server.cpus_of_reactors(&mut guest), ["1", "2"]);
    server.memory(&mut guest).expect_buffers_at_home(&[0, 1]);
    let grown = server.heap_grown_by_writes(&mut guest, "v1", &[0, 1]);
    println!("half of {MAP_PAGES} pages of maps a node: grown by {grown:?}");
    assert!(grown.iter().all(|pages| *pages > MAP_PAGES / 4), "{grown:?} of {MAP_PAGES}");
    server.kill(&mut guest);

    // The control: with both reactors on one node nothing of that is on the other.
    let server = Server::start(&mut guest, &pool, "2,3");
    assert_eq!(server.cpus_of_reactors(&mut guest), ["2", "3"]);
    let grown = server.heap_grown_by_writes(&mut guest, "v2", &[1, 1]);
    println!("{MAP_PAGES} pages of maps on node 1: grown by {grown:?}");
    assert!(grown[1] > MAP_PAGES / 2 && grown[0] < MAP_PAGES / 4, "{grown:?} of {MAP_PAGES}");
}

/// A server in the guest.
struct Server {
    pid: u32,
}

impl Server {
    fn start(guest: &mut Guest, pool: &str, reactors: &str) -> Self {
        guest.ok(&format!(
            "{PROGRAM} serve --state /tmp/state {pool} --reactors {reactors} >/tmp/log 2>&1 & echo $! >/tmp/pid"
        ));
        guest.wait_for("grep -q ' ready ' /tmp/log || ! kill -0 $(cat /tmp/pid)", Duration::from_mins(1));
        guest.ok("kill -0 $(cat /tmp/pid) || { cat /tmp/log; exit 1; }");
        Self { pid: guest.ok("cat /tmp/pid").trim().parse().expect("a process") }
    }

    fn kill(&self, guest: &mut Guest) {
        guest.ok(&format!("kill -9 {0}; while kill -0 {0} 2>/dev/null; do usleep 20000; done", self.pid));
    }

    /// The CPUs on which the reactors' threads may run, by the reactors' numbers.
    fn cpus_of_reactors(&self, guest: &mut Guest) -> Vec<String> {
        let script = format!(
            "for t in /proc/{}/task/*; do read -r n <$t/comm; case $n in reactor-*) \
             echo $n $(grep Cpus_allowed_list $t/status);; esac; done | sort",
            self.pid
        );
        let text = guest.ok(&script);
        text.lines().map(|line| line.split_whitespace().last().unwrap_or_default().to_owned()).collect()
    }

    fn memory(&self, guest: &mut Guest) -> Memory {
        Memory::parse(&guest.ok(&format!("cat /proc/{}/numa_maps", self.pid)))
    }

    /// Pages on each node that [`WRITES`] to a new volume make, all but the buffers, which must stay on their `nodes`.
    fn heap_grown_by_writes(&self, guest: &mut Guest, volume: &str, nodes: &[usize]) -> [u64; 2] {
        let device = attach(guest, volume);
        fill(guest, &device, 0, WARM_UP);
        let before = self.memory(guest);
        fill(guest, &device, WARM_UP, WRITES);
        let after = self.memory(guest);
        guest.ok("nvme disconnect-all");
        after.expect_buffers_at_home(nodes);
        [0, 1].map(|node| after.heap[node].saturating_sub(before.heap[node]))
    }
}

/// Where the memory of a process is, in pages.
#[derive(Default, Debug)]
struct Memory {
    /// What is bound: the node that it is bound to, and the pages that it has on each node.
    bound: Vec<(usize, [u64; 2])>,
    /// Pages on each node of what the process allocates, but for stacks and files.
    heap: [u64; 2],
}

impl Memory {
    /// Reads `numa_maps`: an address, a policy, then words such as `anon=7` and `N1=7` (pages on node 1).
    fn parse(text: &str) -> Self {
        let mut memory = Self::default();
        for line in text.lines() {
            let mut words = line.split(' ').skip(1);
            let policy = words.next().expect("a policy behind the address");
            let mut pages = [0; 2];
            let mut is_heap = true;
            for word in words {
                is_heap &= word != "stack" && !word.starts_with("file=");
                let number = |text: &str| text.parse::<u64>().expect("a number of pages");
                pages[0] += word.strip_prefix("N0=").map_or(0, number);
                pages[1] += word.strip_prefix("N1=").map_or(0, number);
            }
            if let Some(node) = policy.strip_prefix("prefer:") {
                memory.bound.push((node.parse().expect("a node"), pages));
            } else if is_heap {
                memory.heap[0] += pages[0];
                memory.heap[1] += pages[1];
            }
        }
        memory
    }

    /// Every reactor's buffers are bound to its node, have been used, and are all there.
    fn expect_buffers_at_home(&self, nodes: &[usize]) {
        let mut bound: Vec<usize> = self.bound.iter().map(|(node, _)| *node).collect();
        let mut wanted = nodes.to_vec();
        bound.sort_unstable();
        // Neighbours that are bound to the same node are one mapping to the kernel.
        bound.dedup();
        wanted.dedup();
        assert_eq!(bound, wanted, "{self:?}");
        for (home, pages) in &self.bound {
            assert!(pages[*home] > 0 && pages[1 - home] == 0, "{self:?}");
        }
    }
}

/// Makes a volume, connects the guest's own host to the server, and gives the volume's block device.
fn attach(guest: &mut Guest, volume: &str) -> String {
    guest.ok(&format!(
        "export FERRULE_JWT=@/tmp/state/system.jwt; \
         {PROGRAM} create volume --name {volume} --size 4GiB --acl ALLOW_ANY -o json >/tmp/{volume}"
    ));
    guest.ok("$(grep -o 'nvme connect .*' /tmp/log | head -1)");
    let find = format!(
        "for d in /sys/block/nvme*n*; do w=$(cat $d/wwid); w=${{w#uuid.}}; \
         if [ -b /dev/${{d##*/}} ] && grep -q $w /tmp/{volume}; then echo /dev/${{d##*/}}; exit 0; fi; done; exit 1"
    );
    guest.wait_for(&find, Duration::from_secs(20));
    guest.ok(&find).trim().to_owned()
}

/// Writes and verifies a block in each of so many pieces of 256 KiB, from piece `first` on: a map page each.
fn fill(guest: &mut Guest, device: &str, first: u64, writes: u64) {
    guest.ok(&format!(
        "fio --name=fill --filename={device} --rw=write:252k --bs=4k --offset={}k --size={}k --io_size={}k \
         --iodepth=16 --direct=1 --ioengine=io_uring --verify=crc32c --do_verify=1 --minimal",
        first * 256,
        writes * 256,
        writes * 4
    ));
}

/// Two sockets of two cores, each with memory of its own and a drive behind a root port of its own. The second drive is
/// one with several controllers, so that its block device belongs to a subsystem and not to a controller.
fn machine(scratch: &Scratch) -> Options {
    let mut qemu: Vec<String> = Vec::new();
    let mut option = |name: &str, value: String| qemu.extend([name.to_owned(), value]);
    option("-smp", "4,sockets=2,cores=2,threads=1".to_owned());
    option("-device", "nvme-subsys,id=several,nqn=several".to_owned());
    for node in 0..2_u32 {
        let image = scratch.join(&format!("drive{node}"));
        File::create(&image).and_then(|file| file.set_len(DRIVE_MIB * MIB)).expect("make a drive's image");
        let (subsystem, shared) = if node == 1 { (",subsys=several", "on") } else { ("", "off") };
        let number = node + 1;
        option("-object", format!("memory-backend-ram,id=m{node},size=1024M"));
        option("-numa", format!("node,nodeid={node},cpus={}-{},memdev=m{node}", 2 * node, 2 * node + 1));
        option(
            "-device",
            format!("pxb-pcie,id=pxb{node},bus_nr={},numa_node={node},bus=pcie.0", 32 * number),
        );
        option("-device", format!("pcie-root-port,id=rp{node},bus=pxb{node},chassis={number},slot=1"));
        option("-drive", format!("file={},if=none,id=d{node},format=raw,cache=unsafe", image.display()));
        option(
            "-device",
            format!("nvme,id=nv{node},serial=NODE{node},bus=rp{node},max_ioqpairs=4{subsystem}"),
        );
        let blocks = "logical_block_size=4096,physical_block_size=4096";
        option("-device", format!("nvme-ns,bus=nv{node},drive=d{node},nsid=1,shared={shared},{blocks}"));
    }
    option("-numa", "dist,src=0,dst=1,val=21".to_owned());
    Options { files: files(), loop_host: false, memory_mib: 2048, cpus: 4, qemu, ..Options::default() }
}

/// The server, and the libraries that it finds here, but for those of the C library, which the guest has.
fn files() -> Vec<(PathBuf, String)> {
    let binary = binary();
    let output = Command::new("ldd").arg(&binary).output().expect("run ldd");
    let text = String::from_utf8(output.stdout).expect("paths in UTF-8");
    let mut files = vec![(binary, format!("{PLACE}/ferrule"))];
    for line in text.lines() {
        let Some((name, rest)) = line.trim().split_once(" => ") else { continue };
        if ["libc.so", "libm.so", "libdl.so", "libpthread.so", "librt.so"]
            .iter()
            .any(|own| name.starts_with(own))
        {
            continue;
        }
        let path = rest.split_whitespace().next().expect("a path behind the arrow");
        files.push((PathBuf::from(path), format!("{PLACE}/{name}")));
    }
    files
}

/// The block device of the drive with a serial number: names are not in the order of buses.
fn drive_of(guest: &mut Guest, serial: &str) -> String {
    let find = format!(
        "for d in /sys/block/nvme*n1; do read -r s <$d/device/serial; \
         if [ \"$s\" = {serial} ] && [ -b /dev/${{d##*/}} ]; then echo /dev/${{d##*/}}; exit 0; fi; done; exit 1"
    );
    guest.wait_for(&find, Duration::from_secs(20));
    guest.ok(&find).trim().to_owned()
}
