//! Where the pages of workers are, as their parent reads it just before it stops them.

use std::collections::BTreeMap;

use ktstr_assert::{WorkerReport, parse_numa_maps, parse_vmstat_numa_pages_migrated};

/// Pages of a process by node; none where the kernel does not tell.
pub(super) fn of(pid: i32) -> BTreeMap<usize, u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/numa_maps"));
    text.map(|text| parse_numa_maps(&text)).unwrap_or_default()
}

/// Pages that the kernel ever moved between nodes; `None` where it does not count them.
pub(super) fn moved() -> Option<u64> {
    parse_vmstat_numa_pages_migrated(&std::fs::read_to_string("/proc/vmstat").ok()?)
}

/// Adds to each report what was seen of its worker, and to the last of its slices.
pub(super) fn put(reports: &mut [WorkerReport], seen: Vec<BTreeMap<usize, u64>>, moved: u64) {
    for (report, pages) in reports.iter_mut().zip(seen) {
        if let Some(slice) = report.phase_slices.last_mut() {
            slice.numa_pages.clone_from(&pages);
            slice.vmstat_numa_pages_migrated = moved;
        }
        report.numa_pages = pages;
        report.vmstat_numa_pages_migrated = moved;
    }
}
