//! The table of cgroups in the failure report.

use ktstr_assert::ScenarioStats;

/// Returns a table with a heading and one line per cgroup that shows what the cgroup's workers did.
pub fn cgroups(stats: &ScenarioStats) -> String {
    cgroups_with_odd_ones(stats, &[])
}

/// Returns the table of [`cgroups`] with an arrow at the cgroups whose indices in `stats.cgroups` are in `odd`.
pub fn cgroups_with_odd_ones(stats: &ScenarioStats, odd: &[usize]) -> String {
    let mut lines = vec![format!(
        "{:<16} {:>7} {:>10} {:>12} {:>8} {:>8} {:>10}",
        "cgroup", "workers", "cpu ms", "iterations", "spread %", "gap ms", "migrations"
    )];
    for (at, cgroup) in stats.cgroups.iter().enumerate() {
        let mark = if odd.contains(&at) { "  <--" } else { "" };
        lines.push(format!(
            "{:<16} {:>7} {:>10} {:>12} {:>8} {:>8} {:>10}{mark}",
            cgroup.cgroup_name,
            cgroup.num_workers,
            cgroup.total_cpu_time_ns / 1_000_000,
            cgroup.total_iterations,
            cgroup
                .spread
                .map_or_else(|| "-".to_owned(), |s| format!("{s:.1}")),
            cgroup.max_gap_ms,
            cgroup.total_migrations,
        ));
    }
    lines.join("\n")
}
