//! What a Linux host does with a server: the guest's `nvme` commands, their output as values.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::guest::Guest;
use crate::server::Server;

/// Held by a test that boots a guest: two emulated guests at once are slower than one after the other.
///
/// Tests of one executable run in threads; cargo runs the executables one by one.
pub fn one_guest_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed says nothing about the next.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guest {
    /// Connects to the server's subsystem at an address; returns the controller, such as `/dev/nvme0`.
    ///
    /// `options` are further words of `nvme connect`.
    ///
    /// # Panics
    /// If the host cannot connect.
    pub fn connect(&mut self, server: &Server, address: &str, options: &str) -> String {
        let (port, nqn) = (server.port, server.nqn());
        let said = self.ok(&format!("nvme connect -t tcp -a {address} -s {port} -n {nqn} {options} 2>&1"));
        let name = said.split("device: ").nth(1).unwrap_or_else(|| panic!("no controller in {said:?}"));
        format!("/dev/{}", name.split_whitespace().next().expect("a controller's name"))
    }

    /// The block device of a volume, as soon as it is there.
    ///
    /// # Panics
    /// If it does not appear within 10 s.
    pub fn device(&mut self, volume: &Value) -> String {
        let uuid = volume["UUID"].as_str().expect("a volume's UUID");
        self.wait_for(&find_device(uuid), Duration::from_secs(10));
        self.ok(&find_device(uuid)).trim().to_owned()
    }

    /// The block device of a size, as soon as it is there: bench namespaces have no volume.
    ///
    /// # Panics
    /// If it does not appear within 10 s.
    pub fn device_of_size(&mut self, size_bytes: u64) -> String {
        let sectors = size_bytes / 512;
        let script = find_by(&format!("[ \"$(cat $d/size)\" = {sectors} ]"));
        self.wait_for(&script, Duration::from_secs(10));
        self.ok(&script).trim().to_owned()
    }

    /// Waits until a volume's block device is gone.
    ///
    /// # Panics
    /// If it is still there after 10 s.
    pub fn wait_until_gone(&mut self, volume: &Value) {
        let uuid = volume["UUID"].as_str().expect("a volume's UUID");
        self.wait_for(&format!("! ( {} )", find_device(uuid)), Duration::from_secs(10));
    }

    /// The JSON that a command prints.
    ///
    /// # Panics
    /// If the command fails or prints something else.
    pub fn json(&mut self, command: &str) -> Value {
        // Warnings go to the standard error, which the agent would mix in.
        let text = self.ok(&format!("{command} 2>/tmp/.warnings"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{command}: {error} in\n{text}"))
    }

    /// Starts a script in the background; [`Guest::finish`] waits for it.
    ///
    /// # Panics
    /// If the guest does not answer.
    pub fn start(&mut self, script: &str) {
        let job = format!("( set -e; {script} ) >/tmp/.job.out 2>&1");
        self.ok(&format!("rm -f /tmp/.job.*; ( set +e; {job}; echo $? >/tmp/.job.rc ) &"));
    }

    /// Waits for the script in the background, which must succeed; returns its output.
    ///
    /// # Panics
    /// If it fails or takes longer than `limit`.
    pub fn finish(&mut self, limit: Duration) -> String {
        self.wait_for("[ -s /tmp/.job.rc ]", limit);
        self.ok("cat /tmp/.job.out; exit $(cat /tmp/.job.rc)")
    }
}

fn find_device(uuid: &str) -> String {
    find_by(&format!("[ \"$(cat $d/wwid)\" = uuid.{uuid} ]"))
}

/// Prints the first NVMe block device for which `condition` on its folder `$d` holds, else fails.
fn find_by(condition: &str) -> String {
    format!(
        "for d in /sys/block/nvme*n*; do n=/dev/${{d##*/}}; \
         if [ -b $n ] && {condition}; then echo $n; exit 0; fi; done 2>/dev/null; exit 1"
    )
}
