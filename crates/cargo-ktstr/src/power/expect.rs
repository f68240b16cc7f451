//! What a scenario may expect beyond the checks that any test can switch on, because it knows what it asked for. The
//! bounds are far from what a sound scheduler does: each is a factor, not a percentage.

use std::time::Duration;

use ktstr::prelude::*;

/// Least share of the CPUs that workers which never sleep must get between them. EEVDF has been seen at 0.85 where
/// cpusets change.
const BUSY: f64 = 0.7;
/// Least share of an equal's CPU time that an equal must get.
const EQUAL: f64 = 0.4;
/// Most context switches in a CPU-second of workers that only compute.
const SWITCHES: f64 = 2500.0;

/// CPU seconds of one worker of `cgroup` on average; in one phase, or in all.
fn per_worker(stats: &ScenarioStats, cgroup: &str, phase: Option<Phase>) -> Option<f64> {
    let parts = stats
        .phases
        .iter()
        .filter(|bucket| phase.is_none_or(|phase| bucket.phase() == phase))
        .filter_map(|bucket| bucket.per_cgroup.get(cgroup));
    let (ns, workers) = parts.fold((0, 0), |(ns, workers), part| {
        (
            part.total_cpu_time_ns.saturating_add(ns),
            part.num_workers.max(workers),
        )
    });
    (workers > 0).then(|| ns as f64 / 1e9 / workers as f64)
}

/// The workers, none of which ever sleeps, kept `cpus` CPUs busy for the whole of `window`.
pub fn busy(verdict: &mut Verdict, stats: &ScenarioStats, cpus: usize, window: Duration) {
    let ns: u64 = stats.cgroups.iter().map(|c| c.total_cpu_time_ns).sum();
    share(verdict, ns, cpus, window);
}

/// The same for one phase of that length.
pub fn busy_phase(
    verdict: &mut Verdict,
    stats: &ScenarioStats,
    phase: Phase,
    cpus: usize,
    window: Duration,
) {
    let carriers = stats.phase(phase).into_iter();
    let ns = carriers
        .flat_map(|bucket| bucket.per_cgroup.values())
        .map(|part| part.total_cpu_time_ns)
        .sum();
    share(verdict, ns, cpus, window);
}

fn share(verdict: &mut Verdict, ns: u64, cpus: usize, window: Duration) {
    let share = ns as f64 / 1e9 / (cpus as f64 * window.as_secs_f64());
    verdict
        .claim("share of the CPUs used", round(share))
        .kind(DetailKind::Benchmark)
        .because(
            "the workers never sleep, and there are enough of them: CPUs idled while tasks waited",
        )
        .at_least(BUSY);
}

/// A worker of `a` got about as much CPU time as one of `b`, in one phase or in all.
pub fn equal(verdict: &mut Verdict, stats: &ScenarioStats, a: &str, b: &str, phase: Option<Phase>) {
    let of = |cgroup| per_worker(stats, cgroup, phase);
    let Some((a_s, b_s)) = of(a).zip(of(b)) else {
        verdict.inconclusive(AssertDetail::new(
            DetailKind::Unfair,
            format!("shares of {a} and {b} cannot be told: one of them was not measured"),
        ));
        return;
    };
    verdict
        .claim(
            "smaller share over larger of two equal cgroups",
            round(a_s.min(b_s) / a_s.max(b_s).max(1e-9)),
        )
        .kind(DetailKind::Unfair)
        .because(&format!(
            "{a}: {a_s:.3} s a worker, {b}: {b_s:.3} s; they have the same weight and the same CPUs"
        ))
        .at_least(EQUAL);
}

/// A worker of `heavy` got at least `factor` times what one of `light` got.
pub fn heavier(
    verdict: &mut Verdict,
    stats: &ScenarioStats,
    heavy: &str,
    light: &str,
    factor: f64,
) {
    let of = |cgroup| per_worker(stats, cgroup, None);
    let Some((heavy_s, light_s)) = of(heavy).zip(of(light)) else {
        return;
    };
    verdict
        .claim("share of the heavy over the light", round(heavy_s / light_s.max(1e-6)))
        .kind(DetailKind::Unfair)
        .because(&format!(
            "{heavy}: {heavy_s:.3} s a worker, {light}: {light_s:.3} s; by their nice values it is 9"
        ))
        .at_least(factor);
}

/// The workers of `cgroup` were woken in time.
pub fn woken_within(verdict: &mut Verdict, stats: &ScenarioStats, cgroup: &str, bound: Duration) {
    let Some(found) = stats.cgroups.iter().find(|c| c.cgroup_name == cgroup) else {
        return;
    };
    if !found.wake_measured {
        verdict.inconclusive(AssertDetail::new(
            DetailKind::Benchmark,
            format!("wake latency of {cgroup} cannot be told: nobody woke up"),
        ));
        return;
    }
    verdict
        .claim(
            "p99 wake latency in ms",
            round(found.p99_wake_latency_us / 1e3),
        )
        .kind(DetailKind::Benchmark)
        .because(&format!(
            "{} wake-ups of cgroup {cgroup}",
            found.wake_sample_total
        ))
        .at_most(bound.as_secs_f64() * 1e3);
}

/// Context switches of the machine, from /proc/stat.
pub fn switches() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("ctxt "))?;
    line.trim().parse().ok()
}

/// There were no more switches than workers that only compute give reason to.
pub fn few_switches(verdict: &mut Verdict, before: Option<u64>, cpus: usize, window: Duration) {
    let Some(count) = before.zip(switches()).map(|(a, b)| b.saturating_sub(a)) else {
        return;
    };
    let rate = count as f64 / (cpus as f64 * window.as_secs_f64());
    verdict
        .claim("context switches a CPU-second", rate.round())
        .kind(DetailKind::Benchmark)
        .because("the workers only compute")
        .at_most(SWITCHES);
}

fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Cgroups of two workers with so many CPU seconds each, in one phase of 2 s.
    fn stats(cgroups: &[(&str, f64)]) -> ScenarioStats {
        let ns = |seconds: f64| (seconds * 1e9) as u64;
        let mut bucket = PhaseBucket {
            step_index: 1,
            ..PhaseBucket::default()
        };
        bucket.per_cgroup = cgroups
            .iter()
            .map(|(name, seconds)| {
                let part = PhaseCgroupStats {
                    num_workers: 2,
                    total_cpu_time_ns: ns(*seconds),
                    ..PhaseCgroupStats::default()
                };
                ((*name).to_owned(), part)
            })
            .collect::<BTreeMap<_, _>>();
        ScenarioStats {
            cgroups: cgroups
                .iter()
                .map(|(name, seconds)| CgroupStats {
                    cgroup_name: (*name).to_owned(),
                    total_cpu_time_ns: ns(*seconds),
                    wake_measured: true,
                    p99_wake_latency_us: seconds * 1e3,
                    ..CgroupStats::default()
                })
                .collect(),
            phases: vec![bucket],
            ..ScenarioStats::default()
        }
    }

    fn failures(claims: impl Fn(&mut Verdict)) -> Vec<String> {
        let mut verdict = Verdict::new();
        claims(&mut verdict);
        let result = verdict.into_result();
        result
            .failure_details()
            .map(|d| d.message.clone())
            .collect()
    }

    #[test]
    fn each_expectation_passes_once_and_fails_once() {
        let s = Duration::from_secs;
        let fair = stats(&[("a", 1.9), ("b", 2.0)]);
        let unfair = stats(&[("a", 0.5), ("b", 2.0)]);
        assert_eq!(failures(|v| busy(v, &fair, 2, s(2))), Vec::<String>::new());
        assert_eq!(
            failures(|v| busy(v, &unfair, 2, s(2))),
            [
                "share of the CPUs used: expected at least 0.7, was 0.625 (the workers never sleep, and there are \
                 enough of them: CPUs idled while tasks waited)"
            ]
        );
        let step = Phase::step(0);
        assert!(failures(|v| busy_phase(v, &fair, step, 2, s(2))).is_empty());
        assert_eq!(failures(|v| busy_phase(v, &unfair, step, 2, s(2))).len(), 1);
        assert!(failures(|v| equal(v, &fair, "a", "b", None)).is_empty());
        assert_eq!(
            failures(|v| equal(v, &unfair, "a", "b", Some(step))),
            [
                "smaller share over larger of two equal cgroups: expected at least 0.4, was 0.25 (a: 0.250 s a \
                 worker, b: 1.000 s; they have the same weight and the same CPUs)"
            ]
        );
        assert!(failures(|v| heavier(v, &unfair, "b", "a", 2.5)).is_empty());
        assert_eq!(failures(|v| heavier(v, &fair, "b", "a", 2.5)).len(), 1);
        let ms = Duration::from_millis;
        assert!(failures(|v| woken_within(v, &fair, "b", ms(3))).is_empty());
        assert_eq!(failures(|v| woken_within(v, &fair, "b", ms(1))).len(), 1);
        let now = switches();
        assert!(failures(|v| few_switches(v, now, 1, s(1000))).is_empty());
        assert_eq!(failures(|v| few_switches(v, Some(0), 1, ms(1))).len(), 1);
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        let mut verdict = Verdict::new();
        equal(&mut verdict, &stats(&[("a", 1.0)]), "a", "none", None);
        assert!(verdict.into_result().is_inconclusive());
    }
}
