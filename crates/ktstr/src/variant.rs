//! The number that tells the variants of one test apart: the same test on a topology of another shape, or with another
//! scheduler, is another variant. Files that belong to a variant have the number in their names.

use crate::entry::KtstrTestEntry;

/// Returns the hash of what makes `entry` a variant: the shape of its topology, the names of its scheduler and payload, and
/// the sysctls and kernel arguments. The scheduler's own arguments are not part of it.
pub(crate) fn hash(entry: &KtstrTestEntry) -> u64 {
    let scheduler = entry.scheduler;
    let sysctls = scheduler.sysctls.iter();
    let mut parts = vec![
        entry.topology.to_string(),
        scheduler.name.to_owned(),
        entry.payload.map_or("", |payload| payload.name).to_owned(),
    ];
    parts.extend(sysctls.map(|sysctl| format!("{}={}", sysctl.key(), sysctl.value())));
    let kargs = scheduler.kargs.iter().chain(entry.kargs);
    parts.extend(kargs.map(|karg| (*karg).to_owned()));
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        // The lengths distinguish lists of parts whose concatenation is the same.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_scenario::scheduler::{Scheduler, Sysctl};
    use ktstr_scenario::topology::Topology;

    static OTHER: Scheduler = Scheduler::named("other");
    static SET: Scheduler =
        Scheduler::named("eevdf").sysctls(&[Sysctl::new("kernel.sched_schedstats", "1")]);
    static FAST: Scheduler = Scheduler::named("eevdf").kargs(&["quiet"]);

    #[test]
    fn whatever_makes_a_variant_changes_the_number() {
        const BASE: KtstrTestEntry = KtstrTestEntry::DEFAULT;
        let all = [
            BASE,
            KtstrTestEntry {
                topology: Topology::new(1, 2, 2, 1),
                ..BASE
            },
            KtstrTestEntry {
                scheduler: &OTHER,
                ..BASE
            },
            KtstrTestEntry {
                scheduler: &SET,
                ..BASE
            },
            KtstrTestEntry {
                scheduler: &FAST,
                ..BASE
            },
            KtstrTestEntry {
                kargs: &["loglevel=7"],
                ..BASE
            },
        ];
        let mut numbers: Vec<u64> = all.iter().map(hash).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all.len());
        let renamed = KtstrTestEntry {
            name: "renamed",
            num_snapshots: 4,
            ..BASE
        };
        assert_eq!(
            hash(&renamed),
            hash(&BASE),
            "the test's name is no part of the number"
        );
    }
}
