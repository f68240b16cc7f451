//! Excuses failures about times that other work on the host explains. Under the real clock the guest takes the time for which
//! a vCPU waited for a CPU of the host for time that passed.

use std::time::Duration;

use ktstr_assert::monitor::MonitorSample;
use ktstr_assert::{AssertDetail, Ejection, Finding, Outcome, Phase};

use super::fault::attribute_again;
use super::{Case, Fault, Judgement, Logs};
use crate::vm_result::HostVcpuSchedstat;

const NS_PER_MS: u64 = 1_000_000;
/// The dilation above which a machine counts as disturbed by other work on the host. The dilation is `1 + waited / ran`: the
/// machine's threads waited for the host's CPUs for the time `waited`, and ran for the time `ran`.
pub(in crate::run) const CONTENDED: f64 = 1.5;
/// A busy host explains a finding of a step only if the vCPUs waited for at least this share of the step's time.
const WAITED: f64 = 0.1;

/// The time in milliseconds that is added on each side of a wait, because its time in the run is known only roughly.
const SLACK_MS: u64 = 150;
/// The host explains a gap of a worker only if it kept one vCPU from running for at least this share of it.
const OF_GAP: f64 = 0.05;
/// The host explains a stall only if it kept one vCPU from running for at least this share of the timeout. The excess alone says
/// little, because it depends on when the kernel looked: `scx_tick()` looks at each tick, and `scx_watchdog_workfn()` twice in
/// each timeout (kernel/sched/ext.c).
const OF_STALL: f64 = 1.0 / 3.0;
/// How much shorter than the timeout a reported stall may be, because both are rounded to ticks.
const TICKS: Duration = Duration::from_millis(20);
/// The time in milliseconds before the end of a scheduler in which its own watchdog can have counted. How long such a watchdog
/// waits is unknown; most wait for several seconds.
const WATCHED_MS: u64 = 10_000;
/// A watchdog of the scheduler's own is excused if the host kept one vCPU from running for at least this share of that time.
const WATCHED: f64 = 1.0 / 3.0;

/// Returns whether this dilation explains a failure. Only failures about times can be explained. A latency that has a bound is
/// explained only if it is within the bound after division by the dilation.
fn is_explained_by(dilation: f64, detail: &AssertDetail) -> bool {
    detail.is_about_time()
        && detail
            .latency_gate
            .is_none_or(|gate| gate.measured_ns as f64 / dilation <= gate.threshold_ns as f64)
}

/// How busy the host was, under the real clock.
pub(in crate::run) struct Contention<'a> {
    /// The times of the vCPUs over the run.
    pub(in crate::run) run: HostVcpuSchedstat,
    /// The monitor's samples, which show the times of the vCPUs in each step; empty if the monitor is off.
    pub(in crate::run) samples: &'a [MonitorSample],
    /// For how long a task may wait before sched_ext ejects the scheduler.
    pub(in crate::run) stall_timeout: Duration,
    /// Whether the scheduler's log mentions a timeout of its own, and no signal is known to have ended it.
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
}

/// What is known so far about whose fault the run is.
struct SoFar {
    /// The test is at fault. Then only a host that was busy throughout takes precedence.
    test: bool,
    /// The scheduler ended because of a timeout of its own, and nothing else is known to have ended it.
    own_watchdog: bool,
}

/// A wait that is longer than it may be.
struct Wait {
    /// When it was, in milliseconds since the scenario started.
    from_ms: u64,
    to_ms: u64,
    /// By how much it exceeds its bound, in nanoseconds.
    excess_ns: u64,
    /// The least time for which the host must have kept one vCPU from running to explain the wait, in nanoseconds.
    least_ns: u64,
}

impl Contention<'_> {
    /// Returns how busy the host was at the time of the finding. A finding that belongs to no step may be about any time of the
    /// run, and so may one of a step without samples. The label `BASELINE` counts as no step, because findings about the backdrop
    /// at the end of the run have it, too.
    fn at<'d>(&self, detail: &'d AssertDetail) -> Part<'d> {
        let label = detail.phase.as_deref();
        let of_step = || {
            let first = self.samples.iter().position(|s| is_of(s, detail))?;
            let last = self.samples.iter().rposition(|s| is_of(s, detail))?;
            // Workers are started before the step's first sample, and stopped after its last one, so one more sample on each
            // side is included.
            let (from, to) = (first.saturating_sub(1), last.saturating_add(2));
            let samples = self.samples.get(from..to.min(self.samples.len()))?;
            let stat = HostVcpuSchedstat::over(samples)?;
            let (from_ms, to_ms) = (samples.first()?.elapsed_ms, samples.last()?.elapsed_ms);
            let wall_ns = to_ms.saturating_sub(from_ms).saturating_mul(NS_PER_MS);
            Some(Part {
                label,
                stat,
                all_ns: Some(wall_ns.saturating_mul(u64::from(stat.sampled_vcpus))),
            })
        };
        of_step().unwrap_or(Part {
            label: None,
            stat: self.run,
            all_ns: None,
        })
    }

    /// Returns the samples of the window to which the finding belongs. A test may open several windows, one after the other, in
    /// each of which times count from 0. An ejection belongs to the last one. `None` if several windows have such a step, and if
    /// the finding belongs to no step: for how long the window was paused since a worker of the backdrop started is unknown.
    fn window_of(&self, detail: &AssertDetail) -> Option<&[MonitorSample]> {
        let same = |a: &MonitorSample, b: &MonitorSample| a.elapsed_ms <= b.elapsed_ms;
        let windows = self.samples.chunk_by(same);
        if let Finding::Ejected { .. } | Finding::SchedulerDied { .. } = detail.finding {
            return windows.last();
        }
        let mut having = windows.filter(|window| steps(window, detail).next().is_some());
        having.next().filter(|_| having.next().is_none())
    }

    /// Returns the time and the excess of the wait that the finding is about; `None` if it is about no single wait, or if the
    /// finding's numbers are impossible.
    fn wait_of(&self, window: &[MonitorSample], detail: &AssertDetail) -> Option<Wait> {
        match detail.finding {
            Finding::Gap {
                gap_ms,
                bound_ms,
                at_ms,
                ..
            } => {
                // The time counts from the start of the worker, which is that of the step, and goes on after the step's end.
                let first = steps(window, detail).next()?.elapsed_ms;
                let last = steps(window, detail).last()?.elapsed_ms;
                let to_ms = first.saturating_add(at_ms).min(last);
                let lost_ms = (gap_ms as f64 * OF_GAP) as u64;
                // Milliseconds are rounded down when a finding is created.
                let excess_ms = gap_ms.saturating_sub(bound_ms).saturating_add(1);
                Some(Wait {
                    from_ms: to_ms.saturating_sub(gap_ms),
                    to_ms,
                    excess_ns: excess_ms.saturating_mul(NS_PER_MS),
                    least_ns: excess_ms.max(lost_ms).saturating_mul(NS_PER_MS),
                })
            }
            Finding::Ejected {
                cause:
                    Ejection::Stall {
                        seconds: Some(seconds),
                        ..
                    }
                    | Ejection::Unwatched { seconds },
                ..
            } => {
                let waited = Duration::try_from_secs_f64(seconds).ok()?;
                // If the wait is shorter than the timeout, the scheduler had another timeout, which is unknown.
                let excess = (waited + TICKS).checked_sub(self.stall_timeout)?;
                let to_ms = detached_ms(window)?;
                let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                Some(Wait {
                    from_ms: to_ms.saturating_sub(ns(waited) / NS_PER_MS),
                    to_ms,
                    excess_ns: ns(excess),
                    least_ns: ns(excess.max(self.stall_timeout.mul_f64(OF_STALL))),
                })
            }
            _ => None,
        }
    }

    /// Returns the evidence that the host was so busy that this explains the failure; `None` if it was not.
    fn explains(&self, detail: &AssertDetail, so_far: &SoFar) -> Option<String> {
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
        if so_far.test {
            return None;
        }
        let window = self.window_of(detail)?;
        if matches!(detail.finding, Finding::SchedulerDied { .. }) && so_far.own_watchdog {
            let end = detached_ms(window)?;
            let lost_ns = lost_by_one_vcpu(window, end.saturating_sub(WATCHED_MS), end)?;
            return (lost_ns as f64 >= WATCHED * (WATCHED_MS * NS_PER_MS) as f64).then(|| {
                format!(
                    "a timeout of its own ended the scheduler, and the host kept one vCPU from running for {:.1} of the {} s \
                     before",
                    secs(lost_ns),
                    WATCHED_MS / 1000,
                )
            });
        }
        let wait = self.wait_of(window, detail)?;
        let lost_ns = lost_by_one_vcpu(window, wait.from_ms, wait.to_ms)?;
        (lost_ns >= wait.least_ns).then(|| {
            format!(
                "the host kept one vCPU from running for {:.3} s in all during this wait, which exceeds its bound by at most {:.3} s",
                secs(lost_ns),
                secs(wait.excess_ns),
            )
        })
    }
}

/// Returns the samples of a window in the step of the finding; none if it belongs to no step.
fn steps<'a>(
    window: &'a [MonitorSample],
    detail: &'a AssertDetail,
) -> impl Iterator<Item = &'a MonitorSample> {
    window.iter().filter(|sample| is_of(sample, detail))
}

fn is_of(sample: &MonitorSample, detail: &AssertDetail) -> bool {
    let step = sample.step_index.filter(|step| *step > 0);
    step.is_some_and(|step| detail.phase.as_deref() == Some(&*Phase::from(step).label()))
}

/// Returns when a sample found the scheduler detached after it had been attached for the last time.
/// Without such a sample, returns the time of the last one.
fn detached_ms(window: &[MonitorSample]) -> Option<u64> {
    let attached = |sample: &MonitorSample| sample.scx_attached == Some(true);
    let next = window.iter().rposition(attached).map_or(0, |last| last + 1);
    let end = window.get(next).or(window.last())?;
    Some(end.elapsed_ms)
}

/// Returns for how long the host kept one vCPU from running between two times of the window, in nanoseconds and in all: that of
/// the vCPU which lost most. The waits of several vCPUs are not added up. `None` if the samples do not cover these times.
fn lost_by_one_vcpu(window: &[MonitorSample], from_ms: u64, to_ms: u64) -> Option<u64> {
    let from = from_ms.saturating_sub(SLACK_MS);
    let to = to_ms.saturating_add(SLACK_MS);
    let before = window.iter().rposition(|s| s.elapsed_ms <= from);
    let after = window.iter().position(|s| s.elapsed_ms >= to);
    let last = after.map_or(window.len(), |after| after + 1);
    let samples = window.get(before.unwrap_or(0)..last)?;
    Some(HostVcpuSchedstat::over(samples)?.longest_delay_ns())
}

/// Turns failures about times that a busy host explains into inconclusive outcomes: the host must have been busy in the step
/// to which the failure belongs, or it must have delayed a vCPU, during a wait that is too long, by as much as the wait exceeds
/// its bound. If all failures are of this kind, the run is attributed to the host. If only some are, a note contains how busy
/// the host was, and the others decide whose fault the run is.
pub(in crate::run) fn downgrade_if_contended(
    judgement: &mut Judgement,
    case: &Case,
    logs: Logs<'_>,
    host: &Contention<'_>,
) {
    let ejected = |detail: &AssertDetail| matches!(detail.finding, Finding::Ejected { .. });
    let so_far = SoFar {
        test: judgement.fault == Some(Fault::Test),
        own_watchdog: host.own_watchdog
            && judgement.fault == Some(Fault::Scheduler)
            && !judgement.result.failure_details().any(ejected),
    };
    let mut evidence: Vec<String> = (judgement.result.failure_details())
        .filter_map(|detail| host.explains(detail, &so_far))
        .collect();
    evidence.sort();
    evidence.dedup();
    if !excuse(judgement, |detail| host.explains(detail, &so_far).is_some()) {
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
/// the scheduler's process died are excused as well, because they follow from the ejection. Returns whether it excused any.
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
