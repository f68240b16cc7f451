//! Determines the cgroup below which the cgroups of a test are.

use crate::entry::KtstrTestEntry;

/// Some schedulers group tasks into cells, and each cell is a cgroup. This option passes them the parent of these cgroups.
const OPTION: &str = "--cell-parent-cgroup";

/// Returns the root of the test's cgroups: the test's `workload_root_cgroup`, else the absolute path that the scheduler gets as
/// `--cell-parent-cgroup`, below which it expects the cgroups that it schedules, else `/ktstr`.
pub(super) fn of(entry: &KtstrTestEntry) -> String {
    if let Some(path) = entry.workload_root_cgroup {
        return path.as_str().to_owned();
    }
    let own = entry.scheduler.sched_args.iter();
    let mut args = own.chain(entry.extra_sched_args).copied();
    let mut root = None;
    while let Some(arg) = args.next() {
        let value = match arg.strip_prefix(OPTION) {
            Some("") => args.next(),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        // Most programs use the last value of a repeated option, so the last one counts here as well.
        root = value.or(root);
    }
    let is_cgroup = |path: &&str| {
        let mut parts = path.split('/');
        path.len() > 1
            && parts.next() == Some("")
            && parts.all(|part| !matches!(part, "" | "." | ".."))
    };
    root.filter(is_cgroup).unwrap_or("/ktstr").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_scenario::scheduler::{CgroupPath, Scheduler};

    static CELLS: Scheduler =
        Scheduler::named("cells").sched_args(&["--cell-parent-cgroup", "/cells"]);

    #[test]
    fn a_test_wins_over_its_scheduler_and_the_last_argument_over_the_first() {
        let entry = |extra, own: Option<&'static str>| KtstrTestEntry {
            scheduler: &CELLS,
            extra_sched_args: extra,
            workload_root_cgroup: own.map(CgroupPath::new),
            ..KtstrTestEntry::DEFAULT
        };
        assert_eq!(of(&KtstrTestEntry::DEFAULT), "/ktstr");
        assert_eq!(of(&entry(&[], None)), "/cells");
        assert_eq!(of(&entry(&["--cell-parent-cgroup=/a/b"], None)), "/a/b");
        assert_eq!(of(&entry(&[], Some("/own"))), "/own");
        for useless in ["relative", "/", "/a//b", "/../b", ""] {
            let args: &'static [&'static str] = vec!["--cell-parent-cgroup", useless].leak();
            assert_eq!(of(&entry(args, None)), "/ktstr", "{useless:?}");
        }
        assert_eq!(of(&entry(&["--cell-parent-cgroup-x=/x"], None)), "/cells");
    }
}
