//! The samples in numbers.

use super::{MonitorSample, MonitorSummary};
use crate::math::mean;

/// Per CPU: whether its runqueue clock stood still between two samples while it had something to
/// run. A CPU that was idle in both, or whose vCPU thread got no CPU from the host, is exempt.
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

impl MonitorSummary {
    /// The summary of samples, oldest first.
    pub fn of(samples: &[MonitorSample]) -> Self {
        let cpus = || samples.iter().flat_map(|s| &s.cpus);
        let ratios = || samples.iter().map(MonitorSample::imbalance_ratio);
        let stuck = samples.windows(2).flat_map(|w| stuck(&w[0], &w[1]));
        MonitorSummary {
            total_samples: samples.len(),
            max_imbalance_ratio: ratios().reduce(f64::max).unwrap_or(0.0),
            max_local_dsq_depth: cpus().map(|c| c.local_dsq_depth).max().unwrap_or(0),
            stuck_count: stuck.filter(|s| *s).count() as u64,
            avg_imbalance_ratio: mean(ratios()).unwrap_or(0.0),
            avg_nr_running: mean(cpus().map(|c| f64::from(c.nr_running))).unwrap_or(0.0),
            avg_local_dsq_depth: mean(cpus().map(|c| f64::from(c.local_dsq_depth))).unwrap_or(0.0),
        }
    }
}
