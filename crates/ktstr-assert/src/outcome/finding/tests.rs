//! Each finding survives a round trip through JSON, has a kind, and has its own message.

use super::*;
use crate::outcome::AssertDetail;

fn text(s: &str) -> String {
    s.to_owned()
}

/// Returns one finding of each type, except free text and the findings about the exact schedule.
fn all() -> Vec<Finding> {
    vec![
        Finding::NoProgress {
            tid: 7,
            exit: Some(WorkerExitInfo::TimedOut),
        },
        Finding::Gap {
            tid: 7,
            gap_ms: 2100,
            cpu: 1,
            at_ms: 2500,
            bound_ms: 2000,
        },
        Finding::Spread {
            low_pct: 33.0,
            high_pct: 67.0,
            workers: 2,
            cpus: 1,
            bound_pct: 15.0,
        },
        Finding::OutsideCpuset {
            tid: 7,
            cpus: [0].into(),
            cpuset: [1, 2].into(),
        },
        Finding::Throughput {
            cv: 0.5,
            workers: 3,
            bound: 0.1,
        },
        Finding::SlowWorker {
            tid: 7,
            rate: text("work rate"),
            per_second: 500.0,
            floor: f64::INFINITY,
        },
        Finding::WakeLatency {
            p99_ns: 35,
            bound_ns: 20,
            samples: 100,
        },
        Finding::WakeLatencyVariation {
            cv: 1.5,
            bound: 1.0,
        },
        Finding::Migrations {
            migrations: 900,
            iterations: 1000,
            ratio: 0.9,
            bound: 0.5,
        },
        Finding::PageLocality {
            local: 1,
            total: 4,
            share: 0.25,
            floor: 0.5,
        },
        Finding::PagesMoved {
            moved: 3,
            total: 0,
            ratio: None,
            ceiling: 0.1,
        },
        Finding::SlowTier {
            slow: 3,
            total: 4,
            ratio: 0.75,
            ceiling: 0.1,
        },
        Finding::NotMeasured {
            kind: DetailKind::Unfair,
            what: text("spread"),
            why: text(": one worker"),
        },
        Finding::Sustained {
            bound: MonitorBound::LocalDsq { cpu: 1, depth: 50 },
            samples: 5,
            until_ms: 700,
        },
        Finding::IdleCpu {
            cpu: 1,
            cpus: 2,
            task: text("spin[7]"),
            samples: 5,
            until_ms: 700,
        },
        Finding::WaitingTask {
            task: text("spin[7]"),
            cpu: 1,
            samples: 5,
            until_ms: 700,
        },
        Finding::MonitorUnavailable {
            summary: text("no monitor samples"),
        },
        Finding::Claim {
            label: text("share"),
            expected: text("at least 0.4"),
            actual: text("0.1"),
            reason: Some(text("web")),
        },
        Finding::SetUp {
            stage: text("step 0"),
            error: text("no cgroup"),
        },
        Finding::SchedulerDied {
            scheduler: Some(text("x")),
            end: SchedulerEnd::Left,
            how: text("stopped on its own"),
            log: text("    bye"),
        },
        Finding::Ejected {
            scheduler: text("x"),
            reason: text("runnable task stall (spin[7] failed to run for 5.1s)"),
            cause: Ejection::Stall {
                task: Some(text("spin[7]")),
                seconds: Some(5.1),
            },
        },
        Finding::NotAttached {
            scheduler: text("x"),
            why: text("it exited"),
            log: String::new(),
        },
        Finding::StartupDeath {
            stage: text("step 1"),
            scheduler: text("x"),
            error: text(
                "AttachScheduler: startup death: the scheduler x did not come up: it exited",
            ),
        },
        Finding::OtherError {
            wanted: text("it should contain \"a\""),
            said: String::new(),
        },
        Finding::Hung {
            stage: text("while booting"),
            doing: text("it went idle for good"),
        },
        Finding::TestHung {
            stage: text("before the scenario began"),
            doing: text("it slept"),
        },
        Finding::KernelPanic {
            reason: text("Fatal exception"),
        },
        Finding::WentDown {
            how: text("powered off before it was done"),
        },
        Finding::TestPanicked {
            message: text("no"),
        },
        Finding::TestError {
            message: text("no"),
        },
        Finding::NoResult {
            end: text("exited with code 7"),
        },
        Finding::OutOfMemory { memory_mib: 256 },
        Finding::KernelReport {
            report: text("soft lockup"),
            line: text("watchdog: BUG: soft lockup"),
        },
        Finding::NoAnswer {
            message: text("the mailbox was garbled"),
        },
        Finding::PayloadFailed {
            payload: text("fio"),
            how: text("exited with code 1, expected 0"),
            said: text("    no space left"),
        },
        Finding::PayloadMetric {
            payload: text("fio"),
            metric: text("read.iops"),
            value: 12.5,
            unit: text("op/s"),
            expected: text("at least 100"),
        },
    ]
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
