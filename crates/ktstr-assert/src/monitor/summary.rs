//! Computes the summary of the samples.

use super::{CpuSchedstat, CpuSnapshot, MonitorSample, MonitorSummary, ScxEventCounters};
use crate::math::mean;
use std::collections::BTreeMap;

/// Returns for each CPU whether its runqueue clock did not advance between two samples although the CPU had something to
/// run. A CPU that was idle in both samples is exempt, and so is a CPU whose vCPU thread got no CPU time from the host.
pub(super) fn stuck(before: &MonitorSample, now: &MonitorSample) -> Vec<bool> {
    let pairs = before.cpus.iter().zip(&now.cpus);
    pairs
        .map(|(a, b)| {
            let idle = a.is_idle() && b.is_idle();
            let got_no_cpu = match (a.vcpu_cpu_time_ns, b.vcpu_cpu_time_ns) {
                (Some(a), Some(b)) => b <= a,
                _ => false,
            };
            a.rq_clock == b.rq_clock && !idle && !got_no_cpu
        })
        .collect()
}

impl CpuSchedstat {
    /// Adds the growth of the statistics from `before` to `now`. A counter that is missing in `before` or `now` becomes
    /// `None` in the sum.
    fn add_growth(&mut self, before: &Self, now: &Self) {
        let add = |sum: &mut u64, before: u64, now: u64| {
            *sum = sum.saturating_add(now.saturating_sub(before));
        };
        // The kernel keeps the optional counters in 32 bits, so they wrap around.
        let add_count = |sum: &mut Option<u64>, before: Option<u64>, now: Option<u64>| {
            let grown = now
                .zip(before)
                .map(|(now, before)| u64::from((now as u32).wrapping_sub(before as u32)));
            *sum = sum.zip(grown).map(|(sum, grown)| sum.saturating_add(grown));
        };
        add(&mut self.run_delay, before.run_delay, now.run_delay);
        add(&mut self.pcount, before.pcount, now.pcount);
        add_count(&mut self.yld_count, before.yld_count, now.yld_count);
        add_count(&mut self.sched_count, before.sched_count, now.sched_count);
        add_count(
            &mut self.sched_goidle,
            before.sched_goidle,
            now.sched_goidle,
        );
        add_count(&mut self.ttwu_count, before.ttwu_count, now.ttwu_count);
        add_count(&mut self.ttwu_local, before.ttwu_local, now.ttwu_local);
    }
}

/// Returns the growth of the event counters over the samples, summed over all CPUs; `None` if no two consecutive
/// samples have them.
pub(super) fn event_deltas(samples: &[MonitorSample]) -> Option<ScxEventCounters> {
    let mut sum: Option<ScxEventCounters> = None;
    for (before, now) in pairs(samples) {
        if let (Some(before), Some(now)) = (&before.event_counters, &now.event_counters) {
            sum.get_or_insert_default().add_growth(before, now);
        }
    }
    sum
}

/// Returns the growth of the schedstats over the samples, summed over all CPUs; `None` if no two consecutive samples have them.
pub(super) fn schedstat_deltas(samples: &[MonitorSample]) -> Option<CpuSchedstat> {
    let mut sum: Option<CpuSchedstat> = None;
    for (before, now) in pairs(samples) {
        if let (Some(before), Some(now)) = (&before.schedstat, &now.schedstat) {
            let zero = CpuSchedstat {
                yld_count: Some(0),
                sched_count: Some(0),
                sched_goidle: Some(0),
                ttwu_count: Some(0),
                ttwu_local: Some(0),
                ..CpuSchedstat::default()
            };
            sum.get_or_insert(zero).add_growth(before, now);
        }
    }
    sum
}

/// Returns the total number of seconds for which the vCPUs could run between the samples: the CPU time that the host gave
/// them or, if that is unknown (as it always is under the virtual clock), guest time.
pub(super) fn vcpu_seconds(samples: &[MonitorSample]) -> f64 {
    seconds(samples, |_| true)
}

/// Returns the same as [`vcpu_seconds`], but counts a vCPU only between two samples that both have its event counters.
pub(crate) fn event_seconds(samples: &[MonitorSample]) -> f64 {
    seconds(samples, |cpu| cpu.event_counters.is_some())
}

fn seconds(samples: &[MonitorSample], counts: fn(&CpuSnapshot) -> bool) -> f64 {
    let mut ns = 0u64;
    for pair in consecutive(samples) {
        let guest_ns = pair[1].elapsed_ms.saturating_sub(pair[0].elapsed_ms);
        let guest_ns = guest_ns.saturating_mul(1_000_000);
        let cpus = pair[0].cpus.iter().zip(&pair[1].cpus);
        for (before, now) in cpus.filter(|(before, now)| counts(before) && counts(now)) {
            ns = ns.saturating_add(delivered_ns(before, now, guest_ns));
        }
    }
    ns as f64 / 1e9
}

/// Returns the nanoseconds for which a vCPU could run between two samples: the CPU time that the host gave it or, if that
/// is unknown, `guest_ns`, the guest time between the samples.
pub(super) fn delivered_ns(before: &CpuSnapshot, now: &CpuSnapshot, guest_ns: u64) -> u64 {
    match (before.vcpu_cpu_time_ns, now.vcpu_cpu_time_ns) {
        (Some(before), Some(now)) => now.saturating_sub(before),
        _ => guest_ns,
    }
}

/// Returns the growth of the number of load-balancing attempts by domain, summed over all CPUs; `None` if no two
/// consecutive samples count them.
fn domain_deltas(samples: &[MonitorSample]) -> Option<BTreeMap<String, u64>> {
    let mut sum: Option<BTreeMap<String, u64>> = None;
    for (before, now) in pairs(samples) {
        let domains = |cpu: &CpuSnapshot| cpu.sched_domains.clone().unwrap_or_default();
        for (before, now) in domains(before).iter().zip(domains(now)) {
            if let (Some(then), Some(count)) = (before.lb_count, now.lb_count) {
                let slot = sum.get_or_insert_default().entry(now.name).or_default();
                *slot = slot.saturating_add(count.saturating_sub(then));
            }
        }
    }
    sum
}

/// Returns each CPU of each sample together with the same CPU of the next sample.
fn pairs(samples: &[MonitorSample]) -> impl Iterator<Item = (&CpuSnapshot, &CpuSnapshot)> {
    consecutive(samples).flat_map(|w| w[0].cpus.iter().zip(&w[1].cpus))
}

/// Returns each sample together with the next one of the same scenario. A test may run several scenarios, and the times of
/// each start at 0. What happens between two scenarios belongs to neither.
pub(super) fn consecutive(samples: &[MonitorSample]) -> impl Iterator<Item = &[MonitorSample]> {
    samples
        .windows(2)
        .filter(|w| w[0].elapsed_ms < w[1].elapsed_ms)
}

impl MonitorSample {
    /// Returns the number of online CPUs that idle while a task that may run on them waits.
    pub fn wasted_cpus(&self) -> usize {
        let cpus = self.cpus.iter().enumerate();
        cpus.filter(|(_, cpu)| cpu.is_idle() && cpu.online != Some(false))
            .filter(|(c, _)| self.waiting_for(*c).next().is_some())
            .count()
    }
}

impl MonitorSummary {
    /// Computes the summary of samples, which are ordered by time.
    pub fn of(samples: &[MonitorSample]) -> Self {
        let cpus = || samples.iter().flat_map(|s| &s.cpus);
        let ratios = || samples.iter().map(MonitorSample::imbalance_ratio);
        let stuck = consecutive(samples).flat_map(|w| stuck(&w[0], &w[1]));
        let irq = |c: &CpuSnapshot| Some(c.avg_irq_util? as f64);
        let width = samples.iter().map(|s| s.cpus.len()).max().unwrap_or(0);
        let irq_of = |cpu| mean(samples.iter().filter_map(|s| irq(s.cpus.get(cpu)?)));
        MonitorSummary {
            total_samples: samples.len(),
            max_imbalance_ratio: ratios().reduce(f64::max).unwrap_or(0.0),
            max_local_dsq_depth: cpus().map(|c| c.local_dsq_depth).max().unwrap_or(0),
            stuck_count: stuck.filter(|s| *s).count() as u64,
            avg_imbalance_ratio: mean(ratios()).unwrap_or(0.0),
            avg_nr_running: mean(cpus().map(|c| f64::from(c.nr_running))).unwrap_or(0.0),
            avg_local_dsq_depth: mean(cpus().map(|c| f64::from(c.local_dsq_depth))).unwrap_or(0.0),
            avg_irq_util: mean(cpus().filter_map(irq)),
            max_avg_irq_util: (0..width).filter_map(irq_of).reduce(f64::max),
            event_deltas: event_deltas(samples),
            schedstat_deltas: schedstat_deltas(samples),
            sched_domain_lb: domain_deltas(samples),
            wasted_cpu_samples: samples.iter().map(|s| s.wasted_cpus() as u64).sum(),
        }
    }
}
