//! Tests payloads on this machine: how they end, how much of their output is kept, and that no process is left behind.

use std::time::{Duration, Instant};

use ktstr_assert::payload::{MetricStream, PayloadEnd};
use ktstr_assert::{AssertResult, MetricCheck, OutputFormat, PayloadMetrics};
use ktstr_scenario::Ctx;
use ktstr_scenario::payload::Payload;
use ktstr_scenario::topology::TestTopology;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::capture::CAP;
use super::{PayloadRun, RunsPayloads};
use crate::cgroup::CgroupManager;

const SHELL: Payload = Payload::binary("shell", "sh").with_default_args(&["-c"]);
const JSON: Payload = SHELL.with_output(OutputFormat::Json);
const NOWHERE: Payload = Payload::binary("nowhere", "/no/such/program");

fn with<T>(payload: &'static Payload, test: impl FnOnce(PayloadRun<'_>) -> T) -> T {
    let cgroups = CgroupManager::new("/sys/fs/cgroup/ktstr-payload-unit");
    let topology = TestTopology::from_system().expect("this machine has CPUs");
    let ctx = Ctx::builder(&cgroups, &topology)
        .duration(Duration::from_secs(20))
        .build();
    test(ctx.payload(payload))
}

fn failure(result: &AssertResult) -> String {
    let first = result.failure_details().next();
    first.map(|d| d.message.clone()).unwrap_or_default()
}

#[test]
fn exit_codes_and_signals_are_distinguished() {
    let run = |script: &str| with(&SHELL, |run| run.arg(script).run()).expect("it starts");
    let (result, left) = run("echo said; echo failed >&2; exit 3");
    assert_eq!((left.exit_code, left.end), (3, PayloadEnd::Exited(3)));
    assert_eq!(
        (left.stdout.text.as_str(), left.stderr.bytes),
        ("said\n", 7)
    );
    assert!(failure(&result).contains("exited with code 3, expected 0"));
    assert!(
        failure(&result).ends_with("    failed"),
        "{}",
        failure(&result)
    );
    let (result, left) = run("kill -9 $$");
    assert_eq!((left.exit_code, left.end), (137, PayloadEnd::Signaled(9)));
    assert!(failure(&result).contains("was killed by signal 9"));
    let (result, left) = run("exit 0");
    assert!(result.is_pass() && left.metrics.is_empty());
    assert_eq!(result.stats.payloads.len(), 1);
}

/// A program that had ended before its cgroup was killed is judged by its own end.
#[test]
fn a_killed_cgroup_does_not_hide_an_earlier_failure() {
    for (script, end) in [
        ("exit 3", PayloadEnd::Exited(3)),
        ("sleep 60", PayloadEnd::Stopped),
    ] {
        let handle = with(&SHELL, |run| run.arg(script).spawn()).expect("it starts");
        if end != PayloadEnd::Stopped {
            // Wait until the program has exited, without reaping it.
            let pid = i32::try_from(handle.pid()).ok().and_then(Pid::from_raw);
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            waitid(WaitId::Pid(pid.expect("a pid")), options).expect("it is a child");
        }
        let (result, left) = handle.killed().expect("it is reaped");
        assert_eq!(left.end, end, "{script}");
        assert_eq!(result.is_fail(), end != PayloadEnd::Stopped, "{result:?}");
    }
}

#[test]
fn metrics_come_from_stdout_or_else_from_stderr_and_are_checked() {
    let run = |script: &str, check| {
        let (result, left) =
            with(&JSON, |run| run.arg(script).check(check).run()).expect("it starts");
        (result.is_pass(), left)
    };
    let (passed, left) = run(
        "echo '{\"a\": {\"b\": 2.5}}'; echo '{\"c\": 1}' >&2",
        MetricCheck::range("a.b", 2.0, 3.0),
    );
    assert!(passed);
    assert_eq!((left.get("a.b"), left.get("c")), (Some(2.5), None));
    let (passed, left) = run("echo '{\"c\": 1}' >&2", MetricCheck::min("c", 2.0));
    assert!(!passed);
    assert_eq!(left.metrics[0].stream, MetricStream::Stderr);
}

/// A busy host may need longer than a short limit to start the shell and its children. The limit is doubled until the shell has
/// written the id of its child, because only then can the test tell whether a child was left behind.
#[test]
fn a_payload_over_its_limit_is_killed_with_its_children() {
    for limit_ms in (0..9).map(|n| 300 << n) {
        let (result, left) = with(&SHELL, |run| {
            run.arg("sleep 600 & setsid sleep 601 & echo $!; exec sleep 602")
                .timeout(Duration::from_millis(limit_ms))
                .run()
        })
        .expect("it starts");
        assert_eq!(left.end, PayloadEnd::TimedOut { limit_ms });
        let text = format!("ran past its limit of {limit_ms} ms");
        assert!(failure(&result).contains(&text), "{result:?}");
        if !left.stdout.text.is_empty() {
            let child: i32 = left.stdout.text.trim().parse().expect("a process id");
            // A process that was killed may still have to run before it is gone.
            let began = Instant::now();
            while !is_gone(child) {
                assert!(
                    began.elapsed() < Duration::from_secs(60),
                    "process {child} was left behind"
                );
                std::thread::sleep(Duration::from_millis(1));
            }
            return;
        }
    }
    panic!("the shell wrote nothing in 76.8 s");
}

/// Returns whether a process has exited, even if its adoptive parent has not reaped it yet.
fn is_gone(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

#[test]
fn dropping_a_handle_kills_the_payload() {
    let handle = with(&SHELL, |run| run.arg("exec sleep 600").spawn()).expect("it starts");
    let pid = handle.pid() as i32;
    assert_eq!((handle.payload_name(), handle.cgroup()), ("shell", None));
    assert!(!is_gone(pid));
    drop(handle);
    assert!(is_gone(pid));
}

#[test]
fn a_killed_payload_does_not_fail_the_test() {
    let mut handle = with(&SHELL, |run| run.arg("exec sleep 600").spawn()).expect("it starts");
    assert!(handle.try_wait().expect("it runs").is_none());
    let (result, left) = handle.kill().expect("it ends");
    assert!(result.is_pass());
    assert_eq!(left.end, PayloadEnd::Stopped);
}

#[test]
fn output_is_bounded_and_the_loss_is_reported() {
    let script = "head -c 17000000 /dev/zero; printf '\\377'";
    let (result, left) = with(&SHELL, |run| run.arg(script).run()).expect("it starts");
    assert_eq!(left.stdout.text.len(), CAP);
    assert_eq!(left.stdout.dropped, 17_000_001 - CAP as u64);
    assert!(result.is_pass());
    assert!(result.info_notes[0].message.contains("were dropped"));
    assert!(result.stats.payloads[0].stdout.text.len() <= ktstr_assert::payload::EXCERPT);
}

#[test]
fn a_payload_that_cannot_be_started_is_named() {
    let error = |run: anyhow::Result<(AssertResult, PayloadMetrics)>| {
        format!("{:#}", run.expect_err("must be refused"))
    };
    let nowhere = error(with(&NOWHERE, |run| run.run()));
    assert!(nowhere.contains("\"nowhere\": /no/such/program could not be started: No such file"));
    let cgroup = error(with(&SHELL, |run| run.arg("true").in_cgroup("none").run()));
    assert!(
        cgroup.contains("there is no cgroup \"none\" to run in"),
        "{cgroup}"
    );
    let late = error(with(&SHELL, |run| {
        run.timeout(Duration::from_secs(21)).run()
    }));
    assert!(late.contains("the time limit of 21s is longer than the test's window of 20s"));
    let scheduler = error(with(&Payload::KERNEL_DEFAULT, |run| run.run()));
    assert!(scheduler.contains("is a scheduler"), "{scheduler}");
    let check = MetricCheck::min("m", f64::NAN);
    assert!(error(with(&SHELL, |run| run.check(check).run())).contains("not a finite number"));
}
