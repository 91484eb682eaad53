//! A Linux guest under QEMU: boots a Debian kernel in seconds and runs shell commands in it.
//!
//! Always by emulation (TCG): whether hardware virtualisation works cannot be told from `/dev/kvm` opening.
//! The parts come from Debian's packages through `tests/guest/fetch.sh`, which a first boot runs by itself.
//! A guest ends when it is dropped.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::scratch::{Scratch, checkout};

/// How a guest is booted.
#[derive(Debug, Clone)]
pub struct Options {
    /// Debian's kernel: `6.12` or `6.1`.
    pub kernel: &'static str,
    /// Files of the machine to find in the guest, executable: (path here, path there).
    pub files: Vec<(PathBuf, String)>,
    /// Words to append to the kernel's command line.
    pub append: String,
    /// QEMU network back ends; number N must have the identifier `nN`.
    pub netdevs: Vec<String>,
    /// Whether 127.0.0.0/8 of the guest is the machine's own loopback (IPv4 only).
    pub loop_host: bool,
    /// Processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Further QEMU arguments.
    pub qemu: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kernel: "6.12",
            files: Vec::new(),
            append: String::new(),
            netdevs: vec!["user,id=n0".to_owned()],
            loop_host: true,
            cpus: 2,
            memory_mib: 1024,
            qemu: Vec::new(),
        }
    }
}

/// What a command in the guest left.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The shell's exit status.
    pub status: i32,
    /// Standard output and standard error, in the order written.
    pub output: String,
}

/// A running guest.
pub struct Guest {
    qemu: Child,
    agent: UnixStream,
    received: Vec<u8>,
    requests: u64,
    scratch: Scratch,
}

impl Guest {
    /// Boots a guest whose 127.0.0.0/8 is the machine's.
    ///
    /// # Panics
    /// As [`Guest::boot_with`].
    #[must_use]
    pub fn boot() -> Self {
        Self::boot_with(&Options::default())
    }

    /// Boots a guest and waits until its agent answers.
    ///
    /// # Panics
    /// If the guest's parts cannot be fetched or the guest does not come up; the message has its console's end.
    #[must_use]
    pub fn boot_with(options: &Options) -> Self {
        let cache = fetch(options.kernel);
        let mut tries = 1;
        loop {
            match Self::try_boot(options, &cache) {
                Ok(guest) => return guest,
                Err(abort) => {
                    assert!(tries < BOOT_TRIES, "QEMU aborted in each of {tries} boots:\n{abort}");
                    println!("QEMU aborted in boot {tries}, which is tried again:\n{abort}");
                }
            }
            tries += 1;
        }
    }

    /// One boot; an error is QEMU's own abort before the guest's agent answered.
    ///
    /// QEMU's emulation with a thread for each processor may fail an assertion of its own
    /// (`iotlb_to_section`) while the guest's kernel lays out the PCI memory. Nothing that is under test has
    /// run by then.
    fn try_boot(options: &Options, cache: &Path) -> Result<Self, String> {
        let scratch = Scratch::new("guest");
        let initramfs = scratch.join("initramfs");
        write_initramfs(&cache.join(options.kernel).join("initramfs.cpio"), &options.files, &initramfs);
        let mut qemu = qemu_command(options, cache, &scratch, &initramfs).spawn().expect("start QEMU");
        let socket = scratch.join("agent");
        let begin = Instant::now();
        let agent = loop {
            if let Ok(stream) = UnixStream::connect(&socket) {
                break stream;
            }
            let ended = qemu.try_wait().expect("ask for QEMU's status");
            if ended.is_some() || begin.elapsed() > BOOT_LIMIT {
                drop(qemu.kill());
                panic!("QEMU did not start ({ended:?}):\n{}", console_end(&scratch));
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut guest = Self { qemu, agent, received: Vec::new(), requests: 0, scratch };
        let hello = match guest.line(BOOT_LIMIT, "boot") {
            Ok(hello) => hello,
            Err(gone) if guest.has_aborted() => return Err(gone),
            Err(gone) => panic!("{gone}"),
        };
        assert_eq!(hello, "hello", "the agent's first line");
        drop(std::fs::remove_file(initramfs));
        Ok(guest)
    }

    /// Whether QEMU, which has closed the agent's channel, ends by SIGABRT.
    fn has_aborted(&mut self) -> bool {
        let end = Instant::now() + EXIT_LIMIT;
        while Instant::now() < end {
            if let Some(status) = self.qemu.try_wait().expect("ask for QEMU's status") {
                return status.signal() == Some(SIGABRT);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Runs a shell script and waits for its end.
    ///
    /// # Panics
    /// If it takes longer than `limit` or the guest dies; the message has the console's end.
    pub fn run(&mut self, script: &str, limit: Duration) -> Reply {
        self.requests += 1;
        let request = format!("{} {}\n", self.requests, base64_encode(script.as_bytes()));
        self.agent.write_all(request.as_bytes()).expect("send to the agent");
        let line = self.read_line(limit, script);
        let mut words = line.split(' ');
        let id = words.next().and_then(|word| word.parse().ok());
        assert_eq!(id, Some(self.requests), "the agent's answer {line:?}");
        let status = words.next().and_then(|word| word.parse().ok()).expect("a status in the answer");
        let output = base64_decode(words.next().unwrap_or_default());
        Reply { status, output: String::from_utf8_lossy(&output).into_owned() }
    }

    /// Runs a shell script of which each command must succeed, within a minute; returns its output.
    ///
    /// # Panics
    /// If it fails: the message has its output and the console's end.
    pub fn ok(&mut self, script: &str) -> String {
        self.ok_within(script, Duration::from_mins(1))
    }

    /// As [`Guest::ok`] with a limit of its own.
    ///
    /// # Panics
    /// As [`Guest::ok`].
    pub fn ok_within(&mut self, script: &str, limit: Duration) -> String {
        let begin = Instant::now();
        let reply = self.run(&format!("set -e\n{script}"), limit);
        println!("guest [{:.1} s] {} -> {}", begin.elapsed().as_secs_f32(), first_line(script), reply.status);
        assert!(
            reply.status == 0,
            "guest command failed with {}:\n{script}\n--- output\n{}\n--- console\n{}",
            reply.status,
            reply.output,
            self.console()
        );
        reply.output
    }

    /// Runs a shell script that must fail; returns its output.
    ///
    /// # Panics
    /// If it succeeds.
    pub fn fails(&mut self, script: &str) -> String {
        let reply = self.run(script, Duration::from_mins(1));
        println!("guest {} -> {}", first_line(script), reply.status);
        assert!(
            reply.status != 0,
            "guest command should have failed:\n{script}\n--- output\n{}",
            reply.output
        );
        reply.output
    }

    /// Runs `condition` until it succeeds.
    ///
    /// # Panics
    /// If that takes longer than `limit`.
    pub fn wait_for(&mut self, condition: &str, limit: Duration) {
        let tries = limit.as_millis() / 50;
        let script = format!(
            "n=0; until ( {condition} ) >/tmp/.condition 2>&1; do n=$((n+1)); \
             if [ $n -gt {tries} ]; then cat /tmp/.condition; exit 1; fi; usleep 50000; done"
        );
        self.ok_within(&script, limit * 4 + Duration::from_mins(1));
    }

    /// The end of the guest's console.
    #[must_use]
    pub fn console(&self) -> String {
        console_end(&self.scratch)
    }

    fn read_line(&mut self, limit: Duration, what: &str) -> String {
        self.line(limit, what).unwrap_or_else(|gone| panic!("{gone}"))
    }

    /// The agent's next line, or what is to be told of a guest that has gone.
    ///
    /// # Panics
    /// If the guest is silent for `limit`.
    fn line(&mut self, limit: Duration, what: &str) -> Result<String, String> {
        let end = Instant::now() + limit;
        loop {
            if let Some(at) = self.received.iter().position(|byte| *byte == b'\n') {
                let rest = self.received.split_off(at + 1);
                let mut line = std::mem::replace(&mut self.received, rest);
                line.pop();
                return Ok(String::from_utf8(line).expect("the agent speaks ASCII"));
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "guest silent for {limit:?} in\n{what}\n--- console\n{}",
                self.console()
            );
            self.agent.set_read_timeout(Some(left)).expect("set the agent's timeout");
            let mut chunk = [0; 65536];
            match self.agent.read(&mut chunk) {
                Ok(0) => return Err(format!("guest gone in\n{what}\n--- console\n{}", self.console())),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => {
                    return Err(format!("guest gone ({error}) in\n{what}\n--- console\n{}", self.console()));
                }
            }
        }
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Guest").field("scratch", &self.scratch).finish_non_exhaustive()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        drop(self.qemu.kill());
        drop(self.qemu.wait());
        if std::thread::panicking() {
            eprintln!("guest's console ends:\n{}", self.console());
        }
    }
}

/// Runs `tests/guest/fetch.sh`, which does nothing when the cache is complete; returns the cache.
fn fetch(kernel: &str) -> PathBuf {
    let script = checkout().join("tests/guest/fetch.sh");
    let output = Command::new(&script)
        .arg(kernel)
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    assert!(output.status.success(), "{}: {}", script.display(), output.status);
    PathBuf::from(String::from_utf8(output.stdout).expect("a path in UTF-8").trim_end())
}

fn qemu_command(options: &Options, cache: &Path, scratch: &Scratch, initramfs: &Path) -> Command {
    let host = cache.join("host");
    let mut command = Command::new(host.join("usr/bin/qemu-system-x86_64"));
    let log = File::create(scratch.join("qemu.log")).expect("make QEMU's log");
    let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|folder| host.join(folder));
    command
        .env("LD_LIBRARY_PATH", std::env::join_paths(libraries).expect("a path without colons"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("share QEMU's log"))
        .stderr(log);
    for folder in ["usr/share/qemu", "usr/share/seabios"] {
        command.arg("-L").arg(host.join(folder)).arg("-L").arg(Path::new("/").join(folder));
    }
    let loopback = if options.loop_host { " guest.loop=host" } else { "" };
    command
        .args(["-machine", "q35", "-accel", "tcg,thread=multi"])
        .args(["-cpu", "max,la57=off,smap=off,smep=off,pku=off,pcid=off"])
        .args(["-smp", &options.cpus.to_string(), "-m", &options.memory_mib.to_string()])
        .args(["-nodefaults", "-display", "none", "-no-reboot"])
        .arg("-kernel")
        .arg(cache.join(options.kernel).join("vmlinux"))
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &format!("{KERNEL_WORDS}{loopback} {}", options.append)])
        .arg("-chardev")
        .arg(format!("file,id=console,path={}", scratch.join("console").display()))
        .args(["-serial", "chardev:console"]);
    for (number, netdev) in options.netdevs.iter().enumerate() {
        command.args(["-netdev", netdev, "-device", &format!("virtio-net-pci,romfile=,netdev=n{number}")]);
    }
    command
        .args(["-device", "virtio-serial-pci", "-chardev"])
        .arg(format!("socket,id=agent,path={},server=on,wait=off", scratch.join("agent").display()))
        .args(["-device", "virtserialport,chardev=agent,name=ferrule.agent"])
        .args(&options.qemu);
    command
}

fn console_end(scratch: &Scratch) -> String {
    let mut text = String::new();
    for name in ["console", "qemu.log"] {
        let content = std::fs::read(scratch.join(name)).unwrap_or_default();
        text.push_str(&String::from_utf8_lossy(&content[content.len().saturating_sub(4000)..]));
    }
    text
}

fn first_line(script: &str) -> &str {
    script.trim_start().lines().next().unwrap_or_default()
}

/// The base archive and behind it, on a 512-byte boundary, one with the extra files: the kernel unpacks both.
fn write_initramfs(base: &Path, files: &[(PathBuf, String)], out: &Path) {
    let mut archive = std::fs::read(base).unwrap_or_else(|error| panic!("{}: {error}", base.display()));
    if !files.is_empty() {
        archive.resize(archive.len().next_multiple_of(512), 0);
        let mut folders = BTreeSet::new();
        for (source, place) in files {
            let content =
                std::fs::read(source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
            let place = place.trim_start_matches('/');
            for (at, _) in place.match_indices('/') {
                // These are links in the base archive: an entry would replace them.
                let link = ["bin", "sbin", "lib", "lib64"].contains(&&place[..at]);
                if !link && folders.insert(place[..at].to_owned()) {
                    append_entry(&mut archive, &place[..at], 0o040_755, &[]);
                }
            }
            append_entry(&mut archive, place, 0o100_755, &content);
        }
        append_entry(&mut archive, "TRAILER!!!", 0, &[]);
    }
    std::fs::write(out, archive).expect("write the guest's initramfs");
}

/// One entry of a "newc" archive: thirteen fields of eight hexadecimal digits, the name, the content, each
/// padded to four bytes.
fn append_entry(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    let inode = archive.len();
    let (size, name_size) = (content.len(), name.len() + 1);
    let header = format!(
        "070701{inode:08X}{mode:08X}{0:08X}{0:08X}{1:08X}{0:08X}{size:08X}{0:08X}{0:08X}{0:08X}{0:08X}{name_size:08X}{0:08X}",
        0, 1
    );
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

fn base64_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = (word >> (18 - 6 * place)) as usize & 63;
            text.push(if place > chunk.len() { '=' } else { char::from(BASE64[digit]) });
        }
    }
    text
}

fn base64_decode(text: &str) -> Vec<u8> {
    let digits = text.bytes().filter_map(|byte| BASE64.iter().position(|digit| *digit == byte));
    let (mut bytes, mut word, mut bits) = (Vec::with_capacity(text.len() / 4 * 3), 0_u32, 0);
    for digit in digits {
        word = word << 6 | u32::try_from(digit).expect("a digit is below 64");
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits & 0xFF) as u8);
        }
    }
    bytes
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A loaded machine boots the guest in 2 to 6 s.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// How often a guest is booted whose QEMU aborts.
const BOOT_TRIES: u32 = 3;

/// As signal(7) numbers it on x86-64.
const SIGABRT: i32 = 6;

/// A process that aborts may have to write its memory first.
const EXIT_LIMIT: Duration = Duration::from_secs(30);

/// What makes an emulated boot short, and keep its console for what matters.
const KERNEL_WORDS: &str = "console=ttyS0 panic=-1 reboot=t quiet mitigations=off apparmor=0 no_timer_check audit=0 \
     cryptomgr.notests rcupdate.rcu_expedited=1 nowatchdog tsc=reliable";

#[cfg(test)]
mod test {
    use super::{base64_decode, base64_encode};

    #[test]
    fn base64_has_the_known_vectors() {
        let vectors = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, encoded) in vectors {
            assert_eq!(base64_encode(plain.as_bytes()), encoded);
            assert_eq!(base64_decode(encoded), plain.as_bytes());
        }
    }
}
