//! Excuses failures about times that other work on the host explains. Under the real clock the guest takes the time for which
//! a vCPU waited for a CPU of the host for time that passed.

use ktstr_assert::monitor::MonitorSample;
use ktstr_assert::{AssertDetail, Ejection, Finding, Outcome, Phase};

use super::fault::attribute_again;
use super::{Case, Fault, Judgement, Logs};
use crate::vm_result::HostVcpuSchedstat;

/// The dilation above which a machine counts as disturbed by other work on the host. The dilation is `1 + waited / ran`,
/// where `waited` is the time for which the machine's threads waited for the host's CPUs, and `ran` the time for which they
/// ran.
pub(in crate::run) const CONTENDED: f64 = 1.5;
/// A busy host explains a finding of a step only if the vCPUs waited for at least this share of the step's time.
const WAITED: f64 = 0.1;

/// The time in milliseconds by which the samples around a wait of a worker are extended on each side, because the start of the
/// worker is known only roughly.
const SLACK_MS: u64 = 500;
/// If the scheduler's own watchdog ended it, the host explains that if it delayed one vCPU by at least this time, in
/// nanoseconds. How long such a watchdog waits is unknown; most wait for several seconds.
const WATCHDOG_NS: u64 = 1_000_000_000;

/// Returns whether this dilation explains a failure. Only failures about times can be explained. A latency that has a bound is
/// explained only if it is within the bound after division by the dilation.
fn is_explained_by(dilation: f64, detail: &AssertDetail) -> bool {
    detail.is_about_time()
        && detail
            .latency_gate
            .is_none_or(|gate| gate.measured_ns as f64 / dilation <= gate.threshold_ns as f64)
}

/// How much shorter the time in a finding would have to be, in nanoseconds, for the finding not to exist.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Excess {
    /// The finding is about one wait, which is delayed if the host delays one vCPU. The wait lasted from the first to the last of
    /// these times, in milliseconds since the worker or the first step started; `None` if these are unknown.
    OfOneWait(u64, Option<(u64, u64)>),
    /// The finding is about CPU time, and all vCPUs together can lose it.
    OfCpuTime(u64),
}

impl Excess {
    /// Returns `None` if the finding is not about a time that has a bound in milliseconds.
    fn of(finding: &Finding) -> Option<Self> {
        // Milliseconds are rounded down when a finding is created.
        let ns = |ms: f64| ((ms.max(0.0) + 1.0) * 1e6) as u64;
        Some(match *finding {
            Finding::Gap {
                gap_ms,
                bound_ms,
                at_ms,
                ..
            } => Self::OfOneWait(
                ns(gap_ms.saturating_sub(bound_ms) as f64),
                Some((at_ms.saturating_sub(gap_ms), at_ms)),
            ),
            Finding::Starved {
                owed_ms,
                bound_ms,
                from_ms,
                waited_ms,
                ..
            } => Self::OfOneWait(
                ns(owed_ms as f64 - bound_ms),
                Some((from_ms, from_ms.saturating_add(waited_ms))),
            ),
            // The kernel does not report the timeout, which such a wait exceeds only a little in most cases.
            Finding::Ejected {
                cause:
                    Ejection::Stall {
                        seconds: Some(seconds),
                        ..
                    }
                    | Ejection::Unwatched { seconds },
                ..
            } => Self::OfOneWait(ns(500.0 * seconds), None),
            Finding::Underserved {
                got_ms,
                entitled_ms,
                floor,
                ..
            } => Self::OfCpuTime(ns(entitled_ms as f64 * floor - got_ms as f64)),
            Finding::WastedCpu {
                wasted_ms,
                share,
                bound,
            } => Self::OfCpuTime(ns(wasted_ms as f64 * (1.0 - bound / share.max(bound)))),
            _ => return None,
        })
    }
}

/// How busy the host was, under the real clock.
pub(in crate::run) struct Contention<'a> {
    /// The times of the vCPUs over the run.
    pub(in crate::run) run: HostVcpuSchedstat,
    /// The monitor's samples, which show the times of the vCPUs in each step; empty if the monitor is off.
    pub(in crate::run) samples: &'a [MonitorSample],
    /// Whether the scheduler exited because of a timeout of its own.
    pub(in crate::run) own_watchdog: bool,
}

/// How busy the host was during a part of the run.
struct Part<'a> {
    /// The label of the step; `None` for the whole run.
    label: Option<&'a str>,
    stat: HostVcpuSchedstat,
    /// The length of the step times the number of vCPUs, in nanoseconds, which is the longest time for which the vCPUs together
    /// can have waited; `None` for the whole run.
    all_ns: Option<u64>,
    /// The samples of the step, with one more on each side; empty for the whole run.
    samples: &'a [MonitorSample],
}

impl Contention<'_> {
    /// Returns how busy the host was at the time of the finding. A finding that belongs to no step may be about any time of the
    /// run, and so may one of a step without samples. The label `BASELINE` counts as no step, because findings about the backdrop
    /// at the end of the run have it, too.
    fn at<'d>(&'d self, detail: &'d AssertDetail) -> Part<'d> {
        let label = detail.phase.as_deref();
        let is_of = |sample: &MonitorSample| {
            let step = sample.step_index.filter(|step| *step > 0);
            step.is_some_and(|step| label == Some(&*Phase::from(step).label()))
        };
        let of_step = || {
            let first = self.samples.iter().position(is_of)?;
            let last = self.samples.iter().rposition(is_of)?;
            // Workers are started before the step's first sample, and stopped after its last one, so one more sample on each
            // side is included.
            let (from, to) = (first.saturating_sub(1), last.saturating_add(2));
            let samples = self.samples.get(from..to.min(self.samples.len()))?;
            let stat = HostVcpuSchedstat::over(samples)?;
            let wall_ms = samples
                .last()?
                .elapsed_ms
                .saturating_sub(samples.first()?.elapsed_ms);
            let wall_ns = wall_ms.saturating_mul(1_000_000);
            Some(Part {
                label,
                stat,
                all_ns: Some(wall_ns.saturating_mul(u64::from(stat.sampled_vcpus))),
                samples,
            })
        };
        of_step().unwrap_or(Part {
            label: None,
            stat: self.run,
            all_ns: None,
            samples: &[],
        })
    }

    /// Returns the longest time for which one vCPU waited during a wait of a worker or task, in nanoseconds. `span` counts from the
    /// start of the worker, which is the start of the step or of the scenario, or from the first step. So there are several times
    /// when the wait can have been, and the one at which the host was busiest counts.
    fn longest_in(&self, part: &Part<'_>, span: Option<(u64, u64)>) -> u64 {
        let (Some((from, to)), Some(step)) = (span, part.samples.first()) else {
            return part.stat.longest_run_delay_ns;
        };
        let in_steps = |sample: &&MonitorSample| sample.step_index.is_some_and(|step| step > 0);
        let first_step = self.samples.iter().find(in_steps);
        let starts = [0, step.elapsed_ms, first_step.map_or(0, |s| s.elapsed_ms)];
        let of = |start: u64| {
            let from = start.saturating_add(from).saturating_sub(SLACK_MS);
            let to = start.saturating_add(to).saturating_add(SLACK_MS);
            let before = self.samples.iter().rposition(|s| s.elapsed_ms <= from);
            let after = self.samples.iter().position(|s| s.elapsed_ms >= to);
            let last = after.map_or(self.samples.len(), |after| after + 1);
            let samples = self.samples.get(before.unwrap_or(0)..last)?;
            Some(HostVcpuSchedstat::over(samples)?.longest_run_delay_ns)
        };
        starts.into_iter().filter_map(of).max().unwrap_or(0)
    }

    /// Returns the evidence that the host was so busy that this explains the failure; `None` if it was not.
    fn explains(&self, detail: &AssertDetail) -> Option<String> {
        let part = self.at(detail);
        let place = part
            .label
            .map_or_else(String::new, |step| format!(" in {step}"));
        let secs = |ns: u64| ns as f64 / 1e9;
        let dilation = part.stat.dilation();
        let waited_ns = part.stat.total_run_delay_ns;
        // If the guest idled in the step, the dilation is a ratio of two short times and shows little.
        let waited_long =
            (part.all_ns).is_none_or(|all_ns| waited_ns as f64 >= WAITED * all_ns as f64);
        if dilation > CONTENDED && waited_long && is_explained_by(dilation, detail) {
            return Some(format!(
                "the host was busy{place}: the vCPUs ran for {:.1} s and waited {:.1} s for a CPU of the host, so the machine took \
                 {dilation:.1} times as long",
                secs(part.stat.total_on_cpu_ns),
                secs(waited_ns),
            ));
        }
        let died = matches!(detail.finding, Finding::SchedulerDied { .. });
        if died && self.own_watchdog && self.run.longest_run_delay_ns >= WATCHDOG_NS {
            return Some(format!(
                "a timeout of its own ended the scheduler, and one vCPU waited {:.1} s for a CPU of the host",
                secs(self.run.longest_run_delay_ns),
            ));
        }
        let (excess_ns, lost_ns, who) = match Excess::of(&detail.finding)? {
            Excess::OfOneWait(excess_ns, span) => {
                (excess_ns, self.longest_in(&part, span), "one vCPU")
            }
            Excess::OfCpuTime(excess_ns) => (excess_ns, waited_ns, "the vCPUs together"),
        };
        (lost_ns >= excess_ns).then(|| {
            format!(
                "the host was busy{place}: {who} waited {:.3} s for a CPU of the host, which is at least the {:.3} s by which the \
                 finding can exceed its bound",
                secs(lost_ns),
                secs(excess_ns),
            )
        })
    }
}

/// Turns failures about times that a busy host explains into inconclusive outcomes: the host must have been busy in the step
/// to which the failure belongs, or the host must have delayed the vCPUs by as much as the finding exceeds its bound. If all failures are of this kind, the run is attributed to the host. If only some are, a
/// note contains how busy the host was, and the others decide whose fault the run is.
pub(in crate::run) fn downgrade_if_contended(
    judgement: &mut Judgement,
    case: &Case,
    logs: Logs<'_>,
    host: &Contention<'_>,
) {
    let mut evidence: Vec<String> = (judgement.result.failure_details())
        .filter_map(|detail| host.explains(detail))
        .collect();
    evidence.sort();
    evidence.dedup();
    if !excuse(judgement, |detail| host.explains(detail).is_some()) {
        return;
    }
    let evidence = evidence.join("; ");
    if judgement.result.is_fail() {
        judgement.result.note(evidence);
        attribute_again(judgement, case, logs);
    } else {
        judgement.blame(Fault::Host, evidence);
    }
}

/// Makes the failures that the host `explains` inconclusive. If the host explains each ejection by the kernel, the findings that
/// the scheduler's process died are excused as well, because they follow from the ejection. Returns whether any failure was
/// excused.
pub(super) fn excuse(judgement: &mut Judgement, explains: impl Fn(&AssertDetail) -> bool) -> bool {
    let is_ejection = |detail: &AssertDetail| matches!(detail.finding, Finding::Ejected { .. });
    let ejections: Vec<&AssertDetail> = (judgement.result.failure_details())
        .filter(|detail| is_ejection(detail))
        .collect();
    let without = !ejections.is_empty() && ejections.iter().all(|detail| explains(detail));
    let mut excused = false;
    for outcome in &mut judgement.result.outcomes {
        if let Outcome::Fail(detail) = outcome
            && (explains(detail)
                || without && matches!(detail.finding, Finding::SchedulerDied { .. }))
        {
            detail.host_explains = true;
            *outcome = Outcome::Inconclusive(detail.clone());
            excused = true;
        }
    }
    excused
}

#[cfg(test)]
#[path = "contention_tests.rs"]
mod tests;
