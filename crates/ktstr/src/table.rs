//! The table of cgroups that people read.

use ktstr_assert::ScenarioStats;

/// One line a cgroup: what its workers did.
pub fn cgroups(stats: &ScenarioStats) -> String {
    let mut lines = vec![format!(
        "{:<16} {:>7} {:>10} {:>12} {:>8} {:>8} {:>10}",
        "cgroup", "workers", "cpu ms", "iterations", "spread %", "gap ms", "migrations"
    )];
    for cgroup in &stats.cgroups {
        lines.push(format!(
            "{:<16} {:>7} {:>10} {:>12} {:>8} {:>8} {:>10}",
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
