//! The behaviour that a scenario expects of any correct scheduler, as claims about what the workers measured. The
//! bounds catch schedulers that are broken, not schedulers that are slow: EEVDF keeps all of them by a wide margin, except
//! where a scenario's documentation says otherwise.

use std::collections::BTreeSet;
use std::ops::Range;

use ktstr_assert::{
    AssertDetail, AssertResult, DetailKind, Phase, PhaseCgroupStats, PhaseGuard, ScenarioStats,
    Verdict,
};

use super::WakeBounds;

/// The minimum share of the available CPU time that workers must get if enough of them never sleep. The bound is below 1 because
/// the harness itself needs CPU time to create and collect workers.
const BUSY: f64 = 0.8;
/// The maximum ratio between the CPU times of equal cgroups.
const FAIR: f64 = 2.0;
/// The maximum number of context switches per CPU-second of workers that only compute. EEVDF, whose base slice is at most
/// 3 ms, needs a few hundred.
const SWITCHES: f64 = 2500.0;
/// The minimum length in ns that a step must have for the use of its CPUs to be judged.
const SHORTEST: u64 = 100_000_000;
/// The minimum length in ns that a step must have for judging whether its cgroups get fair shares. A step starts, moves or adds
/// workers, and load balancing needs time: the kernel's own balancer gave a worker 0.47 of its share in the first quarter of a
/// second after a move, and at least 0.68 in the first half second. After a start it gave a cgroup 0.65 of its share in the first
/// 0.4 s (Linux 7.3, 8 workers on 4 CPUs).
const BALANCED: u64 = 800_000_000;

/// A result to which a scenario adds its claims.
pub(super) struct Expect {
    stats: ScenarioStats,
    verdict: Verdict,
    /// Whether the scenario ended early. The cause then decides the verdict, and claims are skipped.
    cut_short: bool,
}

impl Expect {
    pub(super) fn of(result: AssertResult) -> Self {
        let cut_short = result.failure_details().any(|detail| {
            matches!(
                detail.kind,
                DetailKind::Other
                    | DetailKind::SchedulerCrashed
                    | DetailKind::SchedulerExitedCleanly
                    | DetailKind::SchedulerDiedUnknownReason
            )
        });
        let mut verdict = Verdict::new();
        let stats = result.stats.clone();
        verdict.merge(result);
        Self {
            stats,
            verdict,
            cut_short,
        }
    }

    pub(super) fn result(self) -> AssertResult {
        self.verdict.into_result()
    }

    fn carrier(&self, step: u16, cgroup: &str) -> Option<&PhaseCgroupStats> {
        self.stats.phase(Phase::step(step))?.per_cgroup.get(cgroup)
    }

    /// Returns what the cgroups measured in a step. Returns `None` if the scenario ended early, or if a cgroup measured
    /// nothing. In the second case, it also records an inconclusive outcome.
    fn carriers(&mut self, step: u16, cgroups: &[&str]) -> Option<Vec<PhaseCgroupStats>> {
        if self.cut_short {
            return None;
        }
        let mut all = Vec::new();
        for cgroup in cgroups {
            match self.carrier(step, cgroup) {
                Some(carrier) => all.push(carrier.clone()),
                None => {
                    self.verdict.inconclusive(AssertDetail::new(
                        DetailKind::Unfair,
                        format!(
                            "cgroup {cgroup} reported no measurements for step {}",
                            step + 1
                        ),
                    ));
                    return None;
                }
            }
        }
        Some(all)
    }

    /// Returns the same as [`carriers`](Self::carriers) for claims about CPU time. If a worker ended before it measured its CPU
    /// time, returns `None` and records an inconclusive outcome: without that time, the worker would seem
    /// to have been starved.
    fn measured(&mut self, step: u16, cgroups: &[&str]) -> Option<Vec<PhaseCgroupStats>> {
        let carriers = self.carriers(step, cgroups)?;
        let cut = cgroups
            .iter()
            .zip(&carriers)
            .find(|(_, c)| c.unmeasured > 0);
        if let Some((cgroup, carrier)) = cut {
            self.verdict.inconclusive(AssertDetail::new(
                DetailKind::Unfair,
                format!(
                    "shares of CPU time in step {} are unknown: {} of {} workers of cgroup {cgroup} ended early",
                    step + 1,
                    carrier.unmeasured,
                    carrier.num_workers
                ),
            ));
            return None;
        }
        Some(carriers)
    }

    /// Returns how long workers existed in a step, in ns: their longest lifetime, limited to the length of the step. The
    /// limit matters because a worker that waits for a CPU when the step ends notices the end only when it runs again,
    /// in the next step.
    fn held_ns(&self, step: u16, carriers: &[PhaseCgroupStats]) -> u64 {
        let life = carriers
            .iter()
            .map(|c| c.longest_life_ns)
            .max()
            .unwrap_or(0);
        let window = self.stats.phase(Phase::step(step)).map(|bucket| {
            let ms = bucket.end_ms.saturating_sub(bucket.start_ms);
            ms.saturating_mul(1_000_000)
        });
        match window {
            Some(ns) if ns > 0 => life.min(ns),
            _ => life,
        }
    }

    /// Claims that the workers of these cgroups together got most of the time of `cpus` in a step and ran on each of them.
    /// The workers that never sleep must be numerous enough to keep all of `cpus` busy by themselves.
    pub(super) fn work_conserving(
        &mut self,
        step: u16,
        cgroups: &[&str],
        cpus: &BTreeSet<usize>,
    ) -> &mut Self {
        let _label = PhaseGuard::install_step(step);
        let Some(carriers) = self.measured(step, cgroups) else {
            return self;
        };
        let held = self.held_ns(step, &carriers);
        if held < SHORTEST {
            return self.too_short(step, held);
        }
        let ns: u64 = carriers
            .iter()
            .map(|c| c.total_cpu_time_ns)
            .fold(0, u64::saturating_add);
        let used: BTreeSet<usize> = carriers.iter().flat_map(|c| c.cpus_used.clone()).collect();
        let names = cgroups.join(", ");
        let share = ns as f64 / (held as f64 * cpus.len() as f64);
        self.verdict
            .claim("share of CPU time used while workers waited", round(share))
            .kind(DetailKind::Unfair)
            .because(&format!("{names} on CPUs {cpus:?}"))
            .at_least(BUSY);
        let idle: BTreeSet<usize> = cpus.difference(&used).copied().collect();
        self.verdict
            .claim_set("CPUs that no worker ran on while others waited", &idle)
            .kind(DetailKind::Unfair)
            .because(&names)
            .empty();
        self
    }

    fn too_short(&mut self, step: u16, held_ns: u64) -> &mut Self {
        self.verdict.note(format!(
            "step {} held {} ms: too short to judge shares of CPU time",
            step + 1,
            held_ns / 1_000_000
        ));
        self
    }

    fn too_short_together(&mut self, held_ns: u64) -> &mut Self {
        self.verdict.note(format!(
            "all steps together held {} ms: too short to judge shares of CPU time",
            held_ns / 1_000_000
        ));
        self
    }

    /// Returns how long a step was held, in ns, if that is long enough to judge shares. Otherwise adds a note and returns `None`.
    fn long_enough(&mut self, step: u16, carriers: &[PhaseCgroupStats]) -> Option<u64> {
        let held = self.held_ns(step, carriers);
        if held < BALANCED {
            self.too_short(step, held);
            return None;
        }
        Some(held)
    }

    /// Claims that the workers of these cgroups were on a CPU for equal shares of their lifetimes, within a factor of
    /// [`FAIR`]. Each worker must be entitled to the same CPU time, but the number of workers may differ.
    pub(super) fn equal_share(&mut self, step: u16, cgroups: &[&str]) -> &mut Self {
        self.equal(step..step + 1, cgroups, OF_ITS_LIFE)
    }

    /// Makes the claim of [`equal_share`](Self::equal_share) for each of these steps, and for all of them together. A step
    /// that is too short is not judged alone, but counts in the judgement of all steps together.
    pub(super) fn equal_share_over(&mut self, steps: Range<u16>, cgroups: &[&str]) -> &mut Self {
        self.each_and_all(steps, cgroups, OF_ITS_LIFE)
    }

    /// Like [`equal_share`](Self::equal_share), but compares CPU times. Use this for cgroups that exist before the
    /// step and are busy throughout it: a worker that is runnable but waiting notices the start of the step late, so
    /// its own measure of the step is unreliable.
    pub(super) fn equal_time(&mut self, step: u16, cgroups: &[&str]) -> &mut Self {
        self.equal(step..step + 1, cgroups, OF_THE_STEP)
    }

    /// Makes the claim of [`equal_time`](Self::equal_time) for each of these steps, and for all of them together. A step
    /// that is too short is not judged alone, but counts in the judgement of all steps together.
    pub(super) fn equal_time_over(&mut self, steps: Range<u16>, cgroups: &[&str]) -> &mut Self {
        self.each_and_all(steps, cgroups, OF_THE_STEP)
    }

    fn each_and_all(&mut self, steps: Range<u16>, cgroups: &[&str], of: CpuTime) -> &mut Self {
        for step in steps.clone() {
            self.equal(step..step + 1, cgroups, of);
        }
        self.equal(steps, cgroups, of)
    }

    /// Claims that the average worker of the cgroup was on a CPU for at least half of its fair share. The fair share is
    /// `fair_pct` percent of the worker's own lifetime. The cgroup must exist only for this step: a cgroup that outlives the
    /// step also runs without competition while the step is set up and torn down.
    pub(super) fn served(&mut self, step: u16, cgroup: &str, fair_pct: f64) -> &mut Self {
        let _label = PhaseGuard::install_step(step);
        let Some(carriers) = self.measured(step, &[cgroup]) else {
            return self;
        };
        if self.long_enough(step, &carriers).is_none() {
            return self;
        }
        self.serves(cgroup, on_cpu(&carriers[0]), fair_pct)
    }

    /// Makes the claim of [`served`](Self::served) for all of these steps together. Use this for a cgroup that each of many
    /// short steps makes and removes: one step alone may be too short for load balancing to help a bad start.
    pub(super) fn served_over(
        &mut self,
        steps: Range<u16>,
        cgroup: &str,
        fair_pct: f64,
    ) -> &mut Self {
        let (mut sum, mut held_ns) = (0.0, 0);
        for step in steps {
            let Some(carriers) = self.measured(step, &[cgroup]) else {
                return self;
            };
            let held = self.held_ns(step, &carriers);
            sum += on_cpu(&carriers[0]) * held as f64;
            held_ns += held;
        }
        match held_ns < BALANCED {
            true => self.too_short_together(held_ns),
            false => self.serves(cgroup, sum / held_ns as f64, fair_pct),
        }
    }

    fn serves(&mut self, cgroup: &str, got: f64, fair_pct: f64) -> &mut Self {
        self.verdict
            .claim(
                "CPU time of a worker over its fair share",
                round(got / fair_pct),
            )
            .kind(DetailKind::Unfair)
            .because(&format!(
                "a worker of {cgroup} got {got:.1} % of its time, {fair_pct:.1} % is fair"
            ))
            .at_least(1.0 / FAIR);
        self
    }

    /// Makes the claim of [`equal_share`](Self::equal_share) about the CPU time, measured by `of`, that a worker got in
    /// all of these steps together.
    fn equal(&mut self, steps: Range<u16>, cgroups: &[&str], of: CpuTime) -> &mut Self {
        let one = steps.len() == 1;
        let _label = one.then(|| PhaseGuard::install_step(steps.start));
        let mut held_ns = 0;
        let mut sums = vec![0.0; cgroups.len()];
        for step in steps {
            let Some(carriers) = self.measured(step, cgroups) else {
                return self;
            };
            let held = match one {
                true => self.long_enough(step, &carriers),
                false => Some(self.held_ns(step, &carriers)),
            };
            let Some(held) = held else {
                return self;
            };
            held_ns += held;
            for (sum, carrier) in sums.iter_mut().zip(&carriers) {
                *sum += of(carrier, held);
            }
        }
        if !one && held_ns < BALANCED {
            return self.too_short_together(held_ns);
        }
        let all = || cgroups.iter().zip(&sums);
        let (Some(least), Some(most)) = (
            all().min_by(|a, b| a.1.total_cmp(b.1)),
            all().max_by(|a, b| a.1.total_cmp(b.1)),
        ) else {
            return self;
        };
        let share = |got: f64| 100.0 * got / held_ns as f64;
        self.verdict
            .claim(
                "CPU time per worker in the best served cgroup, divided by that in the worst served one",
                round(most.1 / least.1),
            )
            .kind(DetailKind::Unfair)
            .because(&format!(
                "a worker of {} got {:.1} % of the time, a worker of {} got {:.1} %",
                most.0,
                share(*most.1),
                least.0,
                share(*least.1)
            ))
            .at_most(FAIR);
        self
    }

    /// Claims that workers which never sleep were context-switched at most [`SWITCHES`] times per CPU-second.
    pub(super) fn few_switches(&mut self, step: u16, cgroups: &[&str]) -> &mut Self {
        let _label = PhaseGuard::install_step(step);
        let Some(carriers) = self.measured(step, cgroups) else {
            return self;
        };
        let sum = |of: fn(&PhaseCgroupStats) -> u64| {
            carriers.iter().map(of).fold(0, u64::saturating_add) as f64
        };
        let (switches, ns) = (sum(|c| c.total_run_count), sum(|c| c.total_cpu_time_ns));
        if switches == 0.0 || ns == 0.0 {
            self.verdict.inconclusive(AssertDetail::new(
                DetailKind::Benchmark,
                "context switches are unknown: the workers have no schedstats".to_owned(),
            ));
            return self;
        }
        self.verdict
            .claim(
                "context switches per CPU-second",
                (switches / ns * 1e9).round(),
            )
            .kind(DetailKind::Benchmark)
            .because(&format!("workers of {} only compute", cgroups.join(", ")))
            .at_most(SWITCHES);
        self
    }

    /// Compares the shares of their lifetimes for which workers were on a CPU, averaged over each cgroup: claims that the
    /// average of `more` is at least `factor` times that of `less`.
    pub(super) fn weighted_share(
        &mut self,
        step: u16,
        more: &str,
        less: &str,
        factor: f64,
    ) -> &mut Self {
        let _label = PhaseGuard::install_step(step);
        let Some(carriers) = self.measured(step, &[more, less]) else {
            return self;
        };
        let (a, b) = (on_cpu(&carriers[0]), on_cpu(&carriers[1]));
        self.verdict
            .claim("CPU time of the favoured over the other", round(a / b))
            .kind(DetailKind::Unfair)
            .because(&format!(
                "workers of {more} ran {a:.1} % of their time, workers of {less} ran {b:.1} %"
            ))
            .at_least(factor);
        self
    }

    /// Claims that `cgroup` got at least the share `least`, from 0 to 1, of the CPU time that the cgroups `all` got.
    pub(super) fn share(&mut self, step: u16, cgroup: &str, all: &[&str], least: f64) -> &mut Self {
        let _label = PhaseGuard::install_step(step);
        let Some(carriers) = self.measured(step, all) else {
            return self;
        };
        let sum: f64 = carriers.iter().map(|c| c.total_cpu_time_ns as f64).sum();
        let own = self
            .carrier(step, cgroup)
            .map_or(f64::NAN, |c| c.total_cpu_time_ns as f64);
        self.verdict
            .claim("share of the CPU time", round(own / sum))
            .kind(DetailKind::Unfair)
            .because(&format!("{cgroup} among {}", all.join(", ")))
            .at_least(least);
        self
    }

    /// Claims that no worker of the cgroup ran outside of these CPUs. The cgroup must have been confined to them before
    /// the step began.
    pub(super) fn confined_to(
        &mut self,
        step: u16,
        cgroup: &str,
        cpus: &BTreeSet<usize>,
    ) -> &mut Self {
        let _label = PhaseGuard::install_step(step);
        let Some(carriers) = self.carriers(step, &[cgroup]) else {
            return self;
        };
        self.verdict
            .claim_set("CPUs used", &carriers[0].cpus_used)
            .kind(DetailKind::Isolation)
            .because(&format!("{cgroup} was confined before the step began"))
            .subset_of(cpus);
        self
    }

    /// Claims upper bounds for the median and the 99th percentile of wakeup latencies.
    pub(super) fn wakes(&mut self, step: u16, cgroup: &str, most: WakeBounds) -> &mut Self {
        let _label = PhaseGuard::install_step(step);
        let Some(carriers) = self.carriers(step, &[cgroup]) else {
            return self;
        };
        for (name, metric, most) in [
            (
                "median wake latency, µs",
                "median_wake_latency_us",
                most.median_us,
            ),
            ("p99 wake latency, µs", "p99_wake_latency_us", most.p99_us),
        ] {
            match carriers[0].get(metric) {
                Some(value) => {
                    self.verdict
                        .claim(name, round(value))
                        .kind(DetailKind::Benchmark)
                        .because(cgroup)
                        .at_most(most);
                }
                None => {
                    self.verdict.inconclusive(AssertDetail::new(
                        DetailKind::Benchmark,
                        format!("{name} of {cgroup} is unknown: no wake-ups were sampled"),
                    ));
                }
            }
        }
        self
    }
}

/// A measure by which cgroups are compared: the average CPU time in ns of a worker of the cgroup in a step. The second
/// argument is the time in ns for which the step was held.
type CpuTime = fn(&PhaseCgroupStats, u64) -> f64;

/// The measure of [`Expect::equal_share`]: the on-CPU share of the workers' lifetimes, times the length of the step.
const OF_ITS_LIFE: CpuTime = |c, held_ns| on_cpu(c) / 100.0 * held_ns as f64;
/// The measure of [`Expect::equal_time`]: the CPU time of the workers in the step.
const OF_THE_STEP: CpuTime = |c, _| c.total_cpu_time_ns as f64 / c.num_workers as f64;

/// Returns the share of their lifetimes that workers were on a CPU, in percent; NaN if it was not measured.
fn on_cpu(carrier: &PhaseCgroupStats) -> f64 {
    match carrier.get("avg_off_cpu_pct") {
        Some(off) => 100.0 - off,
        None => f64::NAN,
    }
}

/// Rounds a value for a message: to three decimals if it is below 1000, otherwise to a whole number.
fn round(value: f64) -> f64 {
    if value.abs() < 1000.0 {
        (value * 1000.0).round() / 1000.0
    } else {
        value.round()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_assert::{CgroupStats, PhaseBucket, WorkerReport, carrier};

    /// Returns the result of a scenario of one step with the cgroups `a` and `b`, in which the second worker of `b` ended early
    /// if `early` is set.
    fn result(early: bool) -> AssertResult {
        let worker = |early: bool| WorkerReport {
            completed: !early,
            cpu_unknown: early,
            cpu_time_ns: if early { 0 } else { 900_000_000 },
            off_cpu_ns: if early { 0 } else { 100_000_000 },
            wall_time_ns: 1_000_000_000,
            cpus_used: [0, 1, 2, 3].into(),
            schedstat_run_count: 10,
            ..WorkerReport::default()
        };
        let mut result = AssertResult::pass();
        let mut bucket = PhaseBucket::new(Phase::step(0));
        for (name, early) in [("a", false), ("b", early)] {
            let of_cgroup = carrier(&[worker(false), worker(early)]);
            let stats = CgroupStats::from_carrier(name, &of_cgroup);
            result.stats.cgroups.push(stats);
            bucket.per_cgroup.insert(name.to_owned(), of_cgroup);
        }
        result.stats.phases.push(bucket);
        result
    }

    #[test]
    fn a_worker_that_ended_early_leaves_claims_about_cpu_time_open() {
        let cpus = BTreeSet::from([0, 1, 2, 3]);
        type Claim<'a> = &'a dyn Fn(&mut Expect);
        let claims: [(&str, Claim<'_>); 6] = [
            ("work", &|e| _ = e.work_conserving(0, &["a", "b"], &cpus)),
            ("share", &|e| _ = e.equal_share(0, &["a", "b"])),
            ("time", &|e| _ = e.equal_time(0, &["a", "b"])),
            ("served", &|e| _ = e.served(0, "b", 90.0)),
            ("switches", &|e| _ = e.few_switches(0, &["a", "b"])),
            ("one of all", &|e| _ = e.share(0, "b", &["a", "b"], 0.5)),
        ];
        for (what, claim) in claims {
            let judged = |early| {
                let mut expect = Expect::of(result(early));
                claim(&mut expect);
                expect.result()
            };
            assert!(judged(false).is_pass(), "{what}: {:?}", judged(false));
            assert!(judged(true).is_inconclusive(), "{what}: {:?}", judged(true));
        }
        let mut confined = Expect::of(result(true));
        confined.confined_to(0, "b", &cpus);
        assert!(
            confined.result().is_pass(),
            "the CPUs that were used are known even if a worker ended early"
        );
    }
}
