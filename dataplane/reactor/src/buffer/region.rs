//! The memory under an arena: one anonymous mapping, in huge pages and on one NUMA node where that can be had.
#![expect(
    unsafe_code,
    reason = "memory is bound to a node, and given back, by system calls that take addresses"
)]

use memmap2::{Advice, MmapMut, MmapOptions, MmapRaw, UncheckedAdvice};

/// Pages of 2 MiB.
const HUGE_PAGE_BITS: u8 = 21;
/// `MPOL_PREFERRED`: other nodes serve when this one is full.
const PREFERRED: libc::c_ulong = 1;

/// A mapping that nothing else refers to.
#[derive(Debug)]
pub(crate) struct Region {
    map: MmapRaw,
    huge: bool,
}

impl Region {
    /// Maps `len` bytes, which are taken from the system only when they are first touched.
    pub(crate) fn new(len: usize, hugepages: bool, node: Option<u32>) -> std::io::Result<Self> {
        match if hugepages { map_huge(len) } else { None } {
            Some(map) => Ok(Self::settle(map.into(), true, node)),
            // Without reserved huge pages the kernel may still find some.
            None => Self::transparent(len, hugepages, node),
        }
    }

    /// As [`Self::new`], but in no reserved huge pages: those that the kernel finds when they are asked for can be given
    /// back.
    pub(crate) fn transparent(len: usize, huge: bool, node: Option<u32>) -> std::io::Result<Self> {
        let region = Self::settle(MmapOptions::new().len(len).map_anon()?.into(), false, node);
        if huge {
            // Where it may not, nothing is lost.
            let _ = region.map.advise(Advice::HugePage);
        }
        Ok(region)
    }

    fn settle(map: MmapRaw, huge: bool, node: Option<u32>) -> Self {
        let region = Self { map, huge };
        // A child that is forked gets no copy of what the kernel may be writing to.
        let _ = region.map.advise(Advice::DontFork);
        if let Some(node) = node {
            region.bind(node);
        }
        region
    }

    /// Bytes of it.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Its first byte.
    pub(crate) fn start(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Gives the memory of a part back to the system; it is there again, as zeros, when it is next touched.
    ///
    /// # Safety
    /// Nobody refers to the part, and the kernel uses it for no operation.
    pub(crate) unsafe fn forget(&self, start: usize, len: usize) {
        if self.huge {
            // Reserved pages belong to this process whether they are used or not.
            return;
        }
        // SAFETY: the range is within the mapping, which is private and anonymous; the caller promises the rest.
        let result = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, len) };
        if let Err(error) = result {
            tracing::debug!(%error, "memory is not given back");
        }
    }

    /// True where it lies in reserved huge pages.
    pub(crate) fn huge(&self) -> bool {
        self.huge
    }

    /// Prefers the memory of one NUMA node; where the system refuses, memory comes from wherever it comes from.
    fn bind(&self, node: u32) {
        const BITS: u32 = libc::c_ulong::BITS;
        let mut mask = [0 as libc::c_ulong; 16];
        let Some(word) = mask.get_mut((node / BITS) as usize) else { return };
        *word = 1 << (node % BITS);
        let mask_bits = libc::c_ulong::from(BITS) * mask.len() as libc::c_ulong;
        // SAFETY: the range is this mapping; the mask is as long as said; the call changes no memory's contents.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.map.as_mut_ptr(),
                self.map.len(),
                PREFERRED,
                mask.as_ptr(),
                mask_bits,
                0,
            )
        };
        if result != 0 {
            let error = std::io::Error::last_os_error();
            tracing::debug!(node, %error, "buffers are not bound to the reactor's NUMA node");
        }
    }
}

/// Reserved huge pages for all of it, or `None`.
fn map_huge(len: usize) -> Option<MmapMut> {
    let whole = len.is_multiple_of(1 << HUGE_PAGE_BITS);
    whole.then(|| MmapOptions::new().len(len).huge(Some(HUGE_PAGE_BITS)).map_anon().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_used_where_enough_are_free() {
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
        let free = memory.lines().find_map(|line| line.strip_prefix("HugePages_Free:"));
        let free: usize = free.map_or(0, |count| count.trim().parse().unwrap());
        println!("{free} huge pages are free");
        let region = Region::new(4 << 20, true, None).unwrap();
        assert!(region.huge() || free < 2);
        let odd = Region::new(5 << 20, true, None).unwrap();
        assert!(!odd.huge(), "not a whole number of huge pages");
        for page in 0..2 {
            // SAFETY: the byte is within the mapping, and nobody else refers to it.
            unsafe { region.start().add(page << 21).write(1) };
        }
    }

    #[test]
    fn memory_is_bound_to_the_node_that_was_asked_for() {
        let nodes = (0..16)
            .filter(|node| std::path::Path::new(&format!("/sys/devices/system/node/node{node}")).exists());
        for node in nodes {
            let region = Region::new(4 << 20, false, Some(node)).unwrap();
            // SAFETY: the byte is within the mapping, and nobody else refers to it.
            unsafe { region.start().write(1) };
            let line = format!("{:x} ", region.start().addr());
            let maps = std::fs::read_to_string("/proc/self/numa_maps").unwrap();
            let policy = maps.lines().find(|found| found.starts_with(&line)).unwrap();
            assert!(
                policy.contains(&format!("prefer:{node}")) || policy.contains("prefer (many):"),
                "{policy}"
            );
            assert!(policy.contains(&format!(" N{node}=")), "{policy}");
        }
    }
}
