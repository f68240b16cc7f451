//! Each finding survives a round trip through JSON, has a kind, and has its own message.

use super::*;
use crate::outcome::AssertDetail;

fn text(s: &str) -> String {
    s.to_owned()
}

/// Generates the function `all`, which returns one sample of each variant of [`Finding`] except `Text`, which has neither
/// fields nor a message. A row is a variant with the values of its fields, such as `OutOfMemory { memory_mib: 256 }`.
///
/// For a new variant, write its row, and accept the line that the row adds to the snapshot of the messages. Without the
/// row, the `match` below does not compile.
macro_rules! samples {
    ($( $variant:ident { $( $field:ident: $value:expr ),* $(,)? } )*) => {
        fn all() -> Vec<Finding> {
            let samples = vec![$( Finding::$variant { $( $field: $value ),* } ),*];
            for sample in &samples {
                match sample {
                    Finding::Text => panic!("free text is no sample"),
                    $( Finding::$variant { .. } => {} )*
                }
            }
            samples
        }
    };
}

samples! {
    NoProgress {
        tid: 7,
        exit: Some(WorkerExitInfo::TimedOut),
    }
    Gap {
        tid: 7,
        gap_ms: 2100,
        cpu: 1,
        at_ms: 2500,
        bound_ms: 2000,
    }
    Spread {
        low_pct: 33.0,
        high_pct: 67.0,
        workers: 2,
        cpus: 1,
        bound_pct: 15.0,
    }
    OutsideCpuset {
        tid: 7,
        cpus: [0].into(),
        cpuset: [1, 2].into(),
    }
    Throughput {
        cv: 0.5,
        workers: 3,
        bound: 0.1,
    }
    SlowWorker {
        tid: 7,
        rate: text("work rate"),
        per_second: 500.0,
        floor: f64::INFINITY,
    }
    WakeLatency {
        p99_ns: 35,
        bound_ns: 20,
        samples: 100,
    }
    Migrations {
        migrations: 900,
        iterations: 1000,
        ratio: 0.9,
        bound: 0.5,
    }
    Bound {
        kind: DetailKind::Migration,
        tid: Some(7),
        what: text("migrations"),
        value: 12.0,
        unit: String::new(),
        bound: 10.0,
    }
    PageLocality {
        local: 1,
        total: 4,
        share: 0.25,
        floor: 0.5,
    }
    PagesMoved {
        moved: 3,
        total: 0,
        ratio: None,
        ceiling: 0.1,
    }
    SlowTier {
        slow: 3,
        total: 4,
        ratio: 0.75,
        ceiling: 0.1,
    }
    NotMeasured {
        kind: DetailKind::Unfair,
        what: text("spread"),
        why: text(": one worker"),
    }
    NothingToMeasure {
        kind: DetailKind::Benchmark,
        what: text("p99 wake latency"),
        why: text("the work never sleeps"),
    }
    Sustained {
        bound: MonitorBound::LocalDsq { cpu: 1, depth: 50 },
        samples: 5,
        until_ms: 700,
    }
    IdleCpu {
        cpu: 1,
        cpus: 2,
        task: text("spin[7]"),
        samples: 5,
        until_ms: 700,
    }
    WaitingTask {
        task: text("spin[7]"),
        cpu: 1,
        samples: 5,
        until_ms: 700,
    }
    Starved {
        task: text("spin[7]"),
        waited_ms: 900,
        owed_ms: 450,
        from_ms: 100,
        served: false,
        bound_ms: 50.0,
    }
    Underserved {
        who: text("spin[7]"),
        got_ms: 300,
        entitled_ms: 1000,
        favoured: Some((text("spin[8]"), 700)),
        floor: 0.5,
    }
    WastedCpu {
        wasted_ms: 900,
        share: 0.45,
        bound: 0.1,
    }
    LateWakeups {
        p90_ms: 80.0,
        wakeups: 400,
        queue: 1.5,
        bound_ms: 25.0,
    }
    Preemptions {
        rate: 5000.0,
        preemptions: 10_000,
        bound: 3000.0,
    }
    NotDriven {
        share: 0.25,
        floor: 0.5,
    }
    MonitorUnavailable {
        summary: text("no monitor samples"),
    }
    Claim {
        label: text("share"),
        expected: text("at least 0.4"),
        actual: text("0.1"),
        reason: Some(text("web")),
    }
    SetUp {
        stage: text("step 0"),
        error: text("no cgroup"),
    }
    SchedulerDied {
        scheduler: Some(text("x")),
        end: SchedulerEnd::Left,
        how: text("stopped on its own"),
        log: text("    bye"),
    }
    Ejected {
        scheduler: text("x"),
        reason: text("runnable task stall (spin[7] failed to run for 5.1s)"),
        cause: Ejection::Stall {
            task: Some(text("spin[7]")),
            seconds: Some(5.1),
        },
    }
    NotAttached {
        scheduler: text("x"),
        why: text("it exited"),
        log: String::new(),
    }
    StartupDeath {
        stage: text("step 1"),
        scheduler: text("x"),
        error: text(
            "AttachScheduler: startup death: the scheduler x did not come up: it exited",
        ),
    }
    OtherError {
        wanted: text("it should contain \"a\""),
        printed: String::new(),
    }
    Hung {
        stage: text("while booting"),
        doing: text("it went idle for good"),
    }
    TestHung {
        stage: text("before the scenario began"),
        doing: text("it slept"),
    }
    KernelPanic {
        reason: text("Fatal exception"),
    }
    WentDown {
        how: text("powered off before the run ended"),
    }
    TestPanicked {
        message: text("no"),
    }
    TestError {
        message: text("no"),
    }
    NoResult {
        end: text("exited with code 7"),
    }
    OutOfMemory { memory_mib: 256 }
    KernelReport {
        report: text("soft lockup"),
        line: text("watchdog: BUG: soft lockup"),
    }
    NoAnswer {
        message: text("the mailbox was garbled"),
    }
    WorkerKilled { tid: 7, signal: 9 }
    PayloadFailed {
        payload: text("fio"),
        how: text("exited with code 1, expected 0"),
        printed: text("    no space left"),
        timed_out: false,
    }
    PayloadMetric {
        payload: text("fio"),
        metric: text("read.iops"),
        value: 12.5,
        unit: text("op/s"),
        expected: text("at least 100"),
    }
}

#[test]
fn every_finding_reads_back_and_has_a_message() {
    for finding in all() {
        let detail = AssertDetail::of(finding.clone());
        assert!(!detail.message.is_empty(), "{finding:?}");
        assert_eq!(detail.kind, finding.kind());
        let json = serde_json::to_string(&detail).expect("JSON");
        let back: AssertDetail = serde_json::from_str(&json).expect(&json);
        assert_eq!(back, detail, "{json}");
    }
}

#[test]
fn every_finding_says_it_in_its_own_words() {
    let messages: Vec<String> = all().iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(messages.join("\n"));
}

/// The side of the bound follows from the numbers, and only a number with a fraction has digits after the point.
#[test]
fn a_bound_is_broken_on_either_side() {
    let bound = |tid, value, unit: &str, bound| Finding::Bound {
        kind: DetailKind::Stuck,
        tid,
        what: text("slice"),
        value,
        unit: text(unit),
        bound,
    };
    let below = bound(None, 1.25, " ms", 2.0);
    assert_eq!(below.to_string(), "slice 1.250 ms below 2 ms");
    assert_eq!(below.tid(), None);
    let above = bound(Some(7), 3.0, "", 2.5);
    assert_eq!(above.to_string(), "tid 7 slice 3 above 2.5");
    assert_eq!(above.tid(), Some(7));
    let detail = AssertDetail::of(above);
    assert_eq!(detail.kind, DetailKind::Stuck);
    assert_eq!(detail.check_name(), "slice");
}

/// An older or hostile guest may send a detail without a finding, which is read as free text.
#[test]
fn a_detail_without_a_finding_is_text() {
    let detail: AssertDetail =
        serde_json::from_str(r#"{"kind":"Stuck","message":"tid 7"}"#).expect("reads");
    assert_eq!(detail.finding, Finding::Text);
    assert!(
        serde_json::from_str::<AssertDetail>(
            r#"{"kind":"Stuck","message":"","finding":{"gap":{}}}"#
        )
        .is_err()
    );
}

#[test]
fn the_pid_of_the_stalled_task_is_read_from_its_name() {
    let stall = |task: &str| Ejection::Stall {
        task: Some(text(task)),
        seconds: None,
    };
    assert_eq!(stall("a[b] c[7]").stalled_tid(), Some(7));
    assert_eq!(stall("a").stalled_tid(), None);
    assert_eq!(Ejection::Error.stalled_tid(), None);
}

/// A finding about the whole machine makes no cgroup stand out, even if the workers of a cgroup are very unequal.
#[test]
fn idle_cpu_time_marks_no_cgroup() {
    let cgroup = crate::stats::CgroupStats {
        spread: Some(40.0),
        ..Default::default()
    };
    let idle = AssertDetail::of(Finding::WastedCpu {
        wasted_ms: 900,
        share: 0.45,
        bound: 0.1,
    });
    assert_eq!(idle.badness(&cgroup), None);
}

/// A busy host takes CPU time away, and so explains a program that was too slow, but not one that ended with the wrong code.
#[test]
fn a_busy_host_explains_programs_out_of_time_and_migrations_per_iteration() {
    let payload = |timed_out| {
        AssertDetail::of(Finding::PayloadFailed {
            payload: text("fio"),
            how: text("failed"),
            printed: text(""),
            timed_out,
        })
    };
    assert!(payload(true).is_about_time());
    assert!(!payload(false).is_about_time());
    let migrations = AssertDetail::of(Finding::Migrations {
        migrations: 900,
        iterations: 1000,
        ratio: 0.9,
        bound: 0.5,
    });
    assert!(migrations.is_about_time());
}
