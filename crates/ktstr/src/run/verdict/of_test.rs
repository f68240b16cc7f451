//! Attributes failures to the test if the exact schedule shows that no scheduler could have prevented them: a worker ran
//! outside of its cpuset because its affinity allowed it, or worked for longer than the bound on its gaps without waiting for a
//! CPU. A function of the test (`WorkType::Custom`) may also report what did not happen. The kernel does not run a task on a CPU
//! that its affinity excludes, whatever the scheduler wants (`is_cpu_allowed()` in kernel/sched/core.c and
//! `task_can_run_on_remote_rq()` in kernel/sched/ext.c of 7.3).

use ktstr_assert::{AssertDetail, Finding};
use ktstr_schedule::Pid;

use super::acquit::{OWED_MS, most_kept_ns, waited_in_gap_ns};
use super::schedule::Seen;
use super::{Fault, Judgement};

const NS_PER_MS: u64 = 1_000_000;
/// The kernel function by which every class changes the affinity of a task (kernel/sched/core.c).
const AFFINITIES_BY: &str = "set_cpus_allowed_common";
/// How long a task may run on a CPU that its affinity has just come to exclude, in nanoseconds, before the kernel has moved it.
const MOVING_NS: u64 = 1_000_000;

/// Blames the test if the schedule explains all failures in this way. This comes after all other checks have added their
/// findings, because a scheduler is not better for what the test did beside its defect.
pub(in crate::run) fn attribute(judgement: &mut Judgement, seen: &Seen) {
    let blamed = matches!(judgement.fault, Some(Fault::Scheduler | Fault::Kernel));
    if !blamed
        || judgement.guest.is_err()
        || !judgement.result.is_fail()
        || seen.answers.missing_ns > 0
    {
        return;
    }
    let explained = |detail: &AssertDetail| explained(detail, seen);
    let all: Option<Vec<String>> = judgement.result.failure_details().map(explained).collect();
    if let Some(why) = all.and_then(|all| all.into_iter().next()) {
        judgement.blame(Fault::Test, why);
    }
}

/// Whether the schedule shows each change of an affinity.
fn knows_affinities(seen: &Seen) -> bool {
    let mut missing = seen.tables.missing.iter();
    seen.is_exact() && !missing.any(|name| name == AFFINITIES_BY)
}

/// Returns what the schedule shows about the worker that the finding is about; `None` if it confirms the finding, shows nothing,
/// or the finding is of another kind.
fn explained(detail: &AssertDetail, seen: &Seen) -> Option<String> {
    let tid = detail.finding.tid()?;
    let task = Pid(u32::try_from(tid).ok()?);
    let answers = &seen.answers;
    match &detail.finding {
        Finding::OutsideCpuset { cpus, .. } if knows_affinities(seen) => {
            let outside_ns = answers.outside_ns.get(&task).copied().unwrap_or(0);
            if outside_ns > MOVING_NS {
                return None;
            }
            let there =
                answers.sum(|key| key.task == task && cpus.contains(&usize::from(key.cpu.0)));
            Some(match there.run_ns {
                0 => format!(
                    "the schedule shows that worker {tid} did not run on CPUs {cpus:?}, so the report that it did is that of the \
                     test's own function"
                ),
                _ => format!(
                    "the schedule shows that worker {tid} was allowed on CPUs {cpus:?} when it ran there: the test changed its \
                     cgroup, its cpuset or its affinity"
                ),
            })
        }
        Finding::Gap {
            gap_ms,
            at_ms,
            bound_ms,
            ..
        } => {
            let waited_ms = waited_in_gap_ns(answers, task, *gap_ms, *at_ms)? / NS_PER_MS;
            let rest_ms = gap_ms.saturating_sub(waited_ms);
            let in_turns = (most_kept_ns(answers, task) as f64) < OWED_MS * NS_PER_MS as f64;
            (rest_ms > *bound_ms && in_turns).then(|| {
                format!(
                    "the schedule shows that worker {tid} waited for a CPU for {waited_ms} ms of its gap of {gap_ms} ms at most, in \
                     turns with others; the other {rest_ms} ms alone exceed the bound, so no scheduler can keep it"
                )
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ktstr_schedule::query::{Answers, Key, TaskInfo, Totals, Wait, WaitCause};
    use ktstr_schedule::{Class, Cpu, Tables};

    use super::super::tests::judged;
    use super::*;

    const MS: u64 = NS_PER_MS;

    /// Returns a schedule of 4 s in which task 7 ran on this CPU for a second.
    /// For `outside_ns` of that second, its affinity excluded the CPU.
    fn schedule(cpu: u16, outside_ns: u64) -> Seen {
        let info = TaskInfo {
            forks_ns: vec![0],
            first_mark_ns: Some(MS),
            ..TaskInfo::default()
        };
        let key = Key {
            phase: Some(0),
            task: Pid(7),
            cgroup: None,
            cpu: Cpu(cpu),
        };
        let ran = Totals {
            run_ns: 1000 * MS,
            ..Totals::default()
        };
        Seen {
            answers: Answers {
                tasks: [(Pid(7), info)].into(),
                totals: [(key, ran)].into(),
                outside_ns: [(Pid(7), outside_ns)].into(),
                from_ns: Some(0),
                to_ns: Some(4000 * MS),
                ..Answers::default()
            },
            tables: Tables::default(),
        }
    }

    fn fault(finding: Finding, seen: &Seen) -> (Option<Fault>, String) {
        let mut judgement = judged(vec![AssertDetail::of(finding)]);
        attribute(&mut judgement, seen);
        (judgement.fault, judgement.evidence.unwrap_or_default())
    }

    #[test]
    fn a_run_outside_of_a_cpuset_is_the_schedulers_fault_only_if_the_affinity_excluded_the_cpu() {
        let outside = || Finding::OutsideCpuset {
            tid: 7,
            cpus: [0].into(),
            cpuset: [1].into(),
        };
        let (who, why) = fault(outside(), &schedule(0, 0));
        assert_eq!(who, Some(Fault::Test));
        assert!(
            why.contains("was allowed on CPUs {0} when it ran there"),
            "{why}"
        );
        let (who, why) = fault(outside(), &schedule(1, 0));
        assert_eq!(who, Some(Fault::Test));
        assert!(why.contains("did not run on CPUs {0}"), "{why}");
        assert_eq!(
            fault(outside(), &schedule(0, 500 * MS)).0,
            Some(Fault::Scheduler)
        );
        let mut unseen = schedule(0, 0);
        unseen.tables.missing.push(AFFINITIES_BY.to_owned());
        assert_eq!(fault(outside(), &unseen).0, Some(Fault::Scheduler));
        // The tracepoints of a run under the real clock show no affinities.
        let mut real = schedule(0, 0);
        real.tables.source = ktstr_schedule::Source::Tracepoints;
        assert_eq!(fault(outside(), &real).0, Some(Fault::Scheduler));
    }

    #[test]
    fn a_gap_that_is_too_long_without_its_waits_is_the_tests() {
        let gap = |gap_ms| Finding::Gap {
            tid: 7,
            gap_ms,
            cpu: 0,
            at_ms: 3500,
            bound_ms: 500,
        };
        let waits = |owed_ms: u64| {
            let mut seen = schedule(0, 0);
            let wait = |from_ms: u64| Wait {
                phase: Some(0),
                task: Pid(7),
                class: Class::Ext,
                cgroup: None,
                cpu: Cpu(0),
                cause: WaitCause::Preempted,
                from_ns: from_ms * MS,
                to_ns: (from_ms + 300) * MS,
                owed_ns: owed_ms * MS,
                judged_ns: 300 * MS,
                served: true,
            };
            seen.answers.waits = vec![wait(2500), wait(3000)];
            seen
        };
        // It waited for 600 of 1200 ms, and worked for the rest.
        let (who, why) = fault(gap(1200), &waits(10));
        assert_eq!(who, Some(Fault::Test));
        assert!(why.contains("for 600 ms of its gap of 1200 ms"), "{why}");
        assert!(
            why.contains("the other 600 ms alone exceed the bound"),
            "{why}"
        );
        assert_eq!(
            fault(gap(1000), &waits(10)).0,
            Some(Fault::Scheduler),
            "the rest is within the bound"
        );
        let throughput = Finding::Throughput {
            cv: 0.9,
            workers: 2,
            bound: 0.1,
        };
        let all = [gap(1200), throughput].map(AssertDetail::of);
        let mut both = judged(all.to_vec());
        attribute(&mut both, &waits(10));
        assert_eq!(
            both.fault,
            Some(Fault::Scheduler),
            "one of them is not explained"
        );
        assert_eq!(
            fault(gap(1200), &waits(150)).0,
            Some(Fault::Scheduler),
            "it was owed CPU time"
        );
    }
}
