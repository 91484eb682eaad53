//! Which cores run reactors, what memory is near them, and the limits of the process.
#![expect(unsafe_code, reason = "affinity and limits are system calls that take addresses")]

mod choose;

use std::fmt;

use hwloc2::{ObjectType, Topology};

pub use choose::{Cores, PlacementError};

/// A logical CPU that this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Its number, as the kernel has it.
    pub number: u32,
    /// The physical core that it belongs to; CPUs of the same one share it.
    pub core: u32,
    /// The NUMA node of its memory.
    pub node: u32,
}

/// Where reactors run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The CPU of each reactor, by its number.
    pub reactors: Vec<Cpu>,
    /// CPUs that are left for everything else; all of the allowed ones where none is left.
    pub others: Vec<u32>,
    /// How many NUMA nodes the allowed CPUs span.
    pub nodes: usize,
}

impl Placement {
    /// Chooses among the CPUs that this process may use, those near the NUMA nodes `near` first, which take turns.
    ///
    /// # Errors
    /// When CPUs are asked for that are not there.
    pub fn choose(cores: &Cores, near: &[u32]) -> Result<Self, PlacementError> {
        choose::choose(&cpus(), cores, near)
    }

    /// How many CPUs this process may use.
    #[must_use]
    pub fn cpus(&self) -> usize {
        let alone = self.reactors.iter().filter(|cpu| !self.others.contains(&cpu.number)).count();
        self.others.len() + alone
    }

    /// Keeps the calling thread, and those that it starts from now on, out of the reactors' way: it runs where no reactor
    /// does, or where every CPU has one, with less weight than they.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn step_aside(&self) -> std::io::Result<()> {
        if self.reactors.iter().any(|cpu| self.others.contains(&cpu.number)) {
            // SAFETY: it takes numbers alone; 0 is the calling thread.
            let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, ASIDE) };
            return if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) };
        }
        allow(&self.others)
    }
}

/// A tenth of the weight that threads have by themselves.
const ASIDE: libc::c_int = 10;

/// One line for a log.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} reactor(s):", self.reactors.len())?;
        for (index, cpu) in self.reactors.iter().enumerate() {
            write!(f, " {index} on CPU {} (node {})", cpu.number, cpu.node)?;
        }
        f.write_str("; others on CPU")?;
        for cpu in &self.others {
            write!(f, " {cpu}")?;
        }
        Ok(())
    }
}

/// The CPUs that this process may use, in the order of their numbers.
fn cpus() -> Vec<Cpu> {
    let allowed = affinity();
    let mut cpus = hwloc_cpus();
    cpus.retain(|cpu| allowed.contains(&cpu.number));
    if cpus.is_empty() {
        // Without a topology every CPU counts as a core of its own on one node.
        cpus = allowed.into_iter().map(|number| Cpu { number, core: number, node: 0 }).collect();
    }
    cpus.sort_by_key(|cpu| cpu.number);
    cpus
}

/// Every CPU that hwloc finds. NUMA nodes are taken from the CPUs, because its own list of nodes panics.
fn hwloc_cpus() -> Vec<Cpu> {
    let Some(topology) = Topology::new() else { return Vec::new() };
    let Ok(units) = topology.objects_with_type(&ObjectType::PU) else { return Vec::new() };
    let core_depth = topology.depth_for_type(&ObjectType::Core).ok();
    units
        .into_iter()
        .map(|unit| {
            let number = unit.os_index();
            let core = core_depth.and_then(|depth| {
                let mut above = unit.parent();
                while let Some(object) = above {
                    if object.depth() == depth {
                        return Some(object.logical_index());
                    }
                    above = object.parent();
                }
                None
            });
            let node = unit.nodeset().and_then(|nodes| u32::try_from(nodes.first()).ok()).unwrap_or(0);
            Cpu { number, core: core.unwrap_or(number), node }
        })
        .collect()
}

/// The CPUs on which the calling thread may run.
fn affinity() -> Vec<u32> {
    let mut set = CpuSet::new();
    // SAFETY: the set is of the length given, and outlives the call.
    let result =
        unsafe { libc::sched_getaffinity(0, size_of_val(&set.words), set.words.as_mut_ptr().cast()) };
    if result < 0 {
        return vec![0];
    }
    set.numbers()
}

/// Runs the calling thread on one CPU only.
pub(crate) fn pin(cpu: u32) -> std::io::Result<()> {
    allow(&[cpu])
}

/// Runs the calling thread on these CPUs only.
fn allow(cpus: &[u32]) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.insert(*cpu));
    // SAFETY: the set is of the length given, and outlives the call.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set.words), set.words.as_ptr().cast()) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Raises the soft limit of open files to the hard one and returns it.
pub(crate) fn raise_file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
    // SAFETY: the limit outlives the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if result < 0 {
        return limit.rlim_cur;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: the limit outlives the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) };
    if result < 0 { limit.rlim_cur } else { raised.rlim_cur }
}

/// A set of up to 8192 CPUs, as many as the kernel may be built for.
struct CpuSet {
    words: [u64; 128],
}

impl CpuSet {
    fn new() -> Self {
        Self { words: [0; 128] }
    }

    fn insert(&mut self, cpu: u32) {
        if let Some(word) = self.words.get_mut(cpu as usize / 64) {
            *word |= 1 << (cpu % 64);
        }
    }

    fn numbers(&self) -> Vec<u32> {
        (0..self.words.len() as u32 * 64)
            .filter(|cpu| self.words[*cpu as usize / 64] & (1 << (cpu % 64)) != 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hwloc_finds_every_allowed_cpu_with_its_node() {
        let allowed = affinity();
        assert!(!allowed.is_empty());
        let found = hwloc_cpus();
        for number in allowed {
            assert!(found.iter().any(|cpu| cpu.number == number), "CPU {number} is missing in {found:?}");
        }
    }

    #[test]
    fn a_pinned_thread_may_run_on_its_cpu_only() {
        let cpu = cpus()[0].number;
        let after = std::thread::spawn(move || {
            pin(cpu).unwrap();
            affinity()
        });
        assert_eq!(after.join().unwrap(), [cpu]);
    }

    #[test]
    fn a_thread_that_steps_aside_leaves_the_reactors_cpus_or_weighs_less() {
        let cpus = cpus();
        let (first, rest) = cpus.split_first().unwrap();
        let aside = |others: Vec<u32>| {
            let placement = Placement { reactors: vec![*first], others, nodes: 1 };
            let after = std::thread::spawn(move || {
                placement.step_aside().unwrap();
                // SAFETY: it takes numbers alone.
                (affinity(), unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) })
            });
            after.join().unwrap()
        };
        let all: Vec<u32> = cpus.iter().map(|cpu| cpu.number).collect();
        assert_eq!(aside(all.clone()), (all, ASIDE));
        let others: Vec<u32> = rest.iter().map(|cpu| cpu.number).collect();
        if !others.is_empty() {
            assert_eq!(aside(others.clone()).0, others);
        }
    }
}
