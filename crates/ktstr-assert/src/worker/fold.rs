//! Folds the reports of workers into cgroups. Sums saturate, because a guest may send absurd values, which must not
//! cause a panic.

use super::WorkerReport;
use crate::stats::{CgroupStats, PhaseCgroupStats};
use std::collections::BTreeMap;

/// Creates the carrier of one cgroup from the reports of its workers, over their whole lives. Its vectors contain the
/// samples in the order of the reports, and the scalars of [`PhaseCgroupStats::metrics`] are computed.
///
/// Reports alone do not show which pages are local: call [`PhaseCgroupStats::set_local_nodes`] if the expected nodes of
/// the cgroup are known.
pub fn carrier(reports: &[WorkerReport]) -> PhaseCgroupStats {
    let mut c = PhaseCgroupStats::default();
    for r in reports {
        c.add(&r.as_slice(0));
    }
    c.measure();
    c
}

/// Creates one carrier for each phase from the slices of workers that live through several phases. The keys are step
/// indices. A worker without slices adds nothing.
pub fn carriers_by_phase(reports: &[WorkerReport]) -> BTreeMap<u16, PhaseCgroupStats> {
    let mut by_phase: BTreeMap<u16, PhaseCgroupStats> = BTreeMap::new();
    for slice in reports.iter().flat_map(|r| &r.phase_slices) {
        by_phase.entry(slice.step_index).or_default().add(slice);
    }
    by_phase.values_mut().for_each(PhaseCgroupStats::measure);
    by_phase
}

/// Computes the statistics of one cgroup over the whole lives of its workers.
pub fn cgroup_stats(name: impl Into<String>, reports: &[WorkerReport]) -> CgroupStats {
    CgroupStats::from_carrier(name, &carrier(reports))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{BuiltinMetric, Source};
    use crate::stats::ScenarioStats;
    use crate::worker::{PhaseSlice, SampleKind};
    use proptest::prelude::*;

    fn worker(cpu: usize, off_ms: u64) -> WorkerReport {
        WorkerReport {
            completed: true,
            wall_time_ns: 1_000_000_000,
            off_cpu_ns: off_ms * 1_000_000,
            cpu_time_ns: (1000 - off_ms) * 1_000_000,
            cpus_used: [cpu].into(),
            iterations: 500,
            migration_count: 5,
            max_gap_ms: off_ms,
            max_gap_cpu: cpu,
            schedstat_run_count: 1,
            schedstat_run_delay_ns: 3_000,
            wake_latencies_ns: vec![1_000, 3_000],
            wake_sample_total: 2,
            ..WorkerReport::default()
        }
    }

    #[test]
    fn a_carrier_contains_all_of_its_workers() {
        let c = carrier(&[worker(0, 500), worker(3, 400)]);
        assert_eq!((c.num_workers, c.total_iterations), (2, 1000));
        assert_eq!(c.total_run_count, 2);
        assert_eq!((c.max_gap_ms, c.max_gap_cpu), (500, 0));
        assert_eq!(c.cpus_used, [0, 3].into());
        assert_eq!(c.get("off_cpu_spread_pct"), Some(10.0));
        assert_eq!(c.get("migration_ratio"), Some(0.01));
        assert_eq!(c.get("p99_wake_latency_us"), Some(3.0));
        assert_eq!(c.get("mean_run_delay_us"), Some(3.0));
        assert_eq!(c.get("total_cpu_time_ns"), Some(1.1e9));
        assert_eq!(c.get("p99_timer_latency_us"), None, "not measured is not 0");
        assert_eq!(c.get("page_locality"), None);
        let s = cgroup_stats("cg", &[worker(0, 500), worker(3, 400)]);
        assert_eq!((s.spread, s.num_cpus), (Some(10.0), 2));
        assert!(s.wake_measured && !s.timer_measured);
    }

    #[test]
    fn a_worker_that_kept_its_cpu_waited_for_0_ns_which_was_measured() {
        let alone = WorkerReport {
            schedstat_run_count: 0,
            schedstat_run_delay_ns: 0,
            schedstat_cpu_time_ns: 1_000_000,
            ..worker(0, 100)
        };
        assert_eq!(alone.asleep_pct(), Some(10.0));
        let c = carrier(&[worker(3, 400), alone.clone()]);
        assert_eq!(c.get("mean_run_delay_us"), Some(1.5));
        let without = WorkerReport {
            schedstat_cpu_time_ns: 0,
            ..alone
        };
        assert_eq!(without.asleep_pct(), None);
        assert_eq!(carrier(&[without]).get("mean_run_delay_us"), None);
    }

    /// A worker whose CPU time is unknown must not count as a worker that was off the CPU all the time.
    #[test]
    fn a_worker_that_ended_early_is_left_out_of_what_needs_its_cpu_time() {
        let early = WorkerReport {
            cpu_unknown: true,
            cpu_time_ns: 0,
            off_cpu_ns: 1_000_000_000,
            iterations: 50,
            ..worker(1, 0)
        };
        let both = [worker(0, 400), early.clone()];
        let c = carrier(&both);
        assert_eq!(
            (c.num_workers, c.unmeasured, c.total_iterations),
            (2, 1, 550)
        );
        assert_eq!(
            (&*c.off_cpu_pcts, &*c.run_delays_ns),
            (&[40.0][..], &[3_000][..])
        );
        for unknown in [
            "off_cpu_spread_pct",
            "total_cpu_time_ns",
            "iterations_per_worker",
        ] {
            assert_eq!(c.get(unknown), None, "{unknown}");
        }
        assert_eq!(c.cgroup_counter("total_cpu_time_ns"), None);
        assert_eq!(c.cgroup_counter("total_iterations"), Some(550.0));
        let cgroup = cgroup_stats("cg", &both);
        assert_eq!(
            (cgroup.spread, cgroup.iterations_per_cpu_sec()),
            (None, None)
        );
        let mut run = ScenarioStats::from_cgroup(cgroup);
        run.merge(ScenarioStats::from_cgroup(cgroup_stats(
            "b",
            &[worker(0, 400)],
        )));
        assert_eq!(run.run_metric(BuiltinMetric::IterationRate), None);
        assert_eq!(run.run_metric(BuiltinMetric::TotalCpuTimeSec), None);
        assert_eq!(run.run_metric(BuiltinMetric::TotalCpuTimeNs), None);
        assert_eq!(early.off_cpu_pct(), None);
    }

    #[test]
    fn slices_go_to_their_phases() {
        let slice = |step_index, iterations| PhaseSlice {
            step_index,
            iterations,
            ..PhaseSlice::default()
        };
        let w = |slices| WorkerReport {
            phase_slices: slices,
            ..WorkerReport::default()
        };
        let by = carriers_by_phase(&[w(vec![slice(1, 5), slice(2, 7)]), w(vec![slice(2, 1)])]);
        assert_eq!(by.keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert_eq!((by[&1].total_iterations, by[&1].num_workers), (5, 1));
        assert_eq!((by[&2].total_iterations, by[&2].num_workers), (8, 2));
    }

    macro_rules! each_counter {
        ($($(#[$_doc:meta])* $kind:ident $name:ident
           $({ #[$_total_doc:meta] $fold:ident $total:ident $($metric:ident)? })?;)*) => {
            #[test]
            fn the_counters_that_are_measured_around_any_work_are_filled_in() {
                $({
                    let mut left_out = WorkerReport::default();
                    left_out.fill_measured(&WorkerReport { $name: 7, ..WorkerReport::default() });
                    let expected = if stringify!($kind) == "measured" { 7 } else { 0 };
                    assert_eq!(left_out.$name, expected, stringify!($name));
                    let mut own = WorkerReport { $name: 3, ..WorkerReport::default() };
                    own.fill_measured(&WorkerReport { $name: 7, ..WorkerReport::default() });
                    assert_eq!(own.$name, 3, stringify!($name));
                })*
            }

            #[test]
            fn each_counter_goes_from_the_workers_to_the_run() {
                $({
                    let worker = |n| WorkerReport { $name: n, ..WorkerReport::default() };
                    let mut life = worker(3);
                    life.add_counters(&worker(4).as_slice(0));
                    assert_eq!(life.$name, 7, stringify!($name));
                    $(
                        let folded = crate::math::$fold(3, 4);
                        let both = carrier(&[worker(3), worker(4)]);
                        assert_eq!(both.$total, folded, stringify!($total));
                        let mut merged = carrier(&[worker(3)]);
                        merged.merge(carrier(&[worker(4)]));
                        assert_eq!(merged, both);
                        $(
                            let name = stringify!($total);
                            let metric = BuiltinMetric::$metric;
                            assert_eq!(metric.wire_name(), name);
                            assert_eq!(metric.def().source, Source::Workers, "{name}");
                            assert_eq!(both.cgroup_counter(name), Some(folded as f64), "{name}");
                            let cgroup = |n| cgroup_stats("cg", &[worker(n)]);
                            assert_eq!(cgroup(3).$total, 3, "{name}");
                            let mut run = ScenarioStats::from_cgroup(cgroup(3));
                            run.merge(ScenarioStats::from_cgroup(cgroup(4)));
                            assert_eq!(run.run_metric(metric), Some(folded as f64), "{name}");
                        )?
                    )?
                })*
            }
        };
    }
    crate::worker_counters!(each_counter);

    macro_rules! each_kind {
        (samples { $($(#[$_doc:meta])* $kind:ident $values:ident { $(#[$_taken_doc:meta])* $taken:ident };)* }) => {
            #[test]
            fn each_kind_of_sample_goes_from_the_workers_to_the_cgroup() {
                $({
                    let name = stringify!($values);
                    let worker = |values: &[u64], taken| {
                        let mut report = WorkerReport::default();
                        let own = report.samples_mut(SampleKind::$kind);
                        own.values.extend(values);
                        *own.total = taken;
                        report
                    };
                    let slice = worker(&[1, 2], 7).as_slice(0);
                    assert_eq!((&*slice.$values, slice.$taken), (&[1, 2][..], 7), "{name}");
                    let both = carrier(&[worker(&[1, 2], 7), worker(&[3], 8)]);
                    assert_eq!((&*both.$values, both.$taken), (&[1, 2, 3][..], 15), "{name}");
                    assert_eq!(both.kept(), 3, "{name}");
                    let mut merged = carrier(&[worker(&[1, 2], 7)]);
                    merged.merge(carrier(&[worker(&[3], 8)]));
                    assert_eq!(merged, both);
                    merged.strip();
                    assert_eq!((merged.kept(), merged.$taken), (0, 15), "{name}");
                    assert_eq!(merged.metrics, both.metrics);
                })*
            }
        };
    }
    crate::worker_samples!(each_kind);

    proptest! {
        /// Merging two parts gives the same result as measuring them together.
        #[test]
        fn merging_carriers_is_pooling_workers(offs in prop::collection::vec((0usize..4, 0u64..1000), 0..8), cut in 0usize..8) {
            let all: Vec<_> = offs.iter().map(|(cpu, off)| worker(*cpu, *off)).collect();
            let (a, b) = all.split_at(cut.min(all.len()));
            let mut merged = carrier(a);
            merged.merge(carrier(b));
            prop_assert_eq!(&merged, &carrier(&all));
            let json = serde_json::to_string(&merged).expect("serialises");
            prop_assert_eq!(serde_json::from_str::<PhaseCgroupStats>(&json).expect("reads"), merged);
            // Stripping drops the samples but keeps the counters.
            let (mut x, mut y) = (carrier(a), carrier(b));
            x.strip();
            y.strip();
            x.merge(y);
            prop_assert_eq!(x.get("migration_ratio"), carrier(&all).get("migration_ratio"));
            prop_assert!(x.stripped && x.off_cpu_pcts.is_empty());
        }

        #[test]
        fn absurd_numbers_do_not_overflow(n in prop::collection::vec(any::<[u64; 6]>(), 0..6)) {
            let reports: Vec<_> = n.iter().map(|v| WorkerReport {
                iterations: v[0], cpu_time_ns: v[1], wall_time_ns: v[2], off_cpu_ns: v[3],
                migration_count: v[4], wake_sample_total: v[5], wake_latencies_ns: v.to_vec(),
                numa_pages: [(0, v[0]), (1, v[1])].into(), schedstat_run_count: v[2],
                schedstat_run_delay_ns: v[3], ..WorkerReport::default()
            }).collect();
            let c = carrier(&reports);
            prop_assert_eq!(c.num_workers, reports.len());
            let _ = cgroup_stats("cg", &reports);
        }
    }
}
