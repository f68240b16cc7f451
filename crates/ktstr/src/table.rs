//! The table of cgroups in the failure report.

use ktstr_assert::{CgroupStats, ScenarioStats};

/// Returns a table with a heading and one line per cgroup that shows what the cgroup's workers did.
pub fn cgroups(stats: &ScenarioStats) -> String {
    cgroups_with_odd_ones(stats, &[])
}

/// Returns the table of [`cgroups`] with an arrow at the cgroups whose indices in `stats.cgroups` are in `odd`.
pub fn cgroups_with_odd_ones(stats: &ScenarioStats, odd: &[usize]) -> String {
    let mut lines = vec![format!(
        "{:<16} {:>7} {:>10} {:>12} {:>16} {:>10} {:>10}",
        "cgroup", "workers", "cpu ms", "iterations", "off-cpu spread %", "max gap ms", "migrations"
    )];
    for (at, cgroup) in stats.cgroups.iter().enumerate() {
        let mark = if odd.contains(&at) {
            "  <-- main finding"
        } else {
            ""
        };
        lines.push(format!(
            "{:<16} {:>7} {:>10} {:>12} {:>16} {:>10} {:>10}{mark}",
            cgroup.cgroup_name,
            cgroup.num_workers,
            cgroup.total_cpu_time_ns / 1_000_000,
            cgroup.total_iterations,
            cgroup
                .spread
                .map_or_else(|| "-".to_owned(), |s| format!("{s:.1}")),
            gap(cgroup),
            cgroup.total_migrations,
        ));
    }
    lines.join("\n")
}

/// Returns the longest time between two iterations of a worker, or `-` if no worker of the cgroup reported any.
fn gap(cgroup: &CgroupStats) -> String {
    match (cgroup.total_iterations, cgroup.max_gap_ms) {
        (0, 0) => "-".to_owned(),
        (_, ms) => ms.to_string(),
    }
}
