//! Comparisons with an earlier run of the same test and variant, the baseline (`perf_delta_assertions`). The baseline's sidecar
//! is in the folder that `KTSTR_PERF_BASELINE` names. Without the variable nothing is compared. In either case this run's
//! sidecar holds the values, and can be a later run's baseline.

use std::path::Path;

use ktstr_assert::{AssertDetail, AssertResult, DetailKind, Outcome, Phase};
use ktstr_record::settings::difference;
use ktstr_state::env;

use super::Fault;
use super::verdict::{CONTENDED, Judgement};
use crate::entry::KtstrTestEntry;
use crate::sidecar::{self, MeasuredAssertion, SidecarResult};
use crate::vm_result::VmResult;

/// Returns the values that the test's assertions compare, one for each assertion and in the same order. A metric that
/// was not measured has no value.
pub(crate) fn measured(entry: &KtstrTestEntry, vm: &VmResult) -> Vec<MeasuredAssertion> {
    let assertions = entry.perf_delta_assertions.iter();
    assertions
        .map(|assertion| MeasuredAssertion {
            metric: assertion.metric().to_owned(),
            phase: assertion.phase(),
            value: match assertion.phase() {
                Some(step) => vm.phase_metric(Phase::from(step), assertion.metric()),
                None => vm.run_metric(assertion.metric()),
            },
        })
        .collect()
}

/// Compares a run that has passed so far with its baseline, if `KTSTR_PERF_BASELINE` names a folder and the test has assertions.
/// Without the variable, notes which of the metrics were not measured. A run that is worse by more than an assertion allows
/// fails, or is inconclusive if the host was busy. A run is also inconclusive if the baseline cannot be used, or if a value is
/// missing in either run. `kernel` is the release of the run's kernel.
pub(super) fn judge(
    judgement: &mut Judgement,
    entry: &KtstrTestEntry,
    vm: &VmResult,
    kernel: Option<&str>,
) {
    if entry.perf_delta_assertions.is_empty() || !judgement.result.is_pass() {
        return;
    }
    let Some(folder) = env::PERF_BASELINE.get() else {
        // This run may become a baseline, and a later run could not be compared with the missing values.
        for missing in measured(entry, vm) {
            if missing.value.is_none() {
                judgement.result.note(format!(
                    "perf_delta_assertions: {} was not measured in this run, so the run is no baseline for it",
                    missing.metric
                ));
            }
        }
        return;
    };
    let mut compared = compare(entry, vm, kernel, &folder);
    let dilation = vm.host_vcpu_schedstat.map(|stat| stat.dilation());
    let vcpus = entry.topology.total_cpus();
    let usual = || {
        let baseline = sidecar::read_one(&folder, entry).ok();
        usual_dilation(
            vcpus,
            vm.cpu_budget,
            baseline.and_then(|then| then.host_dilation),
        )
    };
    let busy = dilation.filter(|dilation| *dilation > CONTENDED * usual());
    let folder = folder.display();
    if let Some(dilation) = busy.filter(|_| compared.is_fail()) {
        for outcome in &mut compared.outcomes {
            if let Outcome::Fail(detail) = outcome {
                *outcome = Outcome::Inconclusive(detail.clone());
            }
        }
        let why = format!(
            "the host was busy (the machine took {dilation:.1} times as long), so it is undecided whether the run is worse than the baseline in {folder}"
        );
        judgement.blame(Fault::Host, why);
    } else if compared.is_fail() {
        let why = format!("a metric was better in the baseline, whose sidecar is in {folder}");
        let fault = match entry.scheduler.binary.has_active_scheduling() {
            true => Fault::Scheduler,
            // The tasks were scheduled by the kernel's own scheduler.
            false => Fault::Kernel,
        };
        judgement.blame(fault, why);
    } else if compared.is_inconclusive() {
        let why = format!("this run cannot be compared with the baseline in {folder}");
        judgement.blame(Fault::User, why);
    }
    judgement.result.merge(compared);
}

/// Returns the dilation of a run on a host that has nothing else to do. The dilation is `1 + waited / ran`, where `waited`
/// is the time for which the vCPUs waited for the host's CPUs, and `ran` the time for which they ran. Virtual CPUs that
/// share the CPUs of a budget wait for each other. How long they wait depends on the workload, so the dilation of the
/// `baseline`, which has the same workload, is used. Without it, the virtual CPUs are assumed to have work all the time.
fn usual_dilation(vcpus: u32, cpu_budget: u32, baseline: Option<f64>) -> f64 {
    if vcpus <= cpu_budget {
        return 1.0;
    }
    let shared = f64::from(vcpus) / f64::from(cpu_budget.max(1));
    baseline.map_or(shared, |dilation| dilation.max(1.0))
}

/// Returns the result of the comparison alone: a note for each assertion that holds, a failure for each that does not, and
/// an inconclusive outcome for each that lacks a value. It is inconclusive as a whole if the baseline cannot be read, has failed,
/// or ran on another kernel, under another clock, with other settings, or on a busy host.
fn compare(
    entry: &KtstrTestEntry,
    vm: &VmResult,
    kernel: Option<&str>,
    folder: &Path,
) -> AssertResult {
    let mut result = AssertResult::pass();
    let unknown = |why: String| {
        let why = format!("perf_delta_assertions: {why}");
        AssertDetail::new(DetailKind::Benchmark, why)
    };
    let baseline = match sidecar::read_one(folder, entry) {
        Ok(baseline) => baseline,
        Err(error) => {
            result.record_inconclusive(unknown(format!("{error:#}")));
            return result;
        }
    };
    if let Some(line) = why_not(&baseline, vm, kernel) {
        result.record_inconclusive(unknown(line));
        return result;
    }
    for (assertion, now) in entry.perf_delta_assertions.iter().zip(measured(entry, vm)) {
        let same = |then: &&MeasuredAssertion| then.metric == now.metric && then.phase == now.phase;
        let then = baseline.perf_delta_assertions.iter().find(same);
        match (then.and_then(|then| then.value), now.value) {
            (Some(then), Some(value)) => match assertion.regression(then, value) {
                Some(worse) => {
                    let worse = format!("{worse} (baseline: {})", baseline.run_id);
                    result.record_fail(AssertDetail::new(DetailKind::Benchmark, worse));
                }
                None => {
                    let line =
                        format!("{}: {then} in {}, now {value}", now.metric, baseline.run_id);
                    result.note(line);
                }
            },
            (None, _) => {
                let line = format!(
                    "{} has no value in the baseline {}",
                    now.metric, baseline.run_id
                );
                result.record_inconclusive(unknown(line));
            }
            (_, None) => {
                let line = format!("{} was not measured in this run", now.metric);
                result.record_inconclusive(unknown(line));
            }
        }
    }
    result
}

/// Returns why the numbers of this run cannot be compared with those of the baseline; `None` if they can.
fn why_not(baseline: &SidecarResult, vm: &VmResult, kernel: Option<&str>) -> Option<String> {
    let id = &baseline.run_id;
    // This comes first, because a run can end before it has a machine. Its sidecar then has none of the values that are
    // compared below. An inconclusive run with a machine is accepted, because perhaps it only lacked a baseline of its own.
    let ended = match baseline.verdict() {
        "fail" => Some("failed"),
        "skip" => Some("was skipped"),
        "inconclusive" if baseline.clock.is_none() => Some("came to no verdict"),
        _ => None,
    };
    if let Some(ended) = ended {
        return Some(format!("the baseline {id} {ended}, so it is no measure"));
    }
    // Runs of a test on several kernels write the same file, which then has the result of the run that ended last.
    if let (Some(then), Some(now)) = (baseline.kernel_version.as_deref(), kernel)
        && then != now
    {
        return Some(format!(
            "the baseline {id} ran on kernel {then}, and this run on {now}: record a baseline on the same kernel, in a folder of its own"
        ));
    }
    // Sidecars of older versions have neither a clock nor a speed.
    let clock = |name: &str, mips: Option<u32>| match mips {
        Some(mips) => format!("{name} at {mips} MIPS"),
        None => name.to_owned(),
    };
    let now = clock(vm.clock, vm.mips);
    if let Some(then) = baseline.clock.as_deref()
        && clock(then, baseline.mips) != now
    {
        return Some(format!(
            "the clock of the baseline {id} was {}, and that of this run is {now}: record a baseline under the same clock",
            clock(then, baseline.mips)
        ));
    }
    let Some(then) = &baseline.settings else {
        return Some(format!(
            "an older ktstr recorded the baseline {id}, without the settings of its run: record it again with this version"
        ));
    };
    let names = [&*format!("the baseline {id}"), "this run"];
    if let Some(difference) = difference(names, then, &vm.settings) {
        return Some(format!(
            "{difference}: record a baseline with the same settings"
        ));
    }
    let of_host = |dilation: &f64| {
        let vcpus = baseline.vcpus.unwrap_or(1);
        // If vCPUs share the CPUs of a budget, nothing shows which part of the dilation comes from other work on the host.
        vcpus <= baseline.cpu_budget.unwrap_or(vcpus) && *dilation > CONTENDED
    };
    if let Some(dilation) = baseline.host_dilation.filter(of_host) {
        return Some(format!(
            "the host of the baseline {id} was busy (the machine took {dilation:.1} times as long), so it is no measure"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_a_budget_the_usual_dilation_is_that_of_the_baseline() {
        assert_eq!(usual_dilation(2, 2, Some(1.4)), 1.0);
        // Only one of the eight virtual CPUs had work in the baseline, so they hardly waited for each other.
        assert_eq!(usual_dilation(8, 2, Some(1.1)), 1.1);
        assert_eq!(usual_dilation(8, 2, None), 4.0);
        let baseline = |vcpus, cpu_budget| SidecarResult {
            passed: true,
            settings: Some(VmResult::blank().settings),
            host_dilation: Some(3.0),
            vcpus: Some(vcpus),
            cpu_budget: Some(cpu_budget),
            ..SidecarResult::default()
        };
        let why_not = |baseline| why_not(&baseline, &VmResult::blank(), None);
        assert!(
            why_not(baseline(2, 2))
                .is_some_and(|why| why.contains("was busy (the machine took 3.0 times as long)"))
        );
        assert_eq!(why_not(baseline(8, 2)), None);
    }

    /// A baseline that did not run has no settings either, but must not be reported as one that an older ktstr recorded.
    #[test]
    fn a_baseline_that_did_not_run_is_not_compared() {
        let why = |skipped, inconclusive| {
            let baseline = SidecarResult {
                skipped,
                inconclusive,
                ..SidecarResult::default()
            };
            why_not(&baseline, &VmResult::blank(), None).expect("it is not compared")
        };
        assert!(why(true, false).contains("was skipped"));
        assert!(why(false, true).contains("came to no verdict"));
        assert!(why(false, false).contains("failed"));
    }

    #[test]
    fn a_baseline_of_other_settings_is_not_compared() {
        let set = |value: &str| Some([("the memory".to_owned(), value.to_owned())].into());
        let mut vm = VmResult::blank();
        vm.settings = set("512 MiB").unwrap_or_default();
        let mut baseline = SidecarResult {
            run_id: "A".to_owned(),
            passed: true,
            settings: set("512 MiB"),
            ..SidecarResult::default()
        };
        assert_eq!(why_not(&baseline, &vm, None), None);
        baseline.settings = set("1024 MiB");
        insta::assert_snapshot!(why_not(&baseline, &vm, None).unwrap_or_default(), @"the memory was 1024 MiB in the baseline A, and 512 MiB in this run: record a baseline with the same settings");
        baseline.settings = None;
        let older = why_not(&baseline, &vm, None).unwrap_or_default();
        assert!(
            older.starts_with("an older ktstr recorded the baseline A"),
            "{older}"
        );
    }
}
