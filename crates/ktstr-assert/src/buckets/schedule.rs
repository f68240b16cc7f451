//! Adds the metrics of the exact schedule to the buckets of a run.

use crate::stats::PhaseBucket;

/// Adds the metrics that `from` contains for phases and cgroups to `into`, and creates phases and cgroups that `into` does
/// not have yet. Call this function last: [`PhaseCgroupStats::measure`](crate::PhaseCgroupStats::measure) replaces the
/// metrics of a cgroup, and would drop those of the schedule.
pub fn fold_schedule(into: &mut Vec<PhaseBucket>, from: &[PhaseBucket]) {
    for bucket in from {
        let known = into.iter().position(|b| b.step_index == bucket.step_index);
        let at = known.unwrap_or_else(|| {
            into.push(PhaseBucket::new(bucket.phase()));
            into.len() - 1
        });
        let Some(mine) = into.get_mut(at) else {
            continue;
        };
        mine.metrics.extend(bucket.metrics.clone());
        for (name, carrier) in &bucket.per_cgroup {
            let metrics = &mut mine.per_cgroup.entry(name.clone()).or_default().metrics;
            metrics.extend(carrier.metrics.clone());
        }
    }
    into.sort_by_key(|bucket| bucket.step_index);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::Phase;

    #[test]
    fn metrics_from_other_sources_are_kept() {
        let bucket = |phase, name: &str, value| {
            let mut bucket = PhaseBucket::new(phase);
            bucket.metrics.insert(name.to_owned(), value);
            let cgroup = bucket.per_cgroup.entry("cg".to_owned()).or_default();
            cgroup.metrics.insert(name.to_owned(), value);
            bucket
        };
        let mut all = vec![bucket(Phase::step(1), "iteration_rate", 5.0)];
        let seen = [
            bucket(Phase::step(1), "schedule_switches", 7.0),
            bucket(Phase::step(0), "schedule_switches", 9.0),
        ];
        fold_schedule(&mut all, &seen);
        let numbers: Vec<u16> = all.iter().map(|bucket| bucket.step_index).collect();
        assert_eq!(numbers, [1, 2]);
        assert_eq!(all[0].label, "Step[0]");
        for (name, value) in [("iteration_rate", 5.0), ("schedule_switches", 7.0)] {
            assert_eq!(all[1].get(name), Some(value));
            assert_eq!(all[1].cgroup_metric("cg", name), Some(value));
        }
    }
}
