//! The metrics of a phase that come from the kernel's accounting of CPU time and interrupts: the growth of the kernel's
//! counters between the first and the last capture of the phase that contain them.

use crate::metric::{BuiltinMetric as B, quotients};
use crate::series::Sample;
use ktstr_snapshot::report::PerCpuTimeStats;
use std::collections::BTreeMap;

/// Reads a counter, which never decreases.
type Read = fn(&PerCpuTimeStats) -> u64;

/// The metrics that are sums over the CPUs.
const SUMS: &[(B, Read)] = &[
    (B::TotalHardirqs, |t| t.irqs_sum),
    (B::TotalSoftirqTimer, |t| t.softirqs[TIMER]),
    (B::TotalSoftirqNetTx, |t| t.softirqs[NET_TX]),
    (B::TotalSoftirqNetRx, |t| t.softirqs[NET_RX]),
    (B::TotalSoftirqSched, |t| t.softirqs[SCHED]),
    (B::TotalIrqTimeNs, |t| t.cpustat.irq_ns),
    (B::TotalSoftirqTimeNs, |t| t.cpustat.softirq_ns),
    (B::TotalStealTimeNs, |t| t.cpustat.steal_ns),
    (B::TotalPhaseGuestCpuNs, busy_ns),
];
/// The metrics about the CPU with the largest growth of a counter: that growth, and its ratio to the mean growth over the CPUs.
const PEAKS: &[(B, B, Read)] = &[
    (B::MaxCpuHardirqs, B::MaxCpuHardirqConcentration, |t| {
        t.irqs_sum
    }),
    (
        B::MaxCpuSoftirqNetRx,
        B::MaxCpuSoftirqNetRxConcentration,
        |t| t.softirqs[NET_RX],
    ),
];

// The numbers of softirqs, which are indices in `softirqs` (include/linux/interrupt.h).
const TIMER: usize = 1;
const NET_TX: usize = 2;
const NET_RX: usize = 3;
const SCHED: usize = 7;

/// Returns the time that a CPU was busy: neither idle, nor `iowait`, nor stolen by the host.
fn busy_ns(time: &PerCpuTimeStats) -> u64 {
    let t = &time.cpustat;
    [t.user_ns, t.nice_ns, t.system_ns, t.softirq_ns, t.irq_ns]
        .into_iter()
        .fold(0, u64::saturating_add)
}

/// Returns the metrics of one phase's captures; none if fewer than two of them contain CPU times.
pub(super) fn metrics(samples: &[Sample<'_>]) -> BTreeMap<String, f64> {
    let mut out = BTreeMap::new();
    let real = samples.iter().filter(|s| !s.snapshot.is_placeholder());
    let mut times = real
        .map(|s| s.snapshot.per_cpu_time())
        .filter(|times| !times.is_empty());
    let (Some(first), Some(last)) = (times.next(), times.next_back()) else {
        return out;
    };
    let pairs: Vec<_> = last
        .iter()
        .filter_map(|now| Some((first.iter().find(|then| then.cpu == now.cpu)?, now)))
        .collect();
    let growth = |read: Read| -> Vec<f64> {
        let grown = pairs
            .iter()
            .map(|(then, now)| read(now).saturating_sub(read(then)) as f64);
        grown.collect()
    };
    let mut put = |metric: B, value: f64| {
        out.insert(metric.def().name.to_owned(), value);
    };
    for (metric, read) in SUMS {
        put(*metric, growth(*read).iter().sum());
    }
    let busy: f64 = growth(busy_ns).iter().sum();
    put(B::TotalPhaseGuestCpuSec, busy / 1e9);
    for (peak, concentration, read) in PEAKS {
        let grown = growth(*read);
        let Some(most) = grown.iter().copied().reduce(f64::max) else {
            continue;
        };
        put(*peak, most);
        let mean = grown.iter().sum::<f64>() / grown.len() as f64;
        if mean > 0.0 {
            put(*concentration, most / mean);
        }
    }
    quotients(&mut out);
    out
}
