//! Determines the NUMA nodes of the pages that workers allocated after their release. The parent does this just before it stops
//! the workers.
//!
//! A worker is forked from the engine and starts with the engine's pages, which lie on the nodes on which the engine ran. These
//! pages, and those that the worker wrote before it was in its cgroup, say nothing about the worker, so they are not counted:
//! the parent reads which physical page is behind each address at the release and again at the end, and counts those that differ.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use ktstr_assert::{WorkerReport, parse_vmstat_numa_pages_migrated};

use super::sys;

/// The size of a page in bytes.
const PAGE: u64 = 4096;
/// The number of entries of a pagemap that are read at once.
const ENTRIES: usize = 4096;
/// Bits of an entry (Documentation/admin-guide/mm/pagemap.rst): the page is in memory.
const PRESENT: u64 = 1 << 63;
/// The page belongs to a file, or is shared anonymous memory.
const OF_FILE: u64 = 1 << 61;
/// The physical number of the page. The kernel shows it only to root.
const NUMBER: u64 = (1 << 55) - 1;

/// The private anonymous pages of a process: the physical number of each page, by the page's address.
type Present = BTreeMap<u64, u64>;

/// The pages of a process at its end.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The number of pages on each node that the process has allocated since the release; empty if the kernel does not report
    /// the nodes.
    allocated: BTreeMap<usize, u64>,
    /// The number of all pages of the process.
    held: u64,
}

/// What was measured at the release of the workers.
#[derive(Debug, Default)]
pub(super) struct AtRelease {
    /// The kernel's count of migrated pages; `None` if the kernel does not count them.
    pub moved: Option<u64>,
    /// The pages of each process.
    present: BTreeMap<i32, Present>,
}

impl AtRelease {
    /// Measures the pages of these processes, whose workers wait for their release.
    pub fn of(pids: impl Iterator<Item = i32>) -> Self {
        Self {
            moved: moved(),
            present: pids.map(|pid| (pid, present(pid))).collect(),
        }
    }

    /// Measures the pages of a process now.
    pub fn seen(&self, pid: i32) -> Seen {
        let before = self.present.get(&pid);
        let is_new = |(at, number): &(u64, u64)| before.and_then(|b| b.get(at)) != Some(number);
        let present = present(pid);
        let held = present.len() as u64;
        let new: Vec<u64> = (present.into_iter().filter(is_new))
            .map(|(at, _)| at)
            .collect();
        let mut allocated = BTreeMap::new();
        for node in sys::nodes_of_pages(pid, &new) {
            *allocated.entry(node).or_default() += 1;
        }
        Seen { allocated, held }
    }
}

/// Returns the private anonymous pages of a process; empty if they cannot be read.
fn present(pid: i32) -> Present {
    let mut pages = Present::new();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let Ok(pagemap) = File::open(format!("/proc/{pid}/pagemap")) else {
        return pages;
    };
    let mut bytes = vec![0; ENTRIES * 8];
    for (from, to) in maps.lines().filter_map(private_range) {
        for start in (from..to).step_by(ENTRIES) {
            let wanted = ENTRIES.min((to - start) as usize) * 8;
            let Ok(got) = pagemap.read_at(&mut bytes[..wanted], start * 8) else {
                break;
            };
            let entries = bytes[..got].as_chunks::<8>().0.iter();
            for (page, entry) in (start..).zip(entries) {
                let entry = u64::from_ne_bytes(*entry);
                if entry & (PRESENT | OF_FILE) == PRESENT {
                    pages.insert(page * PAGE, entry & NUMBER);
                }
            }
        }
    }
    pages
}

/// Returns the first page of a mapping and the page after its last, by number, from a line of `/proc/PID/maps`; `None` if the
/// mapping is not private and writable, or belongs to the kernel.
fn private_range(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let rights = words.next()?.as_bytes();
    let of_kernel = words.nth(3).is_some_and(|name| name.starts_with("[v"));
    let wanted = matches!(rights, [_, b'w', _, b'p']) && !of_kernel;
    let page = |text| Some(u64::from_str_radix(text, 16).ok()? / PAGE);
    wanted.then_some((page(from)?, page(to)?))
}

/// Returns the number of pages that the kernel has migrated between nodes since boot, or `None` if
/// it does not count them.
pub(super) fn moved() -> Option<u64> {
    parse_vmstat_numa_pages_migrated(&std::fs::read_to_string("/proc/vmstat").ok()?)
}

/// Adds the measured pages of each worker, and the number of pages that were `moved` in the whole
/// guest, to the worker's report and to the last slice of the report.
pub(super) fn put(reports: &mut [WorkerReport], seen: Vec<Seen>, moved: u64) {
    for (report, Seen { allocated, held }) in reports.iter_mut().zip(seen) {
        if let Some(slice) = report.phase_slices.last_mut() {
            slice.numa_pages.clone_from(&allocated);
            slice.pages_held = held;
            slice.vmstat_numa_pages_migrated = moved;
        }
        report.numa_pages = allocated;
        report.pages_held = held;
        report.vmstat_numa_pages_migrated = moved;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_and_writable_mappings_are_examined() {
        let heap = "55e9000-55ea000 rw-p 00000000 00:00 0    [heap]";
        assert_eq!(private_range(heap), Some((0x55e9, 0x55ea)));
        let data = "7f01000-7f03000 rw-p 00002000 fe:00 12   /init";
        assert_eq!(private_range(data), Some((0x7f01, 0x7f03)));
        for other in [
            "7f01000-7f03000 r-xp 00002000 fe:00 12   /init",
            "7f01000-7f03000 rw-s 00000000 00:01 12   /dev/zero (deleted)",
            "7f01000-7f03000 ---p 00000000 00:00 0",
            "7f01000-7f03000 rw-p 00000000 00:00 0    [vvar]",
            "",
        ] {
            assert_eq!(private_range(other), None, "{other}");
        }
    }

    #[test]
    fn only_pages_that_came_later_are_counted() {
        let own = std::process::id() as i32;
        let before = AtRelease::of([own].into_iter());
        let region = sys::map(8 * PAGE as usize).expect("eight pages");
        let all = |since: &AtRelease| since.seen(own).allocated.values().sum::<u64>();
        // Other tests of this process allocate, too.
        for byte in region.iter_mut().step_by(PAGE as usize) {
            *std::hint::black_box(byte) = 1;
        }
        let at = region.as_ptr() as u64;
        let with = AtRelease::of([own].into_iter());
        let seen =
            |since: &AtRelease| (0..8).all(|n| since.present[&own].contains_key(&(at + n * PAGE)));
        assert!(!seen(&before) && seen(&with));
        // A kernel without NUMA does not report nodes.
        assert!(all(&before) >= 8 || sys::nodes_of_pages(own, &[at]).is_empty());
    }
}
