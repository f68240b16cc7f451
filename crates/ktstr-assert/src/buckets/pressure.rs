//! The metrics of a phase that come from the pressure stall information (PSI) of interrupts. Captures contain it for each
//! cgroup if the kernel accounts for the time of interrupts (`CONFIG_IRQ_TIME_ACCOUNTING`). The kernel updates
//! the numbers every two seconds.

use crate::metric::BuiltinMetric as B;
use crate::series::Sample;
use ktstr_snapshot::report::{CgroupPsi, PsiLine};
use std::collections::BTreeMap;

/// The line of PSI for the time in which interrupts kept all tasks of a cgroup from running.
const LINE: &str = "irq.full";
/// The root cgroup, whose pressure is that of the whole machine.
const ROOT: &str = "/";

/// The pressure of interrupts in one capture, by the path of the cgroup.
type Lines<'a> = BTreeMap<&'a str, &'a PsiLine>;

fn lines<'a>(groups: &'a [CgroupPsi]) -> Lines<'a> {
    let of = |group: &'a CgroupPsi| Some((group.path.as_str(), group.lines.get(LINE)?));
    groups.iter().filter_map(of).collect()
}

/// Returns the metrics of one phase's captures; none on a kernel without this pressure.
pub(super) fn metrics(samples: &[Sample<'_>]) -> BTreeMap<String, f64> {
    let real = samples.iter().filter(|s| !s.snapshot.is_placeholder());
    let seen = real.map(|s| lines(s.snapshot.cgroup_psi()));
    let seen: Vec<Lines<'_>> = seen.filter(|lines| !lines.is_empty()).collect();
    let mut out = BTreeMap::new();
    let mut put = |metric: B, value: Option<f64>| {
        if let Some(value) = value {
            out.insert(metric.def().name.to_owned(), value);
        }
    };
    let machine = seen.iter().filter_map(|lines| lines.get(ROOT));
    put(
        B::PsiIrqFullAvg10,
        crate::math::mean(machine.map(|line| line.avg10)),
    );
    let cgroups = seen.iter().flatten().filter(|(path, _)| **path != ROOT);
    let averages = cgroups.map(|(_, line)| line.avg10);
    put(B::MaxCgroupPsiIrqAvg10, averages.reduce(f64::max));
    // The first and the last line of each cgroup: a cgroup may be created after the first capture, or removed before the
    // last.
    let mut ends: BTreeMap<&str, (&PsiLine, &PsiLine)> = BTreeMap::new();
    for (path, line) in seen.iter().flatten() {
        ends.entry(path).or_insert((line, line)).1 = line;
    }
    if seen.len() < 2 {
        return out;
    }
    let grown =
        |(first, last): &(&PsiLine, &PsiLine)| last.total_us.saturating_sub(first.total_us) as f64;
    put(B::TotalIrqPressureUs, ends.get(ROOT).map(grown));
    let cgroups = || ends.iter().filter(|(path, _)| **path != ROOT);
    let most = cgroups().map(|(_, ends)| grown(ends)).reduce(f64::max);
    put(B::MaxCgroupIrqPressure, most);
    let mean = crate::math::mean(cgroups().map(|(_, ends)| grown(ends)));
    let above = mean.filter(|mean| *mean > 0.0);
    put(
        B::MaxCgroupIrqPressureConcentration,
        most.zip(above).map(|(most, mean)| most / mean),
    );
    out
}
