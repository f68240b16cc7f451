//! The messages of findings. Some of these texts are part of the public contract, and tests compare them.

use super::{Finding, MonitorBound};
use crate::worker::WorkerExitInfo;
use std::fmt::{self, Display, Formatter};

/// Separates the description of what happened from the end of the log or output.
const LAST_OUTPUT: &str = "; its last output:";

/// Formats why a worker left no complete report, as the end of a message. The text is empty if the worker left a complete report.
pub(crate) struct NoReport<'a>(pub &'a Option<WorkerExitInfo>);

impl Display for NoReport<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(why) => write!(f, "; no report: {why}"),
            None => Ok(()),
        }
    }
}

/// Formats a value and the bound that it breaks with `digits` decimals, or with up to three more if the two texts would otherwise
/// be equal, or if the bound is not a round number. If all these texts are equal, both numbers are printed in full.
fn distinct(value: f64, bound: f64, digits: usize) -> [String; 2] {
    let with = |digits: usize| [value, bound].map(|number| format!("{number:.digits$}"));
    let differ = |[value, bound]: &[String; 2]| value != bound;
    let is_exact = |[_, text]: &[String; 2]| {
        text.parse()
            .is_ok_and(|shown: f64| (shown - bound).abs() < 1e-9)
    };
    let mut all = (digits..=digits + 3).map(with);
    all.clone()
        .find(|texts| differ(texts) && is_exact(texts))
        .or_else(|| all.find(differ))
        .unwrap_or_else(|| [value, bound].map(|number| number.to_string()))
}

/// Formats a value that breaks a bound, which is printed in full, with `digits` decimals, or with as many as show on which side
/// of the bound it is.
fn unlike(value: f64, bound: f64, digits: usize) -> String {
    (digits..=digits + 3)
        .map(|digits| format!("{value:.digits$}"))
        .find(|text| {
            let shown: Option<f64> = text.parse().ok();
            shown.is_some_and(|shown| shown.partial_cmp(&bound) == value.partial_cmp(&bound))
        })
        .unwrap_or_else(|| value.to_string())
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Text => Ok(()),
            Finding::NoProgress { tid, exit } => write!(
                f,
                "tid {tid} made no progress (0 work units){}",
                NoReport(exit)
            ),
            Finding::Gap {
                tid,
                gap_ms,
                cpu,
                at_ms,
                bound_ms,
            } => write!(
                f,
                "tid {tid} stuck {gap_ms}ms on cpu{cpu} at +{at_ms}ms (threshold {bound_ms}ms)"
            ),
            Finding::Spread {
                low_pct,
                high_pct,
                workers,
                cpus,
                bound_pct,
            } => {
                let [spread, bound] = distinct(high_pct - low_pct, *bound_pct, 0);
                write!(
                    f,
                    "unfair cgroup: spread={spread}% ({low_pct:.0}-{high_pct:.0}%) {workers} workers on {cpus} cpus (threshold \
                     {bound}%)"
                )
            }
            Finding::OutsideCpuset { tid, cpus, cpuset } => {
                let cpus: Vec<_> = cpus.iter().collect();
                write!(
                    f,
                    "tid {tid} ran on cpus {cpus:?} outside its cpuset {cpuset:?}"
                )
            }
            Finding::NotMeasured { what, why, .. } => match why.as_str() {
                "" => write!(f, "{what} is unknown, so it was not judged"),
                why => write!(f, "{what} is unknown, so it was not judged{why}"),
            },
            Finding::NothingToMeasure { what, why, .. } => {
                write!(f, "{what} was not judged: {why}")
            }
            Finding::Starved {
                task,
                waited_ms,
                owed_ms,
                from_ms,
                served,
                bound_ms,
            } => write!(
                f,
                "{task} waited {waited_ms} ms from +{from_ms}ms{}, while it was entitled to {owed_ms} ms of CPU time \
                 (at most {bound_ms} ms may be owed)",
                if *served { "" } else { " to the end" }
            ),
            Finding::Underserved {
                who,
                got_ms,
                entitled_ms,
                favoured,
                floor,
            } => {
                let ratio = *got_ms as f64 / (*entitled_ms).max(1) as f64;
                let [ratio, floor] = distinct(ratio, *floor, 2);
                write!(
                    f,
                    "{who} got {got_ms} ms of CPU time and was entitled to {entitled_ms} ms: {ratio} of it (at least {floor})"
                )?;
                match favoured {
                    Some((who, ms)) => write!(f, "; {who} got {ms} ms more than its share"),
                    None => Ok(()),
                }
            }
            Finding::WastedCpu {
                wasted_ms,
                share,
                bound,
            } => {
                let [share, bound] = distinct(share * 100.0, bound * 100.0, 0);
                write!(
                    f,
                    "{wasted_ms} ms of CPU time stayed idle while tasks could have used it: {share} % of the step's CPU time \
                     (at most {bound} %)"
                )
            }
            Finding::LateWakeups {
                p90_ms,
                wakeups,
                queue,
                bound_ms,
            } => write!(
                f,
                "one in ten of {wakeups} wake-ups waited {p90_ms:.1} ms or longer for a CPU; a CPU had {queue:.1} tasks to serve on average (at most {bound_ms} ms for each task that the CPU serves)"
            ),
            Finding::Preemptions {
                rate,
                preemptions,
                bound,
            } => {
                let [rate, bound] = distinct(*rate, *bound, 0);
                write!(
                    f,
                    "{preemptions} preemptions, {rate} in each second of CPU time (at most {bound})"
                )
            }
            Finding::NotDriven { share, floor } => {
                let [share, floor] = distinct(share * 100.0, floor * 100.0, 0);
                write!(
                    f,
                    "the scheduler under test gave {share} % of the workers' CPU time (at least {floor} %): another class or \
                     sched_ext's bypass gave the rest"
                )
            }
            Finding::Sustained {
                bound,
                samples,
                until_ms,
            } => write!(
                f,
                "{bound} for {samples} samples in a row, until +{until_ms}ms"
            ),
            Finding::IdleCpu {
                cpu,
                cpus,
                task,
                samples,
                until_ms,
            } => {
                let others = match cpus {
                    0 | 1 => String::new(),
                    2 => " (another CPU idled like this, too)".to_owned(),
                    n => format!(" ({} other CPUs idled like this, too)", n - 1),
                };
                write!(
                    f,
                    "cpu{cpu} idled while {task}, which may run there, waited{others}, for {samples} \
                     samples in a row, until +{until_ms}ms"
                )
            }
            Finding::WaitingTask {
                task,
                cpu,
                samples,
                until_ms,
            } => write!(
                f,
                "{task} waited and got no CPU while cpu{cpu}, where it may run, idled, for \
                 {samples} samples in a row, until +{until_ms}ms"
            ),
            Finding::MonitorUnavailable { summary } => f.write_str(summary),
            Finding::Claim {
                label,
                expected,
                actual,
                reason,
            } => {
                write!(f, "{label}: expected {expected}, was {actual}")?;
                match reason {
                    Some(reason) => write!(f, " ({reason})"),
                    None => Ok(()),
                }
            }
            rates => rates.fmt_rates(f),
        }
    }
}

impl Finding {
    /// Writes the messages about rates, latencies, migrations and pages, and calls [`Finding::fmt_ends`] for the rest.
    fn fmt_rates(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Throughput { cv, workers, bound } => write!(
                f,
                "throughput varies too much: cv {} of work units per CPU-second over {workers} \
                 workers (threshold {bound})",
                unlike(*cv, *bound, 3)
            ),
            Finding::SlowWorker {
                tid,
                rate,
                per_second,
                floor,
            } => write!(
                f,
                "worker {tid} {rate} {}/s below floor {floor}/s",
                unlike(*per_second, *floor, 1)
            ),
            Finding::WakeLatency {
                p99_ns,
                bound_ns,
                samples,
            } => {
                let (p99_ms, bound_ms) = (*p99_ns as f64 / 1e6, *bound_ns as f64 / 1e6);
                let p99_ms = unlike(p99_ms, bound_ms, 1);
                write!(
                    f,
                    "p99 wake latency {p99_ms} ms above {bound_ms} ms ({samples} samples)"
                )
            }
            Finding::Migrations {
                migrations,
                iterations,
                ratio,
                bound,
            } => write!(
                f,
                "migration ratio {} above {bound}: {migrations} migrations in {iterations} iterations",
                unlike(*ratio, *bound, 3)
            ),
            Finding::Bound {
                tid,
                what,
                value,
                unit,
                bound,
                ..
            } => {
                if let Some(tid) = tid {
                    write!(f, "tid {tid} ")?;
                }
                let digits = if value.fract() == 0.0 { 0 } else { 3 };
                let side = if value > bound { "above" } else { "below" };
                let value = unlike(*value, *bound, digits);
                write!(f, "{what} {value}{unit} {side} {bound}{unit}")
            }
            Finding::PageLocality {
                local,
                total,
                share,
                floor,
            } => write!(
                f,
                "page locality {} below {floor}: {local} of {total} pages on the expected nodes",
                unlike(*share, *floor, 3)
            ),
            Finding::PagesMoved {
                moved,
                total,
                ratio,
                ceiling,
            } => match ratio {
                Some(r) => write!(
                    f,
                    "cross-node migration ratio {} above {ceiling}: {moved} pages moved in the whole machine, and the workers \
                     have {total}",
                    unlike(*r, *ceiling, 3)
                ),
                None => write!(
                    f,
                    "{moved} pages moved between nodes in the whole machine, but no pages of the workers were seen (ceiling \
                     {ceiling})"
                ),
            },
            Finding::SlowTier {
                slow,
                total,
                ratio,
                ceiling,
            } => write!(
                f,
                "slow tier ratio {} above {ceiling}: {slow} of {total} pages on memory-only nodes",
                unlike(*ratio, *ceiling, 3)
            ),
            ends => ends.fmt_ends(f),
        }
    }

    /// Writes the messages about payloads, and about runs that ended early or whose guest or scheduler failed.
    fn fmt_ends(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Finding::SetUp { stage, error } | Finding::StartupDeath { stage, error, .. } => {
                write!(f, "{stage} failed: {error}")
            }
            Finding::WorkerKilled { tid, signal } => write!(
                f,
                "signal {signal} killed worker {tid} before it was told to stop; its work until its last checkpoint counts"
            ),
            Finding::PayloadFailed {
                payload,
                how,
                printed,
                ..
            } => {
                write!(f, "payload `{payload}` {how}")?;
                log_tail(f, printed)
            }
            Finding::PayloadMetric {
                payload,
                metric,
                value,
                unit,
                expected,
            } => {
                let space = if unit.is_empty() { "" } else { " " };
                write!(
                    f,
                    "payload `{payload}`: {metric} = {value}{space}{unit}, expected {expected}"
                )
            }
            Finding::SchedulerDied {
                scheduler,
                how,
                log,
                ..
            } => {
                f.write_str("scheduler process died: ")?;
                match scheduler {
                    Some(scheduler) => write!(f, "`{scheduler}` {how}")?,
                    None => f.write_str(how)?,
                }
                log_tail(f, log)
            }
            Finding::Ejected {
                scheduler, reason, ..
            } => write!(f, "the kernel ejected scheduler `{scheduler}`: {reason}"),
            Finding::NotAttached {
                scheduler,
                why,
                log,
            } => {
                write!(f, "scheduler `{scheduler}` did not attach: {why}")?;
                log_tail(f, log)
            }
            Finding::OtherError { wanted, printed } => match printed.as_str() {
                "" => write!(
                    f,
                    "{wanted}, but nothing was reported about the scheduler's end"
                ),
                printed => write!(f, "{wanted}, but was: {printed}"),
            },
            Finding::Hung { stage, doing } => write!(f, "the guest hung {stage}: {doing}"),
            Finding::TestHung { stage, doing } => {
                write!(f, "the test function hung {stage}: {doing}")
            }
            Finding::KernelPanic { reason } => write!(f, "the guest's kernel panicked: {reason}"),
            Finding::WentDown { how } => write!(f, "the guest {how}"),
            Finding::TestPanicked { message } => {
                // The message of Rust's panic hook begins with the same word.
                match message.strip_prefix("panicked at ") {
                    Some(place) => write!(f, "the test function panicked at {place}"),
                    None => write!(f, "the test function panicked: {message}"),
                }
            }
            Finding::TestError { message } => {
                write!(f, "the test function returned an error: {message}")
            }
            Finding::NoResult { end } => write!(
                f,
                "no test result received from guest: the test process {end}"
            ),
            Finding::OutOfMemory { memory_mib } => write!(
                f,
                "the guest ran out of memory ({memory_mib} MiB) and its kernel killed the test \
                 process; raise `memory_mib`"
            ),
            Finding::KernelReport { report, line } => {
                write!(f, "the guest's kernel reported a {report}: {line}")
            }
            Finding::NoAnswer { message } => f.write_str(message),
            // The functions above print all other findings.
            _ => Ok(()),
        }
    }
}

fn log_tail(f: &mut Formatter<'_>, log: &str) -> fmt::Result {
    match log {
        "" => Ok(()),
        log => write!(f, "{LAST_OUTPUT}\n{log}"),
    }
}

impl Display for MonitorBound {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            MonitorBound::Imbalance { ratio } => write!(f, "imbalance ratio above {ratio}"),
            MonitorBound::LocalDsq { cpu, depth } => {
                write!(f, "cpu{cpu}: local DSQ deeper than {depth}")
            }
            MonitorBound::Clock { cpu } => write!(f, "cpu{cpu}: runqueue clock did not advance"),
            MonitorBound::Events { event, rate } => {
                write!(f, "{event} above {rate} events per vCPU-second")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{distinct, unlike};

    /// "10 % (at most 10 %)" would contradict the verdict.
    #[test]
    fn a_broken_bound_does_not_look_kept() {
        assert_eq!(distinct(11.2, 10.0, 0), ["11", "10"]);
        assert_eq!(distinct(10.4, 10.0, 0), ["10.4", "10.0"]);
        assert_eq!(distinct(0.698, 0.7, 2), ["0.698", "0.700"]);
        assert_eq!(distinct(14.0, 12.5, 0), ["14.0", "12.5"]);
        assert_eq!(distinct(30.1, 0.1 + 0.2, 1), ["30.1", "0.3"]);
        assert_eq!(distinct(33.4, 100.0 / 3.0, 0), ["33.4", "33.3"]);
        assert_eq!(distinct(2e-5, 1e-5, 0), ["0.00002", "0.00001"]);
        assert_eq!(distinct(10.0, 10.0, 0), ["10", "10"]);
        assert_eq!(unlike(0.2, 0.1, 3), "0.200");
        assert_eq!(unlike(0.1002, 0.1, 3), "0.1002");
        assert_eq!(unlike(0.100_000_02, 0.1, 3), "0.10000002");
        assert_eq!(unlike(2.655, 2.66, 1), "2.65");
        assert_eq!(unlike(0.12345, 0.1234, 3), "0.1235");
    }
}
