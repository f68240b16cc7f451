//! Tests of who is blamed with which evidence.

use ktstr_assert::AssertResult;
use ktstr_guest::engine::{HOG_KEY, hog_key, memory_key};
use ktstr_schedule::query::{Answers, Key, Totals};
use ktstr_schedule::{Cpu, Pid, Tables};

use super::super::Hogs;
use super::super::UnderTest;
use super::super::schedule::Seen;
use super::super::tests::{CASE, NO_LOGS, judged};
use super::*;

fn named(result: AssertResult, has_scheduler: bool, console: &str) -> (Option<Fault>, String) {
    let judgement = judgement_of(result, has_scheduler, false, console, "");
    (judgement.fault, judgement.evidence.unwrap_or_default())
}

fn judgement_of(
    result: AssertResult,
    has_scheduler: bool,
    changed: bool,
    console: &str,
    scheduler_log: &str,
) -> Judgement {
    let mut judgement = judged(vec![]);
    judgement.result = result;
    judgement.fault = None;
    let case = Case {
        under_test: if has_scheduler {
            UnderTest::Bpf
        } else {
            UnderTest::Nothing
        },
        changed,
        ..CASE
    };
    let logs = Logs {
        console,
        scheduler: scheduler_log,
    };
    attribute_fault(&mut judgement, &case, logs);
    judgement
}

#[test]
fn none_of_several_schedulers_is_blamed_without_evidence() {
    let stuck = || AssertResult::fail(AssertDetail::new(DetailKind::Stuck, "tid 7 stuck"));
    let judgement = judgement_of(stuck(), true, true, "", "");
    assert_eq!(judgement.fault, Some(Fault::Undetermined));
    assert!(judgement.result.is_inconclusive(), "{:?}", judgement.result);
    // The same holds if the test declares no scheduler but attaches one itself.
    let judgement = judgement_of(stuck(), false, true, "", "");
    assert_eq!(judgement.fault, Some(Fault::Undetermined));
    // A failure that the test reports in its own words is the test's fault.
    let own = judgement_of(AssertResult::fail_msg("no"), true, true, "", "");
    assert_eq!(own.fault, Some(Fault::Test));
    assert!(own.result.is_fail());
}

#[test]
fn workers_that_end_by_themselves_are_the_tests_fault_and_starved_ones_are_not() {
    let no_progress = |tid, exit| AssertDetail::of(Finding::NoProgress { tid, exit });
    let gap = |tid| {
        AssertDetail::of(Finding::Gap {
            tid,
            gap_ms: 5100,
            cpu: 0,
            at_ms: 5900,
            bound_ms: 2000,
        })
    };
    let text = |text: &str| AssertDetail::new(DetailKind::Other, text.to_owned());
    let fault_of = |details: Vec<AssertDetail>| {
        let mut result = AssertResult::pass();
        for detail in details {
            result.record_fail(detail);
        }
        let (fault, why) = named(result, true, "");
        (fault, why)
    };
    let panicked = WorkerExitInfo::Panicked("why".to_owned());
    for (exit, how) in [
        (panicked.clone(), "panicked: why"),
        (WorkerExitInfo::Exited(3), "exited by itself with status 3"),
        (WorkerExitInfo::Signaled(9), "was killed by signal 9"),
        (
            WorkerExitInfo::TimedOut,
            "did not respond to the request to stop",
        ),
    ] {
        let (fault, why) = fault_of(vec![no_progress(7, Some(exit)), text("worker 7 ended")]);
        assert_eq!(fault, Some(Fault::Test), "{why}");
        assert!(why.starts_with("worker 7 ") && why.contains(how), "{why}");
    }
    // If a worker was runnable but got no CPU up to the end of the run, the guest also reports a gap.
    let starved = vec![no_progress(7, Some(WorkerExitInfo::TimedOut)), gap(7)];
    assert_eq!(fault_of(starved).0, Some(Fault::Scheduler));
    // Another worker's finding does not become the test's fault.
    let both = vec![no_progress(7, Some(panicked)), gap(8)];
    assert_eq!(fault_of(both).0, Some(Fault::Scheduler));
}

/// Pages on wrong nodes are the test's fault if its own settings place them there, and undetermined otherwise. Next to another
/// finding they decide nothing.
#[test]
fn a_scheduler_is_not_blamed_for_the_nodes_of_pages() {
    let far = || {
        let finding = Finding::PageLocality {
            local: 1,
            total: 8,
            share: 0.125,
            floor: 0.5,
        };
        AssertResult::fail(AssertDetail::of(finding).with_cgroup("a"))
    };
    let undetermined = judgement_of(far(), true, false, "", "");
    assert_eq!(undetermined.fault, Some(Fault::Undetermined));
    assert!(undetermined.result.is_inconclusive() && undetermined.lacks_only_data());
    let asked = |cgroup: &str| {
        let mut result = far();
        result.note_value(
            memory_key(cgroup),
            "cpuset.mems places the memory elsewhere",
        );
        judgement_of(result, true, false, "", "")
    };
    let of_test = asked("a");
    assert_eq!(of_test.fault, Some(Fault::Test));
    assert!(of_test.result.is_fail() && of_test.evidence.is_some_and(|why| why.contains("mems")));
    assert_eq!(asked("b").fault, Some(Fault::Undetermined));
    let outside = AssertDetail::new(DetailKind::Isolation, "ran outside its cpuset");
    for (other, fault) in [
        (outside, Fault::Scheduler),
        (
            AssertDetail::new(DetailKind::Other, "the test says no"),
            Fault::Test,
        ),
    ] {
        let mut both = far();
        both.record_fail(other);
        assert_eq!(named(both, true, "").0, Some(fault));
    }
}

/// A worker that a signal killed is the test's fault if the limit of a cgroup or the worker's own crash shows it. If the memory
/// of the machine was used up, nothing shows by whom, unless there is another finding.
#[test]
fn a_killed_worker_is_blamed_by_its_evidence() {
    let killed =
        |signal| AssertResult::fail(AssertDetail::of(Finding::WorkerKilled { tid: 7, signal }));
    let of_cgroup = "[ 9.1] Memory cgroup out of memory: Killed process 7 (x) total-vm:9kB\n";
    let of_machine = "[ 9.1] Out of memory: Killed process 7 (x) total-vm:9kB\n";
    for (signal, console, fault, why) in [
        (9, of_cgroup, Fault::Test, "raise the cgroup's memory limit"),
        (11, "", Fault::Test, "worker 7 crashed"),
        (9, of_machine, Fault::Undetermined, "raise `memory_mib`"),
    ] {
        let judgement = judgement_of(killed(signal), true, false, console, "");
        let evidence = judgement.evidence.clone().unwrap_or_default();
        assert_eq!(judgement.fault, Some(fault), "{evidence}");
        assert!(evidence.contains(why), "{evidence}");
        assert_eq!(
            judgement.result.is_inconclusive(),
            fault == Fault::Undetermined
        );
        assert_eq!(judgement.lacks_only_data(), fault == Fault::Undetermined);
    }
    // A worker that also got nothing done makes no difference.
    let exit = Some(WorkerExitInfo::Signaled(9));
    let mut idle = killed(9);
    idle.record_fail(AssertDetail::of(Finding::NoProgress { tid: 7, exit }));
    assert_eq!(named(idle, true, of_machine).0, Some(Fault::Undetermined));
    let mut starved = killed(9);
    starved.record_fail(AssertDetail::new(DetailKind::Stuck, "tid 8 stuck"));
    assert_eq!(named(starved, true, "").0, Some(Fault::Scheduler));
}

/// How much work a worker does in a second of CPU time is not up to the scheduler.
#[test]
fn a_bound_on_the_work_of_a_cpu_second_is_a_claim_of_the_test() {
    let slow = || {
        AssertResult::fail(AssertDetail::of(Finding::SlowWorker {
            tid: 7,
            rate: "iteration rate".to_owned(),
            per_second: 50.0,
            floor: 100.0,
        }))
    };
    let key = Key {
        phase: Some(1),
        task: Pid(7),
        cgroup: None,
        cpu: Cpu(0),
    };
    let blamed = |result: AssertResult, preempted| {
        let ran = Totals {
            run_ns: 1_000_000_000,
            preempted,
            ..Totals::default()
        };
        let seen = Seen {
            answers: Answers {
                totals: [(key, ran)].into(),
                ..Answers::default()
            },
            tables: Tables::default(),
        };
        let mut judgement = judged(vec![]);
        (judgement.result, judgement.fault) = (result, None);
        let case = Case {
            hogs: Hogs::new(Some(&seen), Some(1)),
            ..CASE
        };
        attribute_fault(&mut judgement, &case, NO_LOGS);
        judgement.fault
    };
    assert_eq!(blamed(slow(), 50), Some(Fault::Test));
    assert_eq!(blamed(slow(), 5000), Some(Fault::Scheduler));
    assert_eq!(
        named(slow(), true, "").0,
        Some(Fault::Scheduler),
        "no schedule"
    );
    let mut starved = slow();
    starved.record_fail(AssertDetail::new(DetailKind::Stuck, "tid 8 stuck"));
    assert_eq!(blamed(starved, 50), Some(Fault::Scheduler));
}

/// Nobody but the test sends other signals to its workers.
#[test]
fn a_worker_that_the_test_itself_killed_is_only_noted() {
    for (signal, console, stands) in [
        (9, "", false),
        (
            15,
            "Out of memory: Killed process 7 (x) total-vm:9kB\n",
            false,
        ),
        (
            9,
            "Out of memory: Killed process 7 (x) total-vm:9kB\n",
            true,
        ),
        (11, "", true),
    ] {
        let mut judgement = judged(vec![AssertDetail::of(Finding::WorkerKilled {
            tid: 7,
            signal,
        })]);
        super::super::killed::excuse(&mut judgement, &CASE, console);
        assert_eq!(judgement.result.is_fail(), stands, "{signal} {console}");
        assert_eq!(judgement.result.info_notes.is_empty(), stands);
    }
}

/// If a scheduler that the test starts does not attach, it is at fault, or the fault is undetermined if its log shows that
/// it does not fit the kernel. If the step cannot be set up for another reason, the test is at fault.
#[test]
fn a_scheduler_that_the_test_starts_is_blamed_if_it_does_not_attach() {
    let of = |finding| AssertResult::fail(AssertDetail::of(finding));
    let death = || {
        of(Finding::StartupDeath {
            stage: "step 1".to_owned(),
            scheduler: "scx_y".to_owned(),
            error: "AttachScheduler: startup death".to_owned(),
        })
    };
    let dead = judgement_of(death(), true, true, "", "panicked at main.rs");
    assert_eq!(dead.fault, Some(Fault::Scheduler));
    assert!(dead.evidence.is_some_and(|why| why.contains("scx_y")));
    let unfit = "libbpf: extern (func ksym) 'scx_bpf_y': not found in kernel or module BTFs";
    let unfit = judgement_of(death(), true, true, "", unfit);
    assert_eq!(unfit.fault, Some(Fault::Undetermined));
    assert!(unfit.result.is_inconclusive(), "{:?}", unfit.result);
    let set_up = Finding::SetUp {
        stage: "step 1".to_owned(),
        error: "no scheduler is attached".to_owned(),
    };
    let set_up = judgement_of(of(set_up), true, true, "", "");
    assert_eq!(set_up.fault, Some(Fault::Test));
}

#[test]
fn each_party_is_blamed_with_its_evidence() {
    let stuck = || AssertResult::fail(AssertDetail::new(DetailKind::Stuck, "tid 7 stuck"));
    let (fault, why) = named(stuck(), true, "");
    assert_eq!(fault, Some(Fault::Scheduler));
    assert!(why.contains("scx_x"), "{why}");
    assert_eq!(named(stuck(), false, "").0, Some(Fault::Kernel));

    let mut with_hog = stuck();
    with_hog.note_value(
        HOG_KEY,
        "1 real-time worker of cgroup hog took the CPUs that it was on",
    );
    let (fault, why) = named(with_hog, true, "");
    assert_eq!(fault, Some(Fault::Test));
    assert!(why.contains("cgroup hog"), "{why}");

    let in_step = |step: &'static str| {
        let detail = AssertDetail::new(DetailKind::Stuck, "tid 7 stuck").with_phase(step);
        let mut result = AssertResult::fail(detail);
        result.note_value(hog_key("Step[0]"), "a hog of the first step");
        named(result, true, "").0
    };
    assert_eq!(in_step("Step[0]"), Some(Fault::Test));
    assert_eq!(in_step("Step[2]"), Some(Fault::Scheduler));

    let oom = "[ 9.1] Out of memory: Killed process 1001 (test-x) total-vm:9kB, anon-rss:8kB\n";
    let (fault, why) = named(stuck(), true, oom);
    assert_eq!(fault, Some(Fault::Test));
    assert_eq!(
        why,
        "Out of memory: Killed process 1001 (test-x) (256 MiB; raise `memory_mib`)"
    );
    let of_cgroup =
        "[ 9.1] Memory cgroup out of memory: Killed process 1001 (test-x) total-vm:9kB\n";
    let (fault, why) = named(stuck(), true, of_cgroup);
    assert_eq!(fault, Some(Fault::Test));
    assert_eq!(
        why,
        "Memory cgroup out of memory: Killed process 1001 (test-x) (raise the cgroup's memory limit)"
    );

    let missing = || {
        AssertResult::inconclusive(AssertDetail::of(Finding::NotMeasured {
            kind: DetailKind::Benchmark,
            what: "p99 wake latency".to_owned(),
            why: String::new(),
        }))
    };
    let (fault, why) = named(missing(), true, "");
    assert_eq!(fault, Some(Fault::Harness));
    assert_eq!(
        why,
        "data is missing: p99 wake latency is unknown, so it was not judged"
    );
    assert_eq!(named(missing(), true, of_cgroup).0, Some(Fault::Test));
    let mut unfit = AssertResult::inconclusive(AssertDetail::of(Finding::NothingToMeasure {
        kind: DetailKind::Benchmark,
        what: "p99 wake latency".to_owned(),
        why: "the work never sleeps".to_owned(),
    }));
    let (fault, why) = named(unfit.clone(), true, "");
    assert_eq!(fault, Some(Fault::Test));
    assert_eq!(
        why,
        "a check of the test does not fit its workload: p99 wake latency was not judged: the work never sleeps"
    );
    unfit.merge(missing());
    assert_eq!(named(unfit, true, "").0, Some(Fault::Harness));
    let of_machine = "[ 9.1] Out of memory: Killed process 1001 (test-x) total-vm:9kB\n";
    assert_eq!(named(missing(), true, of_machine).0, Some(Fault::Harness));
    let mut undecided = AssertResult::inconclusive_msg("too few samples");
    let (fault, why) = named(undecided.clone(), true, "");
    assert_eq!(fault, Some(Fault::Test));
    assert_eq!(
        why,
        "the test itself reports that it cannot decide: too few samples"
    );
    undecided.merge(missing());
    let (fault, why) = named(undecided, true, "");
    assert_eq!(fault, Some(Fault::Harness));
    assert!(why.contains("p99 wake latency"), "{why}");
    assert_eq!(named(AssertResult::skip("no"), true, "").0, None);
    assert_eq!(named(AssertResult::pass(), true, "").0, None);
}

#[test]
fn a_hang_is_reported_with_what_the_guest_did_meanwhile() {
    let secs = Duration::from_secs_f64;
    let guest = GuestState {
        at: secs(3.44),
        progress_at: secs(3.44),
        ..GuestState::default()
    };
    let mut stall = StallReport {
        guest_clock: Some(secs(20.5)),
        tasks: vec!["test-x[1003]".to_owned(), "swapper/1[0]".to_owned()],
        limit: Some(secs(17.0)),
        ..StallReport::default()
    };
    insta::assert_snapshot!(hang_evidence(&stall, &guest), @"the guest sent its last message at 3.4 s of guest time and took its last timer interrupt at 20.5 s; cpu0 runs test-x[1003], cpu1 runs swapper/1[0]; a test may send nothing for 17.0 s, which is the longer of `duration_s` and `watchdog_timeout_s`, and 15 s more: if it needs longer before or after a scenario, raise one of them");
    stall = StallReport {
        guest_clock: Some(Duration::ZERO),
        wall: secs(34.0),
        cpu_used: secs(34.2),
        ..StallReport::default()
    };
    insta::assert_snapshot!(hang_evidence(&stall, &guest), @"the guest sent its last message at 3.4 s of guest time and took no timer interrupt; after that, neither came for 34.0 s of wall time, during which QEMU used 34.2 s of CPU time");
    stall = StallReport {
        wall: secs(17.0),
        cpu_used: secs(17.1),
        vcpus: vec![secs(17.0), secs(0.1)],
        ..StallReport::default()
    };
    insta::assert_snapshot!(hang_evidence(&stall, &guest), @"it has sent nothing for 17.0 s, during which QEMU used 17.1 s of CPU time (cpu0 17.0 s, cpu1 0.1 s)");
}

/// A scheduler that prints does not move the time of the last progress.
#[test]
fn a_hang_beside_output_of_the_scheduler_is_as_long_as_the_hang() {
    let secs = Duration::from_secs_f64;
    let guest = GuestState {
        at: secs(39.9),
        progress_at: secs(10.0),
        ..GuestState::default()
    };
    let stall = StallReport {
        guest_clock: Some(secs(40.0)),
        ..StallReport::default()
    };
    let text = hang_evidence(&stall, &guest);
    let said = "the guest sent its last message, apart from what the scheduler prints, at 10.0 s";
    assert!(text.starts_with(said), "{text}");
}

#[test]
fn a_slow_host_is_reported_with_the_cpu_time_that_the_guest_got() {
    let secs = Duration::from_secs_f64;
    let guest = GuestState {
        at: secs(3.44),
        progress_at: secs(3.44),
        ..GuestState::default()
    };
    let mut stall = StallReport {
        guest_clock: Some(secs(3.5)),
        wall: secs(214.0),
        cpu_used: secs(1.3),
        ..StallReport::default()
    };
    insta::assert_snapshot!(of_slow_host(&stall, &guest), @"the guest's clock has stood at 3.5 s for 214 s of wall time, during which the host gave QEMU only 1.3 s of CPU time (0.6 %)");
    stall.guest_clock = None;
    stall.cpu_used = secs(15.0);
    insta::assert_snapshot!(of_slow_host(&stall, &guest), @"after its message at 3.4 s the guest has sent nothing for 214 s of wall time, during which the host gave QEMU only 15.0 s of CPU time (7.0 %)");
}

/// The console of Linux 7.3 after a crash that sysrq requested.
const PANIC: &str = include_str!("../../../tests/data/panic.log");

#[test]
fn a_panic_is_reported_with_its_place() {
    insta::assert_snapshot!(of_panic(PANIC), @"it happened on CPU 0 in the task test-7f85b4176e[1001], in sysrq_handle_crash+0x1a, called by __handle_sysrq.cold+0x91, called by write_sysrq_trigger+0x59");
    let oops = "[ 1.0] BUG: kernel NULL pointer dereference, address: 0000000000000000\n\
                [ 1.0] CPU: 1 UID: 0 PID: 77 Comm: worker Not tainted 7.3.4 #1\n\
                [ 1.0] RIP: 0010:pick_task_scx+0x12/0x40\n\
                [ 1.0] Call Trace:\n[ 1.0]  <TASK>\n[ 1.0]  ? __die+0x1/0x2\n\
                [ 1.0]  __schedule+0x1a0/0x900\n[ 1.0]  schedule+0x3b/0x110\n[ 1.0]  </TASK>\n\
                [ 1.1] Kernel panic - not syncing: Fatal exception\n";
    insta::assert_snapshot!(of_panic(oops), @"it happened on CPU 1 in the task worker[77], in pick_task_scx+0x12, called by __schedule+0x1a0, called by schedule+0x3b");
    assert_eq!(
        of_panic("Kernel panic - not syncing: x"),
        "the console shows no details"
    );
}
