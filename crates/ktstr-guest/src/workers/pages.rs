//! Reads the NUMA nodes of the workers' pages. The parent does this just before it stops the
//! workers.

use std::collections::BTreeMap;

use ktstr_assert::{WorkerReport, parse_numa_maps, parse_vmstat_numa_pages_migrated};

/// Returns the number of pages of a process on each node. The process may be given by the id of one of
/// its threads. The map is empty if the kernel does not report the pages.
pub(super) fn of(pid: i32) -> BTreeMap<usize, u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/numa_maps"));
    text.map(|text| parse_numa_maps(&text)).unwrap_or_default()
}

/// Returns the number of pages that the kernel has migrated between nodes since boot, or `None` if
/// it does not count them.
pub(super) fn moved() -> Option<u64> {
    parse_vmstat_numa_pages_migrated(&std::fs::read_to_string("/proc/vmstat").ok()?)
}

/// Adds the measured pages of each worker, and the number of pages that were `moved` in the whole
/// guest, to the worker's report and to the last slice of the report.
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
